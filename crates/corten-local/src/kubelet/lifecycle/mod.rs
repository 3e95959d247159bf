//! The life of one pod on its node, as a state machine: what was observed goes in, what is to be done comes out.
//!
//! Pure: the clock is an argument, and processes, volumes, sockets and the API are somebody else's. The driver ([`super::worker`])
//! does what the actions say and feeds back what came of them; the status ([`super::status`]) is rendered from the state held here.

mod backoff;
mod container;
mod messages;
mod plan;
mod restore;
mod stop;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use backoff::Backoff;
pub(crate) use container::{Container, Ended, State};
pub(crate) use messages::{Action, Input, Report, StartFailure};
pub(crate) use plan::{Plan, Policy, Role};
pub(crate) use stop::Signal;

/// Where the pod's namespaces are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sandbox {
    Absent,
    Preparing,
    Ready,
    TearingDown,
    Gone,
}

/// Why a pod ended before its containers did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A pod's life so far.
#[derive(Clone, Debug)]
pub(crate) struct Lifecycle {
    pub(crate) plan: Plan,
    /// Init containers and sidecars in their order, then the main ones.
    pub(crate) containers: Vec<Container>,
    /// When the kubelet took the pod up.
    pub(crate) start_time: Timestamp,
    pub(crate) ips: Vec<IpAddr>,
    /// Set when the pod is failed whatever its containers say.
    pub(crate) failure: Option<Failure>,
    sandbox: Sandbox,
    prepare_retry_at: Option<Timestamp>,
    prepare_failures: u32,
    /// All init containers have completed and all sidecars started, once.
    initialized: bool,
    ending: Option<stop::Ending>,
    removed: bool,
    now: Timestamp,
    actions: Vec<Action>,
}

/// How long a failed configuration waits before it is tried again without a change.
const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long a failed pull is shown as such before it is shown as waiting for the next.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(5);
/// The first and the longest pause between attempts to make the pod's volumes and namespaces.
const PREPARE_RETRY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_millis(500), SignedDuration::from_secs(60));

impl Lifecycle {
    /// A pod that has just been bound to this node.
    pub(crate) fn new(plan: Plan, start_time: Timestamp) -> Self {
        Self {
            containers: plan.containers.iter().cloned().map(Container::new).collect(),
            plan,
            start_time,
            ips: Vec::new(),
            failure: None,
            sandbox: Sandbox::Absent,
            prepare_retry_at: None,
            prepare_failures: 0,
            initialized: false,
            ending: None,
            removed: false,
            now: start_time,
            actions: Vec::new(),
        }
    }

    /// The namespaces exist and have their network.
    pub(crate) fn sandbox_ready(&self) -> bool {
        self.sandbox == Sandbox::Ready
    }

    /// The pod was initialized at least once.
    pub(crate) fn is_initialized(&self) -> bool {
        self.initialized
    }

    /// Everything of the pod has ended and nothing of it will start again.
    pub(crate) fn is_over(&self) -> bool {
        self.ending.is_some() && !self.containers.iter().any(Container::is_alive)
    }

    /// Nothing is left to do for it.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// A probe of this kind has something to tell about the container.
    pub(crate) fn wants_probes(&self, container: usize) -> bool {
        let of = &self.containers[container];
        of.is_running() && !of.in_post_start && of.stopping.is_none()
    }

