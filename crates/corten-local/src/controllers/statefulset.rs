//! StatefulSet: pods with stable names, started, replaced and stopped in order.
//!
//! The ordinals in range are kept filled from the lowest up, those beyond it are condemned from the highest down, and with `OrderedReady` one pod
//! at a time. Revisions of the template are in `super::revision`, names and labels of pods in `identity`.

mod identity;
#[cfg(test)]
mod tests;

use corten_apiserver::resources::{CONTROLLER_REVISIONS, PODS, STATEFUL_SETS};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Failure, Notice, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::revision::{self, REVISION_LABEL, Revisions};
use super::{pod, replicaset};

const COMPONENT: &str = "statefulset-controller";

/// The loop.
pub(crate) struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&STATEFUL_SETS) {
            vec![Key::of(change.object())]
        } else if change.is(&PODS) {
            replicaset::owners(change, objects, "StatefulSet", &STATEFUL_SETS)
        } else if change.is(&CONTROLLER_REVISIONS) {
            revision::owner(change.object(), "StatefulSet").into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(set) = objects.get(&STATEFUL_SETS, key) else {
            return Vec::new();
        };
        let pods: Vec<&Value> = replicaset::candidates(set, objects)
            .into_iter()
            .filter(|pod| identity::is_member(set, pod))
            .collect();
        let revisions: Vec<&Value> = objects
            .controlled(&CONTROLLER_REVISIONS, set)
            .map(|revision| &**revision)
            .collect();
        reconcile(set, &pods, &revisions, now)
    }

    fn failed(&self, key: &Key, objects: &Objects, _now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(set) = objects.get(&STATEFUL_SETS, key) else {
            return Vec::new();
        };
        if failure.is_terminating() {
            return Vec::new();
        }
        let (verb, reason, name) = match &failure.action {
            Action::Create { resource, object, .. } if *resource == PODS => {
                ("create", "FailedCreate", object::name(object).to_owned())
            }
            Action::Delete { place, .. } if place.resource == PODS => {
                ("delete", "FailedDelete", place.key.name.to_string())
            }
            Action::Create { resource, .. }
                if *resource == CONTROLLER_REVISIONS && failure.status.is_already_exists() =>
            {
                return vec![revision::collided(&STATEFUL_SETS, set)];
            }
            _ => return Vec::new(),
        };
        let message = format!(
            "{verb} Pod {name} in StatefulSet {} failed error: {}",
            object::name(set),
            failure.status.message
        );
        vec![Action::Notify(Notice::warning(COMPONENT, set, reason, message))]
    }
}

/// A pod that is there, or that is to be made.
enum Slot<'a> {
    Present(&'a Value),
    Missing(Value),
}

impl Slot<'_> {
    fn pod(&self) -> &Value {
        match self {
            Self::Present(pod) => pod,
            Self::Missing(pod) => pod,
        }
    }
}

/// What to do about a stateful set.
fn reconcile(set: &Value, candidates: &[&Value], revisions: &[&Value], now: Timestamp) -> Vec<Action> {
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
        Err(mut actions) => {
            actions.extend(unsupported(set));
            return actions;
        }
    };
    let mut actions = if object::is_deleting(set) {
        Vec::new()
    } else {
        step(set, &owned, &revisions, now)
    };
    let is_waiting = actions.is_empty();
    actions.extend(status(set, &owned, &revisions, now));
    actions.extend(revisions.truncate(set, &owned));
    if is_waiting {
        let min_ready = object::number(set, "/spec/minReadySeconds").unwrap_or(0);
        let next = owned
            .iter()
            .filter_map(|pod| pod::until_available(pod, min_ready, now))
            .min();
        actions.extend(next.map(Action::Again));
    }
    actions
}

/// Says once per template that claims are not kept.
fn unsupported(set: &Value) -> Option<Action> {
    let claims: Vec<&str> = object::items(set, "/spec/volumeClaimTemplates")
        .iter()
        .map(object::name)
        .collect();
    if claims.is_empty() {
        return None;
    }
    let message = format!(
        "volumeClaimTemplates are not supported here: {} of each pod is an emptyDir, which ends with the pod",
        claims.join(", ")
    );
    Some(Action::Notify(Notice::warning(
        COMPONENT,
        set,
        "VolumeClaimsUnsupported",
        message,
    )))
}

