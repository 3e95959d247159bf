//! What is made for one proxy: what its workload is sent, or all that a gateway or waypoint listens for.

use std::collections::HashMap;
use std::sync::Arc;

use corten_api::diagnostic::Diagnostic;
use corten_api::istio::authorization_policy::AuthorizationPolicyAction;
use corten_envoy_gen::{Context, Resources, parts};
use corten_model::{AddressKey, Name, Workload};
use corten_routing::{Configs, Proxy, ProxyKind, Scope, Snapshot};
use corten_xds::server::Resource;

use super::News;
use super::contents::{Contents, Difference};
use super::pins::Pins;
use crate::resources::{self, ENDPOINT};

/// Pins the objects that two namespaces have in tables.
macro_rules! of_two {
    ($pins:expr, $configs:expr, $namespaces:expr; $($table:ident),*) => {$(
        for namespace in $namespaces {
            let from = (Name::clone(namespace), Name::from(""));
            let of = $configs.$table.range(from..).take_while(|((found, _), _)| found == namespace);
            $pins.pin_all(of.map(|(_, one)| one));
        }
    )*};
}

/// A proxy's own part.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The tables that it was made from, and what of them.
    tables: Pins,
    pins: Pins,
    contents: Option<Arc<Contents>>,
    /// Where everything is its own part: how it sees the services that it calls.
    whole: Option<Whole>,
    difference: Difference,
    /// What was left out of it.
    notices: Vec<Diagnostic>,
    /// Whether that is something else than before.
    news: bool,
    /// How many times it was generated.
    pub(crate) generated: u64,
}

/// All that a proxy is sent, made for it alone.
#[derive(Debug)]
struct Whole {
    scope: Arc<Scope>,
    /// The endpoints by their name.
    endpoints: HashMap<Arc<str>, Arc<Resource>>,
    /// The names that a service's workloads count for.
    names: HashMap<Name, Vec<Arc<str>>>,
}

impl Own {
    /// Brings it up to date. `regards`: something about the proxy's own workload is different.
    pub(crate) fn update(
        &mut self,
        proxy: &Arc<Proxy>,
        snapshot: &Snapshot,
        scope: &Scope,
        places: &mut Places,
        news: &News,
        regards: bool,
    ) {
        if !news.catalog && !regards && self.contents.is_some() {
            return;
        }
        self.drop_whole();
        let tables = tables(proxy, snapshot, scope);
        if tables == self.tables && !regards && !news.all && self.contents.is_some() {
            return;
        }
        self.tables = tables;
        let pins = pins(proxy, snapshot, scope, places, news.version);
        if pins == self.pins && self.contents.is_some() {
            return;
        }
        self.pins = pins;
        self.generated += 1;
        let cx = Context { snapshot, proxy, scope };
        self.take(parts::own(&cx));
    }

    /// Makes everything that the proxy is sent; where only endpoints are different, those.
    pub(crate) fn whole(&mut self, proxy: &Proxy, snapshot: &Snapshot, news: &News, regards: bool) {
        if let Some(whole) = self.whole.as_mut().filter(|_| !news.catalog && !regards) {
            let scope = Arc::clone(&whole.scope);
            let cx = Context {
                snapshot,
                proxy,
                scope: &scope,
            };
            if !counts(&cx, news) {
                for name in news.services.iter().filter_map(|key| whole.names.get(key)).flatten() {
                    let made = Arc::new(resources::endpoints(name, &parts::endpoints(&cx, name)));
                    if !whole.endpoints.get(name).is_some_and(|held| held.same(&made)) {
                        self.difference.set(ENDPOINT, Arc::clone(&made));
                        whole.endpoints.insert(Arc::clone(name), made);
                    }
                }
                return;
            }
        }
        (self.pins, self.tables) = (Pins::default(), Pins::default());
        self.generated += 1;
        let scope = match &self.whole {
            Some(whole) if !news.catalog => Arc::clone(&whole.scope),
            _ => Arc::new(Scope::of(&snapshot.catalog, proxy)),
        };
        let cx = Context {
            snapshot,
            proxy,
            scope: &scope,
        };
        let made = parts::without_endpoints(&cx);
        let (mut endpoints, mut names) = (HashMap::new(), HashMap::<Name, Vec<Arc<str>>>::new());
        let mut held = self.whole.take().map(|whole| whole.endpoints).unwrap_or_default();
        for name in parts::told(&made.clusters) {
            let made = resources::endpoints(name, &parts::endpoints(&cx, name));
            let name = Arc::clone(made.name());
            let known = held.remove(&name).filter(|known| known.same(&made));
            let is_new = known.is_none();
            let resource = known.unwrap_or_else(|| Arc::new(made));
            if is_new {
                self.difference.set(ENDPOINT, Arc::clone(&resource));
            }
            if let Some(key) = parts::service_of(&cx, &name) {
                let of_service = names.entry(key).or_default();
                if !of_service.contains(&name) {
                    of_service.push(Arc::clone(&name));
                }
            }
            endpoints.insert(name, resource);
        }
        let gone = held.into_keys().filter(|name| !endpoints.contains_key(name));
        gone.for_each(|name| self.difference.remove(ENDPOINT, name));
        self.take(made);
        self.whole = Some(Whole {
            scope,
            endpoints,
            names,
        });
    }

