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

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use corten_api::{diagnostic::Diagnostic, istio::mesh_config::MeshConfig};
use corten_core::Locality;
use corten_envoy_gen::parts;
use corten_model::{Delta, Name, Workload};
use corten_proto::PROXY_CONFIG_TYPE;
use corten_routing::{Catalog, Configs, KeySets, Proxy, ProxyKind, Snapshot};
use corten_xds::server::{Clock, Resource, Shared, Store};

use self::contents::Difference;
use self::members::{Memberships, touched};
use self::outlook::Outlooks;
use self::own::{Own, Places};
use self::units::Units;
use crate::{resources, trust_bundle};

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
    places: Places,
    proxies: BTreeMap<u64, Compiled>,
    /// Those that have an address.
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    /// The roots of the authority.
    roots: Vec<String>,
    /// What all proxies are told of whom to trust.
    trust: Option<Arc<Resource>>,
    /// Those that do not say where they are, while it is not known of their pods either.
    unplaced: BTreeSet<u64>,
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
            places: Places::default(),
            proxies: BTreeMap::new(),
            by_address: HashMap::new(),
            roots: Vec::new(),
            trust: None,
            unplaced: BTreeSet::new(),
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
    /// As it is: with the labels that its pod has, and where that is.
    proxy: Arc<Proxy>,
    shared: Arc<Shared>,
    /// The number of what it shares with others; none: nothing.
    class: Option<u64>,
    own: Own,
}

