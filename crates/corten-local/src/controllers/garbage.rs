//! The garbage collector: what lives only for its owners goes when they go.
//!
//! Three ways, as the API's deletion asks for: in the background (the owner is gone, its dependents follow), in the foreground (the owner stays
//! with the finalizer `foregroundDeletion` until the dependents that block it are gone), or orphaned (`orphan`: the dependents are let go first).

use corten_apiserver::resources::{self, CUSTOM_RESOURCE_DEFINITIONS};
use corten_apiserver::{Propagation, ResourceId};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Owner};
use super::cache::{Change, Objects, Place};
use super::object::{self, Key};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The loop. Its keys are uids: of dependents to look after, and of owners that wait for them.
pub(crate) struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        let object = change.object();
        let key = |uid: &str| Key::new("", uid);
        let mut keys = Vec::new();
        let owners = object::items(object, "/metadata/ownerReferences");
        match &change.new {
            None => keys.extend(
                objects
                    .dependents(object::uid(object))
                    .map(|(_, d)| key(object::uid(d))),
            ),
            Some(new) => {
                let is_ending = object::is_deleting(new) && change.differs("/metadata/deletionTimestamp");
                if !owners.is_empty() && (change.differs("/metadata/ownerReferences") || is_ending) {
                    keys.push(key(object::uid(new)));
                }
                if object::is_deleting(new)
                    && (object::has_finalizer(new, FOREGROUND) || object::has_finalizer(new, ORPHAN))
                {
                    keys.push(key(object::uid(new)));
                }
            }
        }
        // An owner may wait for this one to go, or to be let go.
        for side in change.sides() {
            for owner in object::items(side, "/metadata/ownerReferences") {
                let waits = objects
                    .by_uid(object::text(owner, "/uid"))
                    .is_some_and(|(_, owner)| object::is_deleting(owner));
                if waits {
                    keys.push(key(object::text(owner, "/uid")));
                }
            }
        }
        keys
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let Some((place, object)) = objects.by_uid(&key.name) else {
            return Vec::new();
        };
        if object::is_deleting(object) {
            return ending(place, object, objects);
        }
        owned(place, object, objects)
    }

    fn workers(&self) -> usize {
        4
    }
}

/// What to do about an object whose deletion has begun.
fn ending(place: &Place, object: &Value, objects: &Objects) -> Vec<Action> {
    let dependents: Vec<(&Place, &Value)> = objects
        .dependents(object::uid(object))
        .map(|(place, dependent)| (place, &**dependent))
        .collect();
    let mut actions = Vec::new();
    if object::has_finalizer(object, ORPHAN) {
        actions.extend(
            dependents
                .iter()
                .map(|(place, d)| disown(place, d, &[object::uid(object)])),
        );
        if actions.is_empty() {
            return vec![release(place, object, ORPHAN)];
        }
        return vec![Action::All(actions)];
    }
    if !object::has_finalizer(object, FOREGROUND) {
        return Vec::new();
    }
    let blocks = |dependent: &Value| {
        object::items(dependent, "/metadata/ownerReferences")
            .iter()
            .any(|owner| {
                object::text(owner, "/uid") == object::uid(object) && object::flag(owner, "/blockOwnerDeletion")
            })
    };
    if !dependents.iter().any(|(_, dependent)| blocks(dependent)) {
        return vec![release(place, object, FOREGROUND)];
    }
    // Each dependent decides by itself what the end of this owner means for it.
    for (place, dependent) in dependents {
        if !object::is_deleting(dependent) {
            actions.extend(owned(place, dependent, objects));
        }
    }
    vec![Action::All(actions)]
}

enum OwnerState {
    Alive,
    /// In foreground deletion: it waits for this dependent.
    Waiting,
    /// Not in the cache; where it would be.
    Absent(Owner),
    /// Of a kind that is not served, so that nothing can be said about it.
    Unknown,
}

