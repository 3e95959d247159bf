//! The clusters of a waypoint: those of the services that it is for, those that their routes lead to besides, and those by which
//! its listeners are joined.

use std::collections::{BTreeSet, HashSet};

use corten_api::istio::extension_providers::MeshConfigExtensionProviderProvider as Provider;
use corten_core::Host;
use corten_envoy::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, OriginalDstLbConfig},
            },
            core::v3::{Http2ProtocolOptions, HttpProtocolOptions},
        },
        r#type::metadata::v3::{MetadataKey, metadata_key},
    },
    seconds, uint32,
};
use corten_routing::{Resolution, Service};

use super::{
    http::{Http, Speaks},
    of_port, of_vip, policy, special, stat_name,
};
use crate::{
    Context, endpoint, names,
    security::{authz, tls},
    waypoint::{self, Behind, HBONE_PORT},
};

/// How long a tunnel may be unused where the mesh does not say.
const TUNNEL_IDLE_SECONDS: i64 = 3600;
/// How long an endpoint that was reached by its address is remembered.
const FORGOTTEN_SECONDS: i64 = 60;

/// All clusters of a waypoint.
pub(crate) fn of_waypoint(cx: &Context<'_>) -> Vec<Cluster> {
    let behind = Behind::of(cx);
    let services = behind.map_or_else(Vec::new, |behind| behind.services(cx));
    let mut made = Vec::new();
    for service in beyond(cx, behind.as_ref(), &services) {
        for port in &service.ports {
            made.extend(of_port(cx, service, port));
        }
    }
    made.push(inside(cx, names::MAIN, names::MAIN));
    made.push(inside(cx, names::ENCAP, names::ORIGINATE));
    for service in &services {
        for port in &service.ports {
            for protocol in waypoint::clusters_of(port.protocol) {
                made.extend(of_vip(cx, service, port, protocol));
            }
        }
    }
    made.push(originate(cx));
    made.push(special::black_hole(cx));
    let mut seen = HashSet::new();
    made.retain(|cluster| seen.insert(cluster.name.clone()));
    made
}

/// The services that are called without being behind the waypoint: destinations of routes, and who is asked about requests.
fn beyond<'a>(
    cx: &Context<'a>,
    behind: Option<&Behind<'_>>,
    services: &[&std::sync::Arc<Service>],
) -> Vec<&'a std::sync::Arc<Service>> {
    let mut wanted: BTreeSet<Host> = BTreeSet::new();
    for service in services {
        for routes in waypoint::virtual_services(cx, service) {
            let hosts = corten_routing::destinations_of(&routes.spec).map(|to| to.host.clone());
            wanted.extend(hosts);
        }
    }
    let mut found: Vec<&std::sync::Arc<Service>> = Vec::new();
    for service in wanted.iter().filter_map(|host| cx.scope.service(host)) {
        // The tunnel to a service outside the mesh has nobody at its other end.
        if behind.is_none_or(|behind| !behind.has(cx, service) || service.mesh_external) {
            found.push(service);
        }
    }
    let catalog = &cx.snapshot.catalog;
    for provider in &cx.mesh().extension_providers {
        let asked = match &provider.provider {
            Some(Provider::EnvoyExtAuthzHttp(provider)) => &provider.service,
            Some(Provider::EnvoyExtAuthzGrpc(provider)) => &provider.service,
            _ => continue,
        };
        let host = authz::find(&catalog.services, asked).ok();
        found.extend(host.and_then(|host| cx.scope.service(&host)));
    }
    found.retain(|service| service.resolution != Resolution::Alias);
    found
}

/// To a listener of the proxy's own.
pub(super) fn inside(cx: &Context<'_>, name: &str, listener: &str) -> Cluster {
    let mut cluster = Cluster {
        name: name.to_owned(),
        alt_stat_name: stat_name(name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: Some(policy::connect_timeout(cx)),
        circuit_breakers: Some(policy::unlimited()),
        load_assignment: Some(endpoint::single(name, endpoint::internal(listener, ""))),
        transport_socket: Some(waypoint::inside()),
        ..Cluster::default()
    };
    special::set_http(&mut cluster, Http::of_unknown(cx));
    cluster
}

/// Out of the proxy, in a tunnel to the address that the connection was made to.
///
/// Whose certificate is believed: any of the mesh's; and of these the endpoint's, as the listener that begins tunnels says for each connection.
pub(super) fn originate(cx: &Context<'_>) -> Cluster {
    let prefixes: Vec<String> = tls::trust_domains(cx.mesh())
        .iter()
        .map(|domain| format!("spiffe://{domain}/"))
        .collect();
    let segment = metadata_key::PathSegment {
        segment: Some(metadata_key::path_segment::Segment::Key("waypoint".to_owned())),
    };
    let idle = policy::span(cx.mesh().hbone_idle_timeout).unwrap_or_else(|| seconds(TUNNEL_IDLE_SECONDS));
    let mut cluster = Cluster {
        name: names::ORIGINATE.to_owned(),
        alt_stat_name: stat_name(names::ORIGINATE),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        connect_timeout: Some(policy::connect_timeout(cx)),
        cleanup_interval: Some(seconds(FORGOTTEN_SECONDS)),
        circuit_breakers: Some(policy::unlimited()),
        lb_config: Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
            upstream_port_override: uint32(HBONE_PORT.into()),
            // The waypoint of another service stands for its endpoints.
            metadata_key: Some(MetadataKey {
                key: endpoint::TUNNEL_TARGET.to_owned(),
                path: vec![segment],
            }),
            ..OriginalDstLbConfig::default()
        })),
        transport_socket: Some(tls::client_socket(&tls::tunnel_outbound(&prefixes))),
        ..Cluster::default()
    };
    let http = Http {
        common: Some(HttpProtocolOptions {
            idle_timeout: Some(idle),
            ..HttpProtocolOptions::default()
        }),
        speaks: Speaks::Two(Box::new(Http2ProtocolOptions {
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        })),
        ..Http::default()
    };
    special::set_http(&mut cluster, http);
    cluster
}
