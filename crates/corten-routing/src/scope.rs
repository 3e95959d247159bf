//! What one proxy sees: by the Sidecar that is for it, by what is exported to its namespace, and by what its routes lead to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use corten_api::istio::{
    sidecar::{CaptureMode, IstioEgressListener, SidecarSpec},
    virtual_service::{Destination, VirtualServiceSpec},
};
use corten_core::{Host, Labels};
use corten_model::Name;

use crate::{
    catalog::Catalog,
    config::{Config, by_age},
    destination_rule::DestinationRule,
    proxy::{Proxy, ProxyKind},
    service::{Registry, Service},
    virtual_service::{MESH_GATEWAY, Semantics, VirtualService},
};

/// What one proxy sees.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The catalog it is a view of.
    pub catalog: Arc<Catalog>,
    /// The namespace of the proxy.
    pub namespace: Name,
    /// The labels of the proxy's workload.
    pub labels: corten_core::LabelMap,
    /// The Sidecar that is for it.
    pub sidecar: Option<Arc<Config<SidecarSpec>>>,
    /// Where its pod's connections go out, in the order of the Sidecar.
    pub egress: Vec<EgressListener>,
    /// All services that it may be sent clusters of, oldest first, each host once.
    pub services: Vec<Arc<Service>>,
    /// Where each host is among them.
    by_host: HashMap<Host, usize>,
    /// The one rule that is followed, where the scope is of one service alone.
    narrowed: Option<Option<Arc<DestinationRule>>>,
}

/// A listener for outbound connections.
#[derive(Debug, Clone)]
pub struct EgressListener {
    /// As it is written; `None`: the one for everything.
    pub written: Option<IstioEgressListener>,
    /// The services behind it; where the listener has a port, each with that port alone.
    pub services: Vec<Arc<Service>>,
    /// The VirtualServices that route there, in the order in which they count.
    pub virtual_services: Vec<Arc<VirtualService>>,
}

impl EgressListener {
    /// The port; `None`: every service's own.
    pub fn port(&self) -> Option<u16> {
        let port = self.written.as_ref()?.port.as_ref()?;
        Some(port.number.0)
    }

    fn imports(&self, namespace: &Name) -> Imports {
        let everything = ["*/*".to_owned()];
        let hosts = self.written.as_ref().map_or(&everything[..], |written| &written.hosts);
        Imports::of(hosts, namespace)
    }

    /// Whether connections come to it by redirection.
    pub fn is_captured(&self) -> bool {
        self.written
            .as_ref()
            .is_none_or(|written| written.capture_mode != CaptureMode::None)
    }
}

/// What a Sidecar imports, by namespace and host.
struct Imports {
    wanted: Vec<(String, Host)>,
    excluded: Vec<(String, Host)>,
}

impl Imports {
    fn of(hosts: &[String], own: &str) -> Imports {
        let mut imports = Imports {
            wanted: Vec::new(),
            excluded: Vec::new(),
        };
        for text in hosts {
            let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
            let full = |namespace: &str| {
                if namespace == "." {
                    own.to_owned()
                } else {
                    namespace.to_owned()
                }
            };
            match namespace.strip_prefix('~') {
                // `~/*` alone is the way to import nothing.
                Some("") if host == "*" => {}
                Some("") => imports.excluded.push(("*".to_owned(), Host::from(host))),
                Some(namespace) => imports.excluded.push((full(namespace), Host::from(host))),
                None => imports.wanted.push((full(namespace), Host::from(host))),
            }
        }
        imports
    }

    fn includes_service(&self, service: &Service) -> bool {
        let listed = |(namespace, host): &(String, Host)| {
            (namespace == "*" || **namespace == *service.namespace) && service.host.is_subset_of(host)
        };
        self.wanted.iter().any(listed) && !self.excluded.iter().any(listed)
    }

    fn includes_route(&self, route: &VirtualService) -> bool {
        let listed = |(namespace, host): &(String, Host)| {
            let matches = |own: &Host| match route.semantics {
                Semantics::Gateway => own.is_subset_of(host),
                Semantics::Istio | Semantics::Ingress => own.matches(host),
            };
            (namespace == "*" || **namespace == *route.namespace) && route.spec.hosts.iter().any(matches)
        };
        let excluded = |(namespace, host): &(String, Host)| {
            (namespace == "*" || **namespace == *route.namespace)
                && route.spec.hosts.iter().all(|own| own.is_subset_of(host))
        };
        self.wanted.iter().any(listed) && !self.excluded.iter().any(excluded)
    }
}

