//! How two sets of objects differ, object by object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use crate::mesh::world::Given;

/// Kind, namespace, name, and the group of the kind.
type Key = (String, String, String, String);

/// An object that is not the same on both sides.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

impl Display for Difference {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let sign = match (&self.before, &self.after) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        };
        write!(out, "{sign} {}", self.name())
    }
}

impl Difference {
    /// `Kind namespace/name`.
    pub(super) fn name(&self) -> String {
        match &self.key {
            (kind, namespace, name, _) if namespace.is_empty() => format!("{kind} {name}"),
            (kind, namespace, name, _) => format!("{kind} {namespace}/{name}"),
        }
    }

    /// Makes the object what it is after.
    pub(super) fn make(&self, objects: &mut Vec<Value>) {
        self.set(objects, self.after.as_ref());
    }

    /// Makes it what it was before.
    pub(super) fn unmake(&self, objects: &mut Vec<Value>) {
        self.set(objects, self.before.as_ref());
    }

    fn set(&self, objects: &mut Vec<Value>, to: Option<&Value>) {
        let at = objects.iter().position(|object| key(object, &self.key.1) == self.key);
        match (at, to) {
            (Some(at), Some(to)) => objects[at] = to.clone(),
            (Some(at), None) => _ = objects.remove(at),
            (None, Some(to)) => objects.push(to.clone()),
            (None, None) => {}
        }
    }
}

/// What names an object; one that names no namespace is of the one that is given.
fn key(object: &Value, namespace: &str) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let global = [
        "Namespace",
        "Node",
        "GatewayClass",
        "CustomResourceDefinition",
        "IngressClass",
    ];
    let namespace = match text(&object["metadata"]["namespace"]) {
        _ if global.contains(&kind.as_str()) => String::new(),
        own if own.is_empty() => namespace.to_owned(),
        own => own,
    };
    let version = text(&object["apiVersion"]);
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    (kind, namespace, text(&object["metadata"]["name"]), group)
}

/// An object without what servers write into it.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(object) = content.as_object_mut() {
        // Which served version it was read as says nothing about it.
        object.remove("apiVersion");
        if object.get("kind").is_some_and(|kind| kind != "Pod") {
            object.remove("status");
        }
    }
    if let Some(metadata) = content["metadata"].as_object_mut() {
        let written = [
            "resourceVersion",
            "generation",
            "managedFields",
            "uid",
            "creationTimestamp",
            "selfLink",
            "namespace",
        ];
        written.iter().for_each(|key| _ = metadata.remove(*key));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let empty = |value: Option<&Value>| value.and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
        if empty(metadata.get("annotations")) {
            metadata.remove("annotations");
        }
    }
    content
}

fn keyed(given: &Given) -> BTreeMap<Key, &Value> {
    given
        .objects
        .iter()
        .map(|object| (key(object, &given.namespace), object))
        .collect()
}

/// The objects that are not the same on both sides, by kind, namespace and name.
pub(super) fn differences(before: &Given, after: &Given) -> Vec<Difference> {
    let (one, other) = (keyed(before), keyed(after));
    let keys: BTreeSet<&Key> = one.keys().chain(other.keys()).collect();
    let differs = |key: &&Key| one.get(*key).map(|it| content(it)) != other.get(*key).map(|it| content(it));
    let of = |key: &Key| Difference {
        key: key.clone(),
        before: one.get(key).map(|it| (*it).clone()),
        after: other.get(key).map(|it| (*it).clone()),
    };
    keys.into_iter().filter(differs).map(of).collect()
}

/// What putting objects into others does, one by one; those without a namespace go into the one that is given.
pub(super) fn put(change: &Given, namespace: &str) -> Vec<Difference> {
    let of = |object: &Value| {
        let key = key(object, namespace);
        let mut object = object.clone();
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = key.1.clone().into();
        }
        Difference {
            key,
            before: None,
            after: Some(object),
        }
    };
    change.objects.iter().map(of).collect()
}
