//! A pod's status, rendered from its life: phase, conditions and container statuses as kubectl shows them.
//!
//! Pure. Knows the state, not how it came about; the only memory is the conditions written last, for their transition times.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use serde_json::{Map, Value, json};

use super::lifecycle::{Container, Ended, Lifecycle, Policy, Role, State};

/// The condition types that the kubelet writes; all others belong to somebody else and stay as they are.
const OWN_CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// The conditions from which the next status goes on: our own as last written (the API may not have shown them yet), others as last seen.
pub(crate) fn conditions_before(seen: &Value, written: &Value) -> Vec<Value> {
    let of = |status: &Value| status["conditions"].as_array().cloned().unwrap_or_default();
    if written["conditions"].is_null() {
        return of(seen);
    }
    let foreign = of(seen).into_iter().filter(|condition| !is_own(condition));
    foreign.chain(of(written).into_iter().filter(is_own)).collect()
}

fn is_own(condition: &Value) -> bool {
    OWN_CONDITIONS.iter().any(|own| condition["type"] == **own)
}

/// The `status` of a pod; `before` are its conditions until now.
pub(crate) fn render(pod: &Pod, life: &Lifecycle, host_ips: &[IpAddr], before: &[Value], now: Timestamp) -> Value {
    let phase = phase(life);
    let generation = pod.metadata.generation;
    let mut status = Map::new();
    if let Some(generation) = generation {
        status.insert("observedGeneration".into(), generation.into());
    }
    status.insert("phase".into(), phase.into());
    status.insert("conditions".into(), conditions(pod, life, phase, before, now));
    // Explicit nulls: the status is written by a merge patch, which would keep what was said before.
    let failure = life.failure.as_ref();
    let said = |text: Option<&String>| {
        text.filter(|text| !text.is_empty())
            .map_or(Value::Null, |text| text.as_str().into())
    };
    status.insert("reason".into(), said(failure.map(|failure| &failure.reason)));
    status.insert("message".into(), said(failure.map(|failure| &failure.message)));
    if let Some(ip) = host_ips.first() {
        status.insert("hostIP".into(), ip.to_string().into());
        status.insert("hostIPs".into(), addresses(host_ips));
    }
    if let Some(ip) = life.ips.first() {
        status.insert("podIP".into(), ip.to_string().into());
        status.insert("podIPs".into(), addresses(&life.ips));
    }
    status.insert("startTime".into(), time(life.start_time));
    status.insert("qosClass".into(), qos_class(pod).into());
    let (init, main): (Vec<_>, Vec<_>) = life.containers.iter().partition(|of| of.plan.role != Role::Main);
    let has_init = !init.is_empty();
    let statuses = |of: Vec<&Container>| -> Value {
        of.into_iter()
            .map(|of| container_status(of, spec_of(pod, &of.plan.name), has_init))
            .collect()
    };
    if has_init {
        status.insert("initContainerStatuses".into(), statuses(init));
    }
    status.insert("containerStatuses".into(), statuses(main));
    Value::Object(status)
}

/// The container of this name in the pod's spec.
pub(crate) fn spec_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerSpec> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .find(|of| of.name == name)
}

fn addresses(ips: &[IpAddr]) -> Value {
    ips.iter().map(|ip| json!({ "ip": ip.to_string() })).collect()
}

/// A time as Kubernetes prints it: whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// The pod's phase.
pub(crate) fn phase(life: &Lifecycle) -> &'static str {
    if life.failure.is_some() {
        return "Failed";
    }
    let (mut pending_init, mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0, 0);
    for of in &life.containers {
        let ended = shown_ended(of);
        match of.plan.role {
            Role::Init => pending_init += usize::from(!of.completed()),
            Role::Sidecar if is_shown_running(of) => {
                running += 1;
                pending_init += usize::from(!of.started);
            }
            Role::Sidecar => pending_init += usize::from(ended.is_none()),
            Role::Main if is_shown_running(of) => running += 1,
            Role::Main => match ended {
                Some(ended) => {
                    stopped += 1;
                    succeeded += usize::from(ended.code == 0);
                }
                None => waiting += 1,
            },
        }
    }
    if life.is_over() && stopped + waiting > 0 && running == 0 {
        return if waiting == 0 && stopped == succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if (pending_init > 0 && !life.is_initialized()) || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match life.plan.policy {
        Policy::Always => "Running",
        _ if stopped == succeeded => "Succeeded",
        Policy::Never => "Failed",
        Policy::OnFailure => "Running",
    }
}