    /// The proxy is sent what others are from now on.
    fn drop_whole(&mut self) {
        if let Some(whole) = self.whole.take() {
            let names = whole.endpoints.into_keys();
            names.for_each(|name| self.difference.remove(ENDPOINT, name));
        }
    }

    fn take(&mut self, mut made: Resources) {
        let notices = std::mem::take(&mut made.notices);
        self.news |= notices != self.notices;
        self.notices = notices;
        let now = Arc::new(Contents::of(&made, self.contents.as_deref()));
        self.difference.add(self.contents.as_deref(), Some(&now));
        self.contents = Some(now);
    }

    /// What is configured for the proxy and was left out.
    pub(crate) fn notices(&self) -> &[Diagnostic] {
        &self.notices
    }

    /// Whether that is something else than when this was last asked.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What is different since it was last asked.
    pub(crate) fn take_difference(&mut self) -> Difference {
        std::mem::take(&mut self.difference)
    }
}

/// Whether what is different in the model counts for more than endpoints.
fn counts(cx: &Context<'_>, news: &News) -> bool {
    if news.waypoints && cx.proxy.kind == ProxyKind::Waypoint {
        return true;
    }
    if !news.records.is_empty() {
        // A service is another one: where its traffic goes may be, too.
        return true;
    }
    if *news.besides.get_or_init(|| of_services(cx, news)) {
        return true;
    }
    let behind = |workload: &Option<Arc<Workload>>| parts::behind(cx, workload.as_ref()?);
    let mut workloads = news.workloads.iter().filter(|_| cx.proxy.kind == ProxyKind::Waypoint);
    workloads.any(|[before, now]| behind(before) != behind(now))
}

/// Whether what is different about the workloads of services counts for more than their endpoints, whoever the proxy is.
fn of_services(cx: &Context<'_>, news: &News) -> bool {
    let before = Snapshot {
        model: news.before.clone(),
        ..cx.snapshot.clone()
    };
    let before = Context {
        snapshot: &before,
        ..cx.clone()
    };
    let services = &cx.snapshot.catalog.services;
    let same = |service: &Arc<corten_routing::Service>| {
        parts::is_told(service) && parts::of_workloads(cx, service) == parts::of_workloads(&before, service)
    };
    let is_told = |key: &Name| {
        let host = key.split_once('/').map(|(_, host)| corten_core::Host::from(host));
        let all = host.as_ref().map_or(&[][..], |host| services.of_host(host));
        all.iter().filter(|service| service.key == *key).all(same)
    };
    !news.services.iter().all(is_told)
}

/// The objects that are for workloads of a namespace, one value for all its proxies while nothing of that is different.
#[derive(Debug, Default)]
pub(crate) struct Places {
    known: HashMap<Name, (u64, Arc<Pins>)>,
}

