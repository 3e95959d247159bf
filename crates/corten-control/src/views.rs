//! What L7 proxies are sent: one set of resources for all proxies that see the same.
//!
//! A view is made when the first proxy asks for it, brought up to date with every push while somebody holds it, and dropped with
//! the last one. Without any L7 proxy nothing is derived for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use corten_api::istio::mesh_config::MeshConfig;
use corten_model::{Settings, Snapshot};
use corten_routing::{Catalog, Configs, Interception, KeySets, Proxy};
use corten_xds::server::{Keys, Resource, Shared, Store, TypeConfig};

use crate::resources::{self, CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE};

/// All that proxies are configured from, as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// The model.
    pub(crate) model: Snapshot,
    /// The mesh's configuration.
    pub(crate) mesh: Arc<MeshConfig>,
    /// The objects.
    pub(crate) configs: Arc<Configs>,
    /// The keys of issuers of tokens.
    pub(crate) keys: Arc<KeySets>,
}

/// The views that somebody holds.
#[derive(Debug, Default)]
pub(crate) struct Views {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inputs: Inputs,
    /// Derived from the inputs while there are views.
    catalog: Option<Arc<Catalog>>,
    views: HashMap<Key, View>,
    version: u64,
}

/// What proxies must have in common to be sent the same.
type Key = String;

#[derive(Debug)]
struct View {
    shared: Arc<Shared>,
    /// The proxies that hold it, by number. What is served is found by the address of one of them.
    holders: HashMap<u64, Arc<Proxy>>,
}

/// A proxy's hold on its view.
#[derive(Debug)]
pub(crate) struct Lease {
    views: Arc<Views>,
    key: Key,
    number: u64,
}

impl Views {
    /// The view of a proxy, made if nobody holds it yet.
    pub(crate) fn hold(self: &Arc<Self>, number: u64, proxy: Proxy) -> (Arc<Shared>, Lease) {
        let proxy = Arc::new(proxy);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&proxy, &state.inputs.model);
        let snapshot = (!state.views.contains_key(&key)).then(|| state.snapshot());
        let version = state.version;
        let view = state.views.entry(key.clone()).or_insert_with(|| {
            let shared = Shared::new(store(), Instant::now());
            if let Some(snapshot) = &snapshot {
                fill(&shared, snapshot, &proxy, version, Instant::now());
            }
            View {
                shared,
                holders: HashMap::new(),
            }
        });
        view.holders.insert(number, proxy);
        let lease = Lease {
            views: Arc::clone(self),
            key,
            number,
        };
        (Arc::clone(&view.shared), lease)
    }

    /// Brings all views up to date. `since` is when the first of the changes was seen.
    pub(crate) fn update(&self, inputs: Inputs, since: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.inputs = inputs;
        state.version += 1;
        if state.views.is_empty() {
            state.catalog = None;
            return;
        }
        let snapshot = state.snapshot();
        for view in state.views.values() {
            if let Some(proxy) = representative(view, &snapshot.model) {
                fill(&view.shared, &snapshot, &proxy, state.version, since);
            }
        }
    }
}

impl State {
    /// Everything at this moment, with the catalog brought up to date.
    fn snapshot(&mut self) -> corten_routing::Snapshot {
        let inputs = &self.inputs;
        let settings: &Arc<Settings> = inputs.model.settings();
        let catalog = match &self.catalog {
            Some(held) => held.follow(settings, &inputs.mesh, &inputs.configs),
            None => Catalog::new(
                Arc::clone(settings),
                Arc::clone(&inputs.mesh),
                Arc::clone(&inputs.configs),
            ),
        };
        let catalog = Arc::new(catalog);
        self.catalog = Some(Arc::clone(&catalog));
        corten_routing::Snapshot {
            model: inputs.model.clone(),
            catalog,
            keys: Arc::clone(&inputs.keys),
        }
    }
}

/// Puts into a view what it should hold; what is there already stays as it is.
fn fill(shared: &Shared, snapshot: &corten_routing::Snapshot, proxy: &Proxy, version: u64, since: Instant) {
    let made = resources::encode(corten_envoy_gen::generate(snapshot, proxy));
    shared.publish(since, |store| {
        store.set_version_info(version.to_string());
        for (type_url, resources) in made {
            let gone: Vec<Arc<str>> = store
                .resources(type_url)
                .map(|held| Arc::clone(held.name()))
                .filter(|name| !resources.contains_key(name))
                .collect();
            for name in gone {
                store.remove(type_url, &name);
            }
            for resource in resources.into_values() {
                store.set(type_url, resource);
            }
        }
    });
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.views.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = state.views.get_mut(&self.key) else {
            return;
        };
        view.holders.remove(&self.number);
        if view.holders.is_empty() {
            state.views.remove(&self.key);
        }
    }
}

fn store() -> Store {
    let types = [
        (CLUSTER, true),
        (ENDPOINT, false),
        (LISTENER, true),
        (ROUTE, false),
        (EXTENSION, false),
    ];
    Store::new(types.map(|(type_url, state_wildcard)| TypeConfig {
        type_url,
        state_wildcard,
        keys: |_: &Resource| Keys::default(),
        view: None,
    }))
}

/// The proxy by whose address the view finds what is served: one whose workload is there.
fn representative(view: &View, model: &Snapshot) -> Option<Arc<Proxy>> {
    let is_known = |proxy: &&Arc<Proxy>| is_pod(proxy, model);
    let found = view
        .holders
        .values()
        .filter(is_known)
        .min_by_key(|proxy| Arc::clone(&proxy.name));
    found
        .or_else(|| view.holders.values().min_by_key(|proxy| Arc::clone(&proxy.name)))
        .cloned()
}

/// Whether a proxy's workload is a pod, which services find by its labels.
fn is_pod(proxy: &Proxy, model: &Snapshot) -> bool {
    model.pod(&proxy.namespace, &proxy.name).is_some()
}

/// What proxies must have in common. Pods are alike that have the same labels and ports; of others each is its own.
fn key(proxy: &Proxy, model: &Snapshot) -> Key {
    let mut common = proxy.clone();
    let ports = model
        .pod(&proxy.namespace, &proxy.name)
        .map(|pod| Arc::clone(&pod.ports));
    if let Some(pod) = model.pod(&proxy.namespace, &proxy.name) {
        common.name = Arc::from("");
        common.labels = pod
            .meta
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        // The families still count; a sidecar that nothing is redirected to listens at its own addresses.
        let shared = proxy.interception != Interception::None;
        for address in common.addresses.iter_mut().filter(|_| shared) {
            *address = match address {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
        }
    }
    format!("{common:?} {ports:?}")
}
