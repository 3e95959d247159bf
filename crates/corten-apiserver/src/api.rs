//! Everything behind HTTP in one value: the store, the registry, and what the verbs share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::context::Context;
use crate::kinds::services::Allocator;
use crate::pods::PodBackend;
use crate::registry::{Registry, Resource};
use crate::resources::ResourceId;
use crate::status::Status;
use crate::store::{OpenError, Store};
use crate::verbs::Part;

/// The API without its listener.
pub struct Api {
    pub(crate) store: Store,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) addresses: Allocator,
    pub(crate) pods: OnceLock<Arc<dyn PodBackend>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("revision", &self.store.revision())
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Opens the API over the database in a directory, made when it is absent.
    pub fn open(dir: &Path) -> Result<Arc<Self>, OpenError> {
        Ok(Self::over(Store::open(dir)?))
    }

    /// An API that forgets everything when it is dropped; for tests.
    pub fn in_memory() -> Arc<Self> {
        Self::over(Store::in_memory().expect("memory cannot fail to open"))
    }

    fn over(store: Store) -> Arc<Self> {
        let api = Arc::new(Self {
            addresses: Allocator::default(),
            registry: ArcSwap::from_pointee(Registry::new([])),
            pods: OnceLock::new(),
            store,
        });
        api.addresses.load(&api.store);
        api
    }

    /// Says where running pods are. Before that, requests about running pods are refused as unavailable.
    pub fn set_pods(&self, pods: Arc<dyn PodBackend>) {
        // A second backend would mean two node sides; the first one stays.
        let _ = self.pods.set(pods);
    }

    /// Ends the store: writes that wait are done, later ones refused.
    pub fn close(&self) {
        self.store.close();
    }

    /// Forgets the watch history except for the newest events of each resource, so that watchers from before it must list again.
    pub fn compact(&self, events_max: usize) {
        for resource in &self.registry.load().resources {
            self.store.shard(&resource.storage).compact(events_max);
        }
    }

    pub(crate) fn resource(&self, id: &ResourceId) -> Result<Arc<Resource>, Status> {
        self.registry
            .load()
            .get(id)
            .cloned()
            .ok_or_else(|| Status::not_served(&format!("{} in {}", id.plural, id.api_version())))
    }
}

/// Where admission and validation stand in the verbs.
impl Api {
    /// Reads a body: unknown fields, defaults.
    pub(crate) fn decode(&self, _context: &Context, _resource: &Resource, _body: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Judges an object that is about to be created.
    pub(crate) async fn check_create(&self, _: &Context, _: &Resource, _body: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Judges an object that is about to be changed.
    pub(crate) async fn check_update(
        &self,
        _: &Context,
        _: &Resource,
        _: Part,
        _new: &mut Value,
        _old: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Judges a deletion.
    pub(crate) async fn check_delete(&self, _: &Context, _: &Resource, _old: &Value) -> Result<(), Status> {
        Ok(())
    }
}
