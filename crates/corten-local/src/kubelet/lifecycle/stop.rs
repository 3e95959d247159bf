//! Bringing containers and whole pods to their end: preStop hook, SIGTERM, grace, SIGKILL; sidecars last, in reverse order.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Lifecycle, Report, Role, Sandbox, Wake, later};

/// After its hook a process has at least this long to react, whatever is left of the grace period.
const GRACE_LEAST: SignedDuration = SignedDuration::from_secs(2);

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    Kill,
}

/// A container being brought to its end.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    stage: Stage,
    /// When the present stage is cut short.
    deadline: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Hook,
    HookDone,
    Terminated,
    Killed,
}

/// A pod being brought to its end.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    deleted: bool,
    deadline: Timestamp,
}

impl Ending {
    /// The pod's own work is over: what still runs of it has until `deadline`.
    pub(super) fn completed(deadline: Timestamp) -> Self {
        Self {
            deleted: false,
            deadline,
        }
    }
}

impl Lifecycle {
    /// Deletion was asked for; asked again, it can only hasten it.
    pub(super) fn delete(&mut self, grace: i64) {
        let deadline = later(self.now, SignedDuration::from_secs(grace.max(1)));
        let deadline = match &self.ending {
            Some(ending) if ending.deleted => ending.deadline.min(deadline),
            _ => deadline,
        };
        self.ending = Some(Ending {
            deleted: true,
            deadline,
        });
        for of in &mut self.containers {
            if let Some(stopping) = &mut of.stopping {
                stopping.deadline = stopping.deadline.min(deadline);
            }
        }
    }

    /// Stops what still runs, then takes the pod apart, then lets the object go.
    pub(super) fn end(&mut self) {
        let Some(Ending { deleted, deadline }) = self.ending else {
            return;
        };
        let left = deadline.duration_since(self.now);
        let mut alive = false;
        for i in 0..self.containers.len() {
            if self.containers[i].plan.role != Role::Sidecar && self.containers[i].is_alive() {
                alive = true;
                self.stop_for_end(i, left);
            }
        }
        // Sidecars serve the others to the end, and each other in the order they were started.
        if !alive {
            let sidecar = (0..self.containers.len())
                .rev()
                .find(|i| self.containers[*i].plan.role == Role::Sidecar && self.containers[*i].is_alive());
            if let Some(i) = sidecar {
                alive = true;
                self.stop_for_end(i, left);
            }
        }
        if alive {
            return;
        }
        match self.sandbox {
            Sandbox::Ready => {
                self.sandbox = Sandbox::TearingDown;
                self.actions.push(Action::TearDown);
            }
            // It cannot be taken apart while it is being made; an end that comes meanwhile waits for that.
            Sandbox::Preparing | Sandbox::TearingDown => {}
            Sandbox::Absent | Sandbox::Gone => {
                self.sandbox = Sandbox::Gone;
                if deleted && !self.removed {
                    self.removed = true;
                    self.actions.push(Action::Remove);
                }
            }
        }
    }

    fn stop_for_end(&mut self, i: usize, left: SignedDuration) {
        if self.containers[i].is_running() && self.containers[i].stopping.is_none() {
            let message = format!("Stopping container {}", self.containers[i].plan.name);
            self.stop_container(i, message, left);
        }
    }

    /// Begins the end of a running container.
    pub(super) fn stop_container(&mut self, i: usize, message: String, grace: SignedDuration) {
        let deadline = later(self.now, grace.max(SignedDuration::ZERO));
        let of = &mut self.containers[i];
        let hook = of.plan.pre_stop;
        of.stopping = Some(Stopping {
            stage: if hook { Stage::Hook } else { Stage::HookDone },
            deadline,
        });
        self.actions.push(Report::action(i, false, "Killing", message));
        if hook {
            self.actions.push(Action::PreStop(i));
        }
    }

    pub(super) fn pre_stop_ended(&mut self, i: usize) {
        if let Some(stopping) = &mut self.containers[i].stopping
            && stopping.stage == Stage::Hook
        {
            stopping.stage = Stage::HookDone;
        }
    }

    /// Moves every container that is being stopped through its stages.
    pub(super) fn drive_stops(&mut self, wake: &mut Wake) {
        let now = self.now;
        for (i, of) in self.containers.iter_mut().enumerate() {
            let Some(stopping) = &mut of.stopping else { continue };
            if stopping.stage == Stage::HookDone || (stopping.stage == Stage::Hook && stopping.deadline <= now) {
                stopping.stage = Stage::Terminated;
                // Where a hook ate the grace, the process still gets a moment of its own.
                if of.plan.pre_stop || of.plan.role == Role::Sidecar {
                    stopping.deadline = stopping.deadline.max(later(now, GRACE_LEAST));
                }
                self.actions.push(Action::Signal(i, Signal::Terminate));
            }
            if stopping.stage == Stage::Terminated && stopping.deadline <= now {
                stopping.stage = Stage::Killed;
                self.actions.push(Action::Signal(i, Signal::Kill));
            }
            if stopping.stage != Stage::Killed {
                wake.at(stopping.deadline);
            }
        }
    }
}
