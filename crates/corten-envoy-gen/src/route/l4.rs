//! Where connections lead whose requests nobody looks at.

use std::{collections::HashSet, sync::Arc};

use corten_api::istio::{
    destination_rule::{ConsistentHashLBHashKey, LoadBalancerSettings, LoadBalancerSettingsLbPolicy, TunnelSettings},
    virtual_service::{L4MatchAttributes, RouteDestination, TLSMatchAttributes},
};
use corten_core::{Host, LabelMap, Labels, Port};
use corten_envoy::envoy::{
    config::core::v3::Metadata,
    extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
        ClusterSpecifier, TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight,
    },
    r#type::v3::{HashPolicy, hash_policy},
};
use corten_model::rules::parse_range;
use corten_routing::{DestinationRule, EgressListener, MESH_GATEWAY, Resolution, Service, ServicePort, VirtualService};
use ipnet::IpNet;

use super::{
    domains,
    http::{Target, cluster_of, origin, span},
};
use crate::{Context, listener::TcpOptions, names, waypoint};

/// A way for connections to a service's port.
#[derive(Debug, Clone)]
pub(crate) struct L4Chain {
    /// The server names of TLS that take it; none: any, and what is no TLS.
    pub(crate) names: Vec<String>,
    /// The addresses called that take it; none: any.
    pub(crate) subnets: Vec<IpNet>,
    /// The prefix of its statistics.
    pub(crate) stat_prefix: String,
    /// Where it leads.
    pub(crate) to: ClusterSpecifier,
    /// How.
    pub(crate) options: TcpOptions,
    /// The object that says so.
    pub(crate) origin: Option<Metadata>,
}

/// What a match of connections says besides addresses and names.
struct Wanted<'a> {
    port: Port,
    labels: &'a LabelMap,
    namespace: &'a str,
    gateways: &'a [String],
}

impl<'a> From<&'a L4MatchAttributes> for Wanted<'a> {
    fn from(of: &'a L4MatchAttributes) -> Self {
        Wanted {
            port: of.port,
            labels: &of.source_labels,
            namespace: &of.source_namespace,
            gateways: &of.gateways,
        }
    }
}

impl<'a> From<&'a TLSMatchAttributes> for Wanted<'a> {
    fn from(of: &'a TLSMatchAttributes) -> Self {
        Wanted {
            port: of.port,
            labels: &of.source_labels,
            namespace: &of.source_namespace,
            gateways: &of.gateways,
        }
    }
}

/// Whether connections of a workload to a port are meant.
pub fn tcp_matches(wanted: &L4MatchAttributes, labels: &LabelMap, namespace: &str, gateway: &str, port: u16) -> bool {
    holds(&wanted.into(), labels, namespace, gateway, port)
}

/// Whether connections of a workload to a port are meant, by what a match says besides their server's name.
pub fn tls_matches(wanted: &TLSMatchAttributes, labels: &LabelMap, namespace: &str, gateway: &str, port: u16) -> bool {
    holds(&wanted.into(), labels, namespace, gateway, port)
}

fn holds(wanted: &Wanted<'_>, labels: &LabelMap, namespace: &str, gateway: &str, port: u16) -> bool {
    (wanted.gateways.is_empty() || wanted.gateways.iter().any(|of| of == gateway))
        && Labels(wanted.labels).is_subset_of(labels)
        && (!wanted.port.is_given() || wanted.port.0 == port)
        && (wanted.namespace.is_empty() || wanted.namespace == namespace)
}

/// The ways for connections to a service's port, on a listener for `subnets` of its addresses (none: the listener has the service's
/// address) or for all addresses (`everywhere`), where only the server's name tells services apart.
pub(crate) fn l4_chains(
    cx: &Context<'_>,
    egress: &EgressListener,
    service: &Service,
    port: &ServicePort,
    everywhere: bool,
    subnets: &[IpNet],
) -> Vec<L4Chain> {
    let mut routing = egress
        .virtual_services
        .iter()
        .filter(|of| of.spec.hosts.iter().any(|host| host.matches(&service.host)));
    if port.protocol.is_tls() {
        let mut made: Vec<L4Chain> = tls_chains(cx, &mut routing, port.number, subnets);
        if made.is_empty() {
            let mut own = own_chain(cx, service, port, subnets);
            own.names = server_names(cx, service, everywhere || !subnets.is_empty());
            made.push(own);
        }
        return made;
    }
    let (mut made, ended) = tcp_chains(cx, &mut routing, port.number, subnets);
    if !ended {
        made.push(own_chain(cx, service, port, subnets));
    }
    made
}

