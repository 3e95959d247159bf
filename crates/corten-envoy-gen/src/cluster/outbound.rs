//! A service's port, or a subset of its endpoints, as a cluster.

use std::collections::BTreeSet;

use corten_api::istio::{
    destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode as TlsMode, TrafficPolicy},
    peer_authentication::MutualTLSMode,
};
use corten_core::{Protocol, expand_trust_domains};
use corten_envoy::{
    any,
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig,
                    LbPolicy, OriginalDstLbConfig,
                },
            },
            core::v3::{
                AggregatedConfigSource, ApiVersion, ConfigSource, TypedExtensionConfig,
                config_source::ConfigSourceSpecifier,
            },
            endpoint::v3::ClusterLoadAssignment,
        },
        extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        r#type::v3::Percent,
    },
    google::protobuf::Duration,
    seconds, string_value, uint32,
};
use corten_model::{
    Name,
    input::{TargetPort, TrafficDistribution},
};
use corten_routing::{Address, Endpoint, ProxyKind, Registry, Resolution, Service, ServicePort, endpoints};

use super::{balance, http::Http, istio, policy, special, stat::Stat, stat_name, tls, truth};
use crate::{
    Context, dynamic,
    endpoint::{self, Of, locality},
    names,
    security::{peer, tls::Outbound},
};

/// How Envoy finds the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Told,
    ByNames,
    ByName,
    Called,
    Dynamic,
}

/// What a cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// What goes out from a workload or through a gateway.
    Outbound,
    /// TLS goes through it as it is.
    ByServerName,
    /// A waypoint sends to a service that it is for, as `http` or `tcp`.
    Vip(&'static str),
}

/// The cluster; `None`: there is nothing to call.
pub(super) fn cluster(
    cx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    subset: Option<&str>,
    way: Way,
) -> Option<Cluster> {
    let wanted = super::policy_of(cx, service, port.number, subset);
    let passthrough = balance::is_passthrough(wanted.load_balancer.as_ref());
    let found = match found(cx, service, port)? {
        // Whatever a rule says, there is no one address that was called where names are looked up for each request.
        Found::Dynamic if subset.is_some() => return None,
        Found::Dynamic => Found::Dynamic,
        _ if passthrough => Found::Called,
        found => found,
    };
    let of_subset = subset.unwrap_or_default();
    let name = match way {
        Way::Outbound => names::outbound(port.number, of_subset, &service.host),
        Way::ByServerName => names::sni(port.number, of_subset, &service.host),
        Way::Vip(protocol) => names::vip(port.number, protocol, of_subset, &service.host),
    };
    let of = Of::new(cx, service, port, subset, way);
    let mut cluster = Cluster {
        alt_stat_name: stat_name(&name),
        common_lb_config: Some(CommonLbConfig::default()),
        filters: if matches!(way, Way::Vip(_)) {
            Vec::new()
        } else {
            super::peer_exchange(cx)
        },
        name,
        ..Cluster::default()
    };
    find(cx, service, port, &of, found, &mut cluster)?;
    let mut http = Http::of_port(cx, port.protocol);
    super::name_services(&mut cluster, [service]);
    let pattern = &cx.mesh().outbound_cluster_stat_name;
    if !pattern.is_empty() && !matches!(way, Way::Vip(_)) {
        let stat = Stat {
            subset: subset.unwrap_or_default(),
            ..Stat::of(service, port)
        };
        cluster.alt_stat_name = stat_name(&stat.fill(pattern));
    }

    if policy::upgrades(cx, port.protocol, wanted.connection_pool.as_ref()) {
        http.upgrade();
    }
    let budget = wanted.retry_budget.as_ref();
    policy::connections(cx, &mut cluster, &mut http, wanted.connection_pool.as_ref(), budget);
    if let Some(outliers) = &wanted.outlier_detection {
        let spreads = endpoint::distribution(cx, service) != TrafficDistribution::Any;
        policy::outliers(&mut cluster, &mut http, outliers, spreads);
    }
    pick(cx, &wanted, &of, found, &mut cluster);
    if way != Way::ByServerName {
        secure(cx, service, port, subset, &wanted, found, way, &mut cluster, &mut http);
        if let Some(protocol) = &wanted.proxy_protocol {
            tls::announce(&mut cluster, protocol);
        }
    }
    if matches!(way, Way::Vip(_)) {
        // Whatever is spoken goes through the listener that makes tunnels, or straight on where the endpoint takes none.
        let inner = cluster.transport_socket.take();
        cluster.transport_socket = Some(crate::waypoint::to_tunnel(inner));
    }
    describe(cx, service, port, subset, &wanted, &mut cluster);
    special::set_http(&mut cluster, http);
    Some(cluster)
}