    /// Takes note of what happened at `now`.
    pub(crate) fn input(&mut self, input: Input, now: Timestamp) {
        self.now = now;
        match input {
            // Of one that is at its end already nothing more is said.
            Input::Rejected { .. } if self.ending.is_some() => {}
            Input::Rejected { reason, message } => {
                self.actions.push(Report::action(None, true, reason, message.clone()));
                self.fail(reason, &format!("Pod was rejected: {message}"));
            }
            Input::Prepared { ips } => {
                self.ips = ips;
                self.prepare_failures = 0;
                if self.sandbox == Sandbox::Preparing {
                    self.sandbox = Sandbox::Ready;
                }
            }
            Input::PrepareFailed => {
                if self.sandbox == Sandbox::Preparing {
                    self.sandbox = Sandbox::Absent;
                }
                let pause = PREPARE_RETRY.0 * (1 << self.prepare_failures.min(7));
                self.prepare_failures += 1;
                self.prepare_retry_at = Some(later(now, pause.min(PREPARE_RETRY.1)));
            }
            Input::Running { container, id } => self.process_started(container, id),
            Input::StartFailed { container, failure } => self.start_failed(container, failure),
            Input::PostStart { container, failure } => self.post_start_ended(container, failure),
            Input::PreStopDone { container } => self.pre_stop_ended(container),
            Input::Exited {
                container,
                code,
                message,
            } => self.exited(container, code, message),
            Input::StartupPassed { container } => self.startup_passed(container),
            Input::Readiness { container, ready } => {
                let of = &mut self.containers[container];
                of.ready = ready && of.is_running() && of.started;
            }
            Input::Unhealthy {
                container,
                probe,
                grace,
            } => self.unhealthy(container, probe, grace),
            Input::SourceChanged => {
                self.prepare_retry_at = None;
                for of in &mut self.containers {
                    if matches!(&of.state, State::Waiting { reason, .. } if reason == "CreateContainerConfigError") {
                        of.retry_at = None;
                    }
                }
            }
            Input::Delete { grace } => self.delete(grace),
            Input::SandboxLost => self.sandbox_lost(),
            Input::TornDown => self.sandbox = Sandbox::Gone,
        }
    }

    /// What is to be done at `now`, and when to ask again if nothing happens before.
    pub(crate) fn step(&mut self, now: Timestamp) -> (Vec<Action>, Option<Timestamp>) {
        self.now = now;
        let mut wake = Wake::default();
        self.check_deadline(&mut wake);
        if self.ending.is_none() {
            self.advance(&mut wake);
        }
        // Not an else: the pod may have come to its end just now.
        if self.ending.is_some() {
            self.end();
        }
        self.drive_stops(&mut wake);
        (std::mem::take(&mut self.actions), wake.0)
    }