/// By which names in TLS greetings a service is known; none where its address tells.
fn server_names(cx: &Context<'_>, service: &Service, by_name: bool) -> Vec<String> {
    let dynamic = service.host.is_wildcard() && service.resolution == Resolution::DynamicDns;
    if !by_name && !dynamic {
        return Vec::new();
    }
    let aliases = service.aliases.iter().flat_map(|alias| domains::of_alias(cx, alias));
    std::iter::once(service.host.to_string()).chain(aliases).collect()
}

/// Routes by server names: each combination of names and addresses once, the first that has it.
fn tls_chains(
    cx: &Context<'_>,
    routing: &mut dyn Iterator<Item = &'_ Arc<VirtualService>>,
    port: u16,
    subnets: &[IpNet],
) -> Vec<L4Chain> {
    let mut made = Vec::new();
    let mut taken: HashSet<(Vec<Host>, Vec<String>)> = HashSet::new();
    for service in routing {
        for route in service.spec.tls.iter().filter(|route| !route.route.is_empty()) {
            for wanted in &route.match_ {
                let meant = tls_matches(wanted, &cx.proxy.labels, &cx.proxy.namespace, MESH_GATEWAY, port);
                if !meant || !taken.insert((wanted.sni_hosts.clone(), wanted.destination_subnets.clone())) {
                    continue;
                }
                let own = ranges(&wanted.destination_subnets);
                let Some(mut chain) = chain_to(cx, service, &route.route, port) else {
                    continue;
                };
                chain.names = wanted.sni_hosts.iter().map(Host::to_string).collect();
                chain.subnets = if own.is_empty() { subnets.to_vec() } else { own };
                made.push(chain);
            }
        }
    }
    made
}

/// Routes of bytes, and whether the last takes all connections.
fn tcp_chains(
    cx: &Context<'_>,
    routing: &mut dyn Iterator<Item = &'_ Arc<VirtualService>>,
    port: u16,
    subnets: &[IpNet],
) -> (Vec<L4Chain>, bool) {
    let mut made = Vec::new();
    let mut listener: Vec<IpNet> = subnets.to_vec();
    listener.sort();
    for service in routing {
        for route in service.spec.tcp.iter().filter(|route| !route.route.is_empty()) {
            let meant = |wanted: &&L4MatchAttributes| {
                tcp_matches(wanted, &cx.proxy.labels, &cx.proxy.namespace, MESH_GATEWAY, port)
            };
            let meant: Vec<&L4MatchAttributes> = route.match_.iter().filter(meant).collect();
            if meant.is_empty() && !route.match_.is_empty() {
                continue;
            }
            let Some(chain) = chain_to(cx, service, &route.route, port) else {
                continue;
            };
            if meant.iter().any(|wanted| wanted.destination_subnets.is_empty()) || route.match_.is_empty() {
                made.push(L4Chain {
                    subnets: subnets.to_vec(),
                    ..chain
                });
                return (made, true);
            }
            let mut own: Vec<IpNet> = meant
                .iter()
                .flat_map(|wanted| ranges(&wanted.destination_subnets))
                .collect();
            own.sort();
            own.dedup();
            if own.is_empty() {
                continue;
            }
            let ended = own == listener;
            made.push(L4Chain { subnets: own, ..chain });
            if ended {
                return (made, true);
            }
        }
    }
    (made, false)
}

/// Ranges of addresses; what is none is left out.
fn ranges(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| parse_range(text)).collect()
}

/// The way to the service itself.
fn own_chain(cx: &Context<'_>, service: &Service, port: &ServicePort, subnets: &[IpNet]) -> L4Chain {
    let cluster = names::outbound(port.number, "", &service.host);
    L4Chain {
        names: Vec::new(),
        subnets: subnets.to_vec(),
        stat_prefix: cluster.clone(),
        options: tcp_options(cx, cx.scope.destination_rule(service).map(AsRef::as_ref), ""),
        to: ClusterSpecifier::Cluster(cluster),
        origin: None,
    }
}

