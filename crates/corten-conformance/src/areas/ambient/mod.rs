//! Areas `istio-ambient-model` and `istio-ambient-policy`: objects to what node proxies and waypoints are told, and to
//! the conditions written back.

mod objects;
mod policy;
mod shown;
mod tables;

pub(crate) use self::{policy::run as run_policy, tables::run as run_model};

use std::sync::Arc;

use anyhow::{Result, anyhow};
use corten_model::{Change, Mesh, Reader, Settings, Snapshot};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_traffic::{Tables, TablesWriter};
use serde_json::Value;

/// A mesh of objects. Those that are named again later replace the earlier ones.
pub(super) fn mesh(settings: Settings, objects: &[Value]) -> Mesh {
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

/// What a snapshot becomes at a node proxy, by way of the resources that go over the wire.
pub(super) fn node_tables(snapshot: &Snapshot) -> Result<Arc<Tables>> {
    let addresses = snapshot
        .address_keys()
        .filter_map(|key| corten_xds_gen::address(snapshot, &key));
    let policies = snapshot
        .policies()
        .filter_map(|policy| corten_xds_gen::authorization(snapshot, &policy.key));
    let resources = addresses
        .map(|resource| (ADDRESS_TYPE, resource))
        .chain(policies.map(|resource| (AUTHORIZATION_TYPE, resource)));
    let changes =
        resources.filter_map(|(kind, resource)| corten_traffic::Change::upsert(kind, &resource.name, &resource.body));
    let mut writer = TablesWriter::new();
    let applied = writer.apply(changes);
    applied.map_err(|rejected| anyhow!("the node proxy refuses {rejected:?}"))?;
    Ok(writer.snapshot())
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
