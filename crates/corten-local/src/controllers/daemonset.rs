//! DaemonSet: a pod of a template on every node that the template may run on.
//!
//! Missing pods are made, surplus ones deleted, and those of an older revision replaced, either after them (`maxUnavailable`) or beside
//! them first (`maxSurge`). Revisions of the template are in `super::revision`.

use corten_apiserver::resources::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Failure, Notice, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::revision::{self, REVISION_LABEL, Revisions};
use super::{pod, replicaset, scheduler};

const COMPONENT: &str = "daemonset-controller";

/// What the pods of a daemon set tolerate beyond their template: nodes in trouble are where they are needed.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The loop.
pub(crate) struct DaemonSets;

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&DAEMON_SETS) {
            vec![Key::of(change.object())]
        } else if change.is(&PODS) {
            replicaset::owners(change, objects, "DaemonSet", &DAEMON_SETS)
        } else if change.is(&CONTROLLER_REVISIONS) {
            revision::owner(change.object(), "DaemonSet").into_iter().collect()
        } else if change.is(&NODES) {
            objects.all(&DAEMON_SETS).map(|set| Key::of(set)).collect()
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(set) = objects.get(&DAEMON_SETS, key) else {
            return Vec::new();
        };
        let pods = replicaset::candidates(set, objects);
        let revisions: Vec<&Value> = objects
            .controlled(&CONTROLLER_REVISIONS, set)
            .map(|revision| &**revision)
            .collect();
        let nodes: Vec<&Value> = objects.all(&NODES).map(|node| &**node).collect();
        reconcile(set, &nodes, &pods, &revisions, now)
    }

    fn failed(&self, key: &Key, objects: &Objects, _now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(set) = objects.get(&DAEMON_SETS, key).filter(|_| !failure.is_terminating()) else {
            return Vec::new();
        };
        let message = &failure.status.message;
        let (reason, message) = match &failure.action {
            Action::Create { resource, .. }
                if *resource == CONTROLLER_REVISIONS && failure.status.is_already_exists() =>
            {
                return vec![revision::collided(&DAEMON_SETS, set)];
            }
            Action::Create { .. } => ("FailedCreate", format!("Error creating: {message}")),
            Action::Delete { .. } => ("FailedDelete", format!("Error deleting: {message}")),
            _ => return Vec::new(),
        };
        vec![Action::Notify(Notice::warning(COMPONENT, set, reason, message))]
    }
}

/// One node that the set runs on, and the pods of the set there.
struct Post<'a> {
    node: &'a str,
    pods: Vec<&'a Value>,
}

/// What to do about a daemon set.
fn reconcile(
    set: &Value,
    nodes: &[&Value],
    candidates: &[&Value],
    revisions: &[&Value],
    now: Timestamp,
) -> Vec<Action> {
    let claims = replicaset::claim(set, &PODS, candidates);
    if !claims.is_empty() {
        return claims;
    }
    let owned: Vec<&Value> = candidates
        .iter()
        .copied()
        .filter(|pod| object::is_controlled_by(pod, set))
        .collect();
    let revisions = match Revisions::of(set, revisions) {
        Ok(revisions) => revisions,
        Err(actions) => return actions,
    };
    let template = pod_for(set, &revisions, "");
    let posts: Vec<Post<'_>> = nodes
        .iter()
        .filter(|node| scheduler::may_serve(&template, node))
        .map(|node| {
            let name = object::name(node);
            let pods = owned.iter().copied().filter(|pod| node_of(pod) == Some(name)).collect();
            Post { node: name, pods }
        })
        .collect();
    let mut actions = Vec::new();
    if !object::is_deleting(set) {
        actions = settle(set, &posts, &owned, &revisions);
        if actions.is_empty() && object::text(set, "/spec/updateStrategy/type") != "OnDelete" {
            actions = roll(set, &posts, &revisions, now);
        }
    }
    let is_waiting = actions.is_empty();
    let mut all: Vec<Action> = Vec::new();
    if !actions.is_empty() {
        all.push(Action::Batch(actions));
    }
    all.extend(status(set, &posts, &owned, &revisions, now));
    all.extend(revisions.truncate(set, &owned));
    if is_waiting {
        let min_ready = min_ready(set);
        let next = owned
            .iter()
            .filter_map(|pod| pod::until_available(pod, min_ready, now))
            .min();
        all.extend(next.map(Action::Again));
    }
    all
}

