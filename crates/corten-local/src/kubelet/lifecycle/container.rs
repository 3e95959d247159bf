//! One container as observed: where it is, how it ended before, what is under way with it.

use jiff::Timestamp;

use super::backoff::Backoff;
use super::plan::ContainerPlan;
use super::stop::Stopping;

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code as Kubernetes shows it: 128 + n for a signal n.
    pub(crate) code: i32,
    /// `Completed`, `Error`, `StartError`, ...
    pub(crate) reason: String,
    /// The termination message.
    pub(crate) message: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
    pub(crate) container_id: String,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not running: not yet, or not again. An empty reason stands for the pod's default one.
    Waiting { reason: String, message: String },
    /// Its process lives.
    Running { since: Timestamp, id: String },
    /// Its process ended.
    Terminated(Ended),
}

/// One container as observed.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) plan: ContainerPlan,
    pub(crate) state: State,
    /// How the run before the present one ended.
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: u32,
    /// The startup probe has passed, or there is none.
    pub(crate) started: bool,
    /// The readiness probe passes, or there is none.
    pub(crate) ready: bool,
    /// The process was asked for and has not been reported yet.
    pub(super) starting: bool,
    /// The exit of such a process, which may be heard of before its start.
    pub(super) early_exit: Option<(i32, String)>,
    /// The process lives but its postStart hook has not ended.
    pub(crate) in_post_start: bool,
    /// It is being brought to an end.
    pub(super) stopping: Option<Stopping>,
    /// Its process has been started at least once.
    pub(super) has_run: bool,
    pub(super) backoff: Backoff,
    pub(super) pull_backoff: Backoff,
    /// When a failed start is tried again.
    pub(super) retry_at: Option<Timestamp>,
}

impl Container {
    pub(super) fn new(plan: ContainerPlan) -> Self {
        Self {
            plan,
            state: State::Waiting {
                reason: String::new(),
                message: String::new(),
            },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            starting: false,
            early_exit: None,
            in_post_start: false,
            stopping: None,
            has_run: false,
            backoff: Backoff::default(),
            pull_backoff: Backoff::default(),
            retry_at: None,
        }
    }

    /// A process exists or is about to.
    pub(super) fn is_alive(&self) -> bool {
        self.starting || matches!(self.state, State::Running { .. })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Its process was asked for and has not been reported yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting
    }

    /// How its latest run ended, when it is not running.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Terminated(ended) => Some(ended),
            State::Waiting { .. } => self.last.as_ref(),
            State::Running { .. } => None,
        }
    }

    /// A regular init container that has done its work.
    pub(crate) fn completed(&self) -> bool {
        matches!(&self.state, State::Terminated(ended) if ended.code == 0)
    }
}
