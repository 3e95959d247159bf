//! Clusters: what a proxy can send connections to, and how.

mod balance;
mod diagnostics;
mod http;
mod inbound;
mod outbound;
mod policy;
mod special;
mod stat;
#[cfg(test)]
mod tests;
mod tls;
mod waypoint;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use corten_api::istio::destination_rule::TrafficPolicy;
use corten_core::{Host, Protocol};
use corten_envoy::{
    any_struct,
    envoy::config::{
        cluster::v3::{Cluster, Filter},
        core::v3::Metadata,
    },
    google::protobuf::{ListValue, Struct, Value, value::Kind},
    string_value, structure,
};
use corten_routing::{ProxyKind, Service, ServicePort, for_port, merge_policies};

pub use self::{diagnostics::diagnostics, stat::Stat};
pub(crate) use self::{
    http::header_format,
    outbound::{Way, of_workloads},
    waypoint::of_waypoint,
};
use crate::{
    Context, listener,
    names::{self, Parsed},
    waypoint::Behind,
};

/// All clusters of a proxy, each name once.
pub fn clusters(cx: &Context<'_>) -> Vec<Cluster> {
    if cx.proxy.kind == ProxyKind::Waypoint {
        return of_waypoint(cx);
    }
    let mut made = Vec::new();
    for service in &cx.scope.services {
        for port in &service.ports {
            made.extend(of_port(cx, service, port));
        }
    }
    made.extend(own(cx));
    if leads_by_server_name(cx) {
        made.extend(cx.scope.services.iter().flat_map(|service| by_server_name(cx, service)));
    }
    let mut seen = HashSet::new();
    made.retain(|cluster| seen.insert(cluster.name.clone()));
    made
}

/// The clusters that a proxy has beside those of the services that it sees.
pub(crate) fn own(cx: &Context<'_>) -> Vec<Cluster> {
    let mut made = vec![special::black_hole(cx)];
    if cx.proxy.kind == ProxyKind::Sidecar {
        made.push(special::passthrough(cx));
        made.extend(special::dynamic_dns(cx));
        made.extend(inbound::clusters(cx));
        made.push(special::inbound_passthrough(cx));
        if listener::takes_tunnels(cx) {
            made.push(waypoint::inside(cx, names::MAIN, names::MAIN));
        }
    }
    if cx.tunnels() {
        made.push(waypoint::originate(cx));
    }
    made
}

/// The clusters of a service's port: its own, and one for each subset.
pub fn of_port(cx: &Context<'_>, service: &Service, port: &ServicePort) -> Vec<Cluster> {
    let rule = cx.scope.destination_rule(service);
    let subsets = rule.iter().flat_map(|rule| &rule.spec.subsets);
    let named = subsets.map(|subset| Some(subset.name.as_str()));
    std::iter::once(None)
        .chain(named)
        .filter_map(|subset| cluster_of(cx, service, port, subset))
        .collect()
}

/// The cluster of a service's port, or of a subset of it; `None`: there is none, because the service is only another name, has
/// nothing that could be called, or the port is none of TCP's.
pub fn cluster_of(cx: &Context<'_>, service: &Service, port: &ServicePort, subset: Option<&str>) -> Option<Cluster> {
    if port.protocol == Protocol::Udp {
        return None;
    }
    outbound::cluster(cx, service, port, subset, Way::Outbound)
}

/// The clusters by which a waypoint sends to a port of a service that it is for, as `http` or `tcp`: its own, and one for each
/// subset.
pub(crate) fn of_vip(cx: &Context<'_>, service: &Service, port: &ServicePort, protocol: &'static str) -> Vec<Cluster> {
    let rule = cx.scope.destination_rule(service);
    let subsets = rule.iter().flat_map(|rule| &rule.spec.subsets);
    let named = subsets.map(|subset| Some(subset.name.as_str()));
    std::iter::once(None)
        .chain(named)
        .filter_map(|subset| outbound::cluster(cx, service, port, subset, Way::Vip(protocol)))
        .collect()
}

/// Whether a gateway leads TLS, without ending it, to where the name that clients ask for says.
pub(crate) fn leads_by_server_name(cx: &Context<'_>) -> bool {
    use corten_api::istio::gateway::ServerTLSSettingsTLSmode as Mode;
    if cx.proxy.kind != ProxyKind::Router {
        return false;
    }
    let gateways = cx.snapshot.catalog.configs.gateways.values();
    let mut servers = gateways
        .filter(|gateway| corten_core::Labels(&gateway.spec.selector).is_subset_of(&cx.proxy.labels))
        .flat_map(|gateway| &gateway.spec.servers);
    let leads = |tls: &corten_api::istio::gateway::ServerTLSSettings| tls.mode == Mode::AutoPassthrough;
    servers.any(|server| server.tls.as_ref().is_some_and(leads))
}

