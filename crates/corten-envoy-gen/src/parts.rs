//! What a proxy is sent, in parts that depend on less than all of it.
//!
//! Together the parts are what [`generate`](crate::generate) makes, for sidecars and routers. Each is meant for whoever keeps what
//! was made before and makes a part anew only when what it depends on is different:
//!
//! - [`of_service`] depends on the service, the rule that is followed towards it, its endpoints, the PeerAuthentications of its
//!   namespace and the mesh's, the mesh's settings, and on the proxy as [`towards`] has it;
//! - [`outward`] on what the proxy sees, on the mesh's settings, and on the proxy as [`outlook`] has it;
//! - [`own`] on the rest.
//!
//! For waypoints, and where patches may change anything, there are two parts: [`without_endpoints`], which depends on the proxy's own
//! workload, on services that are not [told](is_told) by endpoints, on [what clusters have](of_workloads) of the others, and at waypoints on the workloads [behind] them;
//! and the endpoints of each name that is [`told`], which depend on the workloads of [one service](service_of).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use corten_api::diagnostic::Diagnostic;
use corten_api::istio::destination_rule::{LoadBalancerSettings, TrafficPolicy};
use corten_core::LabelMap;
use corten_envoy::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, route::v3::RouteConfiguration,
};
use corten_model::{Name, Workload, input::TrafficDistribution};
use corten_routing::{Catalog, Proxy, ProxyKind, Resolution, Scope, Service};

use crate::{
    Context, Resources, cluster, endpoint, extension, listener,
    name_table::name_table,
    names::Parsed,
    patch::Patches,
    plugins, route,
    security::{attach::Place, authz::Peer, enforcement::Enforcement},
    telemetry,
    waypoint::Behind,
};

/// How far it counts where a client is, for what it is sent of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// Not at all.
    Nothing,
    /// Its region, zone and subzone.
    Place,
    /// Also its node and its labels.
    All,
}

/// How far it counts where a client is, for what it is sent of a service.
pub fn nearness(cx: &Context<'_>, service: &Service) -> Nearness {
    let mesh = cx.mesh();
    let rule = cx.scope.destination_rule(service).map(|rule| &rule.spec);
    let mut found = Nearness::Nothing;
    if service.node_local || endpoint::distribution(cx, service) != TrafficDistribution::Any {
        found = Nearness::All;
    }
    let mut detects = mesh
        .default_traffic_policy
        .as_ref()
        .is_some_and(|policy| policy.outlier_detection.is_some());
    let mut balancers: Vec<&LoadBalancerSettings> = Vec::new();
    let own = rule.and_then(|rule| rule.traffic_policy.as_ref());
    let of_subsets = rule.into_iter().flat_map(|rule| &rule.subsets);
    let policies = own
        .into_iter()
        .chain(of_subsets.filter_map(|subset| subset.traffic_policy.as_ref()));
    for policy in policies {
        let TrafficPolicy {
            load_balancer,
            outlier_detection,
            port_level_settings,
            ..
        } = policy;
        detects |= outlier_detection.is_some();
        balancers.extend(load_balancer);
        for port in port_level_settings {
            detects |= port.outlier_detection.is_some();
            balancers.extend(&port.load_balancer);
        }
    }
    let places = balancers
        .iter()
        .filter_map(|balancer| balancer.locality_lb_setting.as_ref())
        .chain(&mesh.locality_lb_setting);
    let zones = balancers
        .iter()
        .filter_map(|balancer| balancer.zone_aware_lb_setting.as_ref())
        .chain(&mesh.zone_aware_lb_setting);
    if detects {
        found = found.max(Nearness::Place);
    }
    for setting in places {
        found = found.max(Nearness::Place);
        if !setting.failover_priority.is_empty() {
            found = Nearness::All;
        }
    }
    for setting in zones {
        found = found.max(Nearness::Place);
        if !setting.failover_priority.is_empty() {
            found = Nearness::All;
        }
    }
    found
}

/// A proxy as far as it counts for what it is sent of services.
#[must_use]
pub fn towards(proxy: &Proxy, nearness: Nearness) -> Proxy {
    let mut seen = anybody(proxy);
    seen.namespace = Name::from("");
    seen.dns_domain = String::new();
    if nearness < Nearness::Place {
        seen.locality = corten_core::Locality::default();
    }
    if nearness < Nearness::All {
        seen.node = Name::from("");
        seen.labels = LabelMap::new();
    }
    seen
}

