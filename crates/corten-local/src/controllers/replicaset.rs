//! ReplicaSet: as many pods of a template as are wanted.
//!
//! Adopts and releases pods by selector and owner reference, creates the missing ones, deletes those that hurt least, counts the rest.

use corten_apiserver::ResourceId;
use corten_apiserver::resources::{PODS, REPLICA_SETS};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Failure, Notice, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::{pod, selector};

const COMPONENT: &str = "replicaset-controller";
/// So many pods are made or deleted in one go, as in Kubernetes.
const BURST: usize = 500;

/// The loop.
pub(crate) struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&REPLICA_SETS) {
            return vec![Key::of(change.object())];
        }
        if !change.is(&PODS) {
            return Vec::new();
        }
        owners(change, objects, "ReplicaSet", &REPLICA_SETS)
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(set) = objects.get(&REPLICA_SETS, key) else {
            return Vec::new();
        };
        let pods: Vec<&Value> = candidates(set, objects);
        let related: Vec<&Value> = match object::controller_uid(set) {
            Some(owner) => objects
                .dependents(owner)
                .filter(|(place, _)| place.resource == REPLICA_SETS)
                .flat_map(|(_, sibling)| objects.controlled(&PODS, sibling))
                .map(|pod| &**pod)
                .collect(),
            None => pods.clone(),
        };
        reconcile(set, &pods, &related, now)
    }

    fn failed(&self, key: &Key, objects: &Objects, now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(set) = objects.get(&REPLICA_SETS, key) else {
            return Vec::new();
        };
        if failure.is_terminating() {
            return Vec::new();
        }
        failed(set, failure, now)
    }

    fn workers(&self) -> usize {
        4
    }
}

/// The pods that a workload controls or could adopt.
pub(crate) fn candidates<'a>(owner: &'a Value, objects: &'a Objects) -> Vec<&'a Value> {
    let wanted = owner.pointer("/spec/selector").unwrap_or(&Value::Null);
    objects
        .within(&PODS, object::namespace(owner))
        .filter(|pod| match object::controller_uid(pod) {
            Some(uid) => uid == object::uid(owner),
            None => selector::matches(wanted, object::labels(pod)),
        })
        .map(|pod| &**pod)
        .collect()
}

/// The workloads of a kind that a change of a pod concerns: its controllers, or for an orphan all that could adopt it.
pub(crate) fn owners(change: &Change, objects: &Objects, kind: &str, resource: &ResourceId) -> Vec<Key> {
    let mut keys = Vec::new();
    for side in change.sides() {
        match object::controller(side) {
            Some(owner) if object::kind(owner) == kind => {
                keys.push(Key::new(object::namespace(side), object::text(owner, "/name")));
            }
            Some(_) => {}
            None => keys.extend(
                objects
                    .within(resource, object::namespace(side))
                    .filter(|set| {
                        let wanted = set.pointer("/spec/selector").unwrap_or(&Value::Null);
                        !selector::is_empty(wanted) && selector::matches(wanted, object::labels(side))
                    })
                    .map(|set| Key::of(set)),
            ),
        }
    }
    keys.dedup();
    keys
}

/// Patches that make `owner` adopt the orphans among the candidates that match its selector, and release what does not match any more.
pub(crate) fn claim(owner: &Value, resource: &ResourceId, candidates: &[&Value]) -> Vec<Action> {
    let wanted = owner.pointer("/spec/selector").unwrap_or(&Value::Null);
    let mut actions = Vec::new();
    for candidate in candidates {
        let matches = selector::matches(wanted, object::labels(candidate));
        let references = object::items(candidate, "/metadata/ownerReferences");
        let references: Vec<Value> = match object::controller_uid(candidate) {
            Some(uid) if uid == object::uid(owner) && !matches => references
                .iter()
                .filter(|reference| object::text(reference, "/uid") != uid)
                .cloned()
                .collect(),
            None if matches && !object::is_deleting(owner) && !object::is_deleting(candidate) => references
                .iter()
                .cloned()
                .chain([object::controller_reference(owner)])
                .collect(),
            _ => continue,
        };
        actions.push(Action::Patch {
            place: place(resource, candidate),
            subresource: None,
            // The uid and version make it fail rather than touch another pod of the name or undo somebody's change.
            patch: json!({"metadata": {
                "uid": object::uid(candidate),
                "resourceVersion": object::text(candidate, "/metadata/resourceVersion"),
                "ownerReferences": references,
            }}),
            announce: None,
        });
    }
    actions
}

