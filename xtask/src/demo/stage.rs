//! The instance that the demo plays on: started, asked, stopped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cargo;
use crate::stock::Stock;

/// The name of the demo's instance.
const NAME: &str = "demo";

/// An instance with a state directory of its own.
#[derive(Debug)]
pub(super) struct Stage {
    bin: PathBuf,
    state: PathBuf,
    /// What `up` is told about halves that are Istio's own.
    stock: Vec<String>,
}

/// A pod of one of the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) service: String,
    restarts: u64,
}

impl Stage {
    pub(super) fn new(bin: PathBuf, stock: &Stock) -> Self {
        let state = std::env::temp_dir().join(format!("corten-demo-{}", std::process::id()));
        let stock = stock.arguments();
        Self { bin, state, stock }
    }

    /// Where the binaries are.
    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }

    /// Starts it and waits for the mesh's parts.
    pub(super) fn up(&self) -> Result<()> {
        let begin = Instant::now();
        let stock: Vec<&str> = self.stock.iter().map(String::as_str).collect();
        self.show(&[&["up", "--name", NAME, "--detach"][..], &stock].concat())?;
        println!("  (took {:.2?})", begin.elapsed());
        for part in ["deployment/istiod", "daemonset/istio-cni-node", "daemonset/ztunnel"] {
            self.corten(&["rollout", "status", part, "-n", "istio-system", "--timeout", "60s"])?;
        }
        println!("  (the mesh is ready after {:.2?})", begin.elapsed());
        Ok(())
    }

    /// `corten` with these arguments, pointed at the instance.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("corten"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", &self.state)
            .env("KUBECONFIG", self.state.join("corten").join(NAME).join("kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed; its output.
    pub(super) fn corten(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("running corten")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "corten {}: {}",
            arguments.join(" "),
            said.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Shows a command as one would type it, and what it prints.
    pub(super) fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("$ corten {}", arguments.join(" "));
        print!("{}", self.corten(arguments)?);
        Ok(())
    }

    /// Applies a file of the example as it stands.
    pub(super) fn apply(&self, file: &str) -> Result<()> {
        let path = cargo::root().join("examples/mesh").join(file);
        println!("$ corten apply -f examples/mesh/{file}");
        print!("{}", self.corten(&["apply", "-f", &path.to_string_lossy()])?);
        Ok(())
    }

    /// Starts what looks at the packets of each node.
    pub(super) fn start_captures(&self) -> Result<()> {
        let pods = ["node1", "node2"].map(|node| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("capture-{node}"), "namespace": "kube-system" },
                "spec": {
                    "nodeName": node,
                    "hostNetwork": true,
                    "containers": [{
                        "name": "capture",
                        "image": "corten.dev/capture",
                        "args": ["--duration", "1h"],
                        "securityContext": { "capabilities": { "add": ["NET_RAW"] } },
                    }],
                },
            })
        });
        let file = self.state.join("captures.json");
        std::fs::write(
            &file,
            json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string(),
        )?;
        self.corten(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// Waits until the services and the captures are ready.
    pub(super) fn settle_services(&self) -> Result<()> {
        let begin = Instant::now();
        for namespace in ["payments", "orders", "legacy"] {
            let available = ["wait", "--for=condition=Available", "deployment", "--all"];
            self.corten(&[&available[..], &["-n", namespace, "--timeout=60s"]].concat())?;
        }
        for node in ["node1", "node2"] {
            let pod = format!("capture-{node}");
            let ready = [
                "wait",
                "--for=condition=Ready",
                "pod",
                &pod,
                "-n",
                "kube-system",
                "--timeout=60s",
            ];
            self.corten(&ready)?;
        }
        println!("  (all pods ready after {:.2?})\n", begin.elapsed());
        Ok(())
    }

    fn raw_pods(&self) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.corten(&["get", "pods", "-A", "-o", "json"])?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The pods of the services.
    pub(super) fn pods(&self) -> Result<Vec<Pod>> {
        let mut pods: Vec<Pod> = self.raw_pods()?.iter().filter_map(Pod::read).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Waits until so many pods carry the mark of the mesh.
    pub(super) fn enrolled(&self, count: usize, time_max: Duration) -> Result<bool> {
        let begin = Instant::now();
        let marked = |pod: &&Value| pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled";
        while self.raw_pods()?.iter().filter(marked).count() != count {
            if begin.elapsed() > time_max {
                return Ok(false);
            }
        }
        println!("  (enrolled after {:.2?})\n", begin.elapsed());
        Ok(true)
    }

    /// Whether every pod of the services is ready.
    pub(super) fn all_ready(&self) -> Result<bool> {
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|it| it["type"] == "Ready" && it["status"] == "True")
        };
        Ok(self
            .raw_pods()?
            .iter()
            .filter(|pod| Pod::read(pod).is_some())
            .all(is_ready))
    }

    /// Shows what may tell why the demo could not go on.
    pub(super) fn explain(&self) {
        for command in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "events", "-A"],
            &["logs", "-n", "istio-system", "deployment/istiod", "--tail", "20"],
        ] {
            let output = self.command(command).output();
            eprintln!(
                "$ corten {}\n{}",
                command.join(" "),
                output.map_or_else(
                    |error| error.to_string(),
                    |of| String::from_utf8_lossy(&of.stdout).into_owned()
                )
            );
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.command(&["status", "--name", NAME])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// How many processes still know the demo's state directory.
    pub(super) fn processes_left(&self) -> usize {
        let state = self.state.to_string_lossy().into_owned();
        let knows = |dir: &std::fs::DirEntry| {
            let environment = std::fs::read(dir.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&state)
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter(knows).count()
    }

    pub(super) fn stop(&self) {
        // Stopping what does not run is no failure, and what is left of the state is in a temporary directory.
        let _ = self.command(&["down", "--name", NAME]).output();
        let _ = std::fs::remove_dir_all(&self.state);
    }

    /// Starts looking at the packets of a node for some seconds.
    pub(super) fn capture(&self, node: &str, seconds: u64, text: &str) -> Result<std::process::Child> {
        let program = self.bin.join("corten-capture").display().to_string();
        let (pod, duration) = (format!("capture-{node}"), format!("{seconds}s"));
        let command = [
            "exec",
            "-n",
            "kube-system",
            &pod,
            "--",
            &program,
            "--json",
            "--find",
            text,
            "--duration",
            &duration,
        ];
        let mut command = self.command(&command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("starting a capture")
    }
}

impl Pod {
    /// `None` for pods that are not of one of the services.
    fn read(value: &Value) -> Option<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let service = text("/metadata/labels/app").filter(|app| super::SERVICES.iter().any(|it| it.name == app))?;
        Some(Self {
            name: text("/metadata/name")?,
            namespace: text("/metadata/namespace")?,
            node: text("/spec/nodeName").unwrap_or_default(),
            restarts: value["status"]["containerStatuses"][0]["restartCount"]
                .as_u64()
                .unwrap_or(0),
            service,
        })
    }
}

/// The JSON that a finished command printed.
pub(super) fn printed(child: std::process::Child) -> Result<Value> {
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("what a capture printed")
}
