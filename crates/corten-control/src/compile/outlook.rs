//! What proxies with one outlook have in common: they see the same services from the same place, and send there in the same way.
//!
//! Such a class is a store below the stores of its proxies. What it costs to bring it up to date does not grow with the number of
//! these, and neither does its memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use corten_envoy_gen::{
    Context,
    parts::{self, Nearness},
};
use corten_model::Name;
use corten_routing::{Catalog, Proxy, ProxyKind, Scope, Service, Snapshot, VirtualService};
use corten_xds::server::{Base, Clock, Store};

use super::News;
use super::contents::{Contents, Difference};
use super::members::Memberships;
use super::own::attached;
use super::pins::Pins;
use super::units::Units;
use crate::resources;

/// All classes, each with a number.
#[derive(Debug)]
pub(crate) struct Outlooks {
    clock: Clock,
    scopes: HashMap<u64, Scoped>,
    scope_keys: HashMap<Arc<str>, u64>,
    classes: HashMap<u64, Class>,
    class_keys: HashMap<Arc<str>, u64>,
    numbers: u64,
    generated: u64,
}

/// What proxies of one outlook see.
#[derive(Debug)]
struct Scoped {
    proxy: Proxy,
    scope: Arc<Scope>,
    /// Another value whenever something else is seen.
    seen: Arc<()>,
    /// How far it counts where they are.
    nearness: Nearness,
    /// Whether their own addresses count.
    addresses: bool,
}

#[derive(Debug)]
struct Class {
    key: Arc<str>,
    scoped: u64,
    /// The proxies that are of it.
    members: BTreeSet<u64>,
    proxy: Arc<Proxy>,
    /// The proxy as services see it, by how near that is.
    seen: [Option<Arc<Proxy>>; 3],
    scope: Option<Arc<Scope>>,
    base: Base,
    /// What services were made of, by tables.
    ground: Pins,
    services: HashMap<Name, Arc<Contents>>,
    /// Where each service is in the scope.
    places: HashMap<Name, usize>,
    /// Services whose endpoints' addresses are listened for.
    headless: HashSet<Name>,
    /// What listeners and routes were made of, by tables.
    tables: Pins,
    outward: Option<(Pins, Arc<Contents>)>,
    by_server_name: bool,
    /// The push in which it was brought up to date, and the last one in which that changed something.
    done: Option<u64>,
    changed: Option<u64>,
}

impl Outlooks {
    /// None yet; changes are numbered by a clock.
    pub(crate) fn new(clock: Clock) -> Outlooks {
        Outlooks {
            clock,
            scopes: HashMap::new(),
            scope_keys: HashMap::new(),
            classes: HashMap::new(),
            class_keys: HashMap::new(),
            numbers: 0,
            generated: 0,
        }
    }

    /// How many times what goes out was generated.
    #[cfg(test)]
    pub(crate) fn generated(&self) -> u64 {
        self.generated
    }