/// What to do about an object because of its owners.
fn owned(place: &Place, object: &Value, objects: &Objects) -> Vec<Action> {
    let references = object::items(object, "/metadata/ownerReferences");
    if references.is_empty() {
        return Vec::new();
    }
    let states: Vec<(&str, OwnerState)> = references
        .iter()
        .map(|reference| (object::text(reference, "/uid"), state(reference, object, objects)))
        .collect();
    let is_kept = states
        .iter()
        .any(|(_, s)| matches!(s, OwnerState::Alive | OwnerState::Unknown));
    let is_awaited = states.iter().any(|(_, s)| matches!(s, OwnerState::Waiting));
    if is_kept {
        // The owners that are gone or going are taken off, so that they do not wait for an object that stays.
        let gone: Vec<&str> = states
            .iter()
            .filter(|(_, state)| matches!(state, OwnerState::Waiting))
            .map(|(uid, _)| *uid)
            .collect();
        return if gone.is_empty() {
            Vec::new()
        } else {
            vec![disown(place, object, &gone)]
        };
    }
    if is_awaited {
        let has_blocking = objects.dependents(object::uid(object)).any(|(_, dependent)| {
            object::items(dependent, "/metadata/ownerReferences")
                .iter()
                .any(|owner| {
                    object::text(owner, "/uid") == object::uid(object) && object::flag(owner, "/blockOwnerDeletion")
                })
        });
        let propagation = if has_blocking {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        return vec![Action::Delete {
            place: place.clone(),
            uid: object::uid(object).to_owned(),
            propagation: Some(propagation),
            grace_seconds: None,
            announce: None,
        }];
    }
    let owners = states
        .into_iter()
        .filter_map(|(_, state)| match state {
            OwnerState::Absent(owner) => Some(owner),
            _ => None,
        })
        .collect();
    vec![Action::Collect {
        dependent: place.clone(),
        uid: object::uid(object).to_owned(),
        owners,
    }]
}

fn state(reference: &Value, dependent: &Value, objects: &Objects) -> OwnerState {
    let uid = object::text(reference, "/uid");
    if let Some((place, owner)) = objects.by_uid(uid) {
        // An owner in another namespace is none.
        if place.key.namespace.is_empty() || &*place.key.namespace == object::namespace(dependent) {
            let waits = object::is_deleting(owner) && object::has_finalizer(owner, FOREGROUND);
            return if waits { OwnerState::Waiting } else { OwnerState::Alive };
        }
    }
    let api_version = object::text(reference, "/apiVersion");
    let Some((resource, namespaced)) = find_resource(api_version, object::text(reference, "/kind"), objects) else {
        return OwnerState::Unknown;
    };
    if !objects.is_synced(&resource) {
        return OwnerState::Unknown;
    }
    let namespace = if namespaced { object::namespace(dependent) } else { "" };
    OwnerState::Absent(Owner {
        place: Place {
            key: Key::new(namespace, object::text(reference, "/name")),
            resource,
        },
        uid: uid.to_owned(),
    })
}

/// The resource of a kind, and whether it is namespaced.
fn find_resource(api_version: &str, kind: &str, objects: &Objects) -> Option<(ResourceId, bool)> {
    if let Some(found) = BUILTIN
        .iter()
        .find(|(resource, builtin, _)| *builtin == kind && resource.api_version() == api_version)
    {
        return Some((found.0.clone(), found.2));
    }
    let definition = objects.all(&CUSTOM_RESOURCE_DEFINITIONS).find(|definition| {
        object::text(definition, "/spec/names/kind") == kind
            && object::text(definition, "/spec/group") == object::group_of(api_version)
    })?;
    let resource = super::custom_resource(definition)?;
    Some((resource, object::text(definition, "/spec/scope") == "Namespaced"))
}

/// Kinds that own things, or might.
static BUILTIN: &[(ResourceId, &str, bool)] = &[
    (resources::NAMESPACES, "Namespace", false),
    (resources::NODES, "Node", false),
    (resources::PODS, "Pod", true),
    (resources::SERVICES, "Service", true),
    (resources::ENDPOINTS, "Endpoints", true),
    (resources::CONFIG_MAPS, "ConfigMap", true),
    (resources::SECRETS, "Secret", true),
    (resources::SERVICE_ACCOUNTS, "ServiceAccount", true),
    (resources::DEPLOYMENTS, "Deployment", true),
    (resources::REPLICA_SETS, "ReplicaSet", true),
    (resources::STATEFUL_SETS, "StatefulSet", true),
    (resources::DAEMON_SETS, "DaemonSet", true),
    (resources::CONTROLLER_REVISIONS, "ControllerRevision", true),
    (resources::LEASES, "Lease", true),
    (resources::ENDPOINT_SLICES, "EndpointSlice", true),
    (CUSTOM_RESOURCE_DEFINITIONS, "CustomResourceDefinition", false),
    (
        resources::MUTATING_WEBHOOK_CONFIGURATIONS,
        "MutatingWebhookConfiguration",
        false,
    ),
    (
        resources::VALIDATING_WEBHOOK_CONFIGURATIONS,
        "ValidatingWebhookConfiguration",
        false,
    ),
    (resources::ROLES, "Role", true),
    (resources::ROLE_BINDINGS, "RoleBinding", true),
    (resources::CLUSTER_ROLES, "ClusterRole", false),
    (resources::CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", false),
    (resources::NETWORK_POLICIES, "NetworkPolicy", true),
];

/// Takes owners off an object.
fn disown(place: &Place, object: &Value, uids: &[&str]) -> Action {
    let left: Vec<&Value> = object::items(object, "/metadata/ownerReferences")
        .iter()
        .filter(|reference| !uids.contains(&object::text(reference, "/uid")))
        .collect();
    patch(place, object, json!({"ownerReferences": left}))
}

/// Takes a finalizer off an object.
fn release(place: &Place, object: &Value, finalizer: &str) -> Action {
    let left: Vec<&Value> = object::items(object, "/metadata/finalizers")
        .iter()
        .filter(|f| *f != finalizer)
        .collect();
    patch(place, object, json!({"finalizers": left}))
}

/// A change of metadata that fails when the object has changed since.
fn patch(place: &Place, object: &Value, mut metadata: Value) -> Action {
    metadata["uid"] = json!(object::uid(object));
    metadata["resourceVersion"] = json!(object::text(object, "/metadata/resourceVersion"));
    Action::Patch {
        place: place.clone(),
        subresource: None,
        patch: json!({"metadata": metadata}),
        announce: None,
    }
}
