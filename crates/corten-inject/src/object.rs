//! Reading of objects: labels, annotations, containers.

use serde_json::{Map, Value, json};

/// The name that the proxy's container has.
pub(crate) const PROXY: &str = "istio-proxy";
pub(crate) const INIT: &str = "istio-init";
pub(crate) const VALIDATION: &str = "istio-validation";
pub(crate) const STATUS: &str = "sidecar.istio.io/status";
pub(crate) const OVERRIDES: &str = "proxy.istio.io/overrides";
pub(crate) const PROXY_CONFIG: &str = "proxy.istio.io/config";
pub(crate) const STATUS_PORT: &str = "status.sidecar.istio.io/port";

/// A label's value.
pub(crate) fn label<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod["metadata"]["labels"][name].as_str()
}

/// An annotation's value.
pub(crate) fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"][name].as_str()
}

/// The containers of a list of the pod's specification: `containers`, `initContainers`.
pub(crate) fn containers<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map_or(&[], Vec::as_slice)
}

/// The list, to be changed; made if it is not there.
pub(crate) fn containers_mut<'a>(pod: &'a mut Value, list: &str) -> &'a mut Vec<Value> {
    let place = &mut pod["spec"][list];
    if !place.is_array() {
        *place = json!([]);
    }
    match place {
        Value::Array(listed) => listed,
        _ => unreachable!("it was just made a list"),
    }
}

/// The container of that name in a list.
pub(crate) fn container<'a>(pod: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    containers(pod, list).iter().find(|container| container["name"] == name)
}

/// The list that holds the proxy's container.
pub(crate) fn proxy_list(pod: &Value) -> Option<&'static str> {
    ["containers", "initContainers"]
        .into_iter()
        .find(|list| container(pod, list, PROXY).is_some())
}

/// The proxy's container.
pub(crate) fn proxy_mut(pod: &mut Value) -> Option<&mut Value> {
    let list = proxy_list(pod)?;
    let mut listed = containers_mut(pod, list).iter_mut();
    listed.find(|container| container["name"] == PROXY)
}

/// A map in the pod's metadata, to be changed; made if it is not there.
pub(crate) fn metadata_mut<'a>(pod: &'a mut Value, map: &str) -> &'a mut Map<String, Value> {
    let place = &mut pod["metadata"][map];
    if !place.is_object() {
        *place = json!({});
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("it was just made a map"),
    }
}

/// Adds a variable to a container.
pub(crate) fn push_env(container: &mut Value, name: &str, value: &str) {
    let place = &mut container["env"];
    if !place.is_array() {
        *place = json!([]);
    }
    if let Value::Array(env) = place {
        env.push(json!({"name": name, "value": value}));
    }
}

/// A value as Go prints it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether Go's templates take a value for true.
pub(crate) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
