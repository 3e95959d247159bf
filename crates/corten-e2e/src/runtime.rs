//! One cluster under test: an instance of the local runtime, or a Kubernetes that is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries;
use crate::host::Processes;

/// A user without any right and without an entry in `/etc/passwd`.
const ORDINARY: u32 = 64_321;

/// Who runs the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Root.
    Root,
    /// An ordinary user.
    User,
}

impl As {
    /// Whether this test process can be that user; the reason if not.
    pub fn possible(self) -> Result<(), String> {
        let root = rustix::process::geteuid().is_root();
        match self {
            Self::Root if !root => Err("needs to be run as root".into()),
            _ => Ok(()),
        }
    }
}

/// A place with binaries and a state directory; stops what was started there when dropped.
///
/// Also stands for a Kubernetes that is there already: scenarios are the same on both, and what they leave there is removed.
#[derive(Debug)]
pub struct Runtime {
    user: As,
    dir: TempDir,
    kubernetes: Option<Kubernetes>,
}

/// A cluster that nobody starts or stops here.
#[derive(Debug)]
struct Kubernetes {
    kubeconfig: PathBuf,
    /// What sets this run's namespaces apart from those of others.
    run: String,
}

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the command succeeded; returns its output.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Fails the test unless the command failed with this code; returns what it said about it.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

