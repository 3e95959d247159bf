//! The end of a namespace: everything in it is deleted, whatever its kind; then the namespace itself may go.

use std::collections::BTreeMap;

use corten_apiserver::resources::NAMESPACES;
use corten_apiserver::{Propagation, ResourceId};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller, Failure};
use super::cache::{Change, Objects, Place};
use super::object::{self, Key};

/// The loop.
pub(crate) struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&NAMESPACES) {
            return vec![Key::of(change.object())];
        }
        let key = Key::new("", object::namespace(change.object()));
        let is_ending = objects
            .get(&NAMESPACES, &key)
            .is_some_and(|namespace| object::is_deleting(namespace));
        if is_ending { vec![key] } else { Vec::new() }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        let Some(namespace) = objects.get(&NAMESPACES, key) else {
            return Vec::new();
        };
        let holds = object::items(namespace, "/spec/finalizers")
            .iter()
            .any(|f| f == "kubernetes");
        if !object::is_deleting(namespace) || !holds {
            return Vec::new();
        }
        let mut contents: BTreeMap<ResourceId, Vec<&Value>> = BTreeMap::new();
        for resource in objects.resources() {
            let found: Vec<&Value> = objects.within(resource, &key.name).map(|object| &**object).collect();
            contents.insert(resource.clone(), found);
        }
        reconcile(namespace, &contents, now)
    }

    fn failed(&self, key: &Key, objects: &Objects, now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(namespace) = objects.get(&NAMESPACES, key) else {
            return Vec::new();
        };
        if failure.status.is_conflict() || !matches!(failure.action, Action::Delete { .. }) {
            return Vec::new();
        }
        let message = format!(
            "Failed to delete all resource types, 1 remaining: {}",
            failure.status.message
        );
        let failing = ("NamespaceDeletionContentFailure", "ContentDeletionFailed", message);
        update_conditions(namespace, &[failing], now).into_iter().collect()
    }
}

/// What to do about a namespace that ends. `contents` has every resource, with what the namespace holds of it.
fn reconcile(namespace: &Value, contents: &BTreeMap<ResourceId, Vec<&Value>>, now: Timestamp) -> Vec<Action> {
    let name = object::name(namespace);
    let left: BTreeMap<&ResourceId, &Vec<&Value>> = contents.iter().filter(|(_, found)| !found.is_empty()).collect();
    if left.is_empty() {
        let resources = contents.keys().filter(|resource| **resource != NAMESPACES).cloned();
        return vec![Action::Finalize {
            namespace: name.to_owned(),
            contents: resources.collect(),
        }];
    }
    let mut deletions = Vec::new();
    for (resource, found) in &left {
        for object in found.iter().filter(|object| !object::is_deleting(object)) {
            deletions.push(Action::Delete {
                place: Place {
                    resource: (*resource).clone(),
                    key: Key::of(object),
                },
                uid: object::uid(object).to_owned(),
                propagation: Some(Propagation::Background),
                grace_seconds: None,
                announce: None,
            });
        }
    }
    if !deletions.is_empty() {
        // What stays after these brings the namespace back here, and is then reported.
        return vec![Action::All(deletions)];
    }
    let remaining = report(&left);
    update_conditions(namespace, &remaining, now).into_iter().collect()
}

/// A condition that is true: its type, reason and message.
type Problem = (&'static str, &'static str, String);

/// What keeps a namespace from going.
fn report(left: &BTreeMap<&ResourceId, &Vec<&Value>>) -> Vec<Problem> {
    let mut resources: Vec<String> = left
        .iter()
        .map(|(resource, found)| {
            format!(
                "{}.{} has {} resource instances",
                resource.plural,
                resource.group,
                found.len()
            )
        })
        .collect();
    resources.sort();
    let mut problems = vec![(
        "NamespaceContentRemaining",
        "SomeResourcesRemain",
        format!("Some resources are remaining: {}", resources.join(", ")),
    )];
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for object in left.values().flat_map(|found| found.iter()) {
        for finalizer in object::items(object, "/metadata/finalizers") {
            *finalizers.entry(finalizer.as_str().unwrap_or_default()).or_default() += 1;
        }
    }
    if !finalizers.is_empty() {
        let list: Vec<String> = finalizers
            .iter()
            .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
            .collect();
        problems.push((
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                list.join(", ")
            ),
        ));
    }
    problems
}

/// All conditions of an ending namespace, in Kubernetes' order, with their reason and message when there is no problem.
const CONDITIONS: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

fn update_conditions(namespace: &Value, problems: &[Problem], now: Timestamp) -> Option<Action> {
    let conditions: Vec<Value> = CONDITIONS
        .iter()
        .map(|(type_, reason, message)| {
            let problem = problems.iter().find(|(problem, _, _)| problem == type_);
            let (status, reason, message) = match problem {
                Some((_, reason, message)) => ("True", *reason, message.as_str()),
                None => ("False", *reason, *message),
            };
            let since = object::condition(namespace, type_)
                .filter(|c| object::text(c, "/status") == status && object::text(c, "/message") == message)
                .map_or_else(|| json!(object::seconds(now)), |c| c["lastTransitionTime"].clone());
            json!({
                "type": type_,
                "status": status,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            })
        })
        .collect();
    let mut updated = namespace.clone();
    object::put(&mut updated, &["status", "conditions"], json!(conditions));
    (updated != *namespace).then_some(Action::UpdateStatus {
        resource: NAMESPACES,
        object: updated,
    })
}

#[cfg(test)]
mod tests;
