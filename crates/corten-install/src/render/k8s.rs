//! What an IstioOperator says of a component's objects besides values: its `k8s` fields.

use serde_json::{Value, json};

use crate::operator::Part;
use crate::values::merge;
use crate::values::path::{self, Step};

/// Applies them to the component's objects.
pub(super) fn apply(part: &Part, objects: &mut [Value]) -> Result<(), String> {
    let Some(settings) = part.k8s.as_object() else {
        return Ok(());
    };
    for object in objects.iter_mut() {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        for (name, value) in settings {
            match (kind.as_str(), name.as_str()) {
                ("Deployment" | "DaemonSet", name) => workload(object, &kind, name, value),
                ("HorizontalPodAutoscaler", "hpaSpec") => merge(&mut object["spec"], value),
                ("PodDisruptionBudget", "podDisruptionBudget") => {
                    // The two exclude each other.
                    if let Some(spec) = object["spec"].as_object_mut() {
                        spec.remove("minAvailable");
                        spec.remove("maxUnavailable");
                    }
                    merge(&mut object["spec"], value);
                }
                ("Service", "service") => merge(&mut object["spec"], value),
                ("Service", "serviceAnnotations") => overlay(&mut object["metadata"]["annotations"], value),
                _ => {}
            }
        }
    }
    let overlays = settings.get("overlays").and_then(Value::as_array);
    overlays
        .into_iter()
        .flatten()
        .try_for_each(|overlay| patches(overlay, objects))
}

fn overlay(place: &mut Value, value: &Value) {
    if place.is_null() {
        *place = json!({});
    }
    merge(place, value);
}

/// A setting of what runs pods.
fn workload(object: &mut Value, kind: &str, name: &str, value: &Value) {
    let spec = &mut object["spec"];
    match name {
        "replicaCount" if kind == "Deployment" => spec["replicas"] = value.clone(),
        "strategy" => overlay(
            &mut spec[if kind == "Deployment" {
                "strategy"
            } else {
                "updateStrategy"
            }],
            value,
        ),
        "podAnnotations" => overlay(&mut spec["template"]["metadata"]["annotations"], value),
        _ => {
            let pod = &mut spec["template"]["spec"];
            match name {
                "affinity" | "nodeSelector" | "securityContext" => overlay(&mut pod[name], value),
                "priorityClassName" => pod[name] = value.clone(),
                "tolerations" | "volumes" => named(&mut pod[name], value, "name"),
                "imagePullPolicy" => pod["containers"][0][name] = value.clone(),
                "resources" | "readinessProbe" => overlay(&mut pod["containers"][0][name], value),
                "env" | "volumeMounts" => named(&mut pod["containers"][0][name], value, "name"),
                _ => {}
            }
        }
    }
}

/// Elements of a list take the place of those with the same name.
fn named(place: &mut Value, value: &Value, key: &str) {
    if !place.is_array() {
        *place = json!([]);
    }
    let Some(list) = place.as_array_mut() else { return };
    for element in value.as_array().into_iter().flatten() {
        let same = |there: &&mut Value| !element[key].is_null() && there[key] == element[key];
        match list.iter_mut().find(same) {
            // A value and a reference exclude each other.
            Some(there) if element["value"].is_null() != there["value"].is_null() => *there = element.clone(),
            Some(there) => merge(there, element),
            None => list.push(element.clone()),
        }
    }
}

/// One of `overlays`: an object, and patches of it.
fn patches(overlay: &Value, objects: &mut [Value]) -> Result<(), String> {
    let (kind, name) = (&overlay["kind"], &overlay["name"]);
    let found = objects
        .iter_mut()
        .find(|object| object["kind"] == *kind && object["metadata"]["name"] == *name);
    let Some(object) = found else {
        return Err(format!("overlays: the component has no {kind} {name}"));
    };
    for patch in overlay["patches"].as_array().into_iter().flatten() {
        let place = patch["path"].as_str().unwrap_or_default();
        let steps = path::parse(place).map_err(|error| error.to_string())?;
        let failed = |problem: String| format!("overlays of {kind} {name}: {place}: {problem}");
        let mut value = patch["value"].clone();
        if value.is_null() {
            if !path::remove(object, &steps) {
                return Err(failed("there is nothing to take away".to_owned()));
            }
            continue;
        }
        // What spans lines is YAML.
        if let Some(text) = value.as_str()
            && text.contains('\n')
        {
            let (documents, problems) = corten_api::decode::documents("", text);
            if let ([document], true) = (&documents[..], problems.is_empty()) {
                value = document.to_value();
            }
        }
        let inner = matches!(steps.last(), Some(Step::Name(_))) && value.is_object();
        if inner && patch["merge"] == json!(true) {
            overlay_at(object, &steps, &value).map_err(failed)?;
        } else {
            path::put(object, &steps, value).map_err(failed)?;
        }
    }
    Ok(())
}

fn overlay_at(object: &mut Value, steps: &[Step], value: &Value) -> Result<(), String> {
    let keys = value.as_object().into_iter().flatten();
    for (key, value) in keys {
        let mut steps = steps.to_vec();
        steps.push(Step::Name(key.clone()));
        path::put(object, &steps, value.clone())?;
    }
    Ok(())
}
