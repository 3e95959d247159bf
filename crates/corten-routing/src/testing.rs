//! What tests share: a world from YAML.

use corten_api::{decode, validate::mesh_config::default_mesh_config};
use corten_model::Settings;
use serde_json::Value;

use crate::{Snapshot, World};

/// The snapshot of objects that are written as YAML documents.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let (documents, problems) = decode::documents("test.yaml", text);
    assert!(problems.is_empty(), "{problems:?}");
    let documents: Vec<Value> = documents.iter().map(decode::Node::to_value).collect();
    let mut world = World::new(Settings::default(), default_mesh_config());
    let problems = world.put(&documents);
    assert!(problems.is_empty(), "{problems:?}");
    world.snapshot()
}
