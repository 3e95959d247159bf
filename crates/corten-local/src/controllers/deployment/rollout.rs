//! The steps of a rollout: how many pods each replica set of a deployment should have next.
//!
//! A rolling update never has more than `replicas + maxSurge` pods, nor fewer than `replicas - maxUnavailable` available ones: pods are added
//! while there is room, and taken away only as far as the available ones allow. Scaling amid a rollout is spread in proportion.

use corten_apiserver::resources::REPLICA_SETS;
use serde_json::{Value, json};

use super::revision::{self, DESIRED, MAX};
use super::{Look, old_pods_remain, status};
use crate::controllers::action::Action;
use crate::controllers::object;

/// How many pods a replica set should have.
pub(super) fn size(set: &Value) -> i64 {
    object::number(set, "/spec/replicas").unwrap_or(1)
}

fn total(sets: &[&Value]) -> i64 {
    sets.iter().map(|set| size(set)).sum()
}

/// How many pods of a replica set are available.
fn available(set: &Value) -> i64 {
    object::number(set, "/status/availableReplicas").unwrap_or(0)
}

fn active<'a>(sets: &[&'a Value]) -> Vec<&'a Value> {
    sets.iter().copied().filter(|set| size(set) > 0).collect()
}

/// Writes onto a replica set how large the deployment is, so that a later change of that is recognized as scaling.
pub(super) fn annotate_size(look: &Look<'_>, set: &mut Value) {
    object::set_annotation(set, DESIRED, &look.replicas().to_string());
    object::set_annotation(set, MAX, &(look.replicas() + look.max_surge()).to_string());
}

/// Gives a replica set a size, in an update with an event; whether its size changed.
fn resize(look: &mut Look<'_>, set: &Value, to: i64) -> bool {
    let from = size(set);
    let mut update = set.clone();
    annotate_size(look, &mut update);
    if from != to {
        object::put(&mut update, &["spec", "replicas"], json!(to));
    } else if update == *set {
        return false;
    }
    look.actions.push(Action::Update {
        resource: REPLICA_SETS,
        object: update,
    });
    if from != to {
        let direction = if from < to { "up" } else { "down" };
        let name = object::name(set);
        look.notify(format!("Scaled {direction} replica set {name} from {from} to {to}"));
    }
    from != to
}

/// The size that the new replica set may have now.
pub(super) fn new_size(look: &Look<'_>, new: Option<&Value>, sets: &[&Value]) -> i64 {
    let current = new.map_or(0, size);
    if !look.is_rolling() {
        return look.replicas();
    }
    let room = look.replicas() + look.max_surge() - total(sets);
    if room <= 0 {
        return current;
    }
    current + room.min(look.replicas() - current)
}

/// Whether the deployment's size was changed since the replica sets were last given theirs.
pub(super) fn is_scaling(look: &Look<'_>, sets: &[&Value]) -> bool {
    active(sets).iter().any(|set| {
        object::annotation(set, DESIRED)
            .and_then(|desired| desired.parse::<i64>().ok())
            .is_some_and(|desired| desired != look.replicas())
    })
}

