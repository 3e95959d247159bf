//! The metadata that the API fills in and guards: names, uids, timestamps, generations.

use serde_json::{Value, json};

use crate::context::Context;
use crate::object::{self, metadata};
use crate::registry::Resource;
use crate::status::Status;

/// Checks that a body is an object of this resource, and gives it the kind and version it may have left out.
pub(crate) fn check_kind(resource: &Resource, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request(format!(
            "the object provided is not a JSON object: expected a {}",
            resource.kind
        )));
    }
    let api_version = resource.api_version();
    let (got_version, got_kind) = (object::text(body, &["apiVersion"]), object::text(body, &["kind"]));
    if (!got_kind.is_empty() && got_kind != resource.kind) || (!got_version.is_empty() && got_version != api_version) {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {got_version}, Kind={got_kind} does not match {api_version}, Kind={}",
            resource.kind, resource.kind
        )));
    }
    body["apiVersion"] = json!(api_version);
    body["kind"] = json!(resource.kind);
    Ok(())
}

/// Checks the namespace of a body against the one of the request, and fills it in.
pub(crate) fn check_namespace(resource: &Resource, namespace: &str, body: &mut Value) -> Result<(), Status> {
    let given = object::namespace(body).to_owned();
    if !resource.namespaced {
        object::remove_meta(body, "namespace");
        return Ok(());
    }
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object::set_meta(body, "namespace", namespace);
    Ok(())
}

/// Gives a new object its identity.
pub(crate) fn begin(resource: &Resource, body: &mut Value) -> Result<(), Status> {
    let prefix = object::text(body, &["metadata", "generateName"]).to_owned();
    if object::name(body).is_empty() {
        if prefix.is_empty() {
            return Err(Status::invalid(
                resource.group(),
                &resource.kind,
                "",
                vec![crate::status::Cause {
                    reason: "FieldValueRequired".to_owned(),
                    message: "Required value: name or generateName is required".to_owned(),
                    field: "metadata.name".to_owned(),
                }],
            ));
        }
        let kept: String = prefix.chars().take(58).collect();
        object::set_meta(body, "name", format!("{kept}{}", object::random_suffix(5)));
    }
    let meta = metadata(body);
    for field in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    meta.insert("creationTimestamp".to_owned(), json!(object::now()));
    meta.remove("generation");
    if resource.generation {
        meta.insert("generation".to_owned(), json!(1));
    }
    tidy(meta);
    Ok(())
}

/// Carries over what an update may not change, and counts the generation.
pub(crate) fn carry_over(resource: &Resource, new: &mut Value, old: &Value) {
    for field in [
        "uid",
        "name",
        "generateName",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match &old["metadata"][field] {
            Value::Null => object::remove_meta(new, field),
            value => object::set_meta(new, field, value.clone()),
        }
    }
    // Who leaves the managed fields out does not mean to forget who owns what.
    if new["metadata"]["managedFields"].is_null() && !old["metadata"]["managedFields"].is_null() {
        object::set_meta(new, "managedFields", old["metadata"]["managedFields"].clone());
    }
    metadata(new).remove("selfLink");
    tidy(metadata(new));
    if resource.generation && differs_beyond_status(new, old) {
        let generation = object::at(old, &["metadata", "generation"]).as_i64().unwrap_or(1);
        object::set_meta(new, "generation", generation + 1);
    }
}

/// Whether anything but metadata and status is different.
fn differs_beyond_status(new: &Value, old: &Value) -> bool {
    let matters = |key: &str| !matches!(key, "metadata" | "status" | "apiVersion" | "kind");
    let all_in = |a: &Value, b: &Value| {
        a.as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| matters(key))
            .all(|(key, value)| b[key] == *value)
    };
    !(all_in(new, old) && all_in(old, new))
}

/// Drops empty maps and lists that the real API would not store.
fn tidy(meta: &mut serde_json::Map<String, Value>) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match meta.get(field) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            meta.remove(field);
        }
    }
}

/// The manager of a request, for `managedFields`.
pub(crate) fn manager(context: &Context) -> &str {
    if context.manager.is_empty() {
        "unknown"
    } else {
        &context.manager
    }
}
