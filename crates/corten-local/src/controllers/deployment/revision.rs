//! Revisions of a deployment: which replica set carries the present template, how one is made, what is kept of the past.

use corten_apiserver::resources::REPLICA_SETS;
use serde_json::{Value, json};

use super::{Look, replica_set, rollout, status};
use crate::controllers::action::Action;
use crate::controllers::{hash, object};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// Annotations of a deployment that are not passed on to its replica sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The history annotation holds so many characters at most.
const HISTORY_MAX: usize = 2000;

/// Whether a replica set was made from the deployment's present template.
pub(super) fn same_template(deployment: &Value, set: &Value) -> bool {
    let wanted = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    let mut found = set.pointer("/spec/template").cloned().unwrap_or_default();
    let mut wanted = wanted;
    for template in [&mut wanted, &mut found] {
        normalize(template);
    }
    wanted == found
}

/// Takes out of a template what does not tell templates apart: the hash label and empty maps.
fn normalize(template: &mut Value) {
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    metadata.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    if metadata.is_empty() {
        template.as_object_mut().map(|template| template.remove("metadata"));
    }
}

/// The oldest replica set of the present template.
pub(super) fn find_new<'a>(deployment: &Value, sets: &[&'a Value]) -> Option<&'a Value> {
    sets.iter()
        .copied()
        .filter(|set| same_template(deployment, set))
        .min_by_key(|set| (object::creation(set), object::name(set).to_owned()))
}

pub(super) fn revision(object: &Value) -> i64 {
    object::annotation(object, REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// The replica sets other than the new one.
pub(super) fn old<'a>(new: Option<&Value>, sets: &[&'a Value]) -> Vec<&'a Value> {
    sets.iter()
        .copied()
        .filter(|set| new.is_none_or(|new| object::uid(new) != object::uid(set)))
        .collect()
}

/// Brings the new replica set's annotations up to date, and the deployment's revision. Gives the update of the replica set when one is needed.
pub(super) fn update_new(look: &mut Look<'_>, new: &Value, sets: &[&Value]) -> Option<Action> {
    let next = old(Some(new), sets).iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let mut set = new.clone();
    annotate(look.deployment, &mut set, next);
    let min_ready = look
        .deployment
        .pointer("/spec/minReadySeconds")
        .filter(|v| v.as_i64() != Some(0));
    let current = set.pointer("/spec/minReadySeconds").filter(|v| v.as_i64() != Some(0));
    if min_ready != current {
        let min_ready = min_ready.cloned().unwrap_or_else(|| json!(0));
        object::put(&mut set, &["spec", "minReadySeconds"], min_ready);
    }
    if set != *new {
        return Some(Action::Update {
            resource: REPLICA_SETS,
            object: set,
        });
    }
    if let Some(revision) = object::annotation(new, REVISION) {
        object::set_annotation(&mut look.draft, REVISION, revision);
    }
    if status::has_deadline(look.deployment) && object::condition(&look.draft, "Progressing").is_none() {
        let message = format!("Found new replica set \"{}\"", object::name(new));
        let found = status::condition("Progressing", "True", "FoundNewReplicaSet", &message, look.now);
        status::set(&mut look.draft, found);
    }
    None
}

/// Copies the deployment's annotations to a replica set and raises its revision, remembering the one it had.
fn annotate(deployment: &Value, set: &mut Value, next: i64) {
    for (name, value) in object::map(deployment, "/metadata/annotations").into_iter().flatten() {
        if let Some(value) = value.as_str()
            && !NOT_COPIED.contains(&name.as_str())
        {
            object::set_annotation(set, name, value);
        }
    }
    let before = object::annotation(set, REVISION).map(str::to_owned);
    if revision(set) >= next {
        return;
    }
    object::set_annotation(set, REVISION, &next.to_string());
    if let Some(before) = before {
        let history = object::annotation(set, HISTORY).unwrap_or_default();
        let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
        revisions.push(&before);
        let mut joined = revisions.join(",");
        while joined.len() > HISTORY_MAX && revisions.len() > 1 {
            revisions.remove(0);
            joined = revisions.join(",");
        }
        object::set_annotation(set, HISTORY, &joined);
    }
}

/// Makes the replica set of the present template.
pub(super) fn create_new(look: &mut Look<'_>, sets: &[&Value]) {
    let deployment = look.deployment;
    let mut template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    let hash = hash::template(&template, object::number(deployment, "/status/collisionCount"));
    object::put(&mut template, &["metadata", "labels", HASH_LABEL], json!(hash));
    let mut selector = deployment.pointer("/spec/selector").cloned().unwrap_or_default();
    object::put(&mut selector, &["matchLabels", HASH_LABEL], json!(hash));
    let replicas = rollout::new_size(look, None, sets);
    let mut set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "namespace": object::namespace(deployment),
            "name": format!("{}-{hash}", look.name()),
            "labels": template.pointer("/metadata/labels"),
            "ownerReferences": [object::controller_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    });
    if let Some(min_ready) = object::number(deployment, "/spec/minReadySeconds").filter(|s| *s > 0) {
        set["spec"]["minReadySeconds"] = json!(min_ready);
    }
    let next = sets.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    annotate(deployment, &mut set, next);
    rollout::annotate_size(look, &mut set);
    let name = object::name(&set).to_owned();
    look.actions.push(Action::Create {
        resource: REPLICA_SETS,
        object: set,
        announce: None,
    });
    if replicas > 0 {
        look.notify(format!("Scaled up replica set {name} from 0 to {replicas}"));
    }
    object::set_annotation(&mut look.draft, REVISION, &next.to_string());
    if status::has_deadline(deployment) {
        let message = format!("Created new replica set \"{name}\"");
        let created = status::condition("Progressing", "True", "NewReplicaSetCreated", &message, look.now);
        status::set(&mut look.draft, created);
    }
}

/// Deletes empty old replica sets beyond the history limit, the oldest revisions first.
pub(super) fn clean_up(look: &mut Look<'_>, new: Option<&Value>, sets: &[&Value]) {
    let limit = object::number(look.deployment, "/spec/revisionHistoryLimit").unwrap_or(10);
    let mut alive: Vec<&Value> = old(new, sets)
        .into_iter()
        .filter(|set| !object::is_deleting(set))
        .collect();
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    alive.sort_by_key(|set| (revision(set), object::creation(set)));
    for set in alive.into_iter().take(surplus) {
        let is_settled = object::generation(set) <= object::number(set, "/status/observedGeneration").unwrap_or(0);
        if rollout::size(set) == 0 && object::number(set, "/status/replicas").unwrap_or(0) == 0 && is_settled {
            look.actions.push(Action::Delete {
                place: replica_set(set),
                uid: object::uid(set).to_owned(),
                propagation: None,
                grace_seconds: None,
                announce: None,
            });
        }
    }
}