    /// The pod was allowed to be active only for so long.
    fn check_deadline(&mut self, wake: &mut Wake) {
        let Some(limit) = self.plan.active_deadline.filter(|_| self.ending.is_none()) else {
            return;
        };
        let at = later(self.start_time, limit);
        if at > self.now {
            return wake.at(at);
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.actions
            .push(Report::action(None, false, "DeadlineExceeded", message.to_owned()));
        self.fail("DeadlineExceeded", message);
    }

    /// Brings the pod forward: namespaces, init containers in order, main containers.
    fn advance(&mut self, wake: &mut Wake) {
        match self.sandbox {
            Sandbox::Ready => {}
            Sandbox::Absent => {
                match self.prepare_retry_at.filter(|at| *at > self.now) {
                    Some(at) => wake.at(at),
                    None => {
                        self.sandbox = Sandbox::Preparing;
                        self.actions.push(Action::Prepare);
                    }
                }
                return;
            }
            Sandbox::Preparing | Sandbox::TearingDown | Sandbox::Gone => return,
        }
        if !self.advance_init(wake) {
            return;
        }
        self.initialized = true;
        // One start at a time, in the order of the spec, and the postStart hook counts as part of it.
        for i in self.mains() {
            let of = &self.containers[i];
            if of.starting || of.in_post_start {
                return;
            }
            if !of.is_alive() && self.wants_start(i) {
                self.try_start(i, wake);
                if self.containers[i].starting {
                    return;
                }
            }
        }
        let mut mains = self.mains().map(|i| &self.containers[i]);
        if mains.all(|of| matches!(&of.state, State::Terminated(ended) if !self.plan.policy.restarts(ended.code))) {
            self.ending = Some(stop::Ending::completed(later(self.now, self.plan.grace)));
        }
    }

    /// Brings init containers and sidecars forward; true once the main containers may run.
    fn advance_init(&mut self, wake: &mut Wake) -> bool {
        for i in 0..self.containers.len() {
            let of = &self.containers[i];
            match of.plan.role {
                Role::Main => break,
                Role::Sidecar => {
                    let is_up = of.is_running() && of.started;
                    if !of.is_alive() {
                        self.try_start(i, wake);
                    }
                    if !is_up && !self.initialized {
                        return false;
                    }
                }
                Role::Init if self.initialized || of.completed() => {}
                Role::Init => {
                    if of.is_alive() {
                        return false;
                    }
                    match of.ended() {
                        Some(ended) if ended.code != 0 && !self.plan.policy.restarts_init(ended.code) => {
                            self.fail("", "");
                        }
                        _ => self.try_start(i, wake),
                    }
                    return false;
                }
            }
        }
        true
    }

    fn mains(&self) -> std::ops::Range<usize> {
        let first = self
            .containers
            .iter()
            .take_while(|of| of.plan.role != Role::Main)
            .count();
        first..self.containers.len()
    }

    /// A main container that does not run should.
    fn wants_start(&self, i: usize) -> bool {
        let of = &self.containers[i];
        match of.ended() {
            Some(ended) => self.plan.policy.restarts(ended.code),
            None => true,
        }
    }

    /// Starts a container unless it must wait: after a crash, or after a failed attempt.
    fn try_start(&mut self, i: usize, wake: &mut Wake) {
        let now = self.now;
        let pod = &self.plan.full_name;
        let of = &mut self.containers[i];
        if let Some(at) = of.retry_at.filter(|at| *at > now) {
            return wake.at(at);
        }
        if let Some(at) = of.pull_backoff.waits(now) {
            let shown_until = of.pull_backoff.updated().map(|at| later(at, PULL_ERROR_SHOWN));
            if let Some(until) = shown_until.filter(|until| *until > now) {
                return wake.at(until);
            }
            if let State::Waiting { reason, message } = &mut of.state
                && reason == "ErrImagePull"
            {
                let image = &of.plan.image;
                *message = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
                *reason = "ImagePullBackOff".to_owned();
                self.actions.push(Report::action(
                    i,
                    false,
                    "BackOff",
                    format!("Back-off pulling image \"{image}\""),
                ));
                self.actions
                    .push(Report::action(i, true, "Failed", "Error: ImagePullBackOff".to_owned()));
            }
            return wake.at(at);
        }
        if of.has_run
            && let Some(ended) = of.ended()
        {
            if let Some((until, delay)) = of.backoff.since(ended.finished_at, now) {
                if !matches!(&of.state, State::Waiting { reason, .. } if reason == "CrashLoopBackOff") {
                    let name = &of.plan.name;
                    let message = format!(
                        "back-off {} restarting failed container={name} pod={pod}",
                        go_duration(delay)
                    );
                    let told = format!("Back-off restarting failed container {name} in pod {pod}");
                    of.last = of.ended().cloned();
                    of.state = State::Waiting {
                        reason: "CrashLoopBackOff".to_owned(),
                        message,
                    };
                    self.actions.push(Report::action(i, true, "BackOff", told));
                }
                return wake.at(until);
            }
            let finished = ended.finished_at;
            of.backoff.next(finished, now);
        }
        of.starting = true;
        of.retry_at = None;
        self.actions.push(Action::Start(i));
    }

    fn process_started(&mut self, i: usize, id: String) {
        let now = self.now;
        let of = &mut self.containers[i];
        of.starting = false;
        if let State::Terminated(ended) = &of.state {
            of.last = Some(ended.clone());
        }
        of.restarts += u32::from(of.has_run);
        of.has_run = true;
        of.state = State::Running { since: now, id };
        of.pull_backoff = Backoff::default();
        if let Some((code, message)) = of.early_exit.take() {
            return self.exited(i, code, message);
        }
        of.in_post_start = of.plan.post_start;
        if of.in_post_start {
            self.actions.push(Action::PostStart(i));
        } else {
            self.after_start(i);
        }
    }

    /// The container counts as started when it has no startup probe, and as ready when it has no readiness probe either.
    fn after_start(&mut self, i: usize) {
        let of = &mut self.containers[i];
        of.in_post_start = false;
        of.started = !of.plan.startup_probe;
        of.ready = of.started && !of.plan.readiness_probe;
    }

    fn startup_passed(&mut self, i: usize) {
        let of = &mut self.containers[i];
        if of.is_running() {
            of.started = true;
            of.ready = !of.plan.readiness_probe;
        }
    }

    fn start_failed(&mut self, i: usize, failure: StartFailure) {
        let now = self.now;
        let of = &mut self.containers[i];
        of.starting = false;
        if let State::Terminated(ended) = &of.state {
            of.last = Some(ended.clone());
        }
        let waiting = |reason: &str, message: &str| State::Waiting {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let report = |message: String| Report::action(i, true, "Failed", message);
        match failure {
            StartFailure::Config { reason, message } => {
                of.state = waiting(reason, &message);
                of.retry_at = Some(later(now, CONFIG_RETRY));
                self.actions.push(report(format!("Error: {message}")));
            }
            StartFailure::Image { message } => {
                of.state = waiting("ErrImagePull", &message);
                of.pull_backoff.next(now, now);
                let image = &of.plan.image;
                self.actions
                    .push(report(format!("Failed to pull image \"{image}\": {message}")));
                self.actions.push(report("Error: ErrImagePull".to_owned()));
            }
            StartFailure::Run { message } => {
                of.restarts += u32::from(of.has_run);
                of.has_run = true;
                let ended = Ended {
                    code: 128,
                    reason: "StartError".to_owned(),
                    message: message.clone(),
                    started_at: None,
                    finished_at: now,
                    container_id: String::new(),
                };
                let again = match of.plan.role {
                    Role::Sidecar => true,
                    Role::Init => self.plan.policy.restarts_init(128),
                    Role::Main => self.plan.policy.restarts(128),
                };
                if again {
                    of.state = waiting("RunContainerError", &message);
                    of.last = Some(ended);
                } else {
                    of.state = State::Terminated(ended);
                }
                self.actions.push(report(format!("Error: {message}")));
            }
        }
    }

    fn post_start_ended(&mut self, i: usize, failure: Option<String>) {
        let of = &self.containers[i];
        if !of.in_post_start || !of.is_running() || of.stopping.is_some() {
            return;
        }
        let Some(message) = failure else {
            return self.after_start(i);
        };
        self.containers[i].in_post_start = false;
        self.actions.push(Report::action(
            i,
            true,
            "FailedPostStartHook",
            format!("PostStartHook failed: {message}"),
        ));
        self.stop_container(i, "FailedPostStartHook".to_owned(), self.plan.grace);
    }

    fn unhealthy(&mut self, i: usize, probe: &'static str, grace: Option<i64>) {
        let of = &self.containers[i];
        if !of.is_running() || of.stopping.is_some() {
            return;
        }
        let again = of.plan.role == Role::Sidecar || self.plan.policy != Policy::Never;
        let then = if again { ", will be restarted" } else { "" };
        let message = format!("Container {} failed {probe} probe{then}", of.plan.name);
        self.stop_container(i, message, grace.map_or(self.plan.grace, SignedDuration::from_secs));
    }

    fn exited(&mut self, i: usize, code: i32, message: String) {
        let now = self.now;
        let of = &mut self.containers[i];
        if of.starting {
            of.early_exit = Some((code, message));
            return;
        }
        let State::Running { since, id } = &of.state else {
            return;
        };
        of.state = State::Terminated(Ended {
            code,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message,
            started_at: Some(*since),
            finished_at: now,
            container_id: id.clone(),
        });
        of.started = false;
        of.ready = false;
        of.in_post_start = false;
        of.stopping = None;
    }

    /// The pod begins anew in a fresh sandbox, its containers' restarts counted.
    fn sandbox_lost(&mut self) {
        if self.sandbox != Sandbox::Ready {
            return;
        }
        for i in 0..self.containers.len() {
            self.exited(i, 137, String::new());
        }
        if self.ending.is_some() {
            return;
        }
        self.sandbox = Sandbox::Absent;
        self.actions.push(Report::action(
            None,
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.".to_owned(),
        ));
        self.begin_anew();
    }

    fn fail(&mut self, reason: &str, message: &str) {
        self.failure = Some(Failure {
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
        self.ending = Some(stop::Ending::completed(later(self.now, self.plan.grace)));
    }
}

/// The earliest of the times somebody asked to be woken at.
#[derive(Debug, Default)]
struct Wake(Option<Timestamp>);

impl Wake {
    fn at(&mut self, at: Timestamp) {
        self.0 = Some(self.0.map_or(at, |earlier| earlier.min(at)));
    }
}

/// `at + by`, or the end of time.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A duration as the real kubelet (Go) prints it: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