/// A container whose postStart hook has not ended is shown as it was before.
fn is_shown_running(of: &Container) -> bool {
    matches!(of.state, State::Running { .. }) && !of.in_post_start
}

fn shown_ended(of: &Container) -> Option<&Ended> {
    if is_shown_running(of) { None } else { of.ended() }
}

fn conditions(pod: &Pod, life: &Lifecycle, phase: &str, before: &[Value], now: Timestamp) -> Value {
    let ready_to_start = Verdict::of(life.sandbox_ready());
    let containers_ready = containers_ready(life, phase);
    let verdicts = [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", initialized(life, phase)),
        ("Ready", pod_ready(pod, containers_ready.clone(), before)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::of(true)),
    ];
    let own = verdicts.into_iter().map(|(kind, verdict)| {
        let status = if verdict.holds { "True" } else { "False" };
        let old = before.iter().find(|old| old["type"] == kind && old["status"] == status);
        let since = match old.and_then(|old| old["lastTransitionTime"].as_str()) {
            Some(since) => Value::from(since),
            None => time(now),
        };
        let mut condition =
            json!({ "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since });
        if let Some(generation) = pod.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        if !verdict.reason.is_empty() {
            condition["reason"] = verdict.reason.into();
        }
        if !verdict.message.is_empty() {
            condition["message"] = verdict.message.into();
        }
        condition
    });
    let foreign = before.iter().filter(|old| !is_own(old)).cloned();
    foreign.chain(own).collect()
}

#[derive(Clone)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        Self {
            holds,
            reason: "",
            message: String::new(),
        }
    }

    fn not(reason: &'static str, message: String) -> Self {
        Self {
            holds: false,
            reason,
            message,
        }
    }
}

fn containers_ready(life: &Lifecycle, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::not("PodCompleted", String::new()),
        "Failed" => return Verdict::not("PodFailed", String::new()),
        _ => {}
    }
    let unready = names(
        life.containers
            .iter()
            .filter(|of| of.plan.role != Role::Init && !is_ready(of)),
    );
    if unready.is_empty() {
        return Verdict::of(true);
    }
    Verdict::not(
        "ContainersNotReady",
        format!("containers with unready status: [{unready}]"),
    )
}

fn pod_ready(pod: &Pod, containers: Verdict, conditions: &[Value]) -> Verdict {
    if !containers.holds {
        return containers;
    }
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let unmet: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match conditions.iter().find(|condition| condition["type"] == **kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
                Some(condition) => match condition["status"].as_str().unwrap_or_default() {
                    "True" => None,
                    status => Some(format!(
                        "the status of pod readiness gate \"{kind}\" is not \"True\", but {status}"
                    )),
                },
            }
        })
        .collect();
    if unmet.is_empty() {
        return Verdict::of(true);
    }
    Verdict::not("ReadinessGatesNotReady", unmet.join(", "))
}

fn initialized(life: &Lifecycle, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            holds: true,
            reason: "PodCompleted",
            message: String::new(),
        };
    }
    let main_started = life
        .containers
        .iter()
        .any(|of| of.plan.role == Role::Main && (of.started || of.ended().is_some()));
    let incomplete = names(life.containers.iter().filter(|of| match of.plan.role {
        Role::Init => !of.completed(),
        Role::Sidecar => !of.started,
        Role::Main => false,
    }));
    if main_started || incomplete.is_empty() {
        return Verdict::of(true);
    }
    Verdict::not(
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{incomplete}]"),
    )
}