/// The clusters of a service that such a gateway leads to.
pub(crate) fn by_server_name(cx: &Context<'_>, service: &Service) -> Vec<Cluster> {
    if service.mesh_external {
        return Vec::new();
    }
    let mut made = Vec::new();
    let rule = cx.scope.destination_rule(service);
    let subsets = rule.iter().flat_map(|rule| &rule.spec.subsets);
    let named: Vec<Option<&str>> = subsets.map(|subset| Some(subset.name.as_str())).collect();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        for subset in std::iter::once(&None).chain(&named) {
            made.extend(outbound::cluster(cx, service, port, *subset, Way::ByServerName));
        }
    }
    made
}

/// The service and port that the name of a cluster stands for, as the proxy sees them.
pub(crate) fn service_of(cx: &Context<'_>, parsed: &Parsed<'_>) -> Option<(Arc<Service>, ServicePort)> {
    let host = Host::from(parsed.host);
    let service = match parsed.direction {
        "outbound" => cx.scope.named(&host)?,
        names::VIP => Behind::of(cx)?.service(cx, &host)?,
        _ => return None,
    };
    let port = service.port(parsed.port)?.clone();
    Some((Arc::clone(service), port))
}

/// What a proxy's rules want of connections to a service's port: the mesh's own settings where the rule has none.
pub(crate) fn policy_of(cx: &Context<'_>, service: &Service, port: u16, subset: Option<&str>) -> TrafficPolicy {
    let rule = cx.scope.destination_rule(service).map(|rule| &rule.spec);
    let written = rule.and_then(|rule| rule.traffic_policy.as_ref());
    let base = written.map(|policy| for_port(policy, port)).unwrap_or_default();
    let base = with_mesh(cx, base);
    let own = subset.and_then(|name| rule?.subsets.iter().find(|subset| subset.name == name));
    match own.and_then(|subset| subset.traffic_policy.as_ref()) {
        Some(own) => merge_policies(Some(base), own, port),
        None => base,
    }
}

/// A policy with the mesh's own settings where it has none.
fn with_mesh(cx: &Context<'_>, mut policy: TrafficPolicy) -> TrafficPolicy {
    if let Some(mesh) = &cx.mesh().default_traffic_policy {
        policy.connection_pool = policy.connection_pool.or_else(|| mesh.connection_pool.clone());
        policy.outlier_detection = policy.outlier_detection.or_else(|| mesh.outlier_detection.clone());
    }
    policy
}

/// A name in statistics; what follows the end mark is not taken for part of it.
pub(crate) fn stat_name(name: &str) -> String {
    format!("{name};")
}

/// The extension by which Istio's proxies tell their peers who they are.
const PEER_EXCHANGE: &str = "envoy.filters.network.upstream.metadata_exchange";

/// Whether the proxy tells its peers who it is before the first byte of a connection.
fn exchanges(cx: &Context<'_>) -> bool {
    cx.proxy.extensions.contains(PEER_EXCHANGE)
}

/// Tells the peer who this is, in proxies that can.
fn peer_exchange(cx: &Context<'_>) -> Vec<Filter> {
    if !exchanges(cx) {
        return Vec::new();
    }
    let settings = structure([
        ("protocol", string_value("istio-peer-exchange")),
        ("enable_discovery", truth(true)),
    ]);
    vec![Filter {
        name: "istio.metadata_exchange".to_owned(),
        typed_config: Some(any_struct(
            "envoy.tcp.metadataexchange.config.MetadataExchange",
            settings,
        )),
        ..Filter::default()
    }]
}

fn truth(value: bool) -> Value {
    Value {
        kind: Some(Kind::BoolValue(value)),
    }
}

/// The key of what Istio's telemetry reads in a cluster's metadata.
const ISTIO: &str = "istio";

/// The part of a cluster's metadata that Istio's telemetry reads.
fn istio(cluster: &mut Cluster) -> &mut Struct {
    let metadata: &mut Metadata = cluster.metadata.get_or_insert_default();
    metadata.filter_metadata.entry(ISTIO.to_owned()).or_default()
}

/// Names services in a cluster's metadata, each host once.
fn name_services<'a>(cluster: &mut Cluster, services: impl IntoIterator<Item = &'a Service>) {
    let mut seen = BTreeSet::new();
    let named = services.into_iter().filter(|service| seen.insert(service.host.clone()));
    let values = named.map(|service| Value {
        kind: Some(Kind::StructValue(structure([
            ("host", string_value(service.host.as_str())),
            ("name", string_value(&*service.name)),
            ("namespace", string_value(&*service.namespace)),
        ]))),
    });
    let list = ListValue {
        values: values.collect(),
    };
    istio(cluster).fields.insert(
        "services".to_owned(),
        Value {
            kind: Some(Kind::ListValue(list)),
        },
    );
}