/// What to do about a replica set.
fn reconcile(set: &Value, candidates: &[&Value], related: &[&Value], now: Timestamp) -> Vec<Action> {
    let active: Vec<&Value> = candidates.iter().copied().filter(|pod| pod::is_active(pod)).collect();
    let claims = claim(set, &PODS, &active);
    if !claims.is_empty() {
        // The answers to these change the cache, which brings the set back here.
        return claims;
    }
    let owned: Vec<&Value> = active
        .into_iter()
        .filter(|pod| object::is_controlled_by(pod, set))
        .collect();
    let wanted = usize::try_from(object::number(set, "/spec/replicas").unwrap_or(1)).unwrap_or(0);
    if !object::is_deleting(set) && owned.len() != wanted {
        return if owned.len() < wanted {
            vec![create(set, (wanted - owned.len()).min(BURST))]
        } else {
            let surplus = (owned.len() - wanted).min(BURST);
            vec![delete(set, owned, related, surplus, now)]
        };
    }
    let mut actions = Vec::new();
    let status = status(set, &owned, now);
    if set.get("status") != Some(&status) {
        let mut set = set.clone();
        set["status"] = status;
        actions.push(Action::UpdateStatus {
            resource: REPLICA_SETS,
            object: set,
        });
    }
    let min_ready = object::number(set, "/spec/minReadySeconds").unwrap_or(0);
    let next = owned
        .iter()
        .filter_map(|pod| pod::until_available(pod, min_ready, now))
        .min();
    actions.extend(next.map(Action::Again));
    actions
}

fn create(set: &Value, count: usize) -> Action {
    let mut pod = pod::from_template(set);
    object::put(
        &mut pod,
        &["metadata", "generateName"],
        json!(format!("{}-", object::name(set))),
    );
    let announce = Notice::normal(COMPONENT, set, "SuccessfulCreate", "Created pod: {name}".to_owned());
    let create = Action::Create {
        resource: PODS,
        object: pod,
        announce: Some(announce),
    };
    Action::Batch(vec![create; count])
}

fn delete(set: &Value, mut owned: Vec<&Value>, related: &[&Value], count: usize, now: Timestamp) -> Action {
    pod::sort_for_deletion(&mut owned, related, now);
    let announce = Notice::normal(COMPONENT, set, "SuccessfulDelete", "Deleted pod: {name}".to_owned());
    let deletions = owned.into_iter().take(count).map(|pod| Action::Delete {
        place: place(&PODS, pod),
        uid: object::uid(pod).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: Some(announce.clone()),
    });
    Action::Batch(deletions.collect())
}

/// The status of a set that owns these active pods; a set that got this far has no failure to report.
fn status(set: &Value, owned: &[&Value], now: Timestamp) -> Value {
    let template_labels = object::map(set, "/spec/template/metadata/labels");
    let min_ready = object::number(set, "/spec/minReadySeconds").unwrap_or(0);
    let count = |holds: &dyn Fn(&Value) -> bool| owned.iter().filter(|pod| holds(pod)).count();
    let labeled = count(&|pod| template_labels.is_none_or(|wanted| selector::matches_map(wanted, object::labels(pod))));
    let conditions: Vec<Value> = object::items(set, "/status/conditions")
        .iter()
        .filter(|c| object::text(c, "/type") != "ReplicaFailure")
        .cloned()
        .collect();
    let mut status = json!({
        "observedGeneration": object::generation(set),
        "replicas": owned.len(),
    });
    // Zeros are left out, as the Go types do.
    for (field, value) in [
        ("fullyLabeledReplicas", labeled),
        ("readyReplicas", count(&|pod| pod::is_ready(pod))),
        (
            "availableReplicas",
            count(&|pod| pod::is_available(pod, min_ready, now)),
        ),
    ] {
        if value > 0 {
            status[field] = json!(value);
        }
    }
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
    status
}

/// Says in an event and a condition that pods could not be made or deleted.
fn failed(set: &Value, failure: &Failure, now: Timestamp) -> Vec<Action> {
    let message = &failure.status.message;
    let (reason, notice) = match &failure.action {
        Action::Create { .. } => ("FailedCreate", format!("Error creating: {message}")),
        Action::Delete { .. } => ("FailedDelete", format!("Error deleting: {message}")),
        _ => return Vec::new(),
    };
    let mut actions = vec![Action::Notify(Notice::warning(COMPONENT, set, reason, notice))];
    if object::condition(set, "ReplicaFailure").is_none() {
        let mut set = set.clone();
        let mut conditions = object::items(&set, "/status/conditions").to_vec();
        conditions.push(json!({
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": object::seconds(now),
            "reason": reason,
            "message": message,
        }));
        object::put(&mut set, &["status", "conditions"], json!(conditions));
        let generation = object::generation(&set);
        object::put(&mut set, &["status", "observedGeneration"], json!(generation));
        if set.pointer("/status/replicas").is_none() {
            object::put(&mut set, &["status", "replicas"], json!(0));
        }
        actions.push(Action::UpdateStatus {
            resource: REPLICA_SETS,
            object: set,
        });
    }
    actions
}

#[cfg(test)]
mod tests;
