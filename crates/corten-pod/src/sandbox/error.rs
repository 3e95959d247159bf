//! What can go wrong with a sandbox and its containers, with messages fit for a pod's status.

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The `corten-pod` program is not beside the running executable, or could not be started.
    #[error("cannot start {path}: {source}")]
    Program {
        /// Where it was looked for.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel refused a part of it.
    #[error("{what}: {message}")]
    Refused {
        /// The part: a namespace, a mount, a file.
        what: &'static str,
        /// What was attempted and what the kernel said.
        message: String,
    },
}

/// Why a container, or a program in one, did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no such program in the container: `exec: "foo": executable file not found in $PATH`.
    #[error("{0}")]
    NotFound(String),
    /// It may not be executed: `exec: "/etc/passwd": permission denied`.
    #[error("{0}")]
    Permission(String),
    /// The container's specification cannot work: a working directory, user or mount.
    #[error("{0}")]
    Invalid(String),
    /// The kernel refused something that should work; the message says what.
    #[error("{0}")]
    Setup(String),
    /// A container of this name is running.
    #[error("container {0:?} is already running")]
    AlreadyRunning(String),
    /// No container of this name is running.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// The pod's `corten-pod` process has ended, and everything in the pod with it.
    #[error("the pod's sandbox is gone")]
    Gone,
}