impl Scope {
    /// The view of a proxy.
    pub fn of(catalog: &Arc<Catalog>, proxy: &Proxy) -> Scope {
        let sidecar = match proxy.kind {
            ProxyKind::Sidecar => select(catalog, proxy),
            ProxyKind::Router | ProxyKind::Waypoint => None,
        };
        let namespace = &proxy.namespace;
        let visible = visible_services(catalog, namespace);
        let routes = routes(catalog, namespace);
        let written: Vec<Option<IstioEgressListener>> = match &sidecar {
            Some(sidecar) if !sidecar.spec.egress.is_empty() => sidecar.spec.egress.iter().cloned().map(Some).collect(),
            _ => vec![None],
        };
        let egress: Vec<EgressListener> = written
            .into_iter()
            .map(|written| egress(written, namespace, &visible, &routes, catalog))
            .collect();
        let services = union(&egress);
        let by_host = services.iter().enumerate();
        Scope {
            catalog: Arc::clone(catalog),
            namespace: Name::clone(namespace),
            labels: proxy.labels.clone(),
            by_host: by_host.map(|(at, service)| (service.host.clone(), at)).collect(),
            services,
            sidecar,
            egress,
            narrowed: None,
        }
    }

    /// A view of one service, towards which one rule is followed or none: all that clusters and endpoints of it come from.
    pub fn narrowed(catalog: &Arc<Catalog>, service: &Arc<Service>, rule: Option<Arc<DestinationRule>>) -> Scope {
        Scope {
            catalog: Arc::clone(catalog),
            namespace: Name::from(""),
            labels: corten_core::LabelMap::new(),
            sidecar: None,
            egress: Vec::new(),
            by_host: HashMap::from([(service.host.clone(), 0)]),
            services: vec![Arc::clone(service)],
            narrowed: Some(rule),
        }
    }

    /// The same view, of a catalog in which nothing is different that [`of`](Self::of) looks at: services, VirtualServices, Sidecars
    /// and settings.
    #[must_use]
    pub fn moved(&self, catalog: &Arc<Catalog>) -> Scope {
        Scope {
            catalog: Arc::clone(catalog),
            ..self.clone()
        }
    }

    /// The same view, of a catalog in which of what [`of`](Self::of) looks at nothing is different but VirtualServices; `proxy` is the one
    /// whose view it is. `None`: none of those that are different concern it.
    #[must_use]
    pub fn rerouted(&self, catalog: &Arc<Catalog>, proxy: &Proxy, different: &[Arc<VirtualService>]) -> Option<Scope> {
        let imports: Vec<Imports> = self
            .egress
            .iter()
            .map(|egress| egress.imports(&self.namespace))
            .collect();
        let concerns = |route: &Arc<VirtualService>| {
            route.is_for(MESH_GATEWAY)
                && route.visibility.includes(&self.namespace)
                && is_meant(route, &self.namespace, catalog)
                && imports.iter().any(|imports| imports.includes_route(route))
        };
        if !different.iter().any(concerns) {
            return None;
        }
        let routes = routes(catalog, &self.namespace);
        let mut next = self.moved(catalog);
        for (egress, imports) in next.egress.iter_mut().zip(&imports) {
            let now = routes.iter().filter(|route| imports.includes_route(route)).cloned();
            let before = std::mem::replace(&mut egress.virtual_services, now.collect());
            if destinations(&before) != destinations(&egress.virtual_services) {
                // They lead to other services.
                return Some(Scope::of(catalog, proxy));
            }
        }
        Some(next)
    }

    /// The rule that the proxy follows towards a service.
    pub fn destination_rule(&self, service: &Service) -> Option<&Arc<DestinationRule>> {
        if let Some(rule) = &self.narrowed {
            return rule.as_ref();
        }
        let rules = &self.catalog.destination_rules;
        rules.find(&self.namespace, &self.labels, &service.namespace, &service.host)
    }

    /// The service of a host, which may be another name for one.
    pub fn named(&self, host: &Host) -> Option<&Arc<Service>> {
        self.services.get(*self.by_host.get(host)?)
    }

    /// The rule that the proxy follows for connections to its own workload as a service's: one that is not for some clients only.
    pub fn inbound_rule(&self, service: &Service) -> Option<&Arc<DestinationRule>> {
        let rules = &self.catalog.destination_rules;
        let found = rules.find(
            &self.namespace,
            &corten_core::LabelMap::new(),
            &service.namespace,
            &service.host,
        );
        found.filter(|rule| rule.selector.is_none())
    }