/// What is different in a push.
#[derive(Default)]
pub(crate) struct News {
    /// Services whose workloads are different.
    services: BTreeSet<Name>,
    /// Services of which the model says something else.
    records: BTreeSet<Name>,
    /// Workloads that are different: before, and now.
    workloads: Vec<[Option<Arc<Workload>>; 2]>,
    /// The model before.
    before: corten_model::Snapshot,
    /// Whether something of that counts for more than endpoints, once somebody has looked.
    besides: OnceCell<bool>,
    /// Waypoints are.
    waypoints: bool,
    /// Something of what was written is.
    catalog: bool,
    /// It may count differently where proxies are.
    nearness: bool,
    /// Everything may be.
    all: bool,
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
        let mut store = Store::with_clock(resources::types(), Arc::clone(&self.clock));
        if let Some(trust) = &self.trust {
            store.set(PROXY_CONFIG_TYPE, Arc::clone(trust));
        }
        let shared = Shared::new(store, Instant::now());
        for address in &said.addresses {
            self.by_address.entry(*address).or_default().insert(number);
        }
        let compiled = Compiled {
            proxy: Arc::new(as_it_is(&said, &snapshot)),
            said,
            shared: Arc::clone(&shared),
            class: None,
            own: Own::default(),
        };
        self.proxies.insert(number, compiled);
        self.seek(number, &snapshot);
        let news = News {
            catalog: true,
            version: self.version,
            ..News::default()
        };
        self.classify(number, &snapshot, &news);
        self.own(number, &snapshot, &news, true);
        self.publish(number, true, Instant::now());
        shared
    }

    /// Somebody has gone.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some(gone) = self.proxies.remove(&number) else {
            return;
        };
        self.unplaced.remove(&number);
        if let Some(class) = gone.class {
            self.outlooks.leave(number, class);
        }
        for address in &gone.said.addresses {
            if let Some(held) = self.by_address.get_mut(address) {
                held.remove(&number);
                if held.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        if self.proxies.is_empty() {
            if !self.is_wanted() {
                // Nothing is derived for nobody.
                self.snapshot = None;
            }
            self.units = Units::default();
            self.members = Memberships::default();
            self.places = Places::default();
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
        if !Arc::ptr_eq(&before.mesh, &self.inputs.mesh) {
            self.tell_trust(since);
        }
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
        let models = [&before.model, &inputs.model];
        let touched = touched(delta, models[0], models[1]);
        let changed = |uid: &Name| models.map(|model| model.workload(uid).cloned());
        let balancing = |key: &Name| models.map(|model| model.service(key).and_then(|service| service.load_balancing));
        let nearness = delta.services.iter().map(balancing).any(|[before, now]| before != now);
        let news = News {
            services: self.members.follow(&inputs.model, touched),
            records: delta.services.clone(),
            workloads: delta.workloads.iter().map(changed).collect(),
            before: before.model.clone(),
            besides: OnceCell::new(),
            waypoints: !delta.waypoints.is_empty(),
            catalog: catalog_changed || another_model || nearness || !Arc::ptr_eq(&held.keys, &snapshot.keys),
            nearness: another_model || nearness,
            all: another_model,
            version: self.version,
        };
        let model = !news.workloads.is_empty() || !news.records.is_empty() || news.waypoints;
        if model || news.catalog {
            self.spread(&snapshot, &held.catalog, &news, since);
        }
    }

    /// Brings everybody up to date about news. `held`: the catalog before.
    fn spread(&mut self, snapshot: &Snapshot, held: &Catalog, news: &News, since: Instant) {
        let addresses = news.workloads.iter().flatten().flatten();
        let addresses = addresses.flat_map(|workload| workload.addresses.iter());
        let mut regarded: BTreeSet<u64> = addresses
            .filter_map(|address| self.by_address.get(address))
            .flatten()
            .copied()
            .collect();
        let mut moved: BTreeSet<u64> = regarded
            .iter()
            .copied()
            .filter(|one| self.renew(*one, snapshot))
            .collect();
        // Any workload may be a neighbour of these.
        if !news.workloads.is_empty() && !self.unplaced.is_empty() {
            let unplaced = self.unplaced.clone();
            let placed: Vec<u64> = unplaced.into_iter().filter(|one| self.renew(*one, snapshot)).collect();
            moved.extend(&placed);
            regarded.extend(placed);
        }
        if news.catalog {
            self.said = true;
            self.units.follow(&snapshot.catalog);
            moved.extend(self.outlooks.follow(snapshot, held, news));
            let counting = parts::counting_labels(&snapshot.catalog);
            if counting != self.counting {
                self.counting = counting;
                moved.extend(self.proxies.keys());
            }
            let (now, before) = (&snapshot.catalog, held);
            let same = Arc::ptr_eq(&now.configs.envoy_filters, &before.configs.envoy_filters)
                && Arc::ptr_eq(&now.configs.wasm_plugins, &before.configs.wasm_plugins)
                && Arc::ptr_eq(&now.configs.traffic_extensions, &before.configs.traffic_extensions)
                && Arc::ptr_eq(&now.settings, &before.settings);
            if !same {
                let others = self.proxies.iter();
                let others = others.filter(|(_, one)| is_whole(&one.proxy, snapshot) == one.class.is_some());
                moved.extend(others.map(|(number, _)| *number));
            }
        }
        let mut changed: BTreeSet<u64> = moved
            .into_iter()
            .filter(|number| self.classify(*number, snapshot, news))
            .collect();
        let (members, units) = (&mut self.members, &mut self.units);
        changed.extend(self.outlooks.update_all(snapshot, members, units, news));
        let own: Vec<u64> = match news.catalog {
            true => self.proxies.keys().copied().collect(),
            // Those that are made whole look for themselves what is theirs.
            false => {
                let whole = self.proxies.iter().filter(|(_, one)| one.class.is_none());
                let whole: BTreeSet<u64> = whole.map(|(number, _)| *number).collect();
                whole.union(&regarded).copied().collect()
            }
        };
        for number in own {
            self.own(number, snapshot, news, regarded.contains(&number));
            self.publish(number, changed.remove(&number), since);
        }
        for number in changed {
            self.publish(number, true, since);
        }
        self.units.sweep();
    }

    /// Looks at a proxy's pod again. Says whether the proxy is another one now.
    fn renew(&mut self, number: u64, snapshot: &Snapshot) -> bool {
        let Some(compiled) = self.proxies.get_mut(&number) else {
            return false;
        };
        let now = as_it_is(&compiled.said, snapshot);
        let differs = now != *compiled.proxy;
        if differs {
            compiled.proxy = Arc::new(now);
        }
        self.seek(number, snapshot);
        differs
    }

    /// Keeps an eye on a proxy of which it is not known where it is.
    fn seek(&mut self, number: u64, snapshot: &Snapshot) {
        let said = self.proxies.get(&number).map(|compiled| &compiled.said);
        if said.is_some_and(|said| says_no_place(said) && own_workload(said, snapshot).is_none()) {
            self.unplaced.insert(number);
        } else {
            self.unplaced.remove(&number);
        }
    }

    /// Puts below a proxy's store what it shares with others. Says whether that is something else than before.
    fn classify(&mut self, number: u64, snapshot: &Snapshot, news: &News) -> bool {
        let Some(compiled) = self.proxies.get_mut(&number) else {
            return false;
        };
        let class = (!is_whole(&compiled.proxy, snapshot)).then(|| {
            let class = self.outlooks.join(number, &compiled.proxy, snapshot, &self.counting);
            self.outlooks
                .update(class, snapshot, &mut self.members, &mut self.units, news);
            class
        });
        let before = std::mem::replace(&mut compiled.class, class);
        if before == class {
            return false;
        }
        compiled
            .shared
            .set_base(class.and_then(|class| self.outlooks.base(class)));
        if let Some(before) = before {
            self.outlooks.leave(number, before);
        }
        true
    }

    /// Brings a proxy's own part up to date.
    fn own(&mut self, number: u64, snapshot: &Snapshot, news: &News, regards: bool) {
        let Some(compiled) = self.proxies.get_mut(&number) else {
            return;
        };
        match compiled.class {
            None => compiled.own.whole(&compiled.proxy, snapshot, news, regards),
            Some(class) => {
                if let Some(scope) = self.outlooks.scope(class) {
                    let places = &mut self.places;
                    compiled
                        .own
                        .update(&compiled.proxy, snapshot, &scope, places, news, regards);
                }
            }
        }
        self.said |= compiled.own.take_news();
    }

    /// Publishes what is different for a proxy. `changed`: something below its store is.
    fn publish(&mut self, number: u64, changed: bool, since: Instant) {
        let Some(compiled) = self.proxies.get_mut(&number) else {
            return;
        };
        let difference: Difference = compiled.own.take_difference();
        if !changed && difference.is_empty() {
            return;
        }
        let version = self.version;
        compiled.shared.publish(since, |store| {
            store.set_version_info(format!("{version}"));
            difference.apply(store);
        });
    }

    /// The roots of the authority are these.
    pub(crate) fn trust(&mut self, roots: Vec<String>, since: Instant) {
        if self.roots != roots {
            self.roots = roots;
            self.version += 1;
            self.tell_trust(since);
        }
    }

    /// Tells all proxies whom to trust, if that is something else than before.
    fn tell_trust(&mut self, since: Instant) {
        let now = trust_bundle::bundle(&self.roots, &self.inputs.mesh);
        let same = match (&self.trust, &now) {
            (Some(before), Some(now)) => before.same(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if same {
            return;
        }
        self.trust = now.map(Arc::new);
        let (trust, version) = (self.trust.as_ref(), self.version);
        for compiled in self.proxies.values() {
            compiled.shared.publish(since, |store| {
                store.set_version_info(format!("{version}"));
                match trust {
                    Some(trust) => store.set(PROXY_CONFIG_TYPE, Arc::clone(trust)),
                    None => store.remove(PROXY_CONFIG_TYPE, trust_bundle::NAME),
                };
            });
        }
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

/// A proxy with the labels that its pod has, where it is one that is known, and where it is, if it does not say that itself.
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
    if says_no_place(said) {
        proxy.locality = place(said, snapshot);
    }
    proxy
}

fn says_no_place(said: &Proxy) -> bool {
    said.locality == Locality::default()
}

fn own_workload<'a>(proxy: &Proxy, snapshot: &'a Snapshot) -> Option<&'a Arc<Workload>> {
    of_pod(proxy, snapshot, &proxy.namespace, &proxy.name)
}

fn of_pod<'a>(proxy: &Proxy, snapshot: &'a Snapshot, namespace: &str, name: &str) -> Option<&'a Arc<Workload>> {
    let uid = format!("{}//Pod/{namespace}/{name}", proxy.cluster);
    snapshot.model.workload(&uid)
}

/// Where a proxy is that does not say it: where its pod is, or while that is not known, where others of its node are.
fn place(proxy: &Proxy, snapshot: &Snapshot) -> Locality {
    let locality = |workload: &Arc<Workload>| workload.locality.as_deref().cloned();
    if let Some(own) = own_workload(proxy, snapshot) {
        return locality(own).unwrap_or_default();
    }
    // A pod with this label says by itself where it is.
    let mut others = snapshot
        .model
        .pods_on(&proxy.node)
        .filter(|pod| !proxy.node.is_empty() && pod.meta.labels.get("istio-locality").is_none());
    let beside = others.find_map(|pod| {
        let workload = of_pod(proxy, snapshot, &pod.meta.namespace, &pod.meta.name)?;
        locality(workload)
    });
    beside.unwrap_or_default()
}
