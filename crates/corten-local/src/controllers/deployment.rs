//! Deployment: the loop that turns a deployment and its replica sets into rollout steps.
//!
//! One look makes at most one step (make the new replica set, scale some, clean up) and then the status, as Kubernetes' controller does; the
//! change that the step causes brings the deployment back. The steps are in `rollout`, the status in `status`, revisions in `revision`.

mod revision;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use corten_apiserver::resources::{DEPLOYMENTS, PODS, REPLICA_SETS};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Failure, Notice, place};
use super::cache::{Change, Objects, Place};
use super::object::{self, Key};
use super::{pod, replicaset, selector};

const COMPONENT: &str = "deployment-controller";

/// The loop.
pub(crate) struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&DEPLOYMENTS) {
            return vec![Key::of(change.object())];
        }
        if change.is(&REPLICA_SETS) {
            return of_replica_set(change, objects);
        }
        // A Recreate rollout waits for the last old pod to go; nothing else of pods matters here.
        if change.is(&PODS) && (change.new.is_none() || change.differs("/status/phase")) {
            let Some(owner) = object::controller_uid(change.object()) else {
                return Vec::new();
            };
            let deployment = objects
                .by_uid(owner)
                .and_then(|(_, set)| objects.by_uid(object::controller_uid(set)?))
                .filter(|(place, _)| place.resource == DEPLOYMENTS);
            return deployment
                .filter(|(_, d)| object::text(d, "/spec/strategy/type") == "Recreate")
                .map(|(place, _)| place.key.clone())
                .into_iter()
                .collect();
        }
        Vec::new()
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(deployment) = objects.get(&DEPLOYMENTS, key) else {
            return Vec::new();
        };
        let sets = candidates(deployment, objects);
        let pods: Vec<&Value> = sets
            .iter()
            .filter(|set| object::is_controlled_by(set, deployment))
            .flat_map(|set| objects.controlled(&PODS, set))
            .map(|pod| &**pod)
            .collect();
        reconcile(deployment, &sets, &pods, now)
    }

    fn failed(&self, key: &Key, objects: &Objects, now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(deployment) = objects.get(&DEPLOYMENTS, key) else {
            return Vec::new();
        };
        if !failure.is_create(&REPLICA_SETS) || failure.is_terminating() {
            return Vec::new();
        }
        let sets = candidates(deployment, objects);
        failed(deployment, &sets, failure, now)
    }
}

fn of_replica_set(change: &Change, objects: &Objects) -> Vec<Key> {
    let mut keys = Vec::new();
    for side in change.sides() {
        match object::controller(side) {
            Some(owner) => keys.push(Key::new(object::namespace(side), object::text(owner, "/name"))),
            None => keys.extend(
                objects
                    .within(&DEPLOYMENTS, object::namespace(side))
                    .filter(|d| selects(d, side))
                    .map(|d| Key::of(d)),
            ),
        }
    }
    keys.dedup();
    keys
}

fn selects(deployment: &Value, set: &Value) -> bool {
    let wanted = deployment.pointer("/spec/selector").unwrap_or(&Value::Null);
    !selector::is_empty(wanted) && selector::matches(wanted, object::labels(set))
}

/// The replica sets that the deployment controls or could adopt.
fn candidates<'a>(deployment: &'a Value, objects: &'a Objects) -> Vec<&'a Value> {
    objects
        .within(&REPLICA_SETS, object::namespace(deployment))
        .filter(|set| match object::controller_uid(set) {
            Some(uid) => uid == object::uid(deployment),
            None => selects(deployment, set),
        })
        .map(|set| &**set)
        .collect()
}

/// What the steps of one look read and collect: the deployment as it will be written, and the actions so far.
struct Look<'a> {
    deployment: &'a Value,
    /// The deployment with the status and annotations that are to be written.
    draft: Value,
    actions: Vec<Action>,
    now: Timestamp,
}

impl Look<'_> {
    fn replicas(&self) -> i64 {
        object::number(self.deployment, "/spec/replicas").unwrap_or(1)
    }

    fn name(&self) -> &str {
        object::name(self.deployment)
    }

    fn is_rolling(&self) -> bool {
        object::text(self.deployment, "/spec/strategy/type") != "Recreate"
    }

    fn is_paused(&self) -> bool {
        object::flag(self.deployment, "/spec/paused")
    }

    /// How many pods may be there beyond the wanted ones, and how many of those may be missing.
    fn bounds(&self) -> (i64, i64) {
        if !self.is_rolling() {
            return (0, 0);
        }
        bounds(self.deployment)
    }

    fn max_surge(&self) -> i64 {
        self.bounds().0
    }

    fn max_unavailable(&self) -> i64 {
        let replicas = self.replicas();
        if replicas == 0 {
            0
        } else {
            self.bounds().1.min(replicas)
        }
    }

    fn notify(&mut self, message: String) {
        let notice = Notice::normal(COMPONENT, self.deployment, "ScalingReplicaSet", message);
        self.actions.push(Action::Notify(notice));
    }

    /// The actions, ending with the status when it changed.
    fn finish(mut self) -> Vec<Action> {
        if self.draft != *self.deployment {
            self.actions.push(Action::UpdateStatus {
                resource: DEPLOYMENTS,
                object: self.draft,
            });
        }
        self.actions
    }
}

