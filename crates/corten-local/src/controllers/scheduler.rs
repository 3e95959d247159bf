//! The scheduler: gives pods without a node one, and says why when there is none.
//!
//! All waiting pods are placed in one look, so that each sees where the others go. Filters are in `filter`; of the nodes that pass, the one with
//! the fewest pods of the same owner wins, then the one with the fewest pods. Resources are not accounted, for all nodes are one machine.

mod filter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use corten_apiserver::resources::{NODES, PODS};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Notice, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::{pod, selector};
use filter::Reason;

const COMPONENT: &str = "default-scheduler";

/// The loop. It has one key, the empty one: all waiting pods.
pub(crate) struct Scheduler;

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        let matters = if change.is(&PODS) {
            // A pod that waits, or one that makes room.
            change
                .new
                .as_ref()
                .is_none_or(|pod| is_waiting(pod) || pod::is_finished(pod))
                || change.differs("/metadata/labels")
        } else {
            change.is(&NODES)
                && (change.differs("/metadata/labels")
                    || change.differs("/spec")
                    || change.differs("/status/conditions"))
        };
        if matters { vec![Key::new("", "")] } else { Vec::new() }
    }

    fn reconcile(&self, _key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let waiting: Vec<&Value> = objects
            .all(&PODS)
            .filter(|pod| is_waiting(pod))
            .map(|pod| &**pod)
            .collect();
        if waiting.is_empty() {
            return Vec::new();
        }
        let nodes: Vec<&Value> = objects.all(&NODES).map(|node| &**node).collect();
        let placed: Vec<&Value> = objects
            .all(&PODS)
            .filter(|pod| !object::text(pod, "/spec/nodeName").is_empty() && !pod::is_finished(pod))
            .map(|pod| &**pod)
            .collect();
        reconcile(waiting, &nodes, &placed, now)
    }

    fn workers(&self) -> usize {
        1
    }
}

fn is_waiting(pod: &Value) -> bool {
    object::text(pod, "/spec/nodeName").is_empty()
        && matches!(object::text(pod, "/spec/schedulerName"), "" | "default-scheduler")
        && pod::is_active(pod)
}

/// Pods per node, by which nodes are compared.
struct Load<'a> {
    pods: BTreeMap<&'a str, Vec<&'a Value>>,
}

impl<'a> Load<'a> {
    fn on(&self, node: &str) -> &[&'a Value] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }
}

/// What to do about the waiting pods.
fn reconcile(mut waiting: Vec<&Value>, nodes: &[&Value], placed: &[&Value], now: Timestamp) -> Vec<Action> {
    waiting.sort_by_key(|pod| {
        let priority = object::number(pod, "/spec/priority").unwrap_or(0);
        (
            std::cmp::Reverse(priority),
            object::creation(pod),
            object::version(pod),
            object::name(pod),
        )
    });
    let mut load = Load { pods: BTreeMap::new() };
    for pod in placed {
        load.pods
            .entry(object::text(pod, "/spec/nodeName"))
            .or_default()
            .push(pod);
    }
    let mut actions = Vec::new();
    for pod in waiting {
        if !object::items(pod, "/spec/schedulingGates").is_empty() {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            actions.extend(waits(pod, "SchedulingGated", message, now));
            continue;
        }
        match choose(pod, nodes, &load) {
            Ok(node) => {
                let name = object::name(node);
                load.pods.entry(name).or_default().push(pod);
                actions.push(assign(pod, name));
            }
            Err(message) => {
                let condition = waits(pod, "Unschedulable", &message, now);
                // Said once per message; the condition keeps standing.
                if condition.is_some() {
                    let mut notice = Notice::warning(COMPONENT, pod, "FailedScheduling", message);
                    notice.action = Some("Scheduling");
                    actions.push(Action::Notify(notice));
                }
                actions.extend(condition);
            }
        }
    }
    vec![Action::All(actions)]
}

/// The best node for a pod, or why there is none.
fn choose<'a>(pod: &Value, nodes: &[&'a Value], load: &Load<'_>) -> Result<&'a Value, String> {
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut unhelpful = 0;
    let mut fitting: Vec<&Value> = Vec::new();
    for node in nodes {
        match filter::refusal(pod, node, nodes, &|node| load.on(node)) {
            None => fitting.push(node),
            Some(reason) => {
                *reasons.entry(reason.to_string()).or_default() += 1;
                unhelpful += usize::from(!reason.may_be_preempted());
            }
        }
    }
    let alike = |node: &Value| {
        load.on(object::name(node))
            .iter()
            .filter(|other| is_alike(pod, other))
            .count()
    };
    let crowd = |node: &Value| load.on(object::name(node)).len();
    let best = fitting.into_iter().min_by_key(|node| {
        (
            filter::avoidance(pod, node),
            alike(node),
            crowd(node),
            object::name(node),
        )
    });
    best.ok_or_else(|| explain(nodes.len(), &reasons, unhelpful))
}

