//! What the lifecycle needs to know of a pod's spec.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{self, Pod};

/// The pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    /// A main container that exited with this code runs again.
    pub(super) fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }

    /// A regular init container that exited with this code runs again.
    pub(super) fn restarts_init(self, code: i32) -> bool {
        code != 0 && self != Self::Never
    }
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: starts in order, lives as long as the main ones.
    Sidecar,
    Main,
}

/// One container of the spec.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) role: Role,
    pub(crate) startup_probe: bool,
    pub(crate) readiness_probe: bool,
    pub(crate) post_start: bool,
    pub(crate) pre_stop: bool,
}

impl ContainerPlan {
    fn of(container: &v1::Container, role: Role) -> Self {
        let hooks = container.lifecycle.as_ref();
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            role,
            startup_probe: container.startup_probe.is_some(),
            readiness_probe: container.readiness_probe.is_some(),
            post_start: hooks.is_some_and(|hooks| hooks.post_start.is_some()),
            pre_stop: hooks.is_some_and(|hooks| hooks.pre_stop.is_some()),
        }
    }
}

/// A pod's spec, reduced to what decides about its life.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `name_namespace(uid)`, as messages name pods.
    pub(crate) full_name: String,
    pub(crate) policy: Policy,
    pub(crate) grace: SignedDuration,
    pub(crate) active_deadline: Option<SignedDuration>,
    pub(crate) containers: Vec<ContainerPlan>,
}

impl Plan {
    /// The plan of a pod. A spec that is missing is one without containers.
    pub(crate) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let mut plan = Self {
            full_name: format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid)),
            policy: Policy::Always,
            grace: SignedDuration::from_secs(30),
            active_deadline: None,
            containers: Vec::new(),
        };
        let Some(spec) = &pod.spec else { return plan };
        plan.policy = match spec.restart_policy.as_deref() {
            Some("Never") => Policy::Never,
            Some("OnFailure") => Policy::OnFailure,
            _ => Policy::Always,
        };
        plan.grace = SignedDuration::from_secs(spec.termination_grace_period_seconds.unwrap_or(30));
        plan.active_deadline = spec.active_deadline_seconds.map(SignedDuration::from_secs);
        for init in spec.init_containers.iter().flatten() {
            let sidecar = init.restart_policy.as_deref() == Some("Always");
            plan.containers.push(ContainerPlan::of(
                init,
                if sidecar { Role::Sidecar } else { Role::Init },
            ));
        }
        for main in &spec.containers {
            plan.containers.push(ContainerPlan::of(main, Role::Main));
        }
        plan
    }
}
