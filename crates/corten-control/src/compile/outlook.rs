//! What proxies with one outlook have in common: they see the same services from the same place, and send there in the same way.
//!
//! Such a class is a store below the stores of its proxies. What it costs to bring it up to date does not grow with the number of
//! these, and neither does its memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use corten_envoy_gen::{
    Context,
    parts::{self, Nearness},
};
use corten_model::Name;
use corten_routing::{Proxy, ProxyKind, Scope, Service, Snapshot};
use corten_xds::server::{Base, Clock, Store};

use super::News;
use super::contents::{Contents, Difference};
use super::members::Memberships;
use super::own::attached;
use super::pins::Pins;
use super::units::Units;
use crate::resources;

/// All classes.
#[derive(Debug)]
pub(crate) struct Outlooks {
    clock: Clock,
    scopes: HashMap<Arc<str>, Scoped>,
    classes: HashMap<Arc<str>, Class>,
    generated: u64,
}

/// What proxies of one outlook see.
#[derive(Debug)]
struct Scoped {
    scope: Arc<Scope>,
    /// How far it counts where they are.
    nearness: Nearness,
    /// Whether their own addresses count.
    addresses: bool,
    /// The push in which this was looked at.
    version: u64,
}

#[derive(Debug)]
struct Class {
    scope_key: Arc<str>,
    proxy: Arc<Proxy>,
    /// The proxy as services see it, by how near that is.
    seen: [Option<Arc<Proxy>>; 3],
    scope: Option<Arc<Scope>>,
    base: Base,
    services: HashMap<Name, Arc<Contents>>,
    /// Where each service is in the scope.
    places: HashMap<Name, usize>,
    /// Services whose endpoints' addresses are listened for.
    headless: HashSet<Name>,
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
            classes: HashMap::new(),
            generated: 0,
        }
    }

    /// How many times what goes out was generated.
    #[cfg(test)]
    pub(crate) fn generated(&self) -> u64 {
        self.generated
    }

    /// The class of a proxy.
    pub(crate) fn class_of(
        &mut self,
        proxy: &Proxy,
        snapshot: &Snapshot,
        counting: &std::collections::BTreeSet<String>,
        news: &News,
    ) -> Arc<str> {
        let mut seen = parts::outlook(proxy, counting);
        let scope_key: Arc<str> = format!("{seen:?}").into();
        let scoped = self.scopes.get(&scope_key);
        let current = scoped.filter(|scoped| !news.catalog || scoped.version == news.version);
        let (nearness, addresses) = match current {
            Some(scoped) => (scoped.nearness, scoped.addresses),
            None => {
                let scoped = Scoped::new(&seen, snapshot, scoped, news.version);
                let found = (scoped.nearness, scoped.addresses);
                self.scopes.insert(Arc::clone(&scope_key), scoped);
                found
            }
        };
        if nearness >= Nearness::Place {
            seen.locality = proxy.locality.clone();
        }
        if nearness == Nearness::All {
            seen.node = Name::clone(&proxy.node);
            seen.labels = proxy.labels.clone();
        }
        if addresses {
            seen.addresses.clone_from(&proxy.addresses);
        }
        let key: Arc<str> = format!("{seen:?}").into();
        if let Some(class) = self.classes.get_mut(&key) {
            // Which labels count may be different.
            class.scope_key = scope_key;
        } else {
            let store = Store::with_clock(resources::types(), Arc::clone(&self.clock));
            let class = Class {
                scope_key,
                proxy: Arc::new(seen),
                seen: [None, None, None],
                scope: None,
                base: Arc::new(RwLock::new(store)),
                services: HashMap::new(),
                places: HashMap::new(),
                headless: HashSet::new(),
                outward: None,
                by_server_name: false,
                done: None,
                changed: None,
            };
            self.classes.insert(Arc::clone(&key), class);
        }
        key
    }

    /// Brings a class up to date, once in a push. Says whether that changed anything.
    pub(crate) fn update(
        &mut self,
        key: &Arc<str>,
        snapshot: &Snapshot,
        members: &mut Memberships,
        units: &mut Units,
        news: &News,
    ) -> bool {
        let Some(class) = self.classes.get_mut(key) else {
            return false;
        };
        if class.done == Some(news.version) {
            return class.changed == Some(news.version);
        }
        let Some(scoped) = self.scopes.get(&class.scope_key) else {
            return false;
        };
        let moved = class
            .scope
            .as_ref()
            .is_none_or(|held| !Arc::ptr_eq(held, &scoped.scope));
        let mut difference = Difference::default();
        let mut outward = class.outward.is_none();
        if moved {
            class.scope = Some(Arc::clone(&scoped.scope));
            let services = class.all(&scoped.scope, snapshot, members, units);
            for (key, now) in &services {
                difference.add(class.services.get(key).map(AsRef::as_ref), Some(now));
            }
            for (_, before) in class.services.iter().filter(|(key, _)| !services.contains_key(*key)) {
                difference.add(Some(before), None);
            }
            class.services = services;
            outward = true;
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
        class.done = Some(news.version);
        if difference.is_empty() {
            return false;
        }
        class.changed = Some(news.version);
        difference.apply(&mut class.base.write().unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// What proxies of a class see.
    pub(crate) fn scope(&self, key: &str) -> Option<Arc<Scope>> {
        self.classes.get(key)?.scope.clone()
    }

    /// The store of a class.
    pub(crate) fn base(&self, key: &str) -> Option<Base> {
        self.classes.get(key).map(|class| Arc::clone(&class.base))
    }

    /// Drops the classes that have no proxies.
    pub(crate) fn keep(&mut self, used: &HashSet<&Arc<str>>) {
        self.classes.retain(|key, _| used.contains(key));
        let scopes: HashSet<Arc<str>> = self
            .classes
            .values()
            .map(|class| Arc::clone(&class.scope_key))
            .collect();
        self.scopes.retain(|key, _| scopes.contains(key));
    }
}

impl Scoped {
    fn new(proxy: &Proxy, snapshot: &Snapshot, before: Option<&Scoped>, version: u64) -> Scoped {
        let catalog = &snapshot.catalog;
        let same = before.map(|before| &before.scope).filter(|before| {
            let held = &before.catalog;
            Arc::ptr_eq(&held.services, &catalog.services)
                && Arc::ptr_eq(&held.virtual_services, &catalog.virtual_services)
                && Arc::ptr_eq(&held.configs.sidecars, &catalog.configs.sidecars)
                && Arc::ptr_eq(&held.settings, &catalog.settings)
                && Arc::ptr_eq(&held.mesh, &catalog.mesh)
        });
        let scope = match same {
            Some(before) => before.moved(catalog),
            None => Scope::of(catalog, proxy),
        };
        let nearness = scope.services.iter().map(|service| {
            let cx = Context {
                snapshot,
                proxy,
                scope: &scope,
            };
            parts::nearness(&cx, service)
        });
        Scoped {
            nearness: nearness.max().unwrap_or(Nearness::Nothing),
            addresses: proxy.kind == ProxyKind::Sidecar && parts::regards_addresses(&scope),
            scope: Arc::new(scope),
            version,
        }
    }
}

impl Class {
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
