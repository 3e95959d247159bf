//! From everything there is to what each L7 proxy is sent, as a compiler: each stage is kept with what it was made of, and made anew
//! only when some of that is another value; what comes out equal stays the same value, and whatever depends on it is not made anew.
//!
//! ```text
//! objects ─▶ catalog ─▶ scope ───────▶ listeners and routes  ┐
//!              │          └▶ services ─▶ clusters, endpoints ┴▶ what proxies with one outlook have in common ┐
//! model ───────┴──────────────▲───────▶ what is the proxy's own ─────────────────────────────────────────────┴▶ a proxy's store
//! ```
//!
//! Services are compiled once for all proxies that see them alike ([`units`]), what goes out once for all with the same outlook
//! ([`outlook`]), and what comes in, with all that is a gateway's or waypoint's, for each proxy ([`own`]). Pure.

mod contents;
mod members;
mod outlook;
mod own;
mod pins;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use corten_api::{diagnostic::Diagnostic, istio::mesh_config::MeshConfig};
use corten_envoy_gen::parts;
use corten_model::{Delta, Name};
use corten_routing::{Catalog, Configs, KeySets, Proxy, ProxyKind, Snapshot};
use corten_xds::server::{Clock, Shared, Store};

use self::contents::Difference;
use self::members::{Memberships, touched};
use self::outlook::Outlooks;
use self::own::Own;
use self::units::Units;
use crate::resources;

/// All that proxies are configured from, as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// The model.
    pub(crate) model: corten_model::Snapshot,
    /// The mesh's configuration.
    pub(crate) mesh: Arc<MeshConfig>,
    /// The objects.
    pub(crate) configs: Arc<Configs>,
    /// The keys of issuers of tokens.
    pub(crate) keys: Arc<KeySets>,
}

/// Everything there is, and what was made of it for the proxies that are connected.
#[derive(Debug)]
pub(crate) struct Compiler {
    inputs: Inputs,
    /// Derived from the inputs while there are proxies.
    snapshot: Option<Snapshot>,
    /// The keys of labels by which configuration tells sidecars apart.
    counting: BTreeSet<String>,
    members: Memberships,
    units: Units,
    outlooks: Outlooks,
    proxies: BTreeMap<u64, Compiled>,
    clock: Clock,
    version: u64,
    /// Whether what is said of the catalog, or of a proxy's part, may be different.
    said: bool,
}

impl Default for Compiler {
    fn default() -> Compiler {
        let clock = Clock::default();
        Compiler {
            inputs: Inputs::default(),
            snapshot: None,
            counting: BTreeSet::new(),
            members: Memberships::default(),
            units: Units::default(),
            outlooks: Outlooks::new(Arc::clone(&clock)),
            proxies: BTreeMap::new(),
            clock,
            version: 0,
            said: false,
        }
    }
}

/// A proxy, and what it is sent.
#[derive(Debug)]
struct Compiled {
    /// As it said itself.
    said: Proxy,
    /// As it is: with the labels that its pod has.
    proxy: Arc<Proxy>,
    shared: Arc<Shared>,
    /// The key of what it shares with others; none: nothing.
    class: Option<Arc<str>>,
    own: Own,
}

/// What is different in a push.
pub(crate) struct News {
    /// Services whose workloads are different.
    services: BTreeSet<Name>,
    /// The addresses of workloads that are different.
    addresses: HashSet<IpAddr>,
    /// Something of the model is.
    model: bool,
    /// Something of what was written is, or everything is.
    catalog: bool,
    /// The number of the push.
    version: u64,
}

impl Compiler {
    /// How many times a service, what goes out, or a proxy's own part was generated since the start.
    #[cfg(test)]
    pub(crate) fn work(&self) -> (u64, u64, u64) {
        let own = self.proxies.values().map(|one| one.own.generated).sum();
        (self.units.generated, self.outlooks.generated(), own)
    }

