//! The tables of requests that go out from a workload: a virtual host for each host that is known at a port.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use corten_core::{Host, Protocol};
use corten_envoy::{
    envoy::config::route::v3::{
        Decorator, DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route, route_action,
    },
    seconds,
};
use corten_routing::{EgressListener, MESH_GATEWAY, ProxyKind, Resolution, Service, ServicePort, VirtualService};

use super::{
    action::within,
    domains, hash,
    http::{At, Target, cluster_of, counts_attempts, http_routes, is_gateway, tells_host},
    matching, retry, table,
};
use crate::{
    Context, dynamic,
    gateway::{self, Merged},
    names,
};

/// The table of the listener that is spoken to as an HTTP proxy.
const HTTP_PROXY: &str = "http_proxy";
/// The beginning of the names of tables of unix sockets.
const UNIX: &str = "unix://";
/// The name of what takes requests to hosts that are looked up when they are called.
const UNKNOWN: &str = "allow_any_dynamic_dns";
/// On this port hosts are known that are those of VirtualServices alone.
const DEFAULT_PORT: u16 = 80;

/// The tables of a proxy. Tables of one port share what is made for it, so whoever answers for several asks one of these.
#[derive(Debug)]
pub struct Tables<'a> {
    cx: &'a Context<'a>,
    by_port: HashMap<u16, Vec<VirtualHost>>,
    /// A router's Gateways, once they are asked for.
    merged: Option<Merged>,
}

impl<'a> Tables<'a> {
    /// The tables of a proxy; none are made yet.
    pub fn new(cx: &'a Context<'a>) -> Tables<'a> {
        Tables {
            cx,
            by_port: HashMap::new(),
            merged: None,
        }
    }

    /// The table of a name; `None`: it is none of the proxy's.
    pub fn get(&mut self, name: &str) -> Option<RouteConfiguration> {
        if self.cx.proxy.kind == ProxyKind::Router {
            let merged = self.merged.get_or_insert_with(|| Merged::of(self.cx));
            return gateway::route_configuration(self.cx, merged, name);
        }
        if name == HTTP_PROXY || name.starts_with(UNIX) {
            return Some(self.whole(name, 0));
        }
        let Some((host, port)) = name.rsplit_once(':') else {
            return Some(self.whole(name, name.parse().ok()?));
        };
        let port: u16 = port.parse().ok()?;
        let hosts = self.hosts(name, port);
        let named = |one: &&VirtualHost| one.domains.iter().any(|domain| domain == host || domain == name);
        let mut found: Vec<VirtualHost> = hosts.iter().filter(named).cloned().collect();
        if let [only] = found.as_mut_slice() {
            only.domains = vec!["*".to_owned()];
        }
        Some(table(name, found))
    }

    fn whole(&mut self, name: &str, port: u16) -> RouteConfiguration {
        let mut hosts = self.hosts(name, port).to_vec();
        // One that takes all hosts leaves none to the others.
        if !hosts.iter().any(|host| host.domains.iter().any(|domain| domain == "*")) {
            hosts.push(catch_all(self.cx));
        }
        table(name, hosts)
    }

    /// The virtual hosts of a port, sorted by name.
    fn hosts(&mut self, name: &str, port: u16) -> &[VirtualHost] {
        let cx = self.cx;
        if port == 0 {
            // There are several of these, told apart by their names.
            self.by_port.remove(&port);
        }
        self.by_port.entry(port).or_insert_with(|| {
            let mut hosts = egress_for(&cx.scope.egress, port, name).map_or_else(Vec::new, |egress| {
                let port = if is_http_proxy(egress) { 0 } else { port };
                Table::new(cx, egress, port).hosts()
            });
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            hosts
        })
    }
}

