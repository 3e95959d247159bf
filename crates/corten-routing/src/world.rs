//! Objects in, views out: the model's and the catalog together.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::{diagnostic::Diagnostic, istio::mesh_config::MeshConfig};
use corten_model::{Change, Mesh, Reader, Settings};
use serde_json::Value;

use crate::{
    catalog::Catalog,
    config::{ConfigKind, Configs},
};

/// Everything at one moment; a clone costs a few pointers.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Workloads, membership, policies of L4.
    pub model: corten_model::Snapshot,
    /// What L7 proxies are configured from.
    pub catalog: Arc<Catalog>,
    /// The keys of issuers of tokens, as far as they have been fetched.
    pub keys: Arc<KeySets>,
}

/// The keys of issuers of tokens (JWKS), by the issuer and the address that rules give for them.
pub type KeySets = BTreeMap<(String, String), Arc<str>>;

/// Objects, and what they make.
#[derive(Debug)]
pub struct World {
    mesh: Mesh,
    reader: Reader,
    settings: Arc<Settings>,
    config: Arc<MeshConfig>,
    configs: Configs,
    keys: Arc<KeySets>,
}

impl World {
    /// A world without objects.
    pub fn new(base: Settings, config: MeshConfig) -> World {
        let settings = base.with_mesh_config(&config);
        World {
            mesh: Mesh::new(settings.clone()),
            reader: Reader::default(),
            settings: Arc::new(settings),
            config: Arc::new(config),
            configs: Configs::default(),
            keys: Arc::default(),
        }
    }

    /// Takes the keys of issuers of tokens, instead of those before.
    pub fn set_keys(&mut self, keys: KeySets) {
        self.keys = Arc::new(keys);
    }

    /// Takes objects, as an API server or files have them; what is wrong with them is returned.
    pub fn put<'a>(&mut self, objects: impl IntoIterator<Item = &'a Value>) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        let mut changes = Vec::new();
        for value in objects {
            let read = self.reader.read(value);
            diagnostics.extend(read.diagnostics);
            if let Some(object) = read.object {
                self.configs.put_input(&object);
                changes.push(Change::Put(object));
            }
            let api_version = value["apiVersion"].as_str().unwrap_or_default();
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            if let Some(kind) = ConfigKind::of(group, value["kind"].as_str().unwrap_or_default()) {
                for diagnostic in self.configs.put(kind, value) {
                    if !diagnostics.contains(&diagnostic) {
                        diagnostics.push(diagnostic);
                    }
                }
            }
        }
        self.mesh.apply(changes);
        diagnostics
    }

    /// What there is now.
    pub fn snapshot(&self) -> Snapshot {
        let configs = Arc::new(self.configs.clone());
        Snapshot {
            model: self.mesh.snapshot(),
            catalog: Arc::new(Catalog::new(
                Arc::clone(&self.settings),
                Arc::clone(&self.config),
                configs,
            )),
            keys: Arc::clone(&self.keys),
        }
    }
}
