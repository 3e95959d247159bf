//! Hosts that are looked up when they are called: those that wildcards cover, and, where the mesh lets its pods call what nobody
//! knows so, all others.
//!
//! A filter before the router (or, for TLS, before the bytes are passed on) looks the host up, and a cluster connects to what was
//! found. They meet in a cache: it has the same name and settings in both, or Envoy takes neither.

use corten_api::istio::mesh_config::MeshConfigOutboundTrafficPolicyMode as Mode;
use corten_core::Protocol;
use corten_envoy::{
    any,
    envoy::{
        config::{
            cluster::v3::cluster::{ClusterDiscoveryType, CustomClusterType, DnsLookupFamily},
            core::v3::TypedExtensionConfig,
            listener::v3::Filter,
        },
        extensions::{
            clusters::dynamic_forward_proxy::v3::{ClusterConfig, cluster_config::ClusterImplementationSpecifier},
            common::dynamic_forward_proxy::v3::DnsCacheConfig,
            filters::{
                http::dynamic_forward_proxy::v3::{FilterConfig, filter_config::ImplementationSpecifier},
                network::{
                    http_connection_manager::v3::HttpFilter,
                    sni_dynamic_forward_proxy::v3::{FilterConfig as ByServerName, filter_config::PortSpecifier},
                },
            },
            network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        },
    },
    uint32,
};
use corten_routing::{EgressListener, IpMode, ProxyKind, Resolution, Service, ServicePort};

use crate::{Context, listener::filters, names};

/// The most hosts that nobody knows and that are remembered, by each proxy.
const HOSTS_MAX: u32 = 1024;
/// Where the proxy's own resolver listens, unless its metadata says so.
const RESOLVER: (&str, u16) = ("127.0.0.1", 15053);
/// The filter for requests.
const FILTER: &str = "envoy.filters.http.dynamic_forward_proxy";
/// The filter for TLS.
const SNI_FILTER: &str = "envoy.filters.network.sni_dynamic_forward_proxy";
/// The type of cluster.
const CLUSTER: &str = "envoy.clusters.dynamic_forward_proxy";

/// Whether requests of a workload for hosts that nobody knows go to what their names resolve to.
pub(crate) fn resolves_unknown(cx: &Context<'_>) -> bool {
    let of_mesh = cx.mesh().outbound_traffic_policy.as_ref();
    let of_sidecar = cx.scope.sidecar.as_ref();
    let own = of_sidecar.is_some_and(|sidecar| sidecar.spec.outbound_traffic_policy.is_some());
    let wanted = of_mesh.is_some_and(|policy| policy.mode == Mode::AllowAnyDynamicDns);
    cx.proxy.kind == ProxyKind::Sidecar && wanted && !own
}

/// Whether the hosts of a service are looked up when they are called.
pub(crate) fn is_dynamic(service: &Service) -> bool {
    service.host.is_wildcard() && service.resolution == Resolution::DynamicDns
}

/// Where what was found for hosts that nobody knows is kept.
pub(crate) fn cache_of_unknown(cx: &Context<'_>) -> DnsCacheConfig {
    DnsCacheConfig {
        name: "allow_any_dfp_dns_cache".to_owned(),
        dns_lookup_family: lookup_family(cx).into(),
        max_hosts: uint32(HOSTS_MAX),
        typed_dns_resolver_config: cx.proxy.dns_capture.then(|| own_resolver(cx)),
        ..DnsCacheConfig::default()
    }
}

/// Where what was found for the hosts of a service is kept.
pub(crate) fn cache_of(cx: &Context<'_>, service: &Service) -> DnsCacheConfig {
    DnsCacheConfig {
        name: names::dns_cache(&service.host),
        dns_lookup_family: lookup_family(cx).into(),
        ..DnsCacheConfig::default()
    }
}

/// A cluster that connects to what was found. `insecure`: it may do without checking that certificates have the name of the
/// host, where TLS was not asked for.
pub(crate) fn cluster(cache: DnsCacheConfig, insecure: bool) -> ClusterDiscoveryType {
    ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: CLUSTER.to_owned(),
        typed_config: Some(any(&ClusterConfig {
            allow_insecure_cluster_options: insecure,
            cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)),
            ..ClusterConfig::default()
        })),
    })
}