/// The egress listener that a table is of.
fn egress_for<'a>(all: &'a [EgressListener], port: u16, name: &str) -> Option<&'a EgressListener> {
    all.iter().find(|egress| {
        let written = egress.written.as_ref();
        match egress.port() {
            None => true,
            Some(0) => port == 0 && written.is_some_and(|written| written.bind == name),
            Some(number) => number == port,
        }
    })
}

fn is_http_proxy(egress: &EgressListener) -> bool {
    let port = egress.written.as_ref().and_then(|written| written.port.as_ref());
    port.is_some_and(|port| Protocol::parse(&port.protocol) == Protocol::HttpProxy)
}

/// A service at the ports that a table is about.
struct Known<'a> {
    service: &'a Arc<Service>,
    ports: Vec<&'a ServicePort>,
}

/// Hosts with the same routes at a port.
struct Group<'a> {
    port: u16,
    services: Vec<&'a Service>,
    /// Hosts that are no services.
    hosts: Vec<String>,
    routes: Vec<Route>,
}

/// A table in the making.
struct Table<'a> {
    cx: &'a Context<'a>,
    egress: &'a EgressListener,
    /// 0: all ports.
    port: u16,
    /// In the order in which they count, by their host in lower case.
    known: Vec<Known<'a>>,
    place: HashMap<String, usize>,
}

impl<'a> Table<'a> {
    fn new(cx: &'a Context<'a>, egress: &'a EgressListener, port: u16) -> Table<'a> {
        let mut table = Table {
            cx,
            egress,
            port,
            known: Vec::new(),
            place: HashMap::new(),
        };
        for service in &egress.services {
            let ports: Vec<&ServicePort> = service
                .ports
                .iter()
                .filter(|of| port == 0 || of.number == port)
                .collect();
            if !ports.is_empty() {
                let host = service.host.as_str().to_ascii_lowercase();
                table.place.entry(host).or_insert(table.known.len());
                table.known.push(Known { service, ports });
            }
        }
        table
    }

    fn of_host(&self, host: &str) -> Option<&Known<'a>> {
        self.known.get(*self.place.get(host)?)
    }

    /// What a destination's host stands for among the services of the table.
    fn target(&self, host: &Host) -> Option<Target> {
        let known = self.of_host(&host.as_str().to_ascii_lowercase())?;
        let port = match known.ports.as_slice() {
            [only] => Some(only.number),
            _ => None,
        };
        let end = self.cx.scope.service(host).map(|service| service.host.clone());
        let host = match (&known.service.alias_of, end) {
            (None, _) => host.clone(),
            (Some(_), Some(end)) if end != known.service.host => end,
            (Some(named), _) => named.clone(),
        };
        Some(Target {
            host,
            port,
            behind: None,
        })
    }