fn names<'a>(of: impl Iterator<Item = &'a Container>) -> String {
    of.map(|of| of.plan.name.as_str()).collect::<Vec<_>>().join(" ")
}

fn is_ready(of: &Container) -> bool {
    match of.plan.role {
        Role::Init => of.completed(),
        Role::Sidecar | Role::Main => of.ready && is_shown_running(of),
    }
}

fn container_status(of: &Container, spec: Option<&ContainerSpec>, has_init: bool) -> Value {
    let shown_running = is_shown_running(of);
    let id = match &of.state {
        State::Running { id, .. } => id.as_str(),
        _ => of.ended().map_or("", |ended| &ended.container_id),
    };
    let mut status = json!({
        "name": of.plan.name,
        "state": state(of, has_init),
        "lastState": match &of.last {
            Some(last) => json!({ "terminated": terminated(last) }),
            None => json!({}),
        },
        "ready": is_ready(of),
        "restartCount": of.restarts,
        "image": of.plan.image,
        "imageID": if shown_running || of.ended().is_some() { image_id(&of.plan.image) } else { String::new() },
        "started": of.started && shown_running,
    });
    if !id.is_empty() {
        status["containerID"] = id.into();
    }
    let Some(spec) = spec else { return status };
    status["resources"] = spec
        .resources
        .as_ref()
        .and_then(|of| serde_json::to_value(of).ok())
        .unwrap_or_else(|| json!({}));
    let mounts = spec.volume_mounts.iter().flatten().map(|mount| {
        let mut shown = json!({ "mountPath": mount.mount_path, "name": mount.name });
        if mount.read_only == Some(true) {
            shown["readOnly"] = true.into();
            shown["recursiveReadOnly"] = mount.recursive_read_only.as_deref().unwrap_or("Disabled").into();
        }
        shown
    });
    let mounts: Vec<Value> = mounts.collect();
    if !mounts.is_empty() {
        status["volumeMounts"] = mounts.into();
    }
    status
}

/// Images are not pulled, so the name is all there is to identify one by.
fn image_id(image: &str) -> String {
    format!("corten://{image}")
}

fn state(of: &Container, has_init: bool) -> Value {
    match &of.state {
        State::Running { since, .. } if !of.in_post_start => json!({ "running": { "startedAt": time(*since) } }),
        State::Terminated(ended) => json!({ "terminated": terminated(ended) }),
        State::Waiting { reason, message } if !reason.is_empty() => {
            let mut waiting = json!({ "reason": reason });
            if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            json!({ "waiting": waiting })
        }
        State::Waiting { .. } | State::Running { .. } => {
            let reason = if has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            };
            json!({ "waiting": { "reason": reason } })
        }
    }
}

fn terminated(ended: &Ended) -> Value {
    let mut shown = json!({
        "exitCode": ended.code,
        "reason": ended.reason,
        "startedAt": time(ended.started_at.unwrap_or(Timestamp::UNIX_EPOCH)),
        "finishedAt": time(ended.finished_at),
    });
    if !ended.message.is_empty() {
        shown["message"] = ended.message.as_str().into();
    }
    if !ended.container_id.is_empty() {
        shown["containerID"] = ended.container_id.as_str().into();
    }
    shown
}

/// The pod's quality-of-service class, from its requests and limits of CPU and memory.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let (mut any, mut guaranteed) = (false, true);
    for of in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = of.resources.as_ref();
        let amount = |of: Option<&std::collections::BTreeMap<String, _>>, name: &str| -> Option<String> {
            let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = of?.get(name)?;
            (quantity.0 != "0").then(|| quantity.0.clone())
        };
        for name in ["cpu", "memory"] {
            let request = amount(resources.and_then(|of| of.requests.as_ref()), name);
            let limit = amount(resources.and_then(|of| of.limits.as_ref()), name);
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