    /// Everything that proxies are configured from; none while nobody is.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot.clone()
    }

    /// Compiles for one more proxy, and keeps that up to date until it is [removed](Self::remove).
    pub(crate) fn add(&mut self, number: u64, said: Proxy) -> Arc<Shared> {
        let snapshot = match &self.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => self.wake(),
        };
        let store = Store::with_clock(resources::types(), Arc::clone(&self.clock));
        let shared = Shared::new(store, Instant::now());
        let compiled = Compiled {
            proxy: Arc::new(as_it_is(&said, &snapshot)),
            said,
            shared: Arc::clone(&shared),
            class: None,
            own: Own::default(),
        };
        self.proxies.insert(number, compiled);
        let news = News {
            services: BTreeSet::new(),
            addresses: HashSet::new(),
            model: true,
            catalog: true,
            version: self.version,
        };
        self.compile(number, &snapshot, &news, Instant::now());
        shared
    }

    /// Somebody has gone.
    pub(crate) fn remove(&mut self, number: u64) {
        self.proxies.remove(&number);
        let used: HashSet<&Arc<str>> = self.proxies.values().filter_map(|one| one.class.as_ref()).collect();
        self.outlooks.keep(&used);
        if self.proxies.is_empty() {
            if !self.is_wanted() {
                // Nothing is derived for nobody.
                self.snapshot = None;
            }
            self.units = Units::default();
            self.members = Memberships::default();
        }
    }

    /// Whether anything is to be derived: for proxies, or to say what is wrong with what somebody wrote.
    fn is_wanted(&self) -> bool {
        let configs = &self.inputs.configs;
        !self.proxies.is_empty()
            || !configs.virtual_services.is_empty()
            || !configs.destination_rules.is_empty()
            || !configs.gateways.is_empty()
            || !configs.service_entries.is_empty()
            || !configs.envoy_filters.is_empty()
    }

    /// Everything is derived for the first time.
    fn wake(&mut self) -> Snapshot {
        let inputs = &self.inputs;
        let catalog = Arc::new(Catalog::new(
            Arc::clone(inputs.model.settings()),
            Arc::clone(&inputs.mesh),
            Arc::clone(&inputs.configs),
        ));
        let snapshot = Snapshot {
            model: inputs.model.clone(),
            catalog,
            keys: Arc::clone(&inputs.keys),
        };
        self.counting = parts::counting_labels(&snapshot.catalog);
        self.said = true;
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Brings everybody up to date. `delta` is what is different in the model, and `since` when the first of the changes was seen.
    pub(crate) fn update(&mut self, inputs: Inputs, delta: &Delta, since: Instant) {
        let before = std::mem::replace(&mut self.inputs, inputs);
        self.version += 1;
        let Some(held) = self.snapshot.take() else {
            if self.is_wanted() {
                self.wake();
            }
            return;
        };
        let inputs = &self.inputs;
        let catalog = held
            .catalog
            .follow(inputs.model.settings(), &inputs.mesh, &inputs.configs);
        let catalog_changed = !is_same(&catalog, &held.catalog);
        let catalog = if catalog_changed {
            Arc::new(catalog)
        } else {
            Arc::clone(&held.catalog)
        };
        let snapshot = Snapshot {
            model: inputs.model.clone(),
            catalog,
            keys: Arc::clone(&inputs.keys),
        };
        self.snapshot = Some(snapshot.clone());
        let another_model = !Arc::ptr_eq(before.model.settings(), inputs.model.settings())
            || before.model.network() != inputs.model.network();
        if another_model {
            self.members = Memberships::default();
            self.units.clear();
        }
        let touched = touched(delta, &before.model, &inputs.model);
        let changed = |uid: &Name| [&before.model, &inputs.model].map(|model| model.workload(uid).cloned());
        let workloads = delta.workloads.iter().flat_map(changed).flatten();
        let news = News {
            services: self.members.follow(&inputs.model, touched),
            addresses: workloads.flat_map(|workload| workload.addresses.to_vec()).collect(),
            model: another_model || !delta.workloads.is_empty() || !delta.services.is_empty(),
            catalog: catalog_changed || another_model || !Arc::ptr_eq(&held.keys, &snapshot.keys),
            version: self.version,
        };
        if !news.model && !news.catalog {
            return;
        }
        if news.catalog {
            self.said = true;
            self.counting = parts::counting_labels(&snapshot.catalog);
            self.units.follow(&snapshot.catalog);
        }
        let numbers: Vec<u64> = self.proxies.keys().copied().collect();
        for number in numbers {
            self.compile(number, &snapshot, &news, since);
        }
        let used: HashSet<&Arc<str>> = self.proxies.values().filter_map(|one| one.class.as_ref()).collect();
        self.outlooks.keep(&used);
        self.units.sweep();
    }

    /// What is configured and takes no effect, or was left out for a proxy that is connected; none: as when this was last asked.
    pub(crate) fn take_diagnostics(&mut self) -> Option<Vec<Diagnostic>> {
        if !std::mem::take(&mut self.said) {
            return None;
        }
        let catalog = self.snapshot.as_ref().map(|snapshot| &snapshot.catalog);
        let mut found = catalog.map_or_else(Vec::new, |catalog| corten_envoy_gen::diagnostics(catalog));
        for notice in self.proxies.values().flat_map(|one| one.own.notices()) {
            if !found.contains(notice) {
                found.push(notice.clone());
            }
        }
        Some(found)
    }

    /// Brings a proxy's store up to date.
    fn compile(&mut self, number: u64, snapshot: &Snapshot, news: &News, since: Instant) {
        let Some(compiled) = self.proxies.get_mut(&number) else {
            return;
        };
        let regards = compiled.said.addresses.iter().any(|own| news.addresses.contains(own));
        let mut another = news.catalog;
        if regards {
            let now = as_it_is(&compiled.said, snapshot);
            if now != *compiled.proxy {
                compiled.proxy = Arc::new(now);
                another = true;
            }
        }
        let mut changed = false;
        let proxy = Arc::clone(&compiled.proxy);
        if is_whole(&proxy, snapshot) {
            if compiled.class.take().is_some() {
                compiled.shared.set_base(None);
                changed = true;
            }
            compiled.own.whole(&proxy, snapshot, news);
        } else {
            // A class is looked for anew only when what decides about it may be different.
            let class = match &compiled.class {
                Some(class) if !another => Arc::clone(class),
                _ => self.outlooks.class_of(&proxy, snapshot, &self.counting, news),
            };
            changed = self
                .outlooks
                .update(&class, snapshot, &mut self.members, &mut self.units, news);
            if compiled.class.as_ref() != Some(&class) {
                compiled.shared.set_base(self.outlooks.base(&class));
                compiled.class = Some(Arc::clone(&class));
                changed = true;
            }
            if let Some(scope) = self.outlooks.scope(&class) {
                compiled.own.update(&proxy, snapshot, &scope, news, regards);
            }
        }
        self.said |= compiled.own.take_news();
        let difference: Difference = compiled.own.take_difference();
        if !changed && difference.is_empty() {
            return;
        }
        let version = format!("{}", news.version);
        compiled.shared.publish(since, |store| {
            store.set_version_info(version);
            difference.apply(store);
        });
    }
}

