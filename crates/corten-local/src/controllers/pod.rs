//! What the workload loops know of pods: when one is active, ready, available; how one is made from a template; which one to delete first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::object;

/// Whether a pod runs or may come to run, and is not being deleted.
pub(crate) fn is_active(pod: &Value) -> bool {
    !is_finished(pod) && !object::is_deleting(pod)
}

/// Whether all containers have ended for good.
pub(crate) fn is_finished(pod: &Value) -> bool {
    matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    object::is_true(pod, "Ready")
}

/// Since when a pod is ready.
fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = object::condition(pod, "Ready").filter(|c| object::text(c, "/status") == "True")?;
    object::time(ready, "/lastTransitionTime")
}

/// Whether a pod has been ready for at least so many seconds.
pub(crate) fn is_available(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> bool {
    is_ready(pod) && (min_ready_seconds == 0 || until_available(pod, min_ready_seconds, now).is_none())
}

/// How long until a ready pod counts as available; `None` when it does, or is not ready.
pub(crate) fn until_available(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> Option<Duration> {
    object::remaining(ready_since(pod)?, SignedDuration::from_secs(min_ready_seconds), now)
}

/// A pod of a template, controlled by `owner`; its name is still to be set.
pub(crate) fn from_template(owner: &Value) -> Value {
    let template = owner.pointer("/spec/template").unwrap_or(&Value::Null);
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), json!(object::namespace(owner)));
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([object::controller_reference(owner)]),
    );
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_default(),
    })
}

/// Orders pods so that those come first whose deletion hurts least. `related` are the pods of all replica sets of the same owner: where
/// several ready ones share a node, one of those goes first.
pub(crate) fn sort_for_deletion(pods: &mut [&Value], related: &[&Value], now: Timestamp) {
    let mut ready_on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod) && is_ready(pod)) {
        *ready_on_node.entry(object::text(pod, "/spec/nodeName")).or_default() += 1;
    }
    let ranks: HashMap<&str, usize> = pods
        .iter()
        .map(|pod| {
            let node = object::text(pod, "/spec/nodeName");
            (object::uid(pod), ready_on_node.get(node).copied().unwrap_or(0))
        })
        .collect();
    let rank = |pod: &Value| ranks.get(object::uid(pod)).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        let by = |f: fn(&Value) -> i64| f(a).cmp(&f(b));
        by(|pod| i64::from(!object::text(pod, "/spec/nodeName").is_empty()))
            .then_with(|| by(phase_order))
            .then_with(|| by(|pod| i64::from(is_ready(pod))))
            .then_with(|| by(deletion_cost))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| younger(ready_since(a), ready_since(b), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger(object::creation(a), object::creation(b), now))
            .then_with(|| object::uid(a).cmp(object::uid(b)))
    });
}

fn phase_order(pod: &Value) -> i64 {
    match object::text(pod, "/status/phase") {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Value) -> i64 {
    object::annotation(pod, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn restarts(pod: &Value) -> i64 {
    object::items(pod, "/status/containerStatuses")
        .iter()
        .filter_map(|status| object::number(status, "/restartCount"))
        .max()
        .unwrap_or(0)
}

/// Younger before older, by orders of magnitude of age, so that pods started together are alike.
fn younger(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age)
        .ok()
        .and_then(u128::checked_ilog2)
        .map_or(-1, |log| i32::try_from(log).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().expect("a time")
    }

    fn ready(name: &str, node: &str, since: &str) -> Value {
        json!({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": node}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}})
    }

    #[test]
    fn availability_needs_time() {
        let pod = ready("a", "n", "2026-01-01T00:09:55Z");
        assert!(is_available(&pod, 5, now()));
        assert!(!is_available(&pod, 7, now()));
        assert_eq!(until_available(&pod, 7, now()), Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_least_useful_goes_first() {
        let old = ready("old", "n1", "2026-01-01T00:00:00Z");
        let young = ready("young", "n2", "2026-01-01T00:09:59Z");
        let crowded = ready("crowded", "n3", "2026-01-01T00:00:00Z");
        let neighbour = ready("neighbour", "n3", "2026-01-01T00:00:00Z");
        let mut cheap = ready("cheap", "n4", "2026-01-01T00:00:00Z");
        object::set_annotation(&mut cheap, "controller.kubernetes.io/pod-deletion-cost", "-1");
        let pending = json!({"metadata": {"name": "pending", "uid": "p"}, "spec": {"nodeName": "n1"}});
        let homeless = json!({"metadata": {"name": "homeless", "uid": "h"}, "spec": {}});
        let mut pods = vec![&old, &young, &crowded, &cheap, &pending, &homeless];
        let related = vec![&old, &young, &crowded, &neighbour, &cheap];
        sort_for_deletion(&mut pods, &related, now());
        let names: Vec<&str> = pods.iter().map(|pod| object::name(pod)).collect();
        assert_eq!(names, ["homeless", "pending", "cheap", "crowded", "young", "old"]);
    }
}
