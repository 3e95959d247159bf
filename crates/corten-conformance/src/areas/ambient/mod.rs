//! Areas `istio-ambient-model` and `istio-ambient-policy`: objects to what node proxies and waypoints are told, and to
//! the conditions written back.

mod objects;
mod policy;
mod shown;
mod tables;

pub(crate) use self::{policy::run as run_policy, tables::run as run_model};

use std::sync::Arc;

use corten_model::{Change, Mesh, Reader, Settings};
use serde_json::Value;

/// A mesh of objects. Those that are named again later replace the earlier ones.
fn mesh(settings: Settings, objects: &[Value]) -> Mesh {
    let mut reader = Reader::default();
    let mut mesh = Mesh::new(settings);
    let changes: Vec<Change> = objects
        .iter()
        .filter_map(|object| reader.read(object).object)
        .map(Change::Put)
        .collect();
    mesh.apply(changes);
    mesh
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The text of a value, or something else when it has none.
fn text_or<'a>(value: &'a Value, otherwise: &'a str) -> &'a str {
    value.as_str().unwrap_or(otherwise)
}

/// The settings of a table's context.
fn settings(context: &Value) -> Settings {
    let system: Arc<str> = Arc::from(text_or(&context["systemNamespace"], "istio-system"));
    Settings {
        cluster: Arc::from(text_or(&context["clusterId"], "cluster0")),
        domain: Arc::from(text_or(&context["domainSuffix"], "cluster.local")),
        network: Arc::from(text(&context["network"])),
        root_namespace: Arc::clone(&system),
        system_namespace: system,
        ..Settings::default()
    }
}
