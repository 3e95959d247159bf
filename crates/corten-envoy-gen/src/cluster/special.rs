//! Clusters for connections that nobody knows the destination of.

use corten_envoy::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
    },
    core::v3::{BindConfig, ExtraSourceAddress, SocketAddress, socket_address::PortSpecifier},
};
use corten_routing::IpMode;

use super::{
    http::{Http, OPTIONS},
    policy, stat_name,
};
use crate::{Context, dynamic, names};

/// The addresses that inbound connections go on from to the application, by which redirection lets them pass.
const PASSTHROUGH_V4: &str = "127.0.0.6";
const PASSTHROUGH_V6: &str = "::6";

/// Ends every connection.
pub(super) fn black_hole(cx: &Context<'_>) -> Cluster {
    Cluster {
        name: names::BLACK_HOLE.to_owned(),
        alt_stat_name: stat_name(names::BLACK_HOLE),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: Some(policy::connect_timeout(cx)),
        lb_policy: LbPolicy::RoundRobin.into(),
        ..Cluster::default()
    }
}

/// Goes on to where a connection was made to.
pub(super) fn passthrough(cx: &Context<'_>) -> Cluster {
    let mut cluster = Cluster {
        name: names::PASSTHROUGH.to_owned(),
        alt_stat_name: stat_name(names::PASSTHROUGH),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        filters: super::peer_exchange(cx),
        ..Cluster::default()
    };
    finish(cx, &mut cluster);
    cluster
}

/// As [`passthrough`], to the proxy's own application.
pub(super) fn inbound_passthrough(cx: &Context<'_>) -> Cluster {
    Cluster {
        name: names::INBOUND_PASSTHROUGH.to_owned(),
        alt_stat_name: stat_name(names::INBOUND_PASSTHROUGH),
        filters: Vec::new(),
        upstream_bind_config: Some(from_passthrough(cx)),
        ..passthrough(cx)
    }
}

/// Connections that redirection takes for the application's own, and does not send back here.
pub(super) fn from_passthrough(cx: &Context<'_>) -> BindConfig {
    let source = |address: &str| SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..SocketAddress::default()
    };
    let mode = cx.proxy.ip_mode();
    let extra = ExtraSourceAddress {
        address: Some(source(PASSTHROUGH_V6)),
        ..ExtraSourceAddress::default()
    };
    BindConfig {
        source_address: Some(source(match mode {
            IpMode::V6 => PASSTHROUGH_V6,
            IpMode::V4 | IpMode::Dual => PASSTHROUGH_V4,
        })),
        extra_source_addresses: if mode == IpMode::Dual { vec![extra] } else { Vec::new() },
        ..BindConfig::default()
    }
}

/// Resolves whatever host a request names, where the mesh lets its pods call hosts that nobody knows so; `None`: it does not.
pub(super) fn dynamic_dns(cx: &Context<'_>) -> Option<Cluster> {
    if !dynamic::resolves_unknown(cx) {
        return None;
    }
    let written = cx.mesh().outbound_traffic_policy.as_ref()?;
    let tls = super::tls::of_unknown(cx, written.tls.as_ref());
    let mut cluster = Cluster {
        name: names::DYNAMIC_DNS.to_owned(),
        alt_stat_name: stat_name(names::DYNAMIC_DNS),
        cluster_discovery_type: Some(dynamic::cluster(
            dynamic::cache_of_unknown(cx),
            tls.socket.is_none() || tls.insecure,
        )),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..Cluster::default()
    };
    finish(cx, &mut cluster);
    let mut http = Http::of_unknown(cx);
    super::tls::apply(&mut cluster, &mut http, tls);
    set_http(&mut cluster, http);
    Some(cluster)
}

/// Limits as the mesh has them for all, and the client's version of HTTP.
fn finish(cx: &Context<'_>, cluster: &mut Cluster) {
    let of_mesh = cx.mesh().default_traffic_policy.as_ref();
    let mut http = Http::of_unknown(cx);
    // Of hosts that nobody knows the limits count, and nothing that would change how they are spoken to.
    let mut unused = Http::default();
    policy::connections(
        cx,
        cluster,
        &mut unused,
        of_mesh.and_then(|policy| policy.connection_pool.as_ref()),
        None,
    );
    if let Some(common) = unused.common {
        let ours = http.common.get_or_insert_default();
        ours.max_connection_duration = common.max_connection_duration;
        ours.max_requests_per_connection = common.max_requests_per_connection;
        ours.idle_timeout = common.idle_timeout.or(ours.idle_timeout);
    }
    set_http(cluster, http);
}

pub(super) fn set_http(cluster: &mut Cluster, http: Http) {
    if let Some(options) = http.build() {
        cluster
            .typed_extension_protocol_options
            .insert(OPTIONS.to_owned(), options);
    }
}