    /// The virtual hosts.
    fn hosts(&self) -> Vec<VirtualHost> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut routed: HashSet<&str> = HashSet::new();
        let own = self.most_specific();
        for service in &self.egress.virtual_services {
            for group in self.groups_of(service, &own) {
                routed.extend(group.services.iter().map(|service| service.host.as_str()));
                groups.push(group);
            }
        }
        for known in &self.known {
            if known.service.resolution == Resolution::Alias || routed.contains(known.service.host.as_str()) {
                continue;
            }
            for port in known.ports.iter().filter(|port| is_routed(port)) {
                groups.push(Group {
                    port: port.number,
                    services: vec![known.service],
                    hosts: Vec::new(),
                    routes: vec![self.default_route(known.service, port)],
                });
            }
        }
        self.named(&groups)
    }

    /// For services that wildcards of VirtualServices cover: which one is for it.
    fn most_specific(&self) -> HashMap<&'a str, &'a Arc<VirtualService>> {
        let mut exact: HashMap<&str, &Arc<VirtualService>> = HashMap::new();
        let mut wildcards: Vec<(&Host, &Arc<VirtualService>)> = Vec::new();
        for service in &self.egress.virtual_services {
            for host in &service.spec.hosts {
                if host.is_wildcard() {
                    wildcards.push((host, service));
                } else {
                    exact.entry(host.as_str()).or_insert(service);
                }
            }
        }
        // Of equal ones, the first stays the first.
        wildcards.sort_by(|(a, _), (b, _)| a.specificity(b));
        let mut found = HashMap::new();
        if wildcards.is_empty() {
            return found;
        }
        for known in &self.known {
            let host = &known.service.host;
            let covering = || {
                let mut all = wildcards.iter();
                all.find(|(wildcard, _)| host.is_subset_of(wildcard))
                    .map(|(_, service)| *service)
            };
            if let Some(service) = exact.get(host.as_str()).copied().or_else(covering) {
                found.insert(host.as_str(), service);
            }
        }
        found
    }

    /// What a VirtualService routes: services of the table and hosts that are none.
    fn groups_of(&self, service: &Arc<VirtualService>, own: &HashMap<&str, &'a Arc<VirtualService>>) -> Vec<Group<'a>> {
        let mut hosts: Vec<String> = Vec::new();
        let mut services: Vec<&Known<'a>> = Vec::new();
        let (wildcards, names): (Vec<&Host>, Vec<&Host>) =
            service.spec.hosts.iter().partition(|host| host.is_wildcard());
        for host in names {
            let lower = host.as_str().to_ascii_lowercase();
            match self.of_host(&lower) {
                Some(known) => services.push(known),
                None => hosts.push(lower),
            }
        }
        for host in wildcards {
            let lower = Host::from(host.as_str().to_ascii_lowercase().as_str());
            if is_gateway(service) {
                hosts.push(lower.to_string());
                continue;
            }
            let mut covered = self
                .known
                .iter()
                .filter(|known| known.service.host.matches(&lower))
                .peekable();
            if covered.peek().is_none() {
                hosts.push(lower.to_string());
            }
            let is_own = |known: &&Known<'_>| {
                own.get(known.service.host.as_str())
                    .is_some_and(|of| of.namespace == service.namespace && of.name == service.name)
            };
            services.extend(covered.filter(is_own));
        }
        if is_gateway(service) {
            // Routes of the Gateway API are for services of their own namespace, and for callers in it.
            let meant = |known: &Known<'_>| {
                known.service.namespace == service.namespace || self.cx.proxy.namespace == service.namespace
            };
            if !services.iter().any(|known| meant(known)) {
                return Vec::new();
            }
        }
        let mut by_port: BTreeMap<u16, Vec<&'a Service>> = BTreeMap::new();
        for known in services {
            for port in known.ports.iter().filter(|port| is_routed(port)) {
                by_port.entry(port.number).or_default().push(known.service);
            }
        }
        if by_port.is_empty() && self.port == DEFAULT_PORT {
            by_port.insert(DEFAULT_PORT, Vec::new());
        }
        if by_port.is_empty() {
            return Vec::new();
        }
        let target = |host: &Host| self.target(host);
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (port, services) in by_port {
            let at = At {
                gateway: MESH_GATEWAY,
                port,
                tls: false,
                target: &target,
            };
            let routes = http_routes(self.cx, service, &at);
            if !routes.is_empty() {
                groups.push(Group {
                    port,
                    services,
                    hosts: hosts.clone(),
                    routes,
                });
            }
        }
        groups
    }

    /// The route to a service that nobody said anything about.
    fn default_route(&self, service: &Service, port: &ServicePort) -> Route {
        let hash = hash::wanted(self.cx, &service.host, "", Some(port.number));
        let action = RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(names::outbound(
                port.number,
                "",
                &service.host,
            ))),
            retry_policy: retry::outbound(self.cx.mesh().default_http_retry_policy.as_ref(), false),
            hash_policy: hash.as_ref().and_then(hash::policy).into_iter().collect(),
            ..within(seconds(0))
        };
        Route {
            name: "default".to_owned(),
            r#match: Some(matching::everything()),
            decorator: Some(Decorator {
                operation: format!("{}:{}/*", service.host, port.number),
                ..Decorator::default()
            }),
            action: Some(route::Action::Route(action)),
            ..Route::default()
        }
    }

    /// The groups as virtual hosts: each name and each domain once, and the first that has it keeps it.
    fn named(&self, groups: &[Group<'_>]) -> Vec<VirtualHost> {
        let mut names: HashSet<String> = HashSet::new();
        let mut taken: HashSet<String> = HashSet::new();
        let known: HashSet<String> = groups
            .iter()
            .flat_map(|group| {
                group
                    .services
                    .iter()
                    .map(move |service| (service.host.as_str(), group.port))
            })
            .flat_map(|(host, port)| [host.to_owned(), domains::with_port(host, port)])
            .collect();
        let ports = self.port == 0;
        let mut made: BTreeMap<u16, Vec<VirtualHost>> = BTreeMap::new();
        for group in groups {
            let hosts = group.hosts.iter().map(|host| {
                let all = vec![domains::bracketed(host)];
                (host.as_str(), domains::Domains { all, short: Vec::new() })
            });
            let services = group.services.iter().map(|service| {
                let of = domains::of_service(self.cx, service, ports.then_some(group.port));
                (service.host.as_str(), of)
            });
            for (host, mut of) in hosts.chain(services) {
                let name = domains::with_port(host, group.port);
                if !names.insert(name.clone()) {
                    continue;
                }
                of.all.retain(|domain| {
                    // A short name that is some service's full one is that one's.
                    let foreign = of.short.contains(domain) && known.contains(domain);
                    !foreign && taken.insert(domain.to_ascii_lowercase())
                });
                if of.all.is_empty() {
                    continue;
                }
                made.entry(group.port).or_default().push(VirtualHost {
                    name,
                    domains: of.all,
                    routes: group.routes.clone(),
                    include_request_attempt_count: counts_attempts(self.cx),
                    ..VirtualHost::default()
                });
            }
        }
        if !ports {
            return made.remove(&self.port).unwrap_or_default();
        }
        let mut all = Vec::new();
        for (port, hosts) in made {
            for mut host in hosts {
                if port != DEFAULT_PORT {
                    host.domains.retain(|domain| domain.contains(':'));
                }
                if !host.domains.is_empty() {
                    all.push(host);
                }
            }
        }
        all
    }
}

