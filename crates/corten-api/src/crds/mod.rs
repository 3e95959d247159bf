//! CustomResourceDefinitions of all kinds, from their Rust types.
//!
//! The published definitions are not read here; a test compares with them.

mod compare;

use serde_json::{Value, json};

use crate::{
    codec::{Json, JsonMap, SchemaCx, merge_facts},
    resource::{Column, Registered, Version},
};

pub use self::compare::differences;

/// Which release channel of the Gateway API is wanted. Istio's kinds have only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// Everything.
    Experimental,
}

/// The definitions of all kinds of a channel.
pub fn definitions(channel: Channel) -> Vec<Value> {
    crate::kinds()
        .filter(|r| channel == Channel::Experimental || !r.kind.experimental)
        .map(|r| definition(r, channel))
        .collect()
}

/// The definition of one kind.
pub fn definition(registered: &Registered, channel: Channel) -> Value {
    let kind = registered.kind;
    let mut names = json!({
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.kind.to_lowercase(),
    });
    optional(&mut names, "shortNames", kind.short_names);
    optional(&mut names, "categories", kind.categories);
    let mut metadata = json!({ "name": format!("{}.{}", kind.plural, kind.group) });
    if !kind.annotations.is_empty() {
        let annotations: JsonMap = kind
            .annotations
            .iter()
            .map(|(key, value)| {
                let value = if *key == CHANNEL_ANNOTATION && channel == Channel::Experimental {
                    "experimental"
                } else {
                    value
                };
                ((*key).to_owned(), Json::from(value))
            })
            .collect();
        put(&mut metadata, "annotations", annotations);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "versions": kind.versions.iter().map(|v| version(registered, v, channel)).collect::<Vec<_>>(),
        },
    })
}

const CHANNEL_ANNOTATION: &str = "gateway.networking.k8s.io/channel";

fn version(registered: &Registered, version: &Version, channel: Channel) -> Value {
    let mut out = json!({
        "name": version.name,
        "served": version.served && (channel == Channel::Experimental || !version.experimental),
        "storage": version.storage,
        "subresources": if registered.has_status { json!({ "status": {} }) } else { json!({}) },
        "schema": { "openAPIV3Schema": schema(registered, version, channel) },
    });
    if !version.deprecation.is_empty() {
        put(&mut out, "deprecated", true);
        put(&mut out, "deprecationWarning", version.deprecation);
    }
    let columns = version.columns.unwrap_or(registered.kind.columns);
    if !columns.is_empty() {
        put(
            &mut out,
            "additionalPrinterColumns",
            columns.iter().map(column).collect::<Vec<_>>(),
        );
    }
    out
}

/// The schema of a version of a kind.
pub fn schema(registered: &Registered, version: &Version, channel: Channel) -> Value {
    let kind = registered.kind;
    let cx = SchemaCx {
        experimental: channel == Channel::Experimental,
        version: version.name,
    };
    let mut spec = (registered.spec_schema)(&cx);
    merge_facts(&mut spec, kind.spec_facts, &cx);
    let mut status = (registered.status_schema)(&cx);
    merge_facts(&mut status, kind.status_facts, &cx);
    let mut properties = json!({
        "apiVersion": { "type": "string", "description": "The group and version this object is written in." },
        "kind": { "type": "string", "description": "The kind of this object." },
        "metadata": { "type": "object" },
    });
    if !spec.is_null() {
        put(&mut properties, "spec", spec);
    }
    if !status.is_null() {
        put(&mut properties, "status", status);
    }
    let mut root = json!({ "type": "object", "properties": properties });
    if kind.spec_required {
        put(&mut root, "required", vec!["spec"]);
    }
    merge_facts(&mut root, kind.root_facts, &cx);
    root
}

fn column(column: &Column) -> Value {
    let mut out = json!({ "name": column.name, "jsonPath": column.path, "type": column.kind });
    if !column.description.is_empty() {
        put(&mut out, "description", column.description);
    }
    if column.priority != 0 {
        put(&mut out, "priority", column.priority);
    }
    out
}

fn optional(names: &mut Value, key: &str, values: &[&str]) {
    if !values.is_empty() {
        put(names, key, values.to_vec());
    }
}

fn put(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value.into());
    }
}
