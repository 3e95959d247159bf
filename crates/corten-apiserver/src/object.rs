//! Reading and writing the common parts of an object: names, metadata, owners, time.
//!
//! Works on any JSON value and never panics; a part that is missing or of the wrong type reads as empty.

use std::sync::Arc;

use serde_json::{Map, Value};

/// An object of the API, shared between the store, watchers and readers.
pub type Object = Arc<Value>;

/// The value at a path of object keys, or null.
pub fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| &value[*key])
}

/// The string at a path of object keys, or the empty string.
pub fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).as_str().unwrap_or("")
}

/// `metadata.name`.
pub fn name(value: &Value) -> &str {
    text(value, &["metadata", "name"])
}

/// `metadata.namespace`.
pub fn namespace(value: &Value) -> &str {
    text(value, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(value: &Value) -> &str {
    text(value, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(value: &Value) -> &str {
    text(value, &["metadata", "resourceVersion"])
}

/// `metadata.resourceVersion` as the number the store counts with; 0 when it is absent.
pub fn revision(value: &Value) -> u64 {
    resource_version(value).parse().unwrap_or(0)
}

/// Whether deletion has begun.
pub fn is_terminating(value: &Value) -> bool {
    !at(value, &["metadata", "deletionTimestamp"]).is_null()
}

/// `metadata.finalizers`.
pub fn finalizers(value: &Value) -> Vec<&str> {
    strings(at(value, &["metadata", "finalizers"]))
}

/// A label's value.
pub fn label<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    at(value, &["metadata", "labels", key]).as_str()
}

/// The strings of an array.
pub fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .map(|items| items.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// The elements of an array; of anything else, none.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The object at a key, made when it is absent or something else.
pub fn child<'v>(value: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    let map = as_map(value);
    as_map(map.entry(key).or_insert(Value::Null))
}

/// The object behind a value, which becomes an empty object when it is something else.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

/// `metadata`, made when it is absent.
pub fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    child(value, "metadata")
}

/// Sets a field of `metadata`.
pub fn set_meta(value: &mut Value, key: &str, to: impl Into<Value>) {
    metadata(value).insert(key.to_owned(), to.into());
}

/// Takes a field out of `metadata`.
pub fn remove_meta(value: &mut Value, key: &str) {
    metadata(value).remove(key);
}

/// Sets a field unless it is there already.
pub fn default_to(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match map.get(key) {
        Some(present) if !present.is_null() => {}
        _ => {
            map.insert(key.to_owned(), value.into());
        }
    }
}

/// The API group and version of an object: `("apps", "v1")`, `("", "v1")`.
pub fn group_version(value: &Value) -> (&str, &str) {
    split_api_version(text(value, &["apiVersion"]))
}

/// Splits `apps/v1`, or `v1`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Joins group and version as `apiVersion` does.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// The present moment as `metadata.creationTimestamp` is written: RFC 3339 in whole seconds.
pub fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// A moment in RFC 3339, whole seconds.
pub fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Five random characters as `generateName` appends them: no vowels, nothing that looks alike.
pub fn random_suffix(length: usize) -> String {
    use rand::RngExt;
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
