//! What must hold of built-in objects beyond their schema, with the paths and the wording of the real API server.
//!
//! Pure functions from an object, and the one before an update, to its faults. They are called through
//! [`Strategy::validate`](crate::kinds::Strategy::validate), the metadata's for every kind. Nothing here reads the store:
//! whether a named object exists is not asked.

mod containers;
mod data;
mod endpoints;
mod events;
mod metadata;
mod names;
mod nodes;
mod pods;
mod policies;
mod probes;
mod quantities;
mod rbac;
mod selectors;
mod services;
mod volumes;
mod webhooks;
mod workloads;

#[cfg(test)]
mod tests;

use corten_schema::{ErrorKind, FieldError};
use serde_json::Value;

pub(crate) use data::{config_map, secret};
pub(crate) use endpoints::{endpoint_slice, endpoints};
pub(crate) use events::{event, lease, namespace};
pub(crate) use metadata::metadata;
pub(crate) use nodes::node;
pub(crate) use pods::pod;
pub(crate) use policies::network_policy;
pub(crate) use quantities::undecodable;
pub(crate) use rbac::{binding, role};
pub(crate) use services::service;
pub(crate) use webhooks::webhooks;
pub(crate) use workloads::workload;

/// The faults found so far.
type Faults = Vec<FieldError>;

/// A text field, the empty text when it is absent.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

/// The elements of a list field with their paths.
fn each<'v>(value: &'v Value, path: &str, key: &str) -> impl Iterator<Item = (String, &'v Value)> {
    let path = join(path, key);
    crate::object::items(&value[key])
        .iter()
        .enumerate()
        .map(move |(index, item)| (format!("{path}[{index}]"), item))
}

/// The path of a field.
fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Says each fault of a text.
fn format(faults: &mut Faults, path: &str, value: &str, check: names::Format) {
    faults.extend(
        check(value)
            .into_iter()
            .map(|fault| FieldError::invalid(path, value, fault)),
    );
}

/// A text that must be there and have a format.
fn required_format(faults: &mut Faults, path: &str, value: &str, check: names::Format) {
    if value.is_empty() {
        faults.push(FieldError::required(path, ""));
    } else {
        format(faults, path, value, check);
    }
}

/// A text that must be there.
fn required(faults: &mut Faults, path: &str, value: &str) {
    if value.is_empty() {
        faults.push(FieldError::required(path, ""));
    }
}

/// A text that is one of a few; absent is right.
fn one_of(faults: &mut Faults, path: &str, value: &Value, allowed: &[&str]) {
    if let Some(value) = value.as_str()
        && !allowed.contains(&value)
    {
        faults.push(FieldError::not_supported(path, value, allowed));
    }
}

/// A number that is at least zero; absent is right.
fn not_negative(faults: &mut Faults, path: &str, value: &Value) {
    if value.as_i64().is_some_and(|number| number < 0) {
        faults.push(FieldError::invalid(
            path,
            value.clone(),
            "must be greater than or equal to 0",
        ));
    }
}

/// A number within bounds.
fn within(faults: &mut Faults, path: &str, value: i64, least: i64, most: i64) {
    if value < least || value > most {
        faults.push(FieldError::invalid(
            path,
            value,
            format!("must be between {least} and {most}, inclusive"),
        ));
    }
}

/// The number of a port.
fn port(faults: &mut Faults, path: &str, value: i64) {
    within(faults, path, value, 1, 65535);
}

/// A port by number or name.
fn port_or_name(faults: &mut Faults, path: &str, value: &Value) {
    match value.as_str() {
        Some(name) => format(faults, path, name, names::port_name),
        None => port(faults, path, value.as_i64().unwrap_or(0)),
    }
}

/// A fault whose value the real API prints as a Go structure, in an order of fields that a JSON value does not keep.
fn structure(kind: ErrorKind, path: impl Into<String>, shown: &str, why: &str) -> FieldError {
    let detail = if why.is_empty() {
        shown.to_owned()
    } else {
        std::format!("{shown}: {why}")
    };
    FieldError {
        kind,
        path: path.into(),
        value: None,
        detail,
    }
}

/// Fields of an object as JSON, in the given order; those that are absent are left out.
fn ordered(object: &Value, keys: &[&str]) -> String {
    let fields: Vec<String> = keys
        .iter()
        .filter(|key| !object[**key].is_null())
        .map(|key| std::format!("{key:?}:{}", object[*key]))
        .collect();
    std::format!("{{{}}}", fields.join(","))
}

/// A field that an update may not change.
fn immutable(faults: &mut Faults, path: &str, new: &Value, old: &Value) {
    if new != old {
        faults.push(FieldError::invalid(path, new.clone(), "field is immutable"));
    }
}