    /// Follows another catalog: what is seen of it. Yields the proxies that may be of other classes now, because it counts more or less
    /// where they are.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, held: &Catalog, news: &News) -> BTreeSet<u64> {
        let different = match Arc::ptr_eq(&held.virtual_services, &snapshot.catalog.virtual_services) {
            true => Vec::new(),
            false => snapshot.catalog.virtual_services.different(&held.virtual_services),
        };
        let mut split = HashSet::new();
        for (number, scoped) in &mut self.scopes {
            let before = (scoped.nearness, scoped.addresses);
            scoped.follow(snapshot, &different, news);
            if before != (scoped.nearness, scoped.addresses) {
                split.insert(*number);
            }
        }
        let of_split = self.classes.values().filter(|class| split.contains(&class.scoped));
        of_split.flat_map(|class| class.members.iter().copied()).collect()
    }

    /// Makes a proxy a member of its class, whose number is yielded.
    pub(crate) fn join(&mut self, number: u64, proxy: &Proxy, snapshot: &Snapshot, counting: &BTreeSet<String>) -> u64 {
        let mut seen = parts::outlook(proxy, counting);
        let scope_key: Arc<str> = format!("{seen:?}").into();
        let scoped_number = match self.scope_keys.get(&scope_key) {
            Some(known) => *known,
            None => {
                let scoped = Scoped::new(seen.clone(), snapshot);
                self.numbers += 1;
                self.scope_keys.insert(scope_key, self.numbers);
                self.scopes.insert(self.numbers, scoped);
                self.numbers
            }
        };
        if let Some(scoped) = self.scopes.get(&scoped_number) {
            if scoped.nearness >= Nearness::Place {
                seen.locality = proxy.locality.clone();
            }
            if scoped.nearness == Nearness::All {
                seen.node = Name::clone(&proxy.node);
                seen.labels = proxy.labels.clone();
            }
            if scoped.addresses {
                seen.addresses.clone_from(&proxy.addresses);
            }
        }
        let key: Arc<str> = format!("{seen:?}").into();
        let found = match self.class_keys.get(&key) {
            Some(known) => *known,
            None => {
                self.numbers += 1;
                self.class_keys.insert(Arc::clone(&key), self.numbers);
                self.numbers
            }
        };
        let clock = &self.clock;
        let class = self
            .classes
            .entry(found)
            .or_insert_with(|| Class::new(key, seen, clock));
        // Which labels count may be different.
        class.scoped = scoped_number;
        class.members.insert(number);
        found
    }

    /// A proxy is no longer of a class. One without proxies is dropped, and what only it looked at.
    pub(crate) fn leave(&mut self, number: u64, class: u64) {
        let Some(left) = self.classes.get_mut(&class) else {
            return;
        };
        left.members.remove(&number);
        if !left.members.is_empty() {
            return;
        }
        if let Some(left) = self.classes.remove(&class) {
            self.class_keys.remove(&left.key);
        }
        let used: HashSet<u64> = self.classes.values().map(|class| class.scoped).collect();
        self.scopes.retain(|number, _| used.contains(number));
        let scopes = &self.scopes;
        self.scope_keys.retain(|_, number| scopes.contains_key(number));
    }

    /// Brings all classes up to date; yields the proxies of those that are different.
    pub(crate) fn update_all(
        &mut self,
        snapshot: &Snapshot,
        members: &mut Memberships,
        units: &mut Units,
        news: &News,
    ) -> BTreeSet<u64> {
        let mut changed = BTreeSet::new();
        let numbers: Vec<u64> = self.classes.keys().copied().collect();
        for number in numbers {
            if self.update(number, snapshot, members, units, news)
                && let Some(class) = self.classes.get(&number)
            {
                changed.extend(&class.members);
            }
        }
        changed
    }

    /// Brings a class up to date, once in a push. Says whether that changed anything.
    pub(crate) fn update(
        &mut self,
        number: u64,
        snapshot: &Snapshot,
        members: &mut Memberships,
        units: &mut Units,
        news: &News,
    ) -> bool {
        let Some(class) = self.classes.get_mut(&number) else {
            return false;
        };
        let Some(scoped) = self.scopes.get(&class.scoped) else {
            return false;
        };
        if class.done.replace(news.version) == Some(news.version) {
            return class.changed == Some(news.version);
        }
        let mut difference = Difference::default();
        let mut outward = class.outward.is_none() || news.all;
        let ground = class.ground(scoped, &snapshot.catalog);
        class.scope = Some(Arc::clone(&scoped.scope));
        if news.all || ground != class.ground {
            class.ground = ground;
            let services = class.all(&scoped.scope, snapshot, members, units);
            for (key, now) in &services {
                difference.add(class.services.get(key).map(AsRef::as_ref), Some(now));
            }
            for (_, before) in class.services.iter().filter(|(key, _)| !services.contains_key(*key)) {
                difference.add(Some(before), None);
            }
            class.services = services;
        } else {
            for key in &news.services {
                let Some(service) = class.places.get(key).and_then(|at| scoped.scope.services.get(*at)) else {
                    continue;
                };
                let now = class.of(&scoped.scope, service, snapshot, members, units);
                difference.add(class.services.get(key).map(AsRef::as_ref), Some(&now));
                class.services.insert(Arc::clone(key), now);
                outward |= class.headless.contains(key);
            }
        }
        let tables = class.tables(&snapshot.catalog);
        outward |= tables != class.tables;
        class.tables = tables;
        if outward && class.proxy.kind == ProxyKind::Sidecar {
            let pins = class.pins(&scoped.scope, snapshot, members);
            if class.outward.as_ref().is_none_or(|(held, _)| *held != pins) {
                self.generated += 1;
                let cx = Context {
                    snapshot,
                    proxy: &class.proxy,
                    scope: &scoped.scope,
                };
                let before = class.outward.as_ref().map(|(_, contents)| &**contents);
                let now = Arc::new(Contents::of(&parts::outward(&cx), before));
                difference.add(before, Some(&now));
                class.outward = Some((pins, now));
            }
        }
        if difference.is_empty() {
            return false;
        }
        class.changed = Some(news.version);
        difference.apply(&mut class.base.write().unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// What proxies of a class see.
    pub(crate) fn scope(&self, class: u64) -> Option<Arc<Scope>> {
        self.classes.get(&class)?.scope.clone()
    }

    /// The store of a class.
    pub(crate) fn base(&self, class: u64) -> Option<Base> {
        self.classes.get(&class).map(|class| Arc::clone(&class.base))
    }
}

impl Scoped {
    fn new(proxy: Proxy, snapshot: &Snapshot) -> Scoped {
        let mut scoped = Scoped {
            scope: Arc::new(Scope::of(&snapshot.catalog, &proxy)),
            proxy,
            seen: Arc::default(),
            nearness: Nearness::Nothing,
            addresses: false,
        };
        scoped.look(snapshot);
        scoped
    }

    /// Follows another catalog, in which some VirtualServices are `different`.
    fn follow(&mut self, snapshot: &Snapshot, different: &[Arc<VirtualService>], news: &News) {
        let catalog = &snapshot.catalog;
        let held = Arc::clone(&self.scope.catalog);
        let same = Arc::ptr_eq(&held.services, &catalog.services)
            && Arc::ptr_eq(&held.configs.sidecars, &catalog.configs.sidecars)
            && Arc::ptr_eq(&held.settings, &catalog.settings)
            && Arc::ptr_eq(&held.mesh, &catalog.mesh);
        let seen = match same {
            true => self.scope.rerouted(catalog, &self.proxy, different),
            false => Some(Scope::of(catalog, &self.proxy)),
        };
        let another = seen.is_some();
        if another {
            self.seen = Arc::default();
        }
        self.scope = Arc::new(seen.unwrap_or_else(|| self.scope.moved(catalog)));
        if another || news.nearness || !Arc::ptr_eq(&held.destination_rules, &catalog.destination_rules) {
            self.look(snapshot);
        }
    }

    /// Looks how far it counts where the proxies are.
    fn look(&mut self, snapshot: &Snapshot) {
        let cx = Context {
            snapshot,
            proxy: &self.proxy,
            scope: &self.scope,
        };
        let nearness = self.scope.services.iter().map(|service| parts::nearness(&cx, service));
        self.nearness = nearness.max().unwrap_or(Nearness::Nothing);
        self.addresses = self.proxy.kind == ProxyKind::Sidecar && parts::regards_addresses(&self.scope);
    }
}

impl Class {
    fn new(key: Arc<str>, proxy: Proxy, clock: &Clock) -> Class {
        let store = Store::with_clock(resources::types(), Arc::clone(clock));
        Class {
            key,
            scoped: 0,
            members: BTreeSet::new(),
            proxy: Arc::new(proxy),
            seen: [None, None, None],
            scope: None,
            base: Arc::new(RwLock::new(store)),
            ground: Pins::default(),
            services: HashMap::new(),
            places: HashMap::new(),
            headless: HashSet::new(),
            tables: Pins::default(),
            outward: None,
            by_server_name: false,
            done: None,
            changed: None,
        }
    }

    /// What decides about the services of the scope, besides their workloads: while that is the same, so are they.
    fn ground(&self, scoped: &Scoped, catalog: &Catalog) -> Pins {
        let mut pins = Pins::default();
        pins.pin(&scoped.seen);
        pins.pin(&catalog.mesh);
        pins.pin(&catalog.settings);
        pins.pin(&catalog.destination_rules);
        pins.pin(&catalog.local_hosts);
        pins.pin(&catalog.configs.peer_authentications);
        if self.proxy.kind == ProxyKind::Router {
            pins.pin(&catalog.configs.gateways);
        }
        pins
    }

    /// The tables that listeners and routes are made from.
    fn tables(&self, catalog: &Catalog) -> Pins {
        let configs = &catalog.configs;
        let mut pins = self.ground.clone();
        pins.pin(&catalog.services);
        pins.pin(&configs.telemetries);
        pins.pin(&configs.wasm_plugins);
        pins.pin(&configs.traffic_extensions);
        pins.pin(&configs.proxy_configs);
        pins
    }

    /// What is sent of all services of the scope.
    fn all(
        &mut self,
        scope: &Arc<Scope>,
        snapshot: &Snapshot,
        members: &mut Memberships,
        units: &mut Units,
    ) -> HashMap<Name, Arc<Contents>> {
        let cx = Context {
            snapshot,
            proxy: &self.proxy,
            scope,
        };
        self.by_server_name = parts::leads_by_server_name(&cx);
        self.places = HashMap::with_capacity(scope.services.len());
        self.headless.clear();
        let mut made = HashMap::with_capacity(scope.services.len());
        for (at, service) in scope.services.iter().enumerate() {
            self.places.insert(Arc::clone(&service.key), at);
            if parts::headless(service) {
                self.headless.insert(Arc::clone(&service.key));
            }
            let contents = self.of(scope, service, snapshot, members, units);
            made.insert(Arc::clone(&service.key), contents);
        }
        made
    }

    /// What is sent of a service.
    fn of(
        &mut self,
        scope: &Scope,
        service: &Arc<Service>,
        snapshot: &Snapshot,
        members: &mut Memberships,
        units: &mut Units,
    ) -> Arc<Contents> {
        let nearness = Units::nearness(snapshot, scope, &self.proxy, service);
        let proxy = &self.proxy;
        let [nothing, place, all] = &mut self.seen;
        let seen = match nearness {
            Nearness::Nothing => nothing,
            Nearness::Place => place,
            Nearness::All => all,
        };
        let seen = seen.get_or_insert_with(|| units.seen(&parts::towards(proxy, nearness)));
        let rule = scope.destination_rule(service);
        units.of(snapshot, members, seen, service, rule, self.by_server_name)
    }

    /// What listeners and routes are made of.
    fn pins(&self, scope: &Scope, snapshot: &Snapshot, members: &mut Memberships) -> Pins {
        let catalog = &snapshot.catalog;
        let mut pins = Pins::default();
        pins.pin(&catalog.mesh);
        pins.pin(&catalog.settings);
        pins.pin_all(&scope.sidecar);
        for egress in &scope.egress {
            pins.pin_all(&egress.services);
            pins.pin_all(&egress.virtual_services);
        }
        for service in &scope.services {
            pins.pin(service);
            pins.pin_all(scope.destination_rule(service));
            if self.headless.contains(&service.key) {
                pins.pin(&members.of(&snapshot.model, &service.key));
            }
        }
        let root = &catalog.settings.root_namespace;
        attached(&mut pins, &catalog.configs, &self.proxy.namespace, root);
        pins.pin_all(&corten_envoy_gen::telemetry::services(catalog));
        pins
    }
}
