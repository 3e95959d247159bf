//! What the runtime asks of `corten-pod`, and what it answers; each message is one [`frame`](crate::frame).
//!
//! Requests carry an id that comes back in the answer. Exits are told without being asked for. Open files travel with the message that names them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From the runtime to the pod.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first message: what the pod is. With `join_network`, an open file of the network namespace to enter comes with it.
    Prepare(Pod),
    /// Start a container. Answered by [`Event::Started`] or [`Event::Failed`].
    Start {
        /// Comes back in the answer.
        id: u64,
        /// What to start.
        container: Box<Container>,
    },
    /// Run a program in a running container. Answered by [`Event::Started`] or [`Event::Failed`], and later by [`Event::Finished`].
    /// Without a terminal, three open files come with it: its stdin, stdout and stderr.
    Exec {
        /// Comes back in the answers.
        id: u64,
        /// In which container.
        container: String,
        /// The program and its arguments.
        argv: Vec<String>,
        /// Whether it gets a terminal; the other end of it comes with the answer.
        tty: bool,
    },
    /// Nobody waits for this program of an exec any more: kill it with its process group. Not answered; [`Event::Finished`] still comes.
    Abandon {
        /// The exec's.
        id: u64,
    },
    /// Send a signal to a container's first process; `SIGKILL` ends all of them. Answered by [`Event::Done`] or [`Event::Failed`].
    Signal {
        /// Comes back in the answer.
        id: u64,
        /// Which container.
        container: String,
        /// The number of the signal.
        signal: i32,
    },
}

/// What is common to the containers of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pod {
    /// The host name.
    pub hostname: String,
    /// Where the containers' written files go.
    pub dir: PathBuf,
    /// Whether the pod lives in the network namespace that comes with the message.
    pub join_network: bool,
    /// Whether the containers share one PID namespace.
    pub share_processes: bool,
    /// Directories of the host that the containers see as empty.
    pub masks: Vec<PathBuf>,
}

/// A container to start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment, before defaults.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Files with a content of the pod's own, by their absolute path in `/etc`: `hosts`, `hostname`, `resolv.conf`.
    pub etc: Vec<(String, String)>,
    /// Its user.
    pub user: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// All capabilities and writable kernel settings.
    pub privileged: bool,
    /// Capabilities to add to the usual ones.
    pub capabilities_add: Vec<String>,
    /// Capabilities to take from the usual ones.
    pub capabilities_drop: Vec<String>,
    /// Whether nothing can be written outside of volumes.
    pub read_only_root: bool,
    /// Where its output is logged.
    pub log_path: PathBuf,
    /// Whether its stdin stays open.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Where it leaves its last words.
    pub termination_message_path: Option<PathBuf>,
}

/// A volume of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The file or directory of the host.
    pub source: PathBuf,
    /// Where in the container.
    pub target: PathBuf,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// The part of the source that is mounted.
    pub sub_path: Option<PathBuf>,
}

/// From the pod to the runtime.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The answer to [`Request::Prepare`].
    Ready,
    /// The pod cannot be what it was asked to be; it ends now.
    Refused {
        /// What was attempted and what the kernel said.
        message: String,
    },
    /// The program runs. With a terminal asked for by an exec, its other end comes with this message.
    Started {
        /// The request's.
        id: u64,
        /// The process, in the pod's PID namespace.
        pid: u32,
    },
    /// The request failed.
    Failed {
        /// The request's.
        id: u64,
        /// What kind of failure.
        kind: FailureKind,
        /// For the user.
        message: String,
    },
    /// The request is done.
    Done {
        /// The request's.
        id: u64,
    },
    /// A container's first process has ended, and the others in it with it.
    Exited {
        /// Which container.
        container: String,
        /// How.
        status: Status,
        /// When: nanoseconds since 1970.
        finished_at: u64,
        /// What it left in its termination message file.
        message: Option<String>,
    },
    /// A program run by [`Request::Exec`] has ended.
    Finished {
        /// The request's.
        id: u64,
        /// How.
        status: Status,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The exit code, or 128 and the signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// The kinds of failure that someone treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// There is no such program.
    NotFound,
    /// The program may not be executed.
    Permission,
    /// What was asked for cannot work.
    Invalid,
    /// The kernel refused something that should work.
    Setup,
    /// A container of that name is running already; the message is the name.
    AlreadyRunning,
    /// No container of that name is running; the message is the name.
    NotRunning,
}

/// A failure on its way to an [`Event::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// For the user.
    pub message: String,
}

impl Failure {
    /// A failure of a kind with its message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What was attempted, and what the kernel said to it.
    pub fn setup(attempt: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::new(FailureKind::Setup, format!("{attempt}: {error}"))
    }
}
