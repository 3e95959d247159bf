//! The real kubectl cannot tell: a scripted session prints the same against the local runtime and against a real Kubernetes.
//!
//! Ages, uids, addresses and random names are made alike before the comparison; see [`normalize`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_e2e::{As, Runtime};
use regex::Regex;

/// A step of the session: the command and what it printed, with its exit code.
type Transcript = Vec<(String, String)>;

#[test]
fn the_same_session_prints_the_same() {
    if let Err(reason) = As::Root.possible() {
        corten_rt::skip!("the real Kubernetes {reason}");
    }
    let Some(lab) = Lab::find() else {
        corten_rt::skip!(
            "no real Kubernetes: ../shared/kubernetes/lab.sh is absent or not built (lab.sh packages, lab.sh build)"
        );
    };
    let work = tempfile::tempdir().expect("a temporary directory");
    lab.install_kubectl(work.path());

    let runtime = Runtime::new(As::Root);
    runtime.up(&[]);
    let ours = session(
        &work.path().join("ours"),
        &runtime.state("default").join("kubeconfig"),
        work.path(),
    );
    drop(runtime);

    let started = lab.up(work.path());
    let theirs = session(
        &work.path().join("theirs"),
        &lab.home.join("admin.kubeconfig"),
        work.path(),
    );
    if started {
        lab.run(&["down"]);
    }

    let differences = compare(&ours, &theirs);
    assert!(
        differences.is_empty(),
        "{} steps differ:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// The real Kubernetes.
struct Lab {
    script: PathBuf,
    home: PathBuf,
}

impl Lab {
    fn find() -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let shared = std::env::var_os("CORTEN_SHARED").map_or(beside, PathBuf::from);
        let script = shared.join("kubernetes/lab.sh");
        let home = PathBuf::from(std::env::var_os("LAB").unwrap_or_else(|| "/var/tmp/corten-kube".into()));
        (script.is_file() && home.join("bin/k8s").is_file()).then_some(Self { script, home })
    }

    /// Puts a `kubectl` of the real Kubernetes' version on the session's path.
    fn install_kubectl(&self, work: &Path) {
        let text = format!(
            "#!/bin/sh\nexec {} kubectl \"$@\"\n",
            self.home.join("bin/k8s").display()
        );
        let path = work.join("kubectl");
        std::fs::write(&path, text).expect("the directory is ours");
        let status = Command::new("chmod").arg("+x").arg(&path).status().expect("chmod");
        assert!(status.success());
    }

    /// Starts it unless it runs; true when this call did. Loads the image that the session's pods run.
    fn up(&self, work: &Path) -> bool {
        let kubeconfig = self.home.join("admin.kubeconfig");
        let running = Command::new(work.join("kubectl"))
            .args(["get", "--raw", "/readyz", "--request-timeout=2s"])
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .is_ok_and(|output| output.status.success());
        if !running {
            self.run(&["up", "2"]);
        }
        let image = work.join("echo.tar");
        self.pack(&image);
        self.run(&["load", &image.to_string_lossy()]);
        !running
    }

    /// An image with the echo server, the libraries it needs and a shell.
    fn pack(&self, image: &Path) {
        let echo = corten_e2e::binary("corten-echo");
        let libraries = Command::new("ldd")
            .arg(&echo)
            .output()
            .expect("ldd is part of the C library");
        let mut files = vec![format!("/corten-echo={}", echo.display())];
        for word in String::from_utf8_lossy(&libraries.stdout)
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let target = Path::new(word).canonicalize().expect("a library that ldd names");
            files.push(format!("{word}={}", target.display()));
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox-static is installed (apt-get install busybox-static)");
        for applet in ["sh", "sleep", "cat", "echo", "true"] {
            files.push(format!("/bin/{applet}={busybox}"));
        }
        let output = Command::new("python3")
            .arg(self.script.with_file_name("image.py"))
            .arg("corten.dev/echo:latest")
            .arg(image)
            .args(files)
            .args(["--cmd", "/corten-echo"])
            .output()
            .expect("python3 is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new("bash")
            .arg(&self.script)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("bash");
        assert!(
            output.status.success(),
            "lab.sh {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Runs every step of the session against one cluster.
fn session(dir: &Path, kubeconfig: &Path, path: &Path) -> Transcript {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl");
    std::fs::create_dir(dir).expect("the directory is ours");
    for entry in std::fs::read_dir(&data).expect("the session's files").flatten() {
        std::fs::copy(entry.path(), dir.join(entry.file_name())).expect("the directory is ours");
    }
    // A copy, because the session changes its context.
    let config = dir.join("kubeconfig");
    std::fs::copy(kubeconfig, &config).expect("the kubeconfig is readable");
    let steps = std::fs::read_to_string(data.join("session.txt")).expect("the session");
    let search = format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default());
    let mut transcript = Vec::new();
    for step in steps.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let output = Command::new("timeout")
            .args(["200", "bash", "-c", step])
            .current_dir(dir)
            .env("KUBECONFIG", &config)
            .env("PATH", &search)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .output()
            .expect("timeout and bash are installed");
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            printed.push_str(&format!("exit code {}\n", output.status.code().unwrap_or(-1)));
        }
        transcript.push((step.to_owned(), printed));
    }
    transcript
}

/// The steps whose output differs, each with both outputs line by line.
fn compare(ours: &Transcript, theirs: &Transcript) -> Vec<String> {
    let normalizer = Normalizer::new();
    let mut differences = Vec::new();
    for ((step, our), (_, their)) in ours.iter().zip(theirs) {
        let (our, their) = (normalizer.normalize(our), normalizer.normalize(their));
        if our != their {
            differences.push(format!("$ {step}\n{}", difference(&our, &their)));
        }
    }
    differences
}

/// Lines that only one side has: `-` ours, `+` Kubernetes'.
fn difference(ours: &str, theirs: &str) -> String {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    // The longest common subsequence, by the textbook table: outputs are short.
    let mut table = vec![vec![0_usize; theirs.len() + 1]; ours.len() + 1];
    for (i, our) in ours.iter().enumerate().rev() {
        for (j, their) in theirs.iter().enumerate().rev() {
            table[i][j] = if our == their {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut shown = String::new();
    while i < ours.len() || j < theirs.len() {
        if i < ours.len() && j < theirs.len() && ours[i] == theirs[j] {
            i += 1;
            j += 1;
        } else if j >= theirs.len() || (i < ours.len() && table[i + 1][j] >= table[i][j + 1]) {
            shown.push_str(&format!("  - {}\n", ours[i]));
            i += 1;
        } else {
            shown.push_str(&format!("  + {}\n", theirs[j]));
            j += 1;
        }
    }
    shown
}

/// What may differ between two clusters, made alike.
struct Normalizer(Vec<(Regex, &'static str)>);

impl Normalizer {
    fn new() -> Self {
        let rules = [
            // Before the ages, which look like the beginning of some.
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            // Times and ages.
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
            (
                r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
                "TIME",
            ),
            (r"\b(\d+d)?(\d+h)?(\d+m)?\d+(\.\d+)?(s|m|h|d)\b", "AGE"),
            // What is made at random or counted by the cluster.
            (r#"(resourceVersion"?: ")\d+"#, "${1}N"),
            (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-RANDOM"),
            (r"\b(app)-[0-9a-z]{6,10}-[a-z0-9]{5}\b", "$1-HASH-RANDOM"),
            (r"\b(app)-[0-9a-z]{6,10}\b", "$1-HASH"),
            (r"\b(app)-[a-z0-9]{5}\b", "$1-RANDOM"),
            (r"pod-template-hash(=|: )[0-9a-z]+", "pod-template-hash${1}HASH"),
            (r"(containerd|corten)://[0-9a-f]+", "CONTAINER"),
            (r#"(imageID"?: |Image ID: +)\S+"#, "${1}IMAGE"),
            // Addresses and where things run.
            (r"\b\d+\.\d+\.\d+\.\d+(/\d+)?\b", "IP"),
            (r"\bfd[0-9a-f]{2}:[0-9a-f:]+", "IP"),
            (r"\bnode[0-9]+\b", "NODE"),
            (r"127\.0\.0\.1:\d+", "LOCAL"),
            // Here pods have an address of each family, there of one.
            (r"((?:- ip| IP): +IP\n)(?: *(?:- ip| IP): +IP\n)+", "${1}"),
            // Layout that follows from the lengths of those.
            (r"[ \t]+", " "),
            (r" +\n", "\n"),
        ];
        Self(
            rules
                .map(|(pattern, replacement)| (Regex::new(pattern).expect("a pattern"), replacement))
                .into(),
        )
    }

    fn normalize(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, (pattern, replacement)| {
            pattern.replace_all(&text, *replacement).into_owned()
        });
        text.trim_end().to_owned()
    }
}

#[test]
fn what_differs_by_nature_is_made_alike() {
    let normalizer = Normalizer::new();
    let ours = "app-6d4cf56db6-x2v9k   1/1   Running   0   5s   10.244.1.2   node1\n";
    let theirs = "app-58f8498778-bt8kx 1/1 Running 0 12m 10.244.2.77 node2\n";
    assert_eq!(normalizer.normalize(ours), normalizer.normalize(theirs));
    assert_eq!(difference("a\nb\nc", "a\nx\nc"), "  - b\n  + x\n");
}
