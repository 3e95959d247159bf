//! What goes into a lifecycle and what comes out of it.

use std::net::IpAddr;

use super::stop::Signal;

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// Its configuration cannot be resolved (a missing ConfigMap key); tried again when something changes, and now and then.
    Config { reason: &'static str, message: String },
    /// Its image is not to be had.
    Image { message: String },
    /// Its process could not be executed.
    Run { message: String },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The node does not take the pod.
    Rejected { reason: &'static str, message: String },
    /// Volumes, namespaces and network are there.
    Prepared { ips: Vec<IpAddr> },
    /// Something of that could not be made; it is tried again.
    PrepareFailed,
    /// A container's process lives.
    Running { container: usize, id: String },
    /// A container could not be started.
    StartFailed { container: usize, failure: StartFailure },
    /// The postStart hook ended; an error message when it failed.
    PostStart { container: usize, failure: Option<String> },
    /// The preStop hook ended, however.
    PreStopDone { container: usize },
    /// A container's process ended.
    Exited {
        container: usize,
        code: i32,
        message: String,
    },
    /// The startup probe passed.
    StartupPassed { container: usize },
    /// The readiness probe has a (new) verdict.
    Readiness { container: usize, ready: bool },
    /// The liveness or startup probe gave up on the container.
    Unhealthy {
        container: usize,
        probe: &'static str,
        grace: Option<i64>,
    },
    /// What a container's configuration refers to has changed: failed starts are tried again at once.
    SourceChanged,
    /// Deletion was asked for, or its grace changed.
    Delete { grace: i64 },
    /// The namespaces went away by themselves, and every process with them.
    SandboxLost,
    /// The namespaces are gone.
    TornDown,
}

/// Something to do. Each is given once; its outcome comes back as an [`Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make volumes, namespaces and network.
    Prepare,
    /// Start a container's process.
    Start(usize),
    /// Run a container's postStart hook.
    PostStart(usize),
    /// Run a container's preStop hook.
    PreStop(usize),
    /// Signal a container's process.
    Signal(usize, Signal),
    /// Remove the pod's processes, namespaces and volumes.
    TearDown,
    /// Delete the object for good.
    Remove,
    /// Tell the user.
    Report(Report),
}

/// An Event's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of this container; `None` of the pod.
    pub(crate) container: Option<usize>,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Report {
    pub(super) fn action(
        container: impl Into<Option<usize>>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) -> Action {
        Action::Report(Self {
            container: container.into(),
            warning,
            reason,
            message,
        })
    }
}