/// Makes what is missing; deletes what failed, what is twice there, and what is where the set does not run.
fn settle(set: &Value, posts: &[Post<'_>], owned: &[&Value], revisions: &Revisions<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for post in posts {
        // Where a new pod may run beside the old one, it need not wait for the end of one that is leaving.
        let leaving = post.pods.iter().all(|pod| object::is_deleting(pod));
        if post.pods.is_empty() || (leaving && bound(set, "maxSurge", posts.len()) > 0) {
            actions.push(create(set, revisions, post.node));
            continue;
        }
        let living = || post.pods.iter().copied().filter(|pod| !object::is_deleting(pod));
        actions.extend(living().filter(|pod| pod::is_finished(pod)).map(|pod| delete(set, pod)));
        for update in [true, false] {
            let mut alike: Vec<&Value> = living()
                .filter(|pod| !pod::is_finished(pod) && is_updated(pod, revisions) == update)
                .collect();
            alike.sort_by_key(|pod| (object::creation(pod), object::name(pod).to_owned()));
            actions.extend(alike.into_iter().skip(1).map(|pod| delete(set, pod)));
        }
    }
    let elsewhere = owned
        .iter()
        .copied()
        .filter(|pod| !object::is_deleting(pod) && !posts.iter().any(|post| node_of(pod) == Some(post.node)));
    actions.extend(elsewhere.map(|pod| delete(set, pod)));
    actions
}

/// Replaces pods of older revisions, as many at a time as the strategy allows.
fn roll(set: &Value, posts: &[Post<'_>], revisions: &Revisions<'_>, now: Timestamp) -> Vec<Action> {
    let min_ready = min_ready(set);
    let available = |pod: &&Value| !object::is_deleting(pod) && pod::is_available(pod, min_ready, now);
    let (surge, unavailable) = (
        bound(set, "maxSurge", posts.len()),
        bound(set, "maxUnavailable", posts.len()),
    );
    let mut actions = Vec::new();
    if surge > 0 {
        let staying = |post: &&Post<'_>| post.pods.iter().filter(|pod| !object::is_deleting(pod)).count() > 1;
        let surging = posts.iter().filter(staying).count();
        let mut allowed = surge.saturating_sub(surging);
        for post in posts {
            let new = post
                .pods
                .iter()
                .copied()
                .find(|pod| is_updated(pod, revisions) && !object::is_deleting(pod));
            let old = post
                .pods
                .iter()
                .copied()
                .find(|pod| !is_updated(pod, revisions) && !object::is_deleting(pod));
            match (old, new) {
                (Some(old), Some(new)) if available(&new) => actions.push(delete(set, old)),
                // One that serves nobody need not be waited for.
                (Some(old), None) if !available(&old) || allowed > 0 => {
                    allowed = allowed.saturating_sub(1);
                    actions.push(create(set, revisions, post.node));
                }
                _ => {}
            }
        }
        return actions;
    }
    let mut down = posts.iter().filter(|post| !post.pods.iter().any(&available)).count();
    for pod in posts.iter().flat_map(|post| &post.pods) {
        if is_updated(pod, revisions) || object::is_deleting(pod) {
            continue;
        }
        if !available(pod) {
            actions.push(delete(set, pod));
        } else if down < unavailable {
            down += 1;
            actions.push(delete(set, pod));
        }
    }
    actions
}

/// A bound of the rolling update, which may be a percentage of the nodes (rounded up).
fn bound(set: &Value, name: &str, nodes: usize) -> usize {
    let default = json!(i32::from(name == "maxUnavailable"));
    let value = set
        .pointer(&format!("/spec/updateStrategy/rollingUpdate/{name}"))
        .unwrap_or(&default);
    let bound = object::scaled(value, i64::try_from(nodes).unwrap_or(i64::MAX), true);
    bound.and_then(|bound| usize::try_from(bound).ok()).unwrap_or(0)
}

fn min_ready(set: &Value) -> i64 {
    object::number(set, "/spec/minReadySeconds").unwrap_or(0)
}

fn is_updated(pod: &Value, revisions: &Revisions<'_>) -> bool {
    object::label(pod, REVISION_LABEL) == Some(revisions.update_name())
}

/// The node that a pod is on or is meant for.
fn node_of(pod: &Value) -> Option<&str> {
    let assigned = object::text(pod, "/spec/nodeName");
    if !assigned.is_empty() {
        return Some(assigned);
    }
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    pod.pointer(required).and_then(Value::as_str)
}

/// The pod for a node: bound to it by affinity, so that the scheduler has the last word.
fn pod_for(set: &Value, revisions: &Revisions<'_>, node: &str) -> Value {
    let mut pod = pod::from_template(&revision::with_template(set, revisions.update()));
    object::put(
        &mut pod,
        &["metadata", "generateName"],
        json!(format!("{}-", object::name(set))),
    );
    for (label, value) in [
        (REVISION_LABEL, revisions.update_name().to_owned()),
        ("pod-template-generation", object::generation(set).to_string()),
    ] {
        object::put(&mut pod, &["metadata", "labels", label], json!(value));
    }
    let mut tolerations = object::items(&pod, "/spec/tolerations").to_vec();
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let network = object::flag(&pod, "/spec/hostNetwork").then_some(network);
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        tolerations.push(json!({ "key": key, "operator": "Exists", "effect": effect }));
    }
    object::put(&mut pod, &["spec", "tolerations"], json!(tolerations));
    if !node.is_empty() {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        let required = [
            "spec",
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ];
        object::put(
            &mut pod,
            &required,
            json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] }),
        );
    }
    pod
}