impl Places {
    fn of(&mut self, namespace: &Name, snapshot: &Snapshot, version: u64) -> Arc<Pins> {
        let held = self.known.get(namespace);
        if let Some((_, pins)) = held.filter(|(at, _)| *at == version) {
            return Arc::clone(pins);
        }
        let catalog = &snapshot.catalog;
        let (own, root) = (namespace, &catalog.settings.root_namespace);
        let mut pins = Pins::default();
        attached(&mut pins, &catalog.configs, own, root);
        of_two!(pins, catalog.configs, [own, root]; request_authentications, authorization_policies, peer_authentications);
        let pins = match held {
            Some((_, held)) if **held == pins => Arc::clone(held),
            _ => Arc::new(pins),
        };
        self.known.insert(Name::clone(namespace), (version, Arc::clone(&pins)));
        pins
    }
}

/// The tables that a sidecar's own part is made from: while they are the same, so is what is taken from them.
fn tables(proxy: &Arc<Proxy>, snapshot: &Snapshot, scope: &Scope) -> Pins {
    let catalog = &snapshot.catalog;
    let mut pins = Pins::default();
    pins.pin(proxy);
    pins.pin(&snapshot.keys);
    if proxy.kind != ProxyKind::Sidecar {
        pins.pin(catalog);
        return pins;
    }
    let configs = &catalog.configs;
    pins.pin(&catalog.mesh);
    pins.pin(&catalog.settings);
    pins.pin_all(&scope.sidecar);
    pins.pin(&catalog.services);
    pins.pin(&catalog.destination_rules);
    pins.pin(&configs.telemetries);
    pins.pin(&configs.wasm_plugins);
    pins.pin(&configs.traffic_extensions);
    pins.pin(&configs.proxy_configs);
    pins.pin(&configs.request_authentications);
    pins.pin(&configs.authorization_policies);
    pins.pin(&configs.peer_authentications);
    pins
}

/// What a proxy's own part is made of.
fn pins(proxy: &Arc<Proxy>, snapshot: &Snapshot, scope: &Scope, places: &mut Places, version: u64) -> Pins {
    let catalog = &snapshot.catalog;
    let mut pins = Pins::default();
    pins.pin(proxy);
    pins.pin(&snapshot.keys);
    if proxy.kind != ProxyKind::Sidecar {
        pins.pin(catalog);
        // A router listens on the ports that its services lead to, and which services are its own its workload says.
        for workload in workloads(proxy, snapshot) {
            pins.pin(&workload);
        }
        return pins;
    }
    pins.pin(&catalog.mesh);
    pins.pin(&catalog.settings);
    pins.pin_all(&scope.sidecar);
    pins.pin(&places.of(&proxy.namespace, snapshot, version));
    let policies = &catalog.configs.authorization_policies;
    let asks = policies
        .values()
        .any(|policy| policy.spec.action == AuthorizationPolicyAction::Custom);
    if asks {
        // The services of providers.
        pins.pin(&catalog.services);
    }
    pins.pin_all(&corten_envoy_gen::telemetry::services(catalog));
    for workload in workloads(proxy, snapshot) {
        pins.pin(&workload);
        for (key, _) in workload.services.iter() {
            let Some((namespace, host)) = key.split_once('/') else {
                continue;
            };
            let service = catalog.services.get(&corten_core::Host::from(host), namespace);
            pins.pin_all(service);
            pins.pin_all(service.and_then(|service| scope.inbound_rule(service)));
        }
    }
    pins
}

/// The workloads that have an address of the proxy.
fn workloads(proxy: &Proxy, snapshot: &Snapshot) -> Vec<Arc<Workload>> {
    let model = &snapshot.model;
    let keys = proxy
        .addresses
        .iter()
        .flat_map(|address| model.resolve(&format!("{}/{address}", model.network())));
    let of = |key: AddressKey| match key {
        AddressKey::Workload(uid) => model.workload(&uid).cloned(),
        AddressKey::Service(_) => None,
    };
    keys.filter_map(of)
        .filter(|workload| workload.addresses.iter().any(|own| proxy.addresses.contains(own)))
        .collect()
}

/// Pins what changes listeners of both directions: the objects of a namespace, and of the mesh's, that are for workloads by labels.
pub(crate) fn attached(pins: &mut Pins, configs: &Configs, namespace: &Name, root: &Name) {
    of_two!(pins, configs, [namespace, root]; telemetries, wasm_plugins, traffic_extensions, proxy_configs);
}