/// Whether two catalogs are the same in all their parts.
fn is_same(one: &Catalog, other: &Catalog) -> bool {
    Arc::ptr_eq(&one.settings, &other.settings)
        && Arc::ptr_eq(&one.mesh, &other.mesh)
        && Arc::ptr_eq(&one.configs, &other.configs)
}

/// Whether a proxy is configured by objects that may change anything of what it is sent, so that all of it is made at once.
fn is_whole(proxy: &Proxy, snapshot: &Snapshot) -> bool {
    let catalog = &snapshot.catalog;
    let root = &catalog.settings.root_namespace;
    let is_near = |namespace: &Name| *namespace == proxy.namespace || namespace == root;
    let configs = &catalog.configs;
    proxy.kind == ProxyKind::Waypoint
        || configs.envoy_filters.keys().any(|(namespace, _)| is_near(namespace))
        || configs.wasm_plugins.keys().any(|(namespace, _)| is_near(namespace))
        || configs
            .traffic_extensions
            .keys()
            .any(|(namespace, _)| is_near(namespace))
}

/// A proxy with the labels that its pod has, where it is one that is known.
fn as_it_is(said: &Proxy, snapshot: &Snapshot) -> Proxy {
    let mut proxy = said.clone();
    if let Some(pod) = snapshot.model.pod(&said.namespace, &said.name) {
        let labels = pod
            .meta
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        proxy.labels.extend(labels);
    }
    proxy
}
