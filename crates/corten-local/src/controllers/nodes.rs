//! Nodes: whether they still renew their lease, the taints that follow from their state, and the pods of nodes that are gone.

use corten_apiserver::resources::{LEASES, NODES, PODS};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::action::{Action, Controller, Notice, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::pod;

const COMPONENT: &str = "node-controller";
/// The namespace of the nodes' leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// A node that has not renewed its lease for so long counts as lost.
const GRACE: SignedDuration = SignedDuration::from_secs(40);
/// The conditions that a kubelet reports, and that nobody knows once it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The taints that are kept here, in this order.
const TAINTS: [&str; 3] = [
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// The loop over nodes: leases and taints.
pub(crate) struct Nodes;

impl Controller for Nodes {
    fn name(&self) -> &'static str {
        "node"
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        let is_lease = change.is(&LEASES) && object::namespace(change.object()) == LEASE_NAMESPACE;
        if is_lease || change.is(&NODES) {
            vec![Key::new("", object::name(change.object()))]
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(node) = objects.get(&NODES, key) else {
            return Vec::new();
        };
        let lease = objects.get(&LEASES, &Key::new(LEASE_NAMESPACE, &key.name));
        reconcile(node, lease.map(|lease| &**lease), now)
    }
}

/// What to do about a node.
fn reconcile(node: &Value, lease: Option<&Value>, now: Timestamp) -> Vec<Action> {
    let renewed = lease
        .and_then(|lease| object::time(lease, "/spec/renewTime"))
        .max(object::condition(node, "Ready").and_then(|c| object::time(c, "/lastHeartbeatTime")))
        .max(object::creation(node));
    let left = renewed.and_then(|renewed| object::remaining(renewed, GRACE, now));
    let mut actions = Vec::new();
    match left {
        Some(left) => actions.push(Action::Again(left + std::time::Duration::from_millis(50))),
        None => actions.extend(lost(node, now)),
    }
    actions.extend(taint(node, now));
    actions
}

/// Says of a silent node that its state is unknown.
fn lost(node: &Value, now: Timestamp) -> Vec<Action> {
    let is_said = REPORTED
        .iter()
        .all(|type_| object::condition(node, type_).is_some_and(|c| object::text(c, "/status") == "Unknown"));
    if is_said {
        return Vec::new();
    }
    let was_ready = object::is_true(node, "Ready");
    let mut conditions = object::items(node, "/status/conditions").to_vec();
    for type_ in REPORTED {
        match conditions.iter_mut().find(|c| object::text(c, "/type") == type_) {
            None => conditions.push(json!({
                "type": type_,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": object::text(node, "/metadata/creationTimestamp"),
                "lastTransitionTime": object::seconds(now),
            })),
            Some(condition) if object::text(condition, "/status") != "Unknown" => {
                condition["status"] = json!("Unknown");
                condition["reason"] = json!("NodeStatusUnknown");
                condition["message"] = json!("Kubelet stopped posting node status.");
                condition["lastTransitionTime"] = json!(object::seconds(now));
            }
            Some(_) => {}
        }
    }
    let mut updated = node.clone();
    object::put(&mut updated, &["status", "conditions"], json!(conditions));
    let mut actions = vec![Action::UpdateStatus {
        resource: NODES,
        object: updated,
    }];
    if was_ready {
        let message = format!("Node {} status is now: NodeNotReady", object::name(node));
        actions.push(Action::Notify(Notice::normal(COMPONENT, node, "NodeNotReady", message)));
    }
    actions
}

/// Keeps the taints that say what state the node is in, so that readers of taints need not look at conditions.
fn taint(node: &Value, now: Timestamp) -> Option<Action> {
    let ready = object::condition(node, "Ready").map_or("", |c| object::text(c, "/status"));
    let wanted = |key: &str| match key {
        "node.kubernetes.io/unschedulable" => object::flag(node, "/spec/unschedulable"),
        "node.kubernetes.io/not-ready" => ready == "False",
        _ => ready == "Unknown",
    };
    let is_ours =
        |taint: &Value| TAINTS.contains(&object::text(taint, "/key")) && object::text(taint, "/effect") == "NoSchedule";
    let current = object::items(node, "/spec/taints");
    let mut taints: Vec<Value> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted(object::text(taint, "/key")))
        .cloned()
        .collect();
    for key in TAINTS.into_iter().filter(|key| wanted(key)) {
        let is_there = |taint: &Value| is_ours(taint) && object::text(taint, "/key") == key;
        if !taints.iter().any(is_there) {
            taints.push(json!({"key": key, "effect": "NoSchedule", "timeAdded": object::seconds(now)}));
        }
    }
    if taints == current {
        return None;
    }
    let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
    Some(Action::Patch {
        place: place(&NODES, node),
        subresource: None,
        patch: json!({
            "metadata": {"resourceVersion": object::text(node, "/metadata/resourceVersion")},
            "spec": {"taints": taints},
        }),
        announce: None,
    })
}

/// The loop over pods whose node does not exist: nobody would ever end them.
pub(crate) struct LostPods;

impl Controller for LostPods {
    fn name(&self) -> &'static str {
        "podgc"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&PODS) && change.new.is_some() && change.differs("/spec/nodeName") {
            return vec![Key::of(change.object())];
        }
        if change.is(&NODES) && change.new.is_none() {
            let node = object::name(change.object());
            return objects
                .all(&PODS)
                .filter(|pod| object::text(pod, "/spec/nodeName") == node)
                .map(|pod| Key::of(pod))
                .collect();
        }
        Vec::new()
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(pod) = objects.get(&PODS, key) else {
            return Vec::new();
        };
        let node = object::text(pod, "/spec/nodeName");
        if node.is_empty() || objects.get(&NODES, &Key::new("", node)).is_some() {
            return Vec::new();
        }
        abandon(pod, now)
    }

    fn settle(&self) -> std::time::Duration {
        // A node that is made anew keeps its pods; and at the start, nodes register after pods are known.
        std::time::Duration::from_secs(40)
    }
}

/// Ends a pod whose node is gone.
fn abandon(pod: &Value, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pod::is_finished(pod) {
        let mut conditions: Vec<Value> = object::items(pod, "/status/conditions")
            .iter()
            .filter(|c| object::text(c, "/type") != "DisruptionTarget")
            .cloned()
            .collect();
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": null,
            "lastTransitionTime": object::seconds(now),
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }));
        actions.push(Action::Patch {
            place: place(&PODS, pod),
            subresource: Some("status"),
            patch: json!({
                "metadata": {"uid": object::uid(pod)},
                "status": {"phase": "Failed", "conditions": conditions},
            }),
            announce: None,
        });
    }
    actions.push(Action::Delete {
        place: place(&PODS, pod),
        uid: object::uid(pod).to_owned(),
        propagation: None,
        grace_seconds: Some(0),
        announce: None,
    });
    actions
}

#[cfg(test)]
mod tests;
