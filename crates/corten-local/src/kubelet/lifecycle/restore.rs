//! A pod that lived under an earlier run of the runtime: its processes are gone, its object tells what was.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};

use super::{Ended, Failure, Lifecycle, Plan, Policy, Report, Role, State, stop};

/// What a container's process gets for an exit code when nobody saw how it ended.
const UNKNOWN_CODE: i32 = 255;

impl Lifecycle {
    /// Takes up a pod whose status was written by an earlier run (or is still empty).
    pub(crate) fn restore(plan: Plan, status: &PodStatus, now: Timestamp) -> Self {
        let start_time = status.start_time.as_ref().map_or(now, |time| time.0);
        let mut life = Self::new(plan, start_time);
        life.now = now;
        let mut had_run = false;
        for of in &mut life.containers {
            let known = status
                .init_container_statuses
                .iter()
                .chain(&status.container_statuses)
                .flatten()
                .find(|known| known.name == of.plan.name);
            let Some(known) = known else { continue };
            of.restarts = u32::try_from(known.restart_count).unwrap_or(0);
            of.last = known
                .last_state
                .as_ref()
                .and_then(|state| state.terminated.as_ref())
                .map(ended);
            if let Some(state) = last_seen(known, now) {
                had_run = true;
                of.has_run = true;
                of.state = State::Terminated(state);
            } else if of.last.is_some() {
                had_run = true;
                of.has_run = true;
            }
        }
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            if status.phase.as_deref() == Some("Failed") {
                life.failure = Some(Failure {
                    reason: status.reason.clone().unwrap_or_default(),
                    message: status.message.clone().unwrap_or_default(),
                });
            }
            life.initialized = true;
            life.ending = Some(stop::Ending::completed(now));
            return life;
        }
        if !had_run {
            return life;
        }
        if life.plan.policy == Policy::Never {
            // Such a pod does not get a second life on a fresh sandbox.
            life.initialized = true;
            life.fail("", "");
            return life;
        }
        life.actions.push(Report::action(
            None,
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.".to_owned(),
        ));
        life.begin_anew();
        life
    }

    /// What has to run again in a new sandbox waits to.
    pub(super) fn begin_anew(&mut self) {
        self.initialized = false;
        for of in &mut self.containers {
            // Init containers run again in the new sandbox; a main one that is done under OnFailure stays done.
            let again = of.plan.role != Role::Main || self.plan.policy == Policy::Always;
            if let State::Terminated(ended) = &of.state
                && (again || ended.code != 0)
            {
                of.last = Some(ended.clone());
                of.state = State::Waiting {
                    reason: String::new(),
                    message: String::new(),
                };
            }
        }
    }
}

fn last_seen(known: &ContainerStatus, now: Timestamp) -> Option<Ended> {
    let state = known.state.as_ref()?;
    if let Some(terminated) = &state.terminated {
        return Some(ended(terminated));
    }
    let running = state.running.as_ref()?;
    Some(Ended {
        code: UNKNOWN_CODE,
        reason: "Unknown".to_owned(),
        message: String::new(),
        started_at: running.started_at.as_ref().map(|time| time.0),
        finished_at: now,
        container_id: known.container_id.clone().unwrap_or_default(),
    })
}

fn ended(terminated: &ContainerStateTerminated) -> Ended {
    Ended {
        code: terminated.exit_code,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
        started_at: terminated.started_at.as_ref().map(|time| time.0),
        finished_at: terminated
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        container_id: terminated.container_id.clone().unwrap_or_default(),
    }
}
