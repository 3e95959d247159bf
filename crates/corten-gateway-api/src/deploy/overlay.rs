//! Changes of a gateway's objects that ConfigMaps ask for: strategic merge patches, one for each kind.

use std::collections::BTreeMap;

use corten_api::{codec::Json, decode};
use corten_schema::{kubernetes::schema, patch};

/// The data of a ConfigMap: patches as YAML, by what they change.
pub type Overlay = BTreeMap<String, String>;

/// Why nothing is applied for a gateway.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Its parameters are of a kind that is not read.
    #[error("parameters of kind {0} are not read, only a ConfigMap is")]
    ParametersKind(String),
    /// Its parameters are not there.
    #[error("the ConfigMap {0} that parametersRef names does not exist")]
    ParametersMissing(String),
    /// There is a patch for something that a gateway does not have.
    #[error("'{key}' is nothing that can be changed; there are {}", CHANGED.map(|(_, key)| key).join(", "))]
    Unknown {
        /// What it wants to change.
        key: String,
    },
    /// A patch that is none.
    #[error("the change of {key} cannot be applied: {why}")]
    Patch {
        /// What it changes.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A patch that makes an object another.
    #[error("the change of {key} must leave metadata.{field} alone")]
    Metadata {
        /// What it changes.
        key: String,
        /// The field.
        field: &'static str,
    },
}

/// What can be changed, by kind.
const CHANGED: [(&str, &str); 5] = [
    ("Deployment", "deployment"),
    ("Service", "service"),
    ("ServiceAccount", "serviceAccount"),
    ("HorizontalPodAutoscaler", "horizontalPodAutoscaler"),
    ("PodDisruptionBudget", "podDisruptionBudget"),
];

/// What is there only when somebody asks for it.
const OPTIONAL: [&str; 2] = ["horizontalPodAutoscaler", "podDisruptionBudget"];

/// Fields that say which object it is, and whose.
const IDENTITY: [&str; 10] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
    "finalizers",
];

/// Applies changes to an object in turn; `None`: the object is there only with changes, and there are none.
pub(super) fn apply(object: Json, overlays: &[&Overlay]) -> Result<Option<Json>, RenderError> {
    let known = |key: &&String| CHANGED.iter().any(|(_, known)| known == key);
    if let Some(unknown) = overlays
        .iter()
        .flat_map(|overlay| overlay.keys())
        .find(|key| !known(key))
    {
        return Err(RenderError::Unknown { key: unknown.clone() });
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let key = CHANGED
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or("", |(_, key)| key);
    let changes: Vec<&String> = overlays.iter().filter_map(|overlay| overlay.get(key)).collect();
    if changes.is_empty() && OPTIONAL.contains(&key) {
        return Ok(None);
    }
    let mut changed = object.clone();
    for change in changes {
        changed = patched(&changed, change).map_err(|why| RenderError::Patch {
            key: key.to_owned(),
            why,
        })?;
    }
    let field = |object: &Json, field: &str| object["metadata"].get(field).cloned();
    let altered = IDENTITY
        .iter()
        .chain(&["managedFields"])
        .find(|name| field(&object, name) != field(&changed, name));
    match altered {
        Some(field) => Err(RenderError::Metadata {
            key: key.to_owned(),
            field,
        }),
        None => Ok(Some(changed)),
    }
}

fn patched(object: &Json, change: &str) -> Result<Json, String> {
    let (document, problems) = decode::document("", change);
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
        return Err(problem.to_string());
    }
    let change = document.map(|document| document.to_value()).filter(Json::is_object);
    let change = change.ok_or("it is not a map of fields")?;
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or_else(|| ("", text("apiVersion")));
    let schema = schema(group, version, text("kind")).ok_or("the kind is not known")?;
    patch::strategic(schema, object, &change).map_err(|error| error.to_string())
}
