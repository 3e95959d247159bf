//! Where a benchmark runs: our runtime, or the real Kubernetes of the lab. Starting one is itself a figure.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The image that pods of the benchmark run; both grounds have it.
pub(crate) const IMAGE: &str = "corten.dev/echo:latest";

/// A running cluster that ends with this value.
#[derive(Debug)]
pub(crate) struct Ground {
    kind: Kind,
    kubeconfig: PathBuf,
    /// How long it took from the command to both nodes Ready.
    pub(crate) start: Duration,
    /// Whose memory counts: names of the processes, or the tree below one.
    roots: Roots,
}

#[derive(Debug)]
enum Kind {
    Corten {
        binary: PathBuf,
        name: String,
        state: tempfile::TempDir,
    },
    Lab {
        script: PathBuf,
    },
}

#[derive(Debug)]
enum Roots {
    /// Every process whose executable lies in this folder.
    Binaries(PathBuf),
    /// Every process of the lab that is not a pod's: those in its PID folder and their descendants.
    Tree(PathBuf),
}

impl Ground {
    /// Starts our runtime, with the binaries beside this one.
    pub(crate) fn corten() -> Result<Self> {
        let folder = std::env::current_exe()?
            .parent()
            .context("this binary lies in a folder")?
            .to_owned();
        let binary = folder.join("corten");
        let state = tempfile::tempdir()?;
        let name = format!("bench-{}", std::process::id());
        let begin = Instant::now();
        let output = Command::new(&binary)
            .args(["up", "--detach", "--no-mesh", "--name", &name])
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {}", binary.display()))?;
        let start = begin.elapsed();
        ensure!(
            output.status.success(),
            "corten up: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let kubeconfig = state.path().join("corten").join(&name).join("kubeconfig");
        Ok(Self {
            kind: Kind::Corten { binary, name, state },
            kubeconfig,
            start,
            roots: Roots::Binaries(folder),
        })
    }

    /// Starts the real Kubernetes, when its script is there and has been built.
    pub(crate) fn lab(script: Option<PathBuf>) -> Result<Option<Self>> {
        let script =
            script.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kubernetes/lab.sh"));
        let home = PathBuf::from(std::env::var_os("LAB").unwrap_or_else(|| "/var/tmp/corten-kube".into()));
        if !script.is_file() || !home.join("bin/k8s").is_file() {
            return Ok(None);
        }
        lab(&script, &["down"])?;
        let image = tempfile::NamedTempFile::new()?;
        pack_echo(&script, image.path())?;
        let begin = Instant::now();
        lab(&script, &["up", "2"])?;
        let start = begin.elapsed();
        let path = image.path().to_string_lossy().into_owned();
        lab(&script, &["load", &path])?;
        let roots = Roots::Tree(home.join("pid"));
        Ok(Some(Self {
            kind: Kind::Lab { script },
            kubeconfig: home.join("admin.kubeconfig"),
            start,
            roots,
        }))
    }

    /// A client with the administrator's rights.
    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The proportional share of memory of all its processes, in megabytes (1,000,000 bytes).
    pub(crate) fn memory_mb(&self) -> Result<f64> {
        let pids = match &self.roots {
            Roots::Binaries(folder) => processes(|pid| {
                std::fs::read_link(format!("/proc/{pid}/exe"))
                    .is_ok_and(|exe| exe.parent() == Some(folder) && !is_self(pid))
            })?,
            Roots::Tree(folder) => {
                let mut wanted = HashSet::new();
                for entry in std::fs::read_dir(folder)? {
                    let text = std::fs::read_to_string(entry?.path())?;
                    wanted.extend(text.trim().parse::<u32>().ok());
                }
                descendants(wanted)?
            }
        };
        let kilobytes: u64 = pids.into_iter().filter_map(pss_kb).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Ok(kilobytes as f64 * 1024.0 / 1e6)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let outcome = match &self.kind {
            Kind::Corten { binary, name, state } => Command::new(binary)
                .args(["down", "--name", name])
                .env("XDG_STATE_HOME", state.path())
                .stdout(Stdio::null())
                .status()
                .map(|_| ())
                .map_err(anyhow::Error::from),
            Kind::Lab { script } => lab(script, &["down"]),
        };
        if let Err(error) = outcome {
            eprintln!("could not stop what the benchmark started: {error:#}");
        }
    }
}

fn is_self(pid: u32) -> bool {
    pid == std::process::id()
}

fn lab(script: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("bash")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "lab.sh {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Packs our echo server with the shared libraries it names into an image for the real Kubernetes.
fn pack_echo(script: &Path, archive: &Path) -> Result<()> {
    let echo = std::env::current_exe()?.with_file_name("corten-echo");
    let libraries = Command::new("ldd").arg(&echo).output().context("running ldd")?;
    let mut files = vec![format!("/corten-echo={}", echo.display())];
    for word in String::from_utf8_lossy(&libraries.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        files.push(format!("{word}={}", Path::new(word).canonicalize()?.display()));
    }
    let status = Command::new("python3")
        .arg(script.with_file_name("image.py"))
        .arg(IMAGE)
        .arg(archive)
        .args(files)
        .args(["--cmd", "/corten-echo"])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "packing the echo image failed");
    Ok(())
}

fn processes(wanted: impl Fn(u32) -> bool) -> Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && wanted(pid)
        {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// The given processes and everything below them.
fn descendants(mut wanted: HashSet<u32>) -> Result<HashSet<u32>> {
    let parents: Vec<(u32, u32)> = processes(|_| true)?
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| wanted.contains(parent) && !wanted.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return Ok(wanted);
        }
        wanted.extend(more);
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields are counted from its closing bracket: state, then the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn pss_kb(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