/// The only replica set with pods, or where none has any the one that should get them.
fn active_or_latest<'a>(new: Option<&'a Value>, sets: &[&'a Value]) -> Option<&'a Value> {
    match active(sets).as_slice() {
        [] => new.or_else(|| sets.iter().copied().max_by_key(|set| object::creation(set))),
        [only] => Some(only),
        _ => None,
    }
}

/// Resizes for a changed deployment size: one replica set fully, several in proportion to their sizes.
pub(super) fn scale(look: &mut Look<'_>, new: Option<&Value>, sets: &[&Value]) {
    let replicas = look.replicas();
    if let Some(set) = active_or_latest(new, sets) {
        if size(set) != replicas {
            resize(look, set, replicas);
        }
        return;
    }
    if new.is_some_and(|new| is_saturated(look, new)) {
        for set in active(&revision::old(new, sets)) {
            resize(look, set, 0);
        }
        return;
    }
    if !look.is_rolling() {
        return;
    }
    let allowed = if replicas > 0 { replicas + look.max_surge() } else { 0 };
    let mut sets = active(sets);
    let to_add = allowed - total(&sets);
    // The largest first; among equals the newest grows first, and the oldest shrinks first.
    sets.sort_by_key(|set| object::creation(set));
    if to_add > 0 {
        sets.reverse();
    }
    sets.sort_by_key(|set| -size(set));
    for (set, to) in proportions(look, &sets, to_add) {
        resize(look, set, to);
    }
}

/// Spreads `to_add` (which may be negative) over the replica sets; what is left by rounding goes to the first.
fn proportions<'a>(look: &Look<'_>, sets: &[&'a Value], to_add: i64) -> Vec<(&'a Value, i64)> {
    let mut added = 0;
    let mut sizes: Vec<(&Value, i64)> = Vec::new();
    for set in sets {
        let left = to_add - added;
        let share = fraction(look, set);
        let share = if left == 0 {
            0
        } else if to_add > 0 {
            share.min(left)
        } else {
            share.max(left)
        };
        added += share;
        sizes.push((set, size(set) + share));
    }
    if let Some((_, first)) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

/// By how much a replica set would change if all kept their proportion to the deployment.
fn fraction(look: &Look<'_>, set: &Value) -> i64 {
    let size = size(set);
    if look.replicas() == 0 {
        return -size;
    }
    let before = object::annotation(set, MAX)
        .and_then(|max| max.parse::<i64>().ok())
        .filter(|max| *max > 0)
        .or_else(|| object::number(look.deployment, "/status/replicas"))
        .unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let scaled = size * (look.replicas() + look.max_surge());
    // Rounded to the nearest; all are positive here.
    (2 * scaled + before) / (2 * before) - size
}

fn is_saturated(look: &Look<'_>, new: &Value) -> bool {
    let desired = object::annotation(new, DESIRED).and_then(|desired| desired.parse::<i64>().ok());
    size(new) == look.replicas() && desired == Some(look.replicas()) && available(new) == look.replicas()
}

/// One step of a rolling update.
pub(super) fn rolling(look: &mut Look<'_>, new: Option<&Value>, sets: &[&Value]) {
    let Some(new) = new else {
        revision::create_new(look, sets);
        return;
    };
    let replicas = look.replicas();
    let to = if size(new) > replicas {
        replicas
    } else {
        new_size(look, Some(new), sets)
    };
    let stepped = (size(new) != to && resize(look, new, to)) || shrink_old(look, new, sets);
    if !stepped && status::is_complete(look.deployment, &look.deployment["status"]) {
        revision::clean_up(look, Some(new), sets);
    }
    status::sync_rollout(look, sets, Some(new));
}

/// Takes pods from the old replica sets, as far as availability allows; first those that are not available anyway.
fn shrink_old(look: &mut Look<'_>, new: &Value, sets: &[&Value]) -> bool {
    let mut old = active(&revision::old(Some(new), sets));
    if old.is_empty() {
        return false;
    }
    old.sort_by_key(|set| object::creation(set));
    let available_min = look.replicas() - look.max_unavailable();
    let new_unavailable = size(new) - available(new);
    // Pods of the new replica set that are not available yet are counted as lost, so that a bad template stops the rollout.
    let mut removable = total(sets) - available_min - new_unavailable;
    if removable <= 0 {
        return false;
    }
    let mut sizes: Vec<i64> = old.iter().map(|set| size(set)).collect();
    for (set, to) in old.iter().zip(&mut sizes) {
        let unhealthy = (*to - available(set)).clamp(0, removable);
        *to -= unhealthy;
        removable -= unhealthy;
    }
    let available_total: i64 = sets.iter().map(|set| available(set)).sum();
    let mut surplus = (available_total - available_min).max(0);
    for to in &mut sizes {
        let step = (*to).min(surplus);
        *to -= step;
        surplus -= step;
    }
    let mut stepped = false;
    for (set, to) in old.into_iter().zip(sizes) {
        if size(set) != to {
            stepped |= resize(look, set, to);
        }
    }
    stepped
}

/// One step of a rollout that ends all old pods before it starts new ones.
pub(super) fn recreate(look: &mut Look<'_>, new: Option<&Value>, sets: &[&Value], pods: &[&Value]) {
    let old = revision::old(new, sets);
    let shrinking = active(&old);
    let old_count: i64 = old
        .iter()
        .map(|set| object::number(set, "/status/replicas").unwrap_or(0))
        .sum();
    let waiting = !shrinking.is_empty() || old_count > 0 || old_pods_remain(new, pods);
    for set in shrinking {
        resize(look, set, 0);
    }
    match new {
        _ if waiting => {}
        None => {
            revision::create_new(look, sets);
            return;
        }
        Some(new) if size(new) != look.replicas() => {
            resize(look, new, look.replicas());
        }
        Some(new) => {
            if status::is_complete(look.deployment, &look.deployment["status"]) {
                revision::clean_up(look, Some(new), sets);
            }
        }
    }
    status::sync_rollout(look, sets, new);
}
