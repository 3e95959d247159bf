//! The `scale` subresource: an object's replicas as `autoscaling/v1` `Scale`.

use serde_json::{Value, json};

use super::update::{Part, change};
use crate::api::Api;
use crate::client::Patch;
use crate::context::Context;
use crate::object;
use crate::registry::Resource;
use crate::status::{Cause, Status};

/// Where a kind keeps what a `Scale` shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: Vec<String>,
    pub(crate) status_replicas: Vec<String>,
    pub(crate) selector: Option<Vec<String>>,
}

fn paths(resource: &Resource) -> ScalePaths {
    let path = |text: &str| text.split('.').map(str::to_owned).collect();
    resource
        .custom
        .as_ref()
        .and_then(|custom| custom.scale.clone())
        .unwrap_or_else(|| ScalePaths {
            spec_replicas: path("spec.replicas"),
            status_replicas: path("status.replicas"),
            selector: None,
        })
}

fn read<'v>(object: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(object, |value, key| &value[key.as_str()])
}

/// An object as a `Scale`.
pub(crate) fn scale_of(resource: &Resource, object: &Value) -> Value {
    let paths = paths(resource);
    let selector = match &paths.selector {
        Some(path) if !path.is_empty() => read(object, path).as_str().unwrap_or("").to_owned(),
        Some(_) => String::new(),
        None => selector_text(&object["spec"]["selector"]),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let replicas = read(object, &paths.spec_replicas).as_i64().unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": { "replicas": read(object, &paths.status_replicas).as_i64().unwrap_or(0) },
    });
    if replicas != 0 {
        scale["spec"]["replicas"] = json!(replicas);
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A label selector object as text.
fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    for expression in object::items(&selector["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or("");
        let values = object::strings(&expression["values"]).join(",");
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

/// Changes an object's replicas by changing its `Scale`.
pub(crate) async fn set_scale(
    api: &Api,
    context: &Context,
    resource: &Resource,
    namespace: &str,
    name: &str,
    mut edit: impl FnMut(&Value) -> Result<Value, Status>,
) -> Result<Value, Status> {
    let paths = paths(resource);
    let changed = change(api, context, resource, Part::Main, namespace, name, |old| {
        let wanted = edit(&scale_of(resource, old))?;
        let replicas = &wanted["spec"]["replicas"];
        let count = if replicas.is_null() { Some(0) } else { replicas.as_i64() };
        let Some(count) = count.filter(|count| *count >= 0 && *count <= i64::from(i32::MAX)) else {
            return Err(Status::invalid(
                "autoscaling",
                "Scale",
                name,
                vec![Cause {
                    reason: "FieldValueInvalid".to_owned(),
                    message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
                    field: "spec.replicas".to_owned(),
                }],
            ));
        };
        let mut new = old.clone();
        let mut place = &mut new;
        for key in &paths.spec_replicas {
            place = object::as_map(place).entry(key.as_str()).or_insert(Value::Null);
        }
        *place = json!(count);
        match &wanted["metadata"]["resourceVersion"] {
            Value::Null => object::remove_meta(&mut new, "resourceVersion"),
            version => object::set_meta(&mut new, "resourceVersion", version.clone()),
        }
        Ok(new)
    })
    .await?;
    Ok(scale_of(resource, &changed))
}

/// A value after a JSON or merge patch.
pub(crate) fn patched_plain(value: &Value, patch: &Patch) -> Result<Value, Status> {
    match patch {
        Patch::Merge(patch) | Patch::Strategic(patch) => Ok(corten_schema::patch::merge(value, patch)),
        Patch::Apply { object, .. } => Ok(corten_schema::patch::merge(value, object)),
        Patch::Json(patch) => corten_schema::patch::json(value, patch).map_err(super::patch::failed),
    }
}