/// The way to the destinations of a route; `None`: all of them have no weight.
pub(crate) fn chain_to(
    cx: &Context<'_>,
    service: &VirtualService,
    to: &[RouteDestination],
    port: u16,
) -> Option<L4Chain> {
    let cluster = |to: &RouteDestination| {
        let destination = to.destination.clone().unwrap_or_default();
        let target = target(cx, &destination.host);
        cluster_of(&destination, target, port)
    };
    let rule = |to: &RouteDestination| {
        let host = &to.destination.as_ref()?.host;
        cx.scope
            .service(host)
            .and_then(|service| cx.scope.destination_rule(service))
    };
    let first = to.first()?;
    let subset = first
        .destination
        .as_ref()
        .map_or("", |destination| destination.subset.as_str());
    let rule = rule(first).map(AsRef::as_ref);
    let (stat_prefix, specifier, options) = if let [only] = to {
        let cluster = cluster(only);
        let specifier = ClusterSpecifier::Cluster(cluster.clone());
        (cluster, specifier, tcp_options(cx, rule, subset))
    } else {
        let clusters: Vec<ClusterWeight> = to
            .iter()
            .filter_map(|to| {
                let weight = u32::try_from(to.weight).ok().filter(|weight| *weight > 0)?;
                Some(ClusterWeight {
                    name: cluster(to),
                    weight,
                    ..ClusterWeight::default()
                })
            })
            .collect();
        if clusters.is_empty() {
            return None;
        }
        let name = format!("{}.{}", service.name, service.namespace);
        let specifier = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
        (name, specifier, tcp_options(cx, rule, ""))
    };
    Some(L4Chain {
        names: Vec::new(),
        subnets: Vec::new(),
        stat_prefix,
        to: specifier,
        options,
        origin: Some(origin(service)),
    })
}

/// What the host of a destination stands for, among all that the proxy sees.
pub(crate) fn target(cx: &Context<'_>, host: &Host) -> Option<Target> {
    let named = cx.scope.named(host)?;
    let end = cx.scope.service(host)?;
    let port = match &*named.ports {
        [only] => Some(only.number),
        _ => None,
    };
    let host = match &named.alias_of {
        Some(known) if end.host == named.host => known.clone(),
        _ => end.host.clone(),
    };
    let behind = waypoint::Behind::of(cx).filter(|behind| behind.has(cx, end));
    Some(Target {
        host,
        port,
        behind: behind.map(|_| Arc::clone(end)),
    })
}

/// What a rule says about bytes passed on.
pub(crate) fn tcp_options(cx: &Context<'_>, rule: Option<&DestinationRule>, subset: &str) -> TcpOptions {
    let spec = rule.map(|rule| &rule.spec);
    let base = spec.and_then(|spec| spec.traffic_policy.as_ref());
    let own = spec.and_then(|spec| spec.subsets.iter().find(|own| own.name == subset));
    let own = own.and_then(|own| own.traffic_policy.as_ref());
    let tcp = base
        .and_then(|policy| policy.connection_pool.as_ref())
        .and_then(|pool| pool.tcp.as_ref());
    let by_source = |settings: &LoadBalancerSettings| match &settings.lb_policy {
        Some(LoadBalancerSettingsLbPolicy::ConsistentHash(hash)) => {
            hash.hash_key == Some(ConsistentHashLBHashKey::UseSourceIp(true))
        }
        _ => false,
    };
    let balancing = own
        .and_then(|policy| policy.load_balancer.as_ref())
        .or_else(|| base.and_then(|policy| policy.load_balancer.as_ref()));
    let source = HashPolicy {
        policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
    };
    let tunnel = own
        .and_then(|policy| policy.tunnel.as_ref())
        .or_else(|| base.and_then(|policy| policy.tunnel.as_ref()));
    TcpOptions {
        idle_timeout: tcp
            .and_then(|tcp| tcp.idle_timeout)
            .map(span)
            .or_else(|| cx.idle_timeout()),
        longest: tcp.and_then(|tcp| tcp.max_connection_duration).map(span),
        hash_policy: balancing
            .filter(|settings| by_source(settings))
            .map(|_| source)
            .into_iter()
            .collect(),
        tunneling: tunnel.map(tunnelling),
    }
}

fn tunnelling(tunnel: &TunnelSettings) -> TunnelingConfig {
    TunnelingConfig {
        hostname: domains::with_port(tunnel.target_host.as_str(), tunnel.target_port.0),
        use_post: tunnel.protocol.eq_ignore_ascii_case("POST"),
        ..TunnelingConfig::default()
    }
}