/// The filters that look up the hosts of requests, one for each cache that the routes of a port may need. A request whose route
/// leads elsewhere passes them.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// For the service of these ports.
    services: Vec<(Vec<u16>, HttpFilter)>,
    /// For hosts that nobody knows.
    unknown: Option<HttpFilter>,
}

impl Lookups {
    /// Those of an egress listener.
    pub(crate) fn of(cx: &Context<'_>, egress: &EgressListener) -> Lookups {
        let services = egress.services.iter().filter(|service| is_dynamic(service));
        let services = services.map(|service| {
            let ports = service.ports.iter().filter(|port| port.protocol.is_http());
            let ports = ports.map(|port| port.number).collect();
            (ports, by_host(cx, service))
        });
        Lookups {
            services: services.collect(),
            unknown: resolves_unknown(cx).then(|| filter(cache_of_unknown(cx))),
        }
    }

    /// Puts the filters for the routes of a port (0: of all ports) before the router.
    pub(crate) fn add(&self, port: u16, made: &mut Vec<HttpFilter>) {
        let of_port = |ports: &[u16]| port == 0 || ports.contains(&port);
        let services = self.services.iter().filter(|(ports, _)| of_port(ports));
        let all = services.map(|(_, filter)| filter).chain(&self.unknown).cloned();
        let before_router = made.len().saturating_sub(1);
        made.splice(before_router..before_router, all);
    }
}

/// The filter that looks up the host that a request to a service names.
pub(crate) fn by_host(cx: &Context<'_>, service: &Service) -> HttpFilter {
    filter(cache_of(cx, service))
}

/// Puts the filter for hosts that nobody knows before the router.
pub(crate) fn add_unknown(cx: &Context<'_>, made: &mut Vec<HttpFilter>) {
    let before_router = made.len().saturating_sub(1);
    made.insert(before_router, filter(cache_of_unknown(cx)));
}

/// The filter that looks up the server's name that a client of a service's port asks for; `None`: nothing is to be looked up.
pub(crate) fn by_server_name(cx: &Context<'_>, service: &Service, port: &ServicePort) -> Option<Filter> {
    let looked_up = is_dynamic(service) && port.protocol == Protocol::Tls && cx.proxy.kind == ProxyKind::Sidecar;
    looked_up.then(|| {
        let config = ByServerName {
            dns_cache_config: Some(cache_of(cx, service)),
            port_specifier: Some(PortSpecifier::PortValue(port.number.into())),
            ..ByServerName::default()
        };
        filters::network(SNI_FILTER, &config)
    })
}

/// The families of addresses that names are looked up for.
pub(crate) fn lookup_family(cx: &Context<'_>) -> DnsLookupFamily {
    match cx.proxy.ip_mode() {
        IpMode::V6 => DnsLookupFamily::V6Only,
        IpMode::V4 | IpMode::Dual => DnsLookupFamily::V4Only,
    }
}

fn filter(cache: DnsCacheConfig) -> HttpFilter {
    let config = FilterConfig {
        implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache)),
        ..FilterConfig::default()
    };
    filters::http(FILTER, &config)
}

/// The resolver beside the proxy, which knows the mesh's names.
fn own_resolver(cx: &Context<'_>) -> TypedExtensionConfig {
    let said = cx.proxy.metadata["DNS_PROXY_ADDR"].as_str().unwrap_or_default();
    let said = said
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = said.unwrap_or(RESOLVER);
    let host = if host == "localhost" { RESOLVER.0 } else { host };
    TypedExtensionConfig {
        name: "envoy.network.dns_resolver.cares".to_owned(),
        typed_config: Some(any(&CaresDnsResolverConfig {
            resolvers: vec![filters::socket(host.trim_matches(['[', ']']), port)],
            ..CaresDnsResolverConfig::default()
        })),
    }
}
