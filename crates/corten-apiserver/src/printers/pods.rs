//! Pods: the one kind whose status column is a story told from many fields.

use jiff::Timestamp;
use serde_json::Value;

use super::core::list;
use super::{Printer, age, or_none};
use crate::object::{at, name, text};

pub(super) const PODS: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Ready", "string", 0),
        ("Status", "string", 0),
        ("Restarts", "string", 0),
        ("Age", "string", 0),
        ("IP", "string", 1),
        ("Node", "string", 1),
        ("Nominated Node", "string", 1),
        ("Readiness Gates", "string", 1),
    ],
    cells: pod,
};

/// What is gathered while reading the containers.
#[derive(Debug, Default)]
struct Summary<'v> {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    restarts_of_sidecars: i64,
    last_restart: Option<&'v str>,
    last_restart_of_sidecars: Option<&'v str>,
}

fn pod(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut summary = Summary {
        status: text(object, &["status", "phase"]).to_owned(),
        total: list(object, &["spec", "containers"]).len(),
        ..Summary::default()
    };
    let reason = text(object, &["status", "reason"]);
    if !reason.is_empty() {
        summary.status = reason.to_owned();
    }
    let conditions = list(object, &["status", "conditions"]);
    if conditions
        .iter()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
    {
        summary.status = "SchedulingGated".to_owned();
    }
    let initializing = init_containers(object, &mut summary);
    if !initializing || initialized(conditions) {
        containers(object, conditions, &mut summary);
    }
    if !at(object, &["metadata", "deletionTimestamp"]).is_null() {
        if reason == "NodeLost" {
            summary.status = "Unknown".to_owned();
        } else if !matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed") {
            summary.status = "Terminating".to_owned();
        }
    }

    let restarts = match summary.last_restart.and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(at) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                age::human(now.as_second() - at.as_second())
            )
        }
        _ => summary.restarts.to_string(),
    };
    let ip = list(object, &["status", "podIPs"])
        .first()
        .map_or("", |first| text(first, &["ip"]));
    vec![
        name(object).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        age::of(object, now),
        or_none(ip),
        or_none(text(object, &["spec", "nodeName"])),
        or_none(text(object, &["status", "nominatedNodeName"])),
        or_none(&gates(object, conditions)),
    ]
}

/// Reads the init containers; true when one of them is still to be finished.
fn init_containers<'v>(object: &'v Value, summary: &mut Summary<'v>) -> bool {
    let specs = list(object, &["spec", "initContainers"]);
    let is_sidecar = |status: &Value| {
        specs
            .iter()
            .any(|spec| spec["name"] == status["name"] && spec["restartPolicy"] == "Always")
    };
    summary.total += specs.iter().filter(|spec| spec["restartPolicy"] == "Always").count();
    for (index, status) in list(object, &["status", "initContainerStatuses"]).iter().enumerate() {
        let sidecar = is_sidecar(status);
        let restarts = status["restartCount"].as_i64().unwrap_or(0);
        let last = at(status, &["lastState", "terminated", "finishedAt"]).as_str();
        summary.restarts += restarts;
        summary.last_restart = summary.last_restart.max(last);
        if sidecar {
            summary.restarts_of_sidecars += restarts;
            summary.last_restart_of_sidecars = summary.last_restart_of_sidecars.max(last);
        }
        let terminated = at(status, &["state", "terminated"]);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if terminated["exitCode"] == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        summary.status = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        return true;
    }
    false
}

fn containers<'v>(object: &'v Value, conditions: &[Value], summary: &mut Summary<'v>) {
    // Once the pod runs, only sidecars and containers count as restarts.
    summary.restarts = summary.restarts_of_sidecars;
    summary.last_restart = summary.last_restart_of_sidecars;
    let mut running = false;
    for status in list(object, &["status", "containerStatuses"]).iter().rev() {
        summary.restarts += status["restartCount"].as_i64().unwrap_or(0);
        summary.last_restart = summary
            .last_restart
            .max(at(status, &["lastState", "terminated", "finishedAt"]).as_str());
        let terminated = at(status, &["state", "terminated"]);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            summary.status = waiting.to_owned();
        } else if !terminated.is_null() {
            summary.status = ended(terminated);
        } else if status["ready"] == true && !at(status, &["state", "running"]).is_null() {
            running = true;
            summary.ready += 1;
        }
    }
    // A pod whose one container has ended well while another runs is not done.
    if summary.status == "Completed" && running {
        let ready = conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        summary.status = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How a container ended: its reason, or the signal or code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, &["reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match terminated["signal"].as_i64() {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
    }
}

fn initialized(conditions: &[Value]) -> bool {
    conditions
        .iter()
        .any(|condition| condition["type"] == "Initialized" && condition["status"] == "True")
}

fn gates(object: &Value, conditions: &[Value]) -> String {
    let gates = list(object, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return String::new();
    }
    let met = gates.iter().filter(|gate| {
        conditions
            .iter()
            .any(|condition| condition["type"] == gate["conditionType"] && condition["status"] == "True")
    });
    format!("{}/{}", met.count(), gates.len())
}