/// `(maxSurge, maxUnavailable)` in pods; they cannot both be zero, or no rollout would ever advance.
fn bounds(deployment: &Value) -> (i64, i64) {
    let replicas = object::number(deployment, "/spec/replicas").unwrap_or(1);
    let quarter = json!("25%");
    let rolling = |field: &str| {
        deployment
            .pointer(&format!("/spec/strategy/rollingUpdate/{field}"))
            .unwrap_or(&quarter)
    };
    let surge = object::scaled(rolling("maxSurge"), replicas, true).unwrap_or(0);
    let unavailable = object::scaled(rolling("maxUnavailable"), replicas, false).unwrap_or(0);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

/// What to do about a deployment. `pods` are all pods of its replica sets.
fn reconcile(deployment: &Value, candidates: &[&Value], pods: &[&Value], now: Timestamp) -> Vec<Action> {
    let claims = replicaset::claim(deployment, &REPLICA_SETS, candidates);
    if !claims.is_empty() {
        return claims;
    }
    let sets: Vec<&Value> = candidates
        .iter()
        .copied()
        .filter(|set| object::is_controlled_by(set, deployment))
        .collect();
    let mut look = Look {
        deployment,
        draft: deployment.clone(),
        actions: Vec::new(),
        now,
    };
    if object::is_deleting(deployment) {
        status::sync(&mut look, &sets, revision::find_new(deployment, &sets));
        return look.finish();
    }
    status::check_paused(&mut look);
    let found = revision::find_new(deployment, &sets);
    if let Some(new) = found
        && let Some(update) = revision::update_new(&mut look, new, &sets)
    {
        // The replica set has to carry its revision before anything else is decided from it.
        look.actions.push(update);
        return look.finish();
    }
    if look.is_paused() || rollout::is_scaling(&look, &sets) {
        rollout::scale(&mut look, found, &sets);
        if look.is_paused() {
            revision::clean_up(&mut look, found, &sets);
        }
        status::sync(&mut look, &sets, found);
        return look.finish();
    }
    if look.is_rolling() {
        rollout::rolling(&mut look, found, &sets);
    } else {
        rollout::recreate(&mut look, found, &sets, pods);
    }
    look.finish()
}

/// A replica set could not be made: either its name is taken by one of another template (then the next try salts the hash), or the API refused.
fn failed(deployment: &Value, sets: &[&Value], failure: &Failure, now: Timestamp) -> Vec<Action> {
    let Action::Create { object: wanted, .. } = &failure.action else {
        return Vec::new();
    };
    let mut look = Look {
        deployment,
        draft: deployment.clone(),
        actions: Vec::new(),
        now,
    };
    if failure.status.is_already_exists() {
        let is_ours = sets.iter().any(|set| {
            object::name(set) == object::name(wanted)
                && object::is_controlled_by(set, deployment)
                && revision::same_template(deployment, set)
        });
        if !is_ours {
            let count = object::number(deployment, "/status/collisionCount").unwrap_or(0);
            object::put(&mut look.draft, &["status", "collisionCount"], json!(count + 1));
        }
        return look.finish();
    }
    let message = format!(
        "Failed to create new replica set \"{}\": {}",
        object::name(wanted),
        failure.status.message
    );
    if status::has_deadline(deployment) {
        status::set(
            &mut look.draft,
            status::condition("Progressing", "False", "ReplicaSetCreateError", &message, now),
        );
    }
    let notice = Notice::warning(COMPONENT, deployment, "ReplicaSetCreateError", message);
    look.actions.push(Action::Notify(notice));
    look.finish()
}

/// Whether any pod of the replica sets other than the new one still runs or may come to run.
fn old_pods_remain(new: Option<&Value>, pods: &[&Value]) -> bool {
    pods.iter().any(|pod| {
        let is_new = new.is_some_and(|set| object::is_controlled_by(pod, set));
        !is_new && !pod::is_finished(pod)
    })
}

/// The place of a replica set.
fn replica_set(set: &Value) -> Place {
    place(&REPLICA_SETS, set)
}