fn found(cx: &Context<'_>, service: &Service, port: &ServicePort) -> Option<Found> {
    Some(match service.resolution {
        Resolution::Alias => return None,
        Resolution::ClientSide => Found::Told,
        Resolution::Dns if service.races_connections && endpoints_of(cx, service, port).len() == 1 => Found::ByName,
        Resolution::Dns => Found::ByNames,
        Resolution::DnsRoundRobin => Found::ByName,
        // Connections to a gateway are not to an address that could be gone on to.
        Resolution::Passthrough if cx.proxy.kind == ProxyKind::Router => Found::Told,
        Resolution::Passthrough if cx.proxy.kind == ProxyKind::Waypoint && service.is_kubernetes_headless() => {
            Found::Told
        }
        Resolution::Passthrough => Found::Called,
        Resolution::DynamicDns => {
            let known = matches!(
                port.protocol,
                Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls
            );
            if !known || !service.host.is_wildcard() {
                return None;
            }
            Found::Dynamic
        }
    })
}

fn endpoints_of(cx: &Context<'_>, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
    endpoints(&cx.snapshot.model, service, port)
}

/// Says how endpoints are found; `None`: there are none.
fn find(
    cx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    of: &Of<'_>,
    found: Found,
    cluster: &mut Cluster,
) -> Option<()> {
    let kind = match found {
        Found::Told => {
            cluster.eds_cluster_config = Some(EdsClusterConfig {
                service_name: cluster.name.clone(),
                eds_config: Some(ConfigSource {
                    resource_api_version: ApiVersion::V3.into(),
                    // Envoy would take a cluster whose endpoints are late for one that has none.
                    initial_fetch_timeout: Some(seconds(0)),
                    config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
                    ..ConfigSource::default()
                }),
            });
            DiscoveryType::Eds
        }
        Found::ByNames | Found::ByName => {
            // A resolver takes no sockets.
            let mut groups = of.groups(&|endpoint| !matches!(endpoint.address, Address::Unix(_)));
            if found == Found::ByName {
                groups.truncate(1);
                groups.iter_mut().for_each(endpoint::Group::keep_first);
            }
            let groups = of.preferred(groups);
            if groups.iter().all(endpoint::Group::is_empty) {
                return None;
            }
            cluster.load_assignment = Some(ClusterLoadAssignment {
                cluster_name: cluster.name.clone(),
                endpoints: endpoint::messages(groups),
                ..ClusterLoadAssignment::default()
            });
            look_up(cx, service, cluster);
            if found == Found::ByName {
                DiscoveryType::LogicalDns
            } else {
                DiscoveryType::StrictDns
            }
        }
        Found::Called => {
            if let (Resolution::Passthrough, Registry::External, TargetPort::Number(number)) =
                (service.resolution, service.registry, &port.target)
            {
                cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                    upstream_port_override: uint32((*number).into()),
                    ..OriginalDstLbConfig::default()
                }));
            }
            DiscoveryType::OriginalDst
        }
        // Put in when it is known which TLS it takes.
        Found::Dynamic => return Some(()),
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    Some(())
}

#[expect(
    deprecated,
    reason = "what replaces these is a type of cluster that the tools of today do not show"
)]
fn look_up(cx: &Context<'_>, service: &Service, cluster: &mut Cluster) {
    let family = if service.races_connections {
        DnsLookupFamily::All
    } else {
        dynamic::lookup_family(cx)
    };
    cluster.dns_lookup_family = family.into();
    cluster.typed_dns_resolver_config = Some(TypedExtensionConfig {
        name: "envoy.network.dns_resolver.cares".to_owned(),
        // A socket that is used for ever may be one that answers no longer come to.
        typed_config: Some(any(&CaresDnsResolverConfig {
            udp_max_queries: uint32(100),
            ..CaresDnsResolverConfig::default()
        })),
    });
    cluster.dns_jitter = Some(Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    cluster.dns_refresh_rate = policy::span(cx.mesh().dns_refresh_rate).or_else(|| Some(seconds(60)));
    cluster.respect_dns_ttl = true;
}

/// Says how one of the endpoints is picked.
fn pick(cx: &Context<'_>, wanted: &TrafficPolicy, of: &Of<'_>, found: Found, cluster: &mut Cluster) {
    if found == Found::Dynamic {
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
        return;
    }
    let common = cluster.common_lb_config.get_or_insert_default();
    // Endpoints that are not ready are known, and must not be called because there are many of them.
    common.healthy_panic_threshold.get_or_insert(Percent { value: 0.0 });
    locality::configure(cluster, of.preference().as_ref(), cx.proxy.kind);
    if found == Found::Called {
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
    } else {
        balance::apply(cluster, wanted.load_balancer.as_ref());
    }
}

#[expect(clippy::too_many_arguments, reason = "all of a cluster counts for its TLS")]
fn secure(
    cx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    subset: Option<&str>,
    wanted: &TrafficPolicy,
    found: Found,
    way: Way,
    cluster: &mut Cluster,
    http: &mut Http,
) {
    // Between a waypoint and what it is for, the tunnel is the mesh's TLS: only what a rule asks for besides goes inside.
    let vip = matches!(way, Way::Vip(_));
    let asked = |tls: &&ClientTLSSettings| !vip || matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual);
    let identities = identities(cx, service, port);
    let names: Vec<String> = service.identities.iter().map(ToString::to_string).collect();
    let selects = cx
        .scope
        .destination_rule(service)
        .is_some_and(|rule| rule.selector.is_some());
    let automatic = (cx.mesh().enable_auto_mtls != Some(false)).then(|| demanded(cx, service, port, found));
    let upstream = crate::security::tls::outbound(&Outbound {
        cluster: &cluster.name,
        settings: wanted.tls.as_ref().filter(asked),
        automatic: automatic.filter(|_| !vip),
        mesh_external: service.mesh_external,
        identities: &identities,
        server_name: &if found == Found::Dynamic {
            String::new()
        } else {
            names::sni(port.number, subset.unwrap_or_default(), &service.host)
        },
        external_names: if service.registry == Registry::External {
            &names
        } else {
            &[]
        },
        http2: http.is_http2(),
        original_destination: found == Found::Called,
        dynamic: found == Found::Dynamic,
        tunnels: !vip && cx.tunnels() && (cx.proxy.kind == ProxyKind::Waypoint || found == Found::Told),
        credentials: cx.proxy.kind != ProxyKind::Sidecar || selects,
        files: tls::files(cx).as_ref(),
        defaults: cx.mesh().tls_defaults.as_ref(),
        exchanges: super::exchanges(cx),
    });
    if found == Found::Dynamic {
        // Without TLS there is no certificate that could be checked.
        let insecure = upstream.insecure || upstream.socket.is_none() && upstream.matches.is_empty();
        cluster.cluster_discovery_type = Some(dynamic::cluster(dynamic::cache_of(cx, service), insecure));
    }
    tls::apply(cluster, http, upstream);
}