/// A proxy as far as it counts for what it sees and how it sends there; of its labels those of `counting`.
#[must_use]
pub fn outlook(proxy: &Proxy, counting: &BTreeSet<String>) -> Proxy {
    let mut seen = anybody(proxy);
    seen.node = Name::from("");
    seen.locality = corten_core::Locality::default();
    if proxy.kind == ProxyKind::Sidecar {
        // What a workload is called in traces, where it has some of its own.
        let traces = proxy.config.get().is_some_and(|config| config.tracing.is_some());
        seen.labels
            .retain(|key, _| counting.contains(key) || traces && telemetry::LABELS.contains(&key.as_str()));
    }
    let told = ["MESH_ID", "CLUSTER_ID"].into_iter();
    let named = ["WORKLOAD_NAME"]
        .into_iter()
        .filter(|_| counting.contains(telemetry::OWN_NAME));
    let said = told.chain(named).filter_map(|key| proxy.said.get_key_value(key));
    seen.said = said.map(|(key, value)| (key.clone(), value.clone())).collect();
    if counting.contains(telemetry::OWN_NAME) {
        seen.name = Name::clone(&proxy.name);
        seen.annotations.clone_from(&proxy.annotations);
    }
    seen
}

/// A proxy without what tells it from its like: name, addresses (their families count), account, annotations, and what only patches
/// look at.
fn anybody(proxy: &Proxy) -> Proxy {
    let mut seen = proxy.clone();
    seen.name = Name::from("");
    seen.service_account = Name::from("");
    seen.annotations.clear();
    seen.said.clear();
    for address in &mut seen.addresses {
        *address = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
    }
    seen.addresses.sort_unstable();
    seen.addresses.dedup();
    seen
}

/// The keys of labels by which configuration tells sidecars apart in what they see and send: others count for none of it.
pub fn counting_labels(catalog: &Catalog) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut count = |labels: &LabelMap| keys.extend(labels.keys().cloned());
    for service in catalog.virtual_services.iter() {
        let spec = &service.spec;
        let http = spec.http.iter().flat_map(|route| &route.match_);
        http.for_each(|wanted| count(&wanted.source_labels));
        let tls = spec.tls.iter().flat_map(|route| &route.match_);
        tls.for_each(|wanted| count(&wanted.source_labels));
        let tcp = spec.tcp.iter().flat_map(|route| &route.match_);
        tcp.for_each(|wanted| count(&wanted.source_labels));
    }
    for rule in catalog.destination_rules.iter() {
        rule.selector.iter().for_each(&mut count);
    }
    for sidecar in catalog.configs.sidecars.values() {
        let selector = sidecar.spec.workload_selector.iter();
        selector.for_each(|selector| count(&selector.labels));
    }
    telemetry::counting(catalog, &mut keys);
    keys
}

/// Whether what goes out depends on a sidecar's own addresses: services without an address are called by those of their
/// endpoints, of which its own is left out.
pub fn regards_addresses(scope: &Scope) -> bool {
    let mut services = scope.egress.iter().flat_map(|egress| &egress.services);
    services.any(|service| headless(service))
}

/// Whether a service may be called by the addresses of its endpoints.
pub fn headless(service: &Service) -> bool {
    service.addresses.is_empty() && service.resolution == Resolution::Passthrough
}

/// Whether a router leads TLS on to services by the name that is asked for, for which they have clusters of their own.
pub fn leads_by_server_name(cx: &Context<'_>) -> bool {
    cluster::leads_by_server_name(cx)
}

/// The clusters and endpoints of a service.
pub fn of_service(cx: &Context<'_>, service: &Service, by_server_name: bool) -> Resources {
    let mut clusters: Vec<Cluster> = Vec::new();
    for port in &service.ports {
        clusters.extend(cluster::of_port(cx, service, port));
    }
    if by_server_name {
        clusters.extend(cluster::by_server_name(cx, service));
    }
    once_each(&mut clusters);
    with_endpoints(cx, clusters)
}

/// What a sidecar is sent of what goes out beside clusters: listeners, and the tables of routes that these ask for.
pub fn outward(cx: &Context<'_>) -> Resources {
    let listeners = listener::outward(cx);
    Resources {
        names: name_table(cx),
        ..with_routes(cx, listeners)
    }
}

/// The rest: what is made for one proxy. For a router that is all of its listeners and routes.
pub fn own(cx: &Context<'_>) -> Resources {
    let listeners = match cx.proxy.kind {
        ProxyKind::Sidecar => listener::inward(cx),
        ProxyKind::Router | ProxyKind::Waypoint => listener::listeners(cx),
    };
    let mut made = with_routes(cx, listeners);
    let mut clusters = cluster::own(cx);
    once_each(&mut clusters);
    let more = with_endpoints(cx, clusters);
    made.clusters = more.clusters;
    made.endpoints = more.endpoints;
    made.notices = notices(cx);
    made
}

