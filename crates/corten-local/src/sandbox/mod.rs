//! Pods as processes: the asynchronous side of `corten-pod`, one [`Sandbox`] per pod.
//!
//! Knows namespaces, containers, exits and streams. Does not know Kubernetes objects (the kubelet translates), images, or how a pod gets its addresses
//! (the CNI chain works on [`Sandbox::netns_path`]).

mod error;
mod spec;

pub use error::{SandboxError, StartError};
pub use spec::{ContainerSpec, Exit, HostsEntry, Mount, NetworkNamespace, ResolvConf, SandboxSpec, Security, Started};

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// The namespaces of one pod with the `corten-pod` process that holds them and is the parent of its containers.
///
/// All methods but [`exits`](Self::exits) take `&self`, so it is shared in an `Arc`. Dropping it ends the pod's processes too; [`stop`](Self::stop) also waits
/// until they are gone and removes what they wrote.
#[derive(Debug)]
pub struct Sandbox {
    netns: PathBuf,
    exits: Option<mpsc::Receiver<Exit>>,
}

impl Sandbox {
    /// Starts `corten-pod` in new PID, mount, UTS and IPC namespaces and in the network namespace the specification asks for. The network is not configured yet.
    pub async fn create(spec: SandboxSpec) -> Result<Self, SandboxError> {
        Err(SandboxError::Refused {
            what: "sandbox",
            message: format!("pod {}/{}: this build has no sandboxes", spec.namespace, spec.name),
        })
    }

    /// The pod's network namespace as a path, for the CNI chain. Valid until [`stop`](Self::stop).
    pub fn netns_path(&self) -> &Path {
        &self.netns
    }

    /// Replaces the pod's own lines of `/etc/hosts`, for containers started from now on (the pod's addresses are only known after the network was attached).
    pub fn set_hosts(&self, _hosts: Vec<HostsEntry>) {}

    /// Starts a container; returns when its program was executed, or why it could not be.
    ///
    /// A container that exited may be started again under the same name; it then begins with a fresh root file system.
    pub async fn start(&self, container: ContainerSpec) -> Result<Started, StartError> {
        let _ = container;
        Err(StartError::Gone)
    }

    /// The exits of containers, in order; the channel ends when the sandbox is gone. The second call gives a channel that has already ended.
    pub fn exits(&mut self) -> mpsc::Receiver<Exit> {
        self.exits.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Sends a signal to the first process of a container; `SIGKILL` ends all of its processes.
    pub async fn signal(&self, container: &str, signal: i32) -> Result<(), StartError> {
        let _ = signal;
        Err(StartError::NotRunning(container.to_owned()))
    }

    /// Runs a further program inside a running container, as its user, with its environment and working directory.
    ///
    /// With `tty` the program has a terminal: what it prints arrives on `stdout`, `stderr` is empty, and [`Exec::terminal`] resizes it.
    pub async fn exec(&self, container: &str, argv: Vec<String>, tty: bool, stdin: bool) -> Result<Exec, StartError> {
        let _ = (argv, tty, stdin);
        Err(StartError::NotRunning(container.to_owned()))
    }

    /// Connects to a port of the pod, from inside its network namespace: `127.0.0.1`, then `::1`.
    pub async fn dial(&self, port: u16) -> io::Result<tokio::net::TcpStream> {
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            format!("port {port}: the sandbox is gone"),
        ))
    }

    /// Ends what is left of the pod and removes its namespaces, mounts and written files. May be called twice.
    pub async fn stop(&self) {}
}

/// A program started by [`Sandbox::exec`]. Dropping the streams does not end it.
pub struct Exec {
    /// What it reads; `None` when no stdin was asked for. Dropping it is the end of its input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it prints (with a terminal: all of it).
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// What it prints to stderr; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its terminal, when one was asked for.
    pub terminal: Option<Terminal>,
    /// Resolves when it has exited; an error means that the whole sandbox went away.
    pub exit: oneshot::Receiver<ExecExit>,
}

/// How a program started by [`Sandbox::exec`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecExit {
    /// The exit code; `128 + signal` when a signal ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// The terminal of an [`Exec`], for changing its size.
#[derive(Debug)]
pub struct Terminal {
    _private: (),
}

impl Terminal {
    /// Tells the program the size of the window it is shown in.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let _ = (columns, rows);
        Ok(())
    }
}