    /// The service that a host stands for: another name leads to what it names.
    pub fn service(&self, host: &Host) -> Option<&Arc<Service>> {
        self.named(host).map(|found| {
            found
                .alias_of
                .as_ref()
                .and_then(|target| self.service_of_alias(target, 8))
                .unwrap_or(found)
        })
    }

    fn service_of_alias(&self, host: &Host, steps: u8) -> Option<&Arc<Service>> {
        let found = self.named(host)?;
        match &found.alias_of {
            Some(next) if steps > 0 => self.service_of_alias(next, steps - 1),
            Some(_) => None,
            None => Some(found),
        }
    }

    /// Whether the proxy reaches only what the mesh knows.
    pub fn is_registry_only(&self) -> bool {
        use corten_api::istio::{
            mesh_config::MeshConfigOutboundTrafficPolicyMode as Mesh, sidecar::OutboundTrafficPolicyMode,
        };
        match self
            .sidecar
            .as_ref()
            .and_then(|sidecar| sidecar.spec.outbound_traffic_policy.as_ref())
        {
            Some(policy) => policy.mode == OutboundTrafficPolicyMode::RegistryOnly,
            None => {
                let policy = self.catalog.mesh.outbound_traffic_policy.as_ref();
                policy.is_some_and(|policy| policy.mode == Mesh::RegistryOnly)
            }
        }
    }

    /// Where what the mesh does not know is sent instead of where it wants to go.
    pub fn egress_proxy(&self) -> Option<&Destination> {
        self.sidecar
            .as_ref()?
            .spec
            .outbound_traffic_policy
            .as_ref()?
            .egress_proxy
            .as_ref()
    }
}

/// The Sidecar for a proxy: the oldest of its namespace that selects it, else the one for all of its namespace, else the mesh's.
fn select(catalog: &Catalog, proxy: &Proxy) -> Option<Arc<Config<SidecarSpec>>> {
    let all = by_age(&catalog.configs.sidecars);
    let of = |namespace: &Name| {
        let namespace = Name::clone(namespace);
        all.iter().filter(move |sidecar| sidecar.namespace == namespace)
    };
    let labels = |sidecar: &&Arc<Config<SidecarSpec>>| {
        let wanted = sidecar.spec.workload_selector.as_ref();
        wanted
            .map(|wanted| &wanted.labels)
            .filter(|labels| !labels.is_empty())
            .cloned()
    };
    let selected =
        of(&proxy.namespace).find(|one| labels(one).is_some_and(|wanted| Labels(&wanted).is_subset_of(&proxy.labels)));
    let general = || of(&proxy.namespace).find(|one| labels(one).is_none());
    let mesh = || of(&catalog.settings.root_namespace).find(|one| labels(one).is_none());
    selected.or_else(general).or_else(mesh).cloned()
}

/// Of what Gateway API routes became, a sidecar follows those that are its own namespace's or the service's.
fn is_meant(route: &VirtualService, namespace: &Name, catalog: &Catalog) -> bool {
    if route.semantics != Semantics::Gateway || route.namespace == *namespace {
        return true;
    }
    let own = |host: &Host| catalog.services.get(host, &route.namespace).is_some();
    route.spec.hosts.iter().any(own)
}

/// The VirtualServices that a namespace's proxies follow for what goes out, in the order in which they count.
fn routes(catalog: &Catalog, namespace: &Name) -> Vec<Arc<VirtualService>> {
    let all = catalog.virtual_services.for_gateway(MESH_GATEWAY, namespace);
    all.into_iter()
        .filter(|route| is_meant(route, namespace, catalog))
        .collect()
}

/// The services that a namespace sees; of several with the same host, the one it means.
fn visible_services(catalog: &Catalog, namespace: &str) -> Vec<Arc<Service>> {
    let seen = catalog
        .services
        .iter()
        .filter(|service| service.visibility.includes(namespace));
    seen.cloned().collect()
}