fn create(set: &Value, revisions: &Revisions<'_>, node: &str) -> Action {
    Action::Create {
        resource: PODS,
        object: pod_for(set, revisions, node),
        announce: Some(Notice::normal(
            COMPONENT,
            set,
            "SuccessfulCreate",
            "Created pod: {name}".to_owned(),
        )),
    }
}

fn delete(set: &Value, pod: &Value) -> Action {
    Action::Delete {
        place: place(&PODS, pod),
        uid: object::uid(pod).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: Some(Notice::normal(
            COMPONENT,
            set,
            "SuccessfulDelete",
            "Deleted pod: {name}".to_owned(),
        )),
    }
}

/// The status update, when one is needed.
fn status(
    set: &Value,
    posts: &[Post<'_>],
    owned: &[&Value],
    revisions: &Revisions<'_>,
    now: Timestamp,
) -> Option<Action> {
    let min_ready = min_ready(set);
    let count = |holds: &dyn Fn(&Value) -> bool| {
        let with = |post: &&Post<'_>| post.pods.iter().any(|pod| !object::is_deleting(pod) && holds(pod));
        posts.iter().filter(with).count()
    };
    let available = count(&|pod| pod::is_available(pod, min_ready, now));
    let astray = owned
        .iter()
        .filter(|pod| !posts.iter().any(|post| node_of(pod) == Some(post.node)))
        .count();
    let mut status = json!({
        "observedGeneration": object::generation(set),
        "currentNumberScheduled": count(&|_| true),
        "desiredNumberScheduled": posts.len(),
        "numberMisscheduled": astray,
        "numberReady": count(&pod::is_ready),
    });
    for (field, value) in [
        ("updatedNumberScheduled", count(&|pod| is_updated(pod, revisions))),
        ("numberAvailable", available),
        ("numberUnavailable", posts.len() - available),
    ] {
        if value != 0 {
            status[field] = json!(value);
        }
    }
    for field in ["collisionCount", "conditions"] {
        if let Some(kept) = set.pointer(&format!("/status/{field}")) {
            status[field] = kept.clone();
        }
    }
    if set.get("status") == Some(&status) {
        return None;
    }
    let mut set = set.clone();
    set["status"] = status;
    Some(Action::UpdateStatus {
        resource: DAEMON_SETS,
        object: set,
    })
}

#[cfg(test)]
mod tests;