/// What the service's workloads take where mutual TLS is automatic. Where the endpoint is the address that was called, nothing
/// tells endpoints apart: all must take it.
fn demanded(cx: &Context<'_>, service: &Service, port: &ServicePort, found: Found) -> MutualTLSMode {
    if service.resolution == Resolution::Passthrough || found == Found::Called {
        let all = endpoints_of(cx, service, port);
        if all.is_empty() || all.iter().any(|endpoint| !endpoint.tls) {
            return MutualTLSMode::Disable;
        }
    }
    let catalog = &cx.snapshot.catalog;
    let policies = catalog.configs.peer_authentications.values();
    peer::of_service(policies, &service.namespace, &catalog.settings.root_namespace)
}

/// The identities that the service's workloads may have, in every trust domain that counts as the same.
fn identities(cx: &Context<'_>, service: &Service, port: &ServicePort) -> Vec<String> {
    let settings = &cx.snapshot.catalog.settings;
    let own = |endpoint: &Endpoint| endpoint.identity(&settings.trust_domain);
    let mut all: BTreeSet<String> = endpoints_of(cx, service, port).iter().filter_map(own).collect();
    all.extend(service.identities.iter().map(ToString::to_string));
    let mut domains: Vec<String> = settings.trust_domain_aliases.iter().map(Name::to_string).collect();
    if !domains.is_empty() {
        domains.push(settings.trust_domain.to_string());
    }
    expand_trust_domains(&all, &domains).into_iter().collect()
}

/// What the clusters of a service have of its workloads beside their being endpoints, by port: their identities, and whether all of
/// them are reached through tunnels.
pub(crate) fn of_workloads(cx: &Context<'_>, service: &Service) -> Vec<(Vec<String>, bool)> {
    let of_port = |port| (identities(cx, service, port), are_tunnelled(cx, service, port));
    service.ports.iter().map(of_port).collect()
}

fn are_tunnelled(cx: &Context<'_>, service: &Service, port: &ServicePort) -> bool {
    let all = endpoints_of(cx, service, port);
    !all.is_empty() && all.iter().all(Endpoint::is_tunnelled)
}

/// Says what the cluster comes from.
fn describe(
    cx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    subset: Option<&str>,
    wanted: &TrafficPolicy,
    cluster: &mut Cluster,
) {
    let rule = cx.scope.destination_rule(service);
    let fields = &mut istio(cluster).fields;
    let mut put = |key: &str, value| fields.insert(key.to_owned(), value);
    if let Some(rule) = rule {
        put("config", string_value(rule.path()));
        let mode = wanted.tls.as_ref().map(|tls| tls.mode);
        if matches!(mode, Some(TlsMode::Simple | TlsMode::Mutual)) {
            put("alpn_override", string_value("false"));
        }
    }
    if let Some(subset) = subset {
        put("subset", string_value(subset));
        return;
    }
    if are_tunnelled(cx, service, port) {
        put("disable_mx", truth(true));
    } else if service.mesh_external {
        put("external", truth(true));
    }
}