fn egress(
    written: Option<IstioEgressListener>,
    namespace: &Name,
    visible: &[Arc<Service>],
    routes: &[Arc<VirtualService>],
    catalog: &Catalog,
) -> EgressListener {
    let mut listener = EgressListener {
        written,
        services: Vec::new(),
        virtual_services: Vec::new(),
    };
    let (imports, port) = (listener.imports(namespace), listener.port());
    let followed = routes.iter().filter(|route| imports.includes_route(route));
    listener.virtual_services = followed.cloned().collect();
    let mut chosen: Vec<Arc<Service>> = Vec::new();
    let mut place: HashMap<&Host, usize> = HashMap::new();
    for service in visible.iter().filter(|service| imports.includes_service(service)) {
        let Some(reduced) = with_port(service, port) else {
            continue;
        };
        match place.get(&service.host).and_then(|at| chosen.get_mut(*at)) {
            Some(held) => {
                if rank(service, namespace) < rank(held, namespace) {
                    *held = reduced;
                }
            }
            None => {
                place.insert(&service.host, chosen.len());
                chosen.push(reduced);
            }
        }
    }
    // What routes lead to is seen even if it is not imported, at the ports that they name.
    for (host, ports) in destinations(&listener.virtual_services) {
        if place.contains_key(&host) {
            continue;
        }
        let candidates = catalog
            .services
            .of_host(&host)
            .iter()
            .filter(|service| service.visibility.includes(namespace));
        if let Some(found) = candidates.min_by_key(|service| rank(service, namespace)) {
            chosen.extend(with_ports(found, &ports));
        }
    }
    listener.services = chosen;
    listener
}

/// Which of several services with the same host a namespace means: the smallest.
fn rank(service: &Service, namespace: &str) -> (bool, bool) {
    (
        *service.namespace != *namespace,
        service.registry != Registry::Kubernetes,
    )
}

/// The service with one port alone; `None`: it has not that port.
fn with_port(service: &Arc<Service>, port: Option<u16>) -> Option<Arc<Service>> {
    match port.filter(|port| *port != 0) {
        None => Some(Arc::clone(service)),
        Some(port) => with_ports(service, &BTreeSet::from([port])),
    }
}

/// The service with some of its ports; 0 stands for all of them. `None`: it has none of them.
fn with_ports(service: &Arc<Service>, ports: &BTreeSet<u16>) -> Option<Arc<Service>> {
    if ports.contains(&0) || service.ports.iter().all(|port| ports.contains(&port.number)) {
        return Some(Arc::clone(service));
    }
    let kept: Vec<_> = service
        .ports
        .iter()
        .filter(|port| ports.contains(&port.number))
        .cloned()
        .collect();
    (!kept.is_empty()).then(|| {
        Arc::new(Service {
            ports: kept.into(),
            ..Service::clone(service)
        })
    })
}

/// The hosts that routes lead to, with the ports they name, 0 where they name none.
fn destinations(routes: &[Arc<VirtualService>]) -> BTreeMap<Host, BTreeSet<u16>> {
    let mut found: BTreeMap<Host, BTreeSet<u16>> = BTreeMap::new();
    for destination in routes.iter().flat_map(|route| destinations_of(&route.spec)) {
        let port = destination.port.as_ref().map_or(0, |port| port.number.0);
        found.entry(destination.host.clone()).or_default().insert(port);
    }
    found
}

/// All destinations that a VirtualService names.
pub fn destinations_of(spec: &VirtualServiceSpec) -> impl Iterator<Item = &Destination> {
    let http = spec.http.iter().flat_map(|route| {
        let to = route.route.iter().filter_map(|to| to.destination.as_ref());
        let mirrors = route.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
        to.chain(route.mirror.as_ref()).chain(mirrors)
    });
    let tcp = spec.tcp.iter().flat_map(|route| &route.route);
    let tls = spec.tls.iter().flat_map(|route| &route.route);
    http.chain(tcp.chain(tls).filter_map(|to| to.destination.as_ref()))
}

/// The services of all listeners, oldest first, each host once with the ports of all of them.
fn union(egress: &[EgressListener]) -> Vec<Arc<Service>> {
    let mut all: Vec<Arc<Service>> = Vec::new();
    let mut place: HashMap<Host, usize> = HashMap::new();
    for service in egress.iter().flat_map(|listener| &listener.services) {
        match place.get(&service.host).and_then(|at| all.get_mut(*at)) {
            None => {
                place.insert(service.host.clone(), all.len());
                all.push(Arc::clone(service));
            }
            Some(held) if held.namespace == service.namespace => {
                let more: Vec<_> = service
                    .ports
                    .iter()
                    .filter(|port| held.port(port.number).is_none())
                    .cloned()
                    .collect();
                if !more.is_empty() {
                    let held = Arc::make_mut(held);
                    held.ports = held.ports.iter().cloned().chain(more).collect();
                }
            }
            Some(_) => {}
        }
    }
    all.sort_by(|a, b| a.age().cmp(&b.age()));
    all
}
