//! Revisions of a stateful or daemon set's template, kept as ControllerRevision objects so that `rollout history` and `undo` find them.

use corten_apiserver::ResourceId;
use corten_apiserver::resources::CONTROLLER_REVISIONS;
use serde_json::{Value, json};

use super::action::{Action, place};
use super::object::Key;
use super::{hash, object};

/// The label of a pod that names its revision.
pub(super) const REVISION_LABEL: &str = "controller-revision-hash";
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The set of a kind that a revision is of.
pub(super) fn owner(revision: &Value, kind: &str) -> Option<Key> {
    let owner = object::controller(revision).filter(|owner| object::kind(owner) == kind)?;
    Some(Key::new(object::namespace(revision), object::text(owner, "/name")))
}

/// The revision that pods have, the one that they should get, and all there are.
pub(super) struct Revisions<'a> {
    current: &'a Value,
    update: &'a Value,
    all: Vec<&'a Value>,
}

pub(super) fn collisions(set: &Value) -> i64 {
    object::number(set, "/status/collisionCount").unwrap_or(0)
}

/// The name of a new revision was taken by one with other data: the next try salts the hash.
pub(super) fn collided(resource: &ResourceId, set: &Value) -> Action {
    let mut set = set.clone();
    let count = collisions(&set) + 1;
    object::put(&mut set, &["status", "collisionCount"], json!(count));
    Action::UpdateStatus {
        resource: resource.clone(),
        object: set,
    }
}

/// The template as a patch that `rollout undo` can apply to the set.
fn data(set: &Value) -> Value {
    let mut template = set.pointer("/spec/template").cloned().unwrap_or_default();
    object::put(&mut template, &["$patch"], json!("replace"));
    json!({"spec": {"template": template}})
}

impl<'a> Revisions<'a> {
    /// Finds the revisions of a set. Where the present template has none, or an old one that has to become the newest, the actions for that.
    pub(super) fn of(set: &Value, owned: &[&'a Value]) -> Result<Self, Vec<Action>> {
        let mut all = owned.to_vec();
        all.sort_by_key(|revision| {
            (
                number(revision),
                object::creation(revision),
                object::name(revision).to_owned(),
            )
        });
        let data = data(set);
        let newest = all.last().map_or(0, |revision| number(revision));
        let Some(update) = all.iter().rev().copied().find(|r| r.get("data") == Some(&data)) else {
            return Err(vec![create(set, data, newest + 1)]);
        };
        if number(update) < newest {
            let mut raised = update.clone();
            raised["revision"] = json!(newest + 1);
            return Err(vec![Action::Update {
                resource: CONTROLLER_REVISIONS,
                object: raised,
            }]);
        }
        let current = object::text(set, "/status/currentRevision");
        let current = all
            .iter()
            .copied()
            .find(|r| object::name(r) == current)
            .unwrap_or(update);
        Ok(Self { current, update, all })
    }

    pub(super) fn current_name(&self) -> &'a str {
        object::name(self.current)
    }

    pub(super) fn update_name(&self) -> &'a str {
        object::name(self.update)
    }

    /// The revision that pods have.
    pub(super) fn current(&self) -> &'a Value {
        self.current
    }

    /// The revision that pods should get.
    pub(super) fn update(&self) -> &'a Value {
        self.update
    }

    /// Deletes revisions beyond the history limit that no pod has.
    pub(super) fn truncate(&self, set: &Value, pods: &[&Value]) -> Vec<Action> {
        let limit = object::number(set, "/spec/revisionHistoryLimit").unwrap_or(10);
        let in_use = |name: &str| {
            name == self.current_name()
                || name == self.update_name()
                || pods.iter().any(|pod| object::label(pod, REVISION_LABEL) == Some(name))
        };
        let history: Vec<&Value> = self.all.iter().copied().filter(|r| !in_use(object::name(r))).collect();
        let surplus = history
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        history
            .into_iter()
            .take(surplus)
            .map(|revision| Action::Delete {
                place: place(&CONTROLLER_REVISIONS, revision),
                uid: object::uid(revision).to_owned(),
                propagation: None,
                grace_seconds: None,
                announce: None,
            })
            .collect()
    }
}

/// The set with the template that a revision keeps.
pub(super) fn with_template(set: &Value, revision: &Value) -> Value {
    let mut set = set.clone();
    let mut template = revision.pointer("/data/spec/template").cloned().unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    object::put(&mut set, &["spec", "template"], template);
    set
}

fn number(revision: &Value) -> i64 {
    object::number(revision, "/revision").unwrap_or(0)
}

fn create(set: &Value, data: Value, number: i64) -> Action {
    let hash = hash::template(&data, Some(collisions(set)));
    let mut labels = set
        .pointer("/spec/template/metadata/labels")
        .cloned()
        .unwrap_or_else(|| json!({}));
    object::put(&mut labels, &[HASH_LABEL], json!(hash));
    let mut revision = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "namespace": object::namespace(set),
            "name": format!("{}-{hash}", object::name(set)),
            "labels": labels,
            "ownerReferences": [object::controller_reference(set)],
        },
        "data": data,
        "revision": number,
    });
    if let Some(annotations) = set.pointer("/metadata/annotations") {
        revision["metadata"]["annotations"] = annotations.clone();
    }
    Action::Create {
        resource: CONTROLLER_REVISIONS,
        object: revision,
        announce: None,
    }
}
