//! A deployment's status: counts from its replica sets, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Look;
use crate::controllers::action::Action;
use crate::controllers::object;

/// A deadline of this many seconds means that there is none.
const NO_DEADLINE: i64 = i32::MAX as i64;

/// Whether the deployment wants its progress to be judged.
pub(super) fn has_deadline(deployment: &Value) -> bool {
    deadline(deployment) != NO_DEADLINE
}

fn deadline(deployment: &Value) -> i64 {
    object::number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600)
}

pub(super) fn condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    json!({
        "type": type_,
        "status": status,
        "lastUpdateTime": object::seconds(now),
        "lastTransitionTime": object::seconds(now),
        "reason": reason,
        "message": message,
    })
}

/// Sets a condition at the end of the list, unless it is there with the same status and reason. Keeps the transition time of an equal status.
pub(super) fn set(deployment: &mut Value, mut condition: Value) {
    let type_ = object::text(&condition, "/type").to_owned();
    if let Some(current) = object::condition(deployment, &type_)
        && current["status"] == condition["status"]
    {
        if current["reason"] == condition["reason"] {
            return;
        }
        condition["lastTransitionTime"] = current["lastTransitionTime"].clone();
    }
    let mut conditions = without(deployment, &type_);
    conditions.push(condition);
    object::put(deployment, &["status", "conditions"], Value::Array(conditions));
}

fn without(deployment: &Value, type_: &str) -> Vec<Value> {
    object::items(deployment, "/status/conditions")
        .iter()
        .filter(|c| object::text(c, "/type") != type_)
        .cloned()
        .collect()
}

fn remove(deployment: &mut Value, type_: &str) {
    if object::condition(deployment, type_).is_some() {
        let conditions = without(deployment, type_);
        object::put(deployment, &["status", "conditions"], Value::Array(conditions));
    }
}

/// Notes that the deployment was paused or resumed, so that the pause does not count as lack of progress.
pub(super) fn check_paused(look: &mut Look<'_>) {
    if !has_deadline(look.deployment) {
        return;
    }
    let reason = object::condition(look.deployment, "Progressing").map_or("", |c| object::text(c, "/reason"));
    let (reason, message) = match (look.is_paused(), reason) {
        (_, "ProgressDeadlineExceeded") | (true, "DeploymentPaused") => return,
        (true, _) => ("DeploymentPaused", "Deployment is paused"),
        (false, "DeploymentPaused") => ("DeploymentResumed", "Deployment is resumed"),
        (false, _) => return,
    };
    set(
        &mut look.draft,
        condition("Progressing", "Unknown", reason, message, look.now),
    );
}

/// Whether all wanted pods are of the present template and available.
pub(super) fn is_complete(deployment: &Value, status: &Value) -> bool {
    let replicas = object::number(deployment, "/spec/replicas").unwrap_or(1);
    let count = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or(0);
    count("updatedReplicas") == replicas
        && count("replicas") == replicas
        && count("availableReplicas") == replicas
        && count("observedGeneration") >= object::generation(deployment)
}

