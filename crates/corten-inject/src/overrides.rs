//! What users say about injected containers themselves, and pods that come a second time.

use serde_json::{Value, json};

use corten_schema::kubernetes;
use corten_schema::patch::strategic;

use crate::injector::{InjectError, Subject};
use crate::object::{
    INIT, OVERRIDES, PROXY, STATUS, VALIDATION, annotation, container, containers, containers_mut, metadata_mut,
    proxy_list, proxy_mut,
};
use crate::prometheus;
use crate::proxy_config::interception;

const LISTS: [&str; 2] = ["containers", "initContainers"];

fn json_of(pod: &Value, name: &'static str) -> Result<Option<Value>, InjectError> {
    let text = annotation(pod, name);
    text.map(|text| serde_json::from_str(text).map_err(|error| InjectError::Json(name, error)))
        .transpose()
}

/// The pod as it was before an earlier injection, as far as that can be known: without what was injected, with what users said about it.
pub(crate) fn stripped(pod: &Value, status_port: &str) -> Result<Value, InjectError> {
    let mut pod = pod.clone();
    // What is no status of ours is somebody's own.
    if let Ok(Some(status)) = json_of(&pod, STATUS)
        && status.is_object()
    {
        for list in LISTS {
            let injected = status[list].as_array().cloned().unwrap_or_default();
            if !injected.is_empty() {
                containers_mut(&mut pod, list).retain(|container| !injected.contains(&container["name"]));
            }
        }
        prometheus::restore(&mut pod, status_port);
        metadata_mut(&mut pod, "annotations").remove(STATUS);
    }
    if let Some(said) = json_of(&pod, OVERRIDES)? {
        for list in LISTS {
            for own in said[list].as_array().into_iter().flatten() {
                let present = own["name"]
                    .as_str()
                    .is_some_and(|name| container(&pod, list, name).is_some());
                if !present {
                    containers_mut(&mut pod, list).push(own.clone());
                }
            }
        }
    }
    Ok(pod)
}

/// Puts what users say about injected containers over what was injected, and remembers it for another time.
pub(crate) fn reapply(
    mut merged: Value,
    original: &Value,
    made: &Value,
    proxy_config: &Value,
) -> Result<Value, InjectError> {
    let existing = json_of(original, OVERRIDES)?.unwrap_or_default();
    let injected_before = json_of(original, STATUS).unwrap_or_default();
    let status = injected_before.clone().unwrap_or_default();
    let mut said = json!({});
    for list in LISTS {
        for template in containers(made, list) {
            let Some(name) = template["name"].as_str() else {
                continue;
            };
            if status[list]
                .as_array()
                .is_some_and(|names| names.contains(&json!(name)))
            {
                continue;
            }
            let remembered = existing[list]
                .as_array()
                .into_iter()
                .flatten()
                .find(|own| own["name"] == name);
            // The proxy may be an init container, and is written among the others all the same.
            let elsewhere = || match list {
                "initContainers" => container(original, "containers", name),
                _ => None,
            };
            let own = remembered
                .or_else(elsewhere)
                .or_else(|| container(original, list, name));
            let Some(mut own) = own.cloned() else { continue };
            if own["image"] == "auto"
                && let Some(own) = own.as_object_mut()
            {
                own.remove("image");
            }
            if let Some(schema) = kubernetes::schema("", "v1", "Pod") {
                let patch = json!({"spec": {list: [own]}});
                merged = strategic(schema, &merged, &patch)?;
            }
            let place = &mut said[list];
            if place.is_null() {
                *place = json!([]);
            }
            if let Value::Array(listed) = place {
                listed.push(own);
            }
        }
    }
    if annotation(original, STATUS).is_none() && said != json!({}) {
        metadata_mut(&mut merged, "annotations").insert(OVERRIDES.to_owned(), json!(said.to_string()));
    }
    adjust_user(&mut merged, original, proxy_config);
    Ok(merged)
}

/// OpenShift gives all containers of a pod one user, the proxy's too, whose connections could then not be told from the application's: such
/// a user is none that the proxy's container asks for.
pub(crate) fn without_platform_user(pod: &Value, subject: &Subject<'_>) -> Option<Value> {
    subject.proxy_user?;
    let user = |container: &Value| container["securityContext"]["runAsUser"].clone();
    let list = proxy_list(pod)?;
    let own = user(container(pod, list, PROXY)?);
    let mut others = containers(pod, "containers")
        .iter()
        .filter(|other| other["name"] != PROXY);
    if own.is_null() || !others.any(|other| user(other) == own) {
        return None;
    }
    let mut pod = pod.clone();
    if let Some(security) = proxy_mut(&mut pod).and_then(|proxy| proxy["securityContext"].as_object_mut()) {
        security.remove("runAsUser");
        security.remove("runAsGroup");
    }
    Some(pod)
}

/// The init container has to know whose connections are the proxy's.
fn adjust_user(merged: &mut Value, original: &Value, proxy_config: &Value) {
    let Some(own) = proxy_list(original).and_then(|list| container(original, list, PROXY)) else {
        return;
    };
    let (user, group) = (
        &own["securityContext"]["runAsUser"],
        &own["securityContext"]["runAsGroup"],
    );
    if user.is_null() && group.is_null() {
        return;
    }
    let tproxy = interception(merged, proxy_config) == "TPROXY" || proxy_config["interceptionMode"] == "TPROXY";
    if tproxy
        && !user.is_null()
        && let Some(proxy) = proxy_mut(merged)
    {
        // It takes over addresses that are not the pod's, which is root's to do.
        proxy["securityContext"]["runAsUser"] = json!(0);
    }
    let mut listed = containers_mut(merged, "initContainers").iter_mut();
    let Some(init) = listed.find(|container| container["name"] == INIT || container["name"] == VALIDATION) else {
        return;
    };
    if !tproxy && init["name"] == VALIDATION {
        for (name, value) in [("runAsUser", user), ("runAsGroup", group)] {
            if !value.is_null() {
                init["securityContext"][name] = value.clone();
            }
        }
    }
    if user.is_null() || *user == json!(0) {
        return;
    }
    let args = init["args"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    if let Some(place) = args.iter().position(|arg| arg == "-u")
        && let Some(value) = args.get_mut(place + 1)
    {
        *value = json!(user.to_string());
    }
}