/// The next step towards the wanted pods: make, wait, stop or replace. Empty when there is nothing to do or something to wait for.
fn step(set: &Value, owned: &[&Value], revisions: &Revisions<'_>, now: Timestamp) -> Vec<Action> {
    let start = object::number(set, "/spec/ordinals/start").unwrap_or(0);
    let replicas = object::number(set, "/spec/replicas").unwrap_or(1);
    let min_ready = object::number(set, "/spec/minReadySeconds").unwrap_or(0);
    let is_ordered = object::text(set, "/spec/podManagementPolicy") != "Parallel";
    let usable = |pod: &Value| is_running(pod) && pod::is_available(pod, min_ready, now);

    let mut slots: Vec<Slot<'_>> = Vec::new();
    for ordinal in start..start + replicas {
        let present = owned
            .iter()
            .copied()
            .find(|pod| identity::ordinal(pod) == Some(ordinal));
        slots.push(match present {
            Some(pod) => Slot::Present(pod),
            None => Slot::Missing(identity::next(set, revisions, ordinal, ordinal - start)),
        });
    }
    let mut condemned: Vec<&Value> = owned
        .iter()
        .copied()
        .filter(|pod| identity::ordinal(pod).is_some_and(|o| o < start || o >= start + replicas))
        .collect();
    condemned.sort_by_key(|pod| std::cmp::Reverse(identity::ordinal(pod)));
    let unusable = |pod: &Value| !usable(pod) || object::is_deleting(pod);
    let first_unusable = slots
        .iter()
        .map(Slot::pod)
        .chain(condemned.iter().rev().copied())
        .find(|pod| unusable(pod))
        .map(object::name);

    let mut actions = Vec::new();
    for slot in &slots {
        match slot {
            Slot::Missing(pod) => actions.push(create(set, pod)),
            Slot::Present(pod) if pod::is_finished(pod) => {
                if !object::is_deleting(pod) {
                    actions.push(delete(set, pod));
                }
            }
            Slot::Present(pod) if is_ordered && (object::is_deleting(pod) || !usable(pod)) => {}
            Slot::Present(pod) => {
                actions.extend(identity::repair(pod));
                continue;
            }
        }
        if is_ordered {
            return actions;
        }
    }
    if !actions.is_empty() {
        return vec![Action::Batch(actions)];
    }
    for pod in &condemned {
        if object::is_deleting(pod) {
            if is_ordered {
                return actions;
            }
            continue;
        }
        if is_ordered && !usable(pod) && first_unusable != Some(object::name(pod)) {
            return actions;
        }
        actions.push(delete(set, pod));
        if is_ordered {
            return actions;
        }
    }
    if !actions.is_empty() || object::text(set, "/spec/updateStrategy/type") == "OnDelete" {
        return actions;
    }
    // All ordinals are filled: replace those of another revision from the highest down, one at a time.
    let partition = object::number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let partition = usize::try_from(partition).unwrap_or(0);
    for slot in slots.iter().skip(partition).rev() {
        let pod = slot.pod();
        if object::label(pod, REVISION_LABEL) != Some(revisions.update_name()) && !object::is_deleting(pod) {
            return vec![delete(set, pod)];
        }
        if unusable(pod) {
            return Vec::new();
        }
    }
    Vec::new()
}

fn is_running(pod: &Value) -> bool {
    object::text(pod, "/status/phase") == "Running"
}

fn announce(set: &Value, verb: &str, reason: &'static str) -> Option<Notice> {
    let message = format!("{verb} Pod {{name}} in StatefulSet {} successful", object::name(set));
    Some(Notice::normal(COMPONENT, set, reason, message))
}

fn create(set: &Value, pod: &Value) -> Action {
    Action::Create {
        resource: PODS,
        object: pod.clone(),
        announce: announce(set, "create", "SuccessfulCreate"),
    }
}

fn delete(set: &Value, pod: &Value) -> Action {
    Action::Delete {
        place: place(&PODS, pod),
        uid: object::uid(pod).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: announce(set, "delete", "SuccessfulDelete"),
    }
}

/// The status update, when one is needed.
fn status(set: &Value, owned: &[&Value], revisions: &Revisions<'_>, now: Timestamp) -> Option<Action> {
    let min_ready = object::number(set, "/spec/minReadySeconds").unwrap_or(0);
    let replicas = object::number(set, "/spec/replicas").unwrap_or(1);
    let count = |holds: &dyn Fn(&Value) -> bool| -> i64 {
        i64::try_from(owned.iter().filter(|pod| holds(pod)).count()).unwrap_or(i64::MAX)
    };
    let of_revision =
        |name: &str| count(&|pod| !object::is_deleting(pod) && object::label(pod, REVISION_LABEL) == Some(name));
    let total = count(&|_| true);
    let ready = count(&|pod| is_running(pod) && pod::is_ready(pod));
    let available = count(&|pod| is_running(pod) && pod::is_available(pod, min_ready, now));
    let updated = of_revision(revisions.update_name());
    let mut current = of_revision(revisions.current_name());
    let mut current_name = revisions.current_name();
    let is_rolling = object::text(set, "/spec/updateStrategy/type") != "OnDelete";
    if is_rolling && updated == replicas && ready == replicas && total == replicas {
        current = updated;
        current_name = revisions.update_name();
    }
    let mut status = json!({
        "observedGeneration": object::generation(set),
        "replicas": total,
        "availableReplicas": available,
        "currentRevision": current_name,
        "updateRevision": revisions.update_name(),
        "collisionCount": revision::collisions(set),
    });
    for (field, value) in [
        ("readyReplicas", ready),
        ("currentReplicas", current),
        ("updatedReplicas", updated),
    ] {
        if value != 0 {
            status[field] = json!(value);
        }
    }
    if let Some(conditions) = set.pointer("/status/conditions") {
        status["conditions"] = conditions.clone();
    }
    if set.get("status") == Some(&status) {
        return None;
    }
    let mut set = set.clone();
    set["status"] = status;
    Some(Action::UpdateStatus {
        resource: STATEFUL_SETS,
        object: set,
    })
}