/// Brings the counts and the Available condition up to date, outside of a rollout.
pub(super) fn sync(look: &mut Look<'_>, sets: &[&Value], new: Option<&Value>) {
    let sum = |field: &str| -> i64 {
        sets.iter()
            .filter_map(|set| object::number(set, &format!("/status/{field}")))
            .sum()
    };
    let wanted: i64 = sets.iter().map(|set| super::rollout::size(set)).sum();
    let available = sum("availableReplicas");
    let updated = new.and_then(|set| object::number(set, "/status/replicas")).unwrap_or(0);
    // Written as the Go type does: the conditions as they were, zeros left out.
    let mut status = json!({"observedGeneration": object::generation(look.deployment)});
    for (field, value) in [
        ("replicas", sum("replicas")),
        ("updatedReplicas", updated),
        ("readyReplicas", sum("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (wanted - available).max(0)),
    ] {
        if value != 0 {
            status[field] = json!(value);
        }
    }
    for field in ["collisionCount", "conditions"] {
        if let Some(value) = look.draft.pointer(&format!("/status/{field}")) {
            status[field] = value.clone();
        }
    }
    look.draft["status"] = status;
    let minimum = look.replicas() - look.max_unavailable();
    let (status, reason, message) = if available >= minimum {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(
        &mut look.draft,
        condition("Available", status, reason, message, look.now),
    );
}

/// Brings the whole status up to date amid a rollout, and asks to be called again when the deadline for progress will have passed.
pub(super) fn sync_rollout(look: &mut Look<'_>, sets: &[&Value], new: Option<&Value>) {
    sync(look, sets, new);
    if has_deadline(look.deployment) {
        judge_progress(look, new);
    } else {
        remove(&mut look.draft, "Progressing");
    }
    let failure = new
        .into_iter()
        .chain(sets.iter().copied())
        .find_map(|set| object::condition(set, "ReplicaFailure"));
    match failure {
        Some(failure) => {
            let mut failure = failure.clone();
            failure["lastUpdateTime"] = failure["lastTransitionTime"].clone();
            set(&mut look.draft, failure);
        }
        None => remove(&mut look.draft, "ReplicaFailure"),
    }
    look.actions.extend(next_check(look).map(Action::Again));
}

fn judge_progress(look: &mut Look<'_>, new: Option<&Value>) {
    let status = &look.draft["status"];
    let count = |status: &Value, field: &str| status.get(field).and_then(Value::as_i64).unwrap_or(0);
    let current = object::condition(&look.draft, "Progressing").cloned();
    let is_resync = count(status, "replicas") == count(status, "updatedReplicas")
        && current
            .as_ref()
            .is_some_and(|c| object::text(c, "/reason") == "NewReplicaSetAvailable");
    if is_resync {
        return;
    }
    let subject = match new {
        Some(set) => format!("ReplicaSet \"{}\"", object::name(set)),
        None => format!("Deployment \"{}\"", look.name()),
    };
    if is_complete(look.deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        let complete = condition("Progressing", "True", "NewReplicaSetAvailable", &message, look.now);
        set(&mut look.draft, complete);
        return;
    }
    let before = look.deployment.get("status").unwrap_or(&Value::Null);
    let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
    let grew = |field: &str| count(status, field) > count(before, field);
    if grew("updatedReplicas") || old(status) < old(before) || grew("readyReplicas") || grew("availableReplicas") {
        let message = format!("{subject} is progressing.");
        let mut progress = condition("Progressing", "True", "ReplicaSetUpdated", &message, look.now);
        // Written even with an equal reason, because its update time is what the deadline counts from.
        if let Some(current) = current.filter(|c| object::text(c, "/status") == "True") {
            progress["lastTransitionTime"] = current["lastTransitionTime"].clone();
        }
        remove(&mut look.draft, "Progressing");
        set(&mut look.draft, progress);
    } else if current.is_some_and(|c| is_overdue(look.deployment, &c, look.now)) {
        let message = format!("{subject} has timed out progressing.");
        let overdue = condition("Progressing", "False", "ProgressDeadlineExceeded", &message, look.now);
        set(&mut look.draft, overdue);
    }
}

fn is_overdue(deployment: &Value, progressing: &Value, now: Timestamp) -> bool {
    match object::text(progressing, "/reason") {
        "NewReplicaSetAvailable" => false,
        "ProgressDeadlineExceeded" => true,
        _ => object::time(progressing, "/lastUpdateTime").is_some_and(|since| {
            object::remaining(since, SignedDuration::from_secs(deadline(deployment)), now).is_none()
        }),
    }
}

/// When to look again whether the rollout is stuck.
fn next_check(look: &Look<'_>) -> Option<Duration> {
    let progressing = object::condition(&look.draft, "Progressing")?;
    let is_over = is_complete(look.deployment, &look.draft["status"])
        || object::text(progressing, "/reason") == "ProgressDeadlineExceeded";
    if !has_deadline(look.deployment) || is_over {
        return None;
    }
    let since = object::time(progressing, "/lastUpdateTime")?;
    let deadline = SignedDuration::from_secs(deadline(look.deployment));
    let left = object::remaining(since, deadline, look.now).unwrap_or_default();
    // A second more, since the times are written in whole seconds.
    Some(left + Duration::from_secs(1))
}