impl Runtime {
    /// A new place, for this user.
    ///
    /// # Panics
    /// If the place cannot be made.
    pub fn new(user: As) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("corten-e2e-")
            .tempdir()
            .expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        binaries::install(&dir.path().join("bin"));
        let state = dir.path().join("state");
        fs::create_dir(&state).expect("a state directory");
        let runtime = Self {
            user,
            dir,
            kubernetes: None,
        };
        if let Some(uid) = runtime.switch() {
            chown(&state, Some(uid), Some(uid)).expect("root can give away");
        }
        runtime
    }

    /// The Kubernetes of this kubeconfig, with the mesh installed in it.
    ///
    /// # Panics
    /// If there is no room for the test's own files.
    pub fn kubernetes(kubeconfig: &Path) -> Self {
        let seconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let kubernetes = Kubernetes {
            kubeconfig: std::path::absolute(kubeconfig).expect("there is a working directory"),
            run: format!("{:x}", seconds % 0x10_0000),
        };
        let mut runtime = Self::new(As::Root);
        runtime.kubernetes = Some(kubernetes);
        runtime
    }

    /// The kubeconfig of the cluster that scenarios are about.
    pub fn kubeconfig(&self) -> PathBuf {
        match &self.kubernetes {
            Some(kubernetes) => kubernetes.kubeconfig.clone(),
            None => self.state("default").join("kubeconfig"),
        }
    }

    /// Whether it is a Kubernetes rather than an instance of the local runtime.
    pub fn is_kubernetes(&self) -> bool {
        self.kubernetes.is_some()
    }

    /// A scenario's namespace: as it says, and where others may have one of that name, with what tells this run's apart.
    pub(crate) fn namespace(&self, name: &str) -> String {
        match &self.kubernetes {
            Some(kubernetes) if !name.contains(&kubernetes.run) => format!("{name}-{}", kubernetes.run),
            _ => name.to_owned(),
        }
    }

    /// The user to become, if it is not this one.
    fn switch(&self) -> Option<u32> {
        (self.user == As::User && rustix::process::geteuid().is_root()).then_some(ORDINARY)
    }

    /// The directory of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory of an instance.
    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join("state/corten").join(name)
    }

    /// `corten` with these arguments, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        self.program("corten", args)
    }

    /// Any program as the same user in the same environment; one of the installed binaries if it is named so.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let installed = self.dir.path().join("bin").join(program);
        let mut command = Command::new(if installed.exists() { installed } else { program.into() });
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("HOME", self.dir.path().join("state"))
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        if let Some(uid) = self.switch() {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Runs `corten` with these arguments to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[track_caller]
    pub fn corten(&self, args: &[&str]) -> Output {
        run(self.command(args))
    }

    /// Starts an instance without a mesh and returns when it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[track_caller]
    pub fn up(&self, args: &[&str]) -> String {
        self.corten(&[&["up", "--detach", "--no-mesh"], args].concat()).ok()
    }

    /// Starts an instance with the mesh, and returns when all of its parts are ready.
    ///
    /// # Panics
    /// If they do not become ready.
    #[track_caller]
    pub fn up_with_mesh(&self, name: &str) -> String {
        self.up_with_mesh_and(name, &[])
    }

    /// As [`up_with_mesh`](Self::up_with_mesh), with further flags of `corten up`.
    ///
    /// # Panics
    /// If the parts do not become ready.
    #[track_caller]
    pub fn up_with_mesh_and(&self, name: &str, flags: &[&str]) -> String {
        let stock = crate::stock::flags();
        let stock: Vec<&str> = stock.iter().map(String::as_str).collect();
        let said = self
            .corten(&[&["up", "--detach", "--name", name][..], &stock, flags].concat())
            .ok();
        let kubeconfig = self.state(name).join("kubeconfig");
        let kubeconfig = kubeconfig.to_string_lossy();
        for part in ["deployment/istiod", "daemonset/istio-cni-node", "daemonset/ztunnel"] {
            let place = ["-n", "istio-system", "--kubeconfig", &kubeconfig, "--timeout", "180s"];
            self.corten(&[&["rollout", "status", part][..], &place].concat()).ok();
        }
        said
    }

    /// Starts an instance in the foreground, with its output in a pipe.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn foreground(&self, args: &[&str]) -> Child {
        let mut command = self.command(&[&["up", "--no-mesh"], args].concat());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("corten can be started")
    }

    /// What a running instance says of itself, or the commands of the Kubernetes.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        let json = match &self.kubernetes {
            None => self.corten(&["status", "--json", "--name", name]),
            Some(it) => self.corten(&["status", "--json", "--kubeconfig", &it.kubeconfig.to_string_lossy()]),
        };
        let json = json.ok();
        serde_json::from_str(&json).expect("status --json is JSON")
    }

    /// A client of a running instance's API, as its kubeconfig makes one.
    ///
    /// # Panics
    /// If the kubeconfig will not do.
    pub async fn client(&self, name: &str) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(self.state(name).join("kubeconfig")).expect("up writes a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .expect("it is complete");
        kube::Client::try_from(config).expect("its certificates are good")
    }

    /// Kills (SIGKILL) every process with this program of the mesh, on all nodes; how many there were, or why it cannot be done.
    ///
    /// # Panics
    /// If the instance does not run.
    #[track_caller]
    pub fn kill_on_nodes(&self, program: &str) -> Result<usize, String> {
        if self.is_kubernetes() {
            self.reaches_nodes()?;
            let nodes = self.names_of_nodes();
            let script = format!("pids=$(pgrep -x {program}); [ -z \"$pids\" ] || kill -KILL $pids; echo $pids");
            let mut killed = 0;
            for node in nodes {
                if let Some(on) = node_command(&node, &script) {
                    killed += run(on).ok().split_whitespace().count();
                }
            }
            return Ok(killed);
        }
        let running = self.processes("default").running(program);
        running.iter().copied().for_each(Processes::kill);
        Ok(running.len())
    }

    /// Whether something can be done on the nodes themselves; why not.
    pub fn reaches_nodes(&self) -> Result<(), String> {
        let reached = !self.is_kubernetes() || node_command("", "").is_some();
        reached
            .then_some(())
            .ok_or_else(|| "CORTEN_NODE_SHELL does not say how to run something on a node".to_owned())
    }

    /// The nodes of the Kubernetes.
    fn names_of_nodes(&self) -> Vec<String> {
        let mut get = self.program("corten", &["get", "nodes", "-o", "name"]);
        get.env("KUBECONFIG", self.kubeconfig());
        let said = run(get).ok();
        said.lines()
            .map(|line| line.trim_start_matches("node/").to_owned())
            .collect()
    }

    /// The processes of a running instance.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn processes(&self, name: &str) -> Processes {
        let lock = fs::read(self.state(name).join("lock")).expect("a running instance has a lock file");
        let lock: Value = serde_json::from_slice(&lock).expect("its holder wrote JSON");
        let pid = |field: &str| i32::try_from(lock[field].as_i64().expect("a process id")).expect("a small one");
        Processes::of(pid("pid"), pid("process_one"))
    }
}

/// A shell script on a node of a Kubernetes, if `CORTEN_NODE_SHELL` says how: a piece of shell that is followed by a node's name, a program
/// and its arguments, and runs that there.
pub(crate) fn node_command(node: &str, script: &str) -> Option<Command> {
    let shell = std::env::var("CORTEN_NODE_SHELL").ok().filter(|it| !it.is_empty())?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} \"$@\""), "sh", node, "sh", "-c", script]);
    Some(command)
}

/// Runs a command to its end; what it said.
///
/// # Panics
/// If it cannot be run.
#[track_caller]
pub fn run(mut command: Command) -> Output {
    let output = command.output().expect("the command can be run");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.kubernetes.is_some() {
            return;
        }
        // After a failed test too, nothing stays. The log says more than the failure.
        if std::thread::panicking() {
            for entry in fs::read_dir(self.dir.path().join("state/corten"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let log = fs::read_to_string(entry.path().join("log")).unwrap_or_default();
                eprintln!("--- log of {}:\n{log}", entry.file_name().to_string_lossy());
            }
        }
        let _ = self.command(&["down", "--all", "--timeout", "5"]).output();
    }
}