/// Whether requests to a port are looked at.
fn is_routed(port: &ServicePort) -> bool {
    port.protocol.is_http() || port.protocol == Protocol::Unsupported
}

/// The table of requests to addresses that are not known.
pub(crate) fn unknown(cx: &Context<'_>) -> RouteConfiguration {
    table(UNKNOWN, vec![catch_all(cx)])
}

/// Where requests go to hosts that are not known.
fn catch_all(cx: &Context<'_>) -> VirtualHost {
    let forward = |cluster: String| {
        route::Action::Route(RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster)),
            append_x_forwarded_host: tells_host(cx),
            ..within(seconds(0))
        })
    };
    let (name, action) = if cx.scope.is_registry_only() {
        let refusal = DirectResponseAction {
            status: 502,
            ..DirectResponseAction::default()
        };
        ("block_all", route::Action::DirectResponse(refusal))
    } else if dynamic::resolves_unknown(cx) {
        (UNKNOWN, forward(names::DYNAMIC_DNS.to_owned()))
    } else {
        let proxy = cx.scope.egress_proxy().map(|proxy| cluster_of(proxy, None, 0));
        (
            "allow_any",
            forward(proxy.unwrap_or_else(|| names::PASSTHROUGH.to_owned())),
        )
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: name.to_owned(),
            r#match: Some(matching::everything()),
            action: Some(action),
            ..Route::default()
        }],
        include_request_attempt_count: counts_attempts(cx),
        ..VirtualHost::default()
    }
}