/// Whether a node is one that pods like this are meant for, whatever else runs on it and whether it is ready or not.
pub(super) fn may_serve(pod: &Value, node: &Value) -> bool {
    filter::may_serve(pod, node)
}

/// Whether two pods should rather be apart: the same owner, or for a pod without one the same labels.
fn is_alike(pod: &Value, other: &Value) -> bool {
    if object::namespace(pod) != object::namespace(other) {
        return false;
    }
    match object::controller_uid(pod) {
        Some(owner) => object::controller_uid(other) == Some(owner),
        None => object::labels(pod).is_some_and(|l| !l.is_empty() && selector::matches_map(l, object::labels(other))),
    }
}

/// The sentence of Kubernetes' scheduler for a pod that fits nowhere.
fn explain(nodes: usize, reasons: &BTreeMap<String, usize>, unhelpful: usize) -> String {
    let list = |reasons: &mut dyn Iterator<Item = (String, usize)>| {
        let mut list: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
        list.sort();
        list.join(", ")
    };
    let why = list(&mut reasons.iter().map(|(reason, count)| (reason.clone(), *count)));
    let preemption = [
        ("No preemption victims found for incoming pod", nodes - unhelpful),
        ("Preemption is not helpful for scheduling", unhelpful),
    ];
    let preemption = list(
        &mut preemption
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| ((*reason).to_owned(), *count)),
    );
    format!(
        "0/{nodes} nodes are available: {why}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

fn assign(pod: &Value, node: &str) -> Action {
    let message = format!(
        "Successfully assigned {}/{} to {node}",
        object::namespace(pod),
        object::name(pod)
    );
    let mut notice = Notice::normal(COMPONENT, pod, "Scheduled", message);
    notice.action = Some("Binding");
    Action::Patch {
        place: place(&PODS, pod),
        subresource: None,
        patch: json!({"metadata": {"uid": object::uid(pod)}, "spec": {"nodeName": node}}),
        announce: Some(notice),
    }
}

/// The write of the condition that a pod waits; `None` when it says so already.
fn waits(pod: &Value, reason: &str, message: &str, now: Timestamp) -> Option<Action> {
    let current = object::condition(pod, "PodScheduled");
    let is_said = current.is_some_and(|c| {
        object::text(c, "/status") == "False"
            && object::text(c, "/reason") == reason
            && object::text(c, "/message") == message
    });
    if is_said {
        return None;
    }
    let since = current
        .filter(|c| object::text(c, "/status") == "False")
        .and_then(|c| c.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(object::seconds(now)));
    let condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": null,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    });
    let mut conditions: Vec<Value> = object::items(pod, "/status/conditions")
        .iter()
        .filter(|c| object::text(c, "/type") != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(condition);
    Some(Action::Patch {
        place: place(&PODS, pod),
        subresource: Some("status"),
        patch: json!({"metadata": {"uid": object::uid(pod)}, "status": {"conditions": conditions}}),
        announce: None,
    })
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}