/// What a sidecar does not enforce as it is written.
pub(crate) fn notices(cx: &Context<'_>) -> Vec<Diagnostic> {
    if cx.proxy.kind != ProxyKind::Sidecar {
        return Vec::new();
    }
    let place = Place::of(cx.proxy, &cx.snapshot.catalog.settings.root_namespace);
    Enforcement::new(cx, place, Peer::Certificate).diagnostics
}

/// All that a proxy is sent but endpoints, patches applied.
pub fn without_endpoints(cx: &Context<'_>) -> Resources {
    let patches = Patches::of(cx);
    let mut listeners = listener::listeners(cx);
    let mut extensions = plugins::apply(cx, &mut listeners);
    patches.listeners(&mut listeners);
    let mut tables = route::Tables::new(cx);
    let routes: BTreeMap<String, RouteConfiguration> = route::names(&listeners)
        .into_iter()
        .map(|name| {
            let mut table = tables.get(&name).unwrap_or_else(|| route::empty(&name));
            patches.route_configuration(&mut table);
            (name, table)
        })
        .collect();
    let mut clusters = cluster::clusters(cx);
    patches.clusters(&mut clusters);
    let asked = extension::names(&listeners);
    extensions.extend(patches.extensions(&asked));
    extensions.retain(|name, _| asked.contains(name));
    Resources {
        endpoints: BTreeMap::new(),
        names: name_table(cx),
        notices: [patches.said(), plugins::notices(cx), notices(cx)].concat(),
        extensions,
        clusters,
        routes,
        listeners,
    }
}

/// The names by which clusters ask for their endpoints.
pub fn told(clusters: &[Cluster]) -> impl Iterator<Item = &String> {
    clusters.iter().filter_map(|cluster| {
        let config = cluster.eds_cluster_config.as_ref()?;
        Some(if config.service_name.is_empty() {
            &cluster.name
        } else {
            &config.service_name
        })
    })
}

/// The endpoints of a name.
pub fn endpoints(cx: &Context<'_>, name: &str) -> ClusterLoadAssignment {
    endpoint::load_assignment(cx, name)
}

/// The key of the service whose workloads the endpoints of a name are.
pub fn service_of(cx: &Context<'_>, name: &str) -> Option<Name> {
    let (service, _) = cluster::service_of(cx, &Parsed::of(name)?)?;
    Some(Name::clone(&service.key))
}

/// Whether the workloads of a service count for nothing but its endpoints and [what clusters have of them](of_workloads).
pub fn is_told(service: &Service) -> bool {
    service.resolution == Resolution::ClientSide
}

/// What the clusters of such a service have of its workloads, by port: their identities, and whether all are reached through tunnels.
pub fn of_workloads(cx: &Context<'_>, service: &Service) -> Vec<(Vec<String>, bool)> {
    cluster::of_workloads(cx, service)
}

/// What counts of a workload beside its being an endpoint, where connections to it come to the proxy, a waypoint: its addresses, each
/// with the names in its certificate.
pub fn behind(cx: &Context<'_>, workload: &Workload) -> Option<Vec<(IpAddr, Option<String>)>> {
    Behind::of(cx)?.takes(cx, workload)
}

fn once_each(clusters: &mut Vec<Cluster>) {
    let mut seen = BTreeSet::new();
    clusters.retain(|cluster| seen.insert(cluster.name.clone()));
}

fn with_endpoints(cx: &Context<'_>, clusters: Vec<Cluster>) -> Resources {
    let told = clusters
        .iter()
        .filter_map(|cluster| cluster.eds_cluster_config.as_ref());
    let endpoints = told.map(|config| {
        let name = &config.service_name;
        (name.clone(), endpoint::load_assignment(cx, name))
    });
    Resources {
        endpoints: endpoints.collect(),
        clusters,
        ..Resources::default()
    }
}

fn with_routes(cx: &Context<'_>, listeners: Vec<corten_envoy::envoy::config::listener::v3::Listener>) -> Resources {
    let mut tables = route::Tables::new(cx);
    let routes = route::names(&listeners).into_iter().map(|name| {
        let table = tables.get(&name).unwrap_or_else(|| route::empty(&name));
        (name, table)
    });
    Resources {
        routes: routes.collect(),
        listeners,
        ..Resources::default()
    }
}
