//! Everything behind HTTP in one value: the store, the registry, and what the verbs share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;

use crate::admission::Webhooks;
use crate::auth::TokenAuthority;
use crate::context::Context;
use crate::crd;
use crate::kinds::services::Allocator;
use crate::object::{self, Object};
use crate::pki::Pki;
use crate::pods::PodBackend;
use crate::registry::{Registry, Resource};
use crate::resources::{CUSTOM_RESOURCE_DEFINITIONS, ResourceId};
use crate::status::Status;
use crate::store::{OpenError, Store};
use crate::verbs::{self, DeleteOptions, Part};

/// The API without its listener.
pub struct Api {
    pub(crate) store: Store,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) addresses: Allocator,
    pub(crate) pods: OnceLock<Arc<dyn PodBackend>>,
    tokens: OnceLock<TokenAuthority>,
    /// The resources of each definition at a revision, so that a change of one reads that one alone.
    definitions: Mutex<Definitions>,
    pub(crate) webhooks: Webhooks,
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
            tokens: OnceLock::new(),
            definitions: Mutex::default(),
            webhooks: Webhooks::default(),
            store,
        });
        api.addresses.load(&api.store);
        api.serve_definitions();
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

    /// Signs and verifies service account tokens with this runtime's key. The first call counts.
    pub fn use_pki(&self, pki: &Pki) {
        match TokenAuthority::new(&pki.token_key) {
            Ok(authority) => {
                let _ = self.tokens.set(authority);
            }
            Err(error) => {
                tracing::error!(%error, "cannot use the token signing key; tokens will not outlive this process")
            }
        }
    }

    pub(crate) fn tokens(&self) -> &TokenAuthority {
        self.tokens.get_or_init(|| {
            let pki = Pki::generate().expect("keys can be made");
            TokenAuthority::new(&pki.token_key).expect("a fresh key is a P-256 key")
        })
    }

    /// Rises whenever a definition changes.
    pub(crate) fn definitions_revision(&self) -> u64 {
        self.store.shard(DEFINITIONS).changed()
    }

    /// Serves what the stored definitions define.
    pub(crate) fn serve_definitions(&self) {
        let mut known = self.definitions.lock().expect("no panic under this lock");
        let stored = self.store.list(DEFINITIONS, None).objects;
        let before = std::mem::take(&mut *known);
        for definition in &stored {
            let (name, revision) = (object::name(definition), object::revision(definition));
            let resources = match before.get(name) {
                Some((at, resources)) if *at == revision => resources.clone(),
                _ => crd::resources(definition),
            };
            known.insert(name.to_owned(), (revision, resources));
        }
        let mut all: Vec<Arc<Resource>> = known.values().flat_map(|(_, r)| r.iter().cloned()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        self.registry.store(Arc::new(Registry::new(all)));
    }

    /// Deletes the objects of a definition that is being deleted, and lets it go when they are gone.
    pub(crate) async fn empty_definition(&self, context: &Context, definition: &Object) {
        let resource = crd::resources(definition).into_iter().next();
        if let Some(resource) = resource {
            let everything = crate::selector::Selector::default();
            let options = DeleteOptions::default();
            let all = verbs::delete_collection(self, context, &resource, None, &everything, &options);
            if let Err(error) = Box::pin(all).await {
                tracing::warn!(definition = object::name(definition), %error, "cannot delete all objects of a definition");
            }
        }
        self.release_definition(object::name(definition)).await;
    }

    /// Goes on with definitions that were being deleted when the process before this one ended.
    pub(crate) async fn finish_deletions(&self) {
        let context = Context::new(Arc::new(crate::User::system("system:apiserver")), "apiserver");
        for definition in self.store.list(DEFINITIONS, None).objects {
            if object::is_terminating(&definition) {
                self.empty_definition(&context, &definition).await;
            }
        }
    }

    /// After an object is gone: its definition may have waited for that.
    pub(crate) async fn after_delete(&self, resource: &Resource) {
        if resource.custom.is_some() {
            self.release_definition(&format!("{}.{}", resource.plural(), resource.group()))
                .await;
        }
    }

    async fn release_definition(&self, name: &str) {
        let Some(definition) = self.store.get(DEFINITIONS, "", name) else {
            return;
        };
        let group = object::text(&definition, &["spec", "group"]);
        let plural = object::text(&definition, &["spec", "names", "plural"]);
        if !object::is_terminating(&definition)
            || !self.store.list(&format!("{group}/{plural}"), None).objects.is_empty()
        {
            return;
        }
        let Ok(resource) = self.resource(&CUSTOM_RESOURCE_DEFINITIONS) else {
            return;
        };
        let context = Context::new(Arc::new(crate::User::system("system:apiserver")), "apiserver");
        let released = verbs::change(self, &context, &resource, Part::Main, "", name, |old| {
            let mut new = old.clone();
            let rest: Vec<&str> = object::finalizers(old)
                .into_iter()
                .filter(|f| *f != crd::CLEANUP)
                .collect();
            object::set_meta(&mut new, "finalizers", serde_json::json!(rest));
            Ok(new)
        });
        if let Err(error) = Box::pin(released).await
            && !error.is_not_found()
        {
            tracing::warn!(definition = name, %error, "cannot release a definition whose objects are gone");
        }
    }
}

/// The revision and the resources of each definition, by name.
type Definitions = HashMap<String, (u64, Vec<Arc<Resource>>)>;

/// The shard of the definitions.
const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";
