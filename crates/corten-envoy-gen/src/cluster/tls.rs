//! TLS towards a host, and the header that tells it who connected.

use corten_api::istio::destination_rule::{ClientTLSSettings, ProxyProtocol, ProxyProtocolVersion};
use corten_envoy::{
    any,
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                ProxyProtocolConfig, TransportSocket, UpstreamHttpProtocolOptions, proxy_protocol_config::Version,
                transport_socket::ConfigType,
            },
        },
        extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport,
    },
};

use super::http::Http;
use crate::{
    Context,
    security::tls::{Files, Outbound, Upstream, outbound, plain_socket},
};

/// The certificates that a proxy's metadata names instead of the mesh's.
pub(super) fn files(cx: &Context<'_>) -> Option<Files> {
    let text = |key: &str| cx.proxy.metadata[key].as_str().unwrap_or_default().to_owned();
    let files = Files {
        certificate: text("TLS_CLIENT_CERT_CHAIN"),
        key: text("TLS_CLIENT_KEY"),
        authorities: text("TLS_CLIENT_ROOT_CERT"),
        own_agent: text("file-credential") == "true",
    };
    (files != Files::default()).then_some(files)
}

/// TLS towards hosts that nobody knows.
pub(super) fn of_unknown(cx: &Context<'_>, settings: Option<&ClientTLSSettings>) -> Upstream {
    outbound(&Outbound {
        cluster: crate::names::DYNAMIC_DNS,
        settings,
        mesh_external: true,
        dynamic: true,
        files: files(cx).as_ref(),
        defaults: cx.mesh().tls_defaults.as_ref(),
        ..Outbound::default()
    })
}

/// Puts it into a cluster.
pub(super) fn apply(cluster: &mut Cluster, http: &mut Http, upstream: Upstream) {
    cluster.transport_socket = upstream.socket;
    cluster.transport_socket_matches = upstream.matches;
    if upstream.name_of_request || upstream.verify_name_of_request {
        http.upstream = Some(UpstreamHttpProtocolOptions {
            auto_sni: upstream.name_of_request,
            auto_san_validation: upstream.verify_name_of_request,
            ..UpstreamHttpProtocolOptions::default()
        });
    }
}

/// Puts the PROXY protocol's header before whatever the cluster speaks.
pub(super) fn announce(cluster: &mut Cluster, protocol: &ProxyProtocol) {
    if cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(plain_socket());
    }
    if let Some(socket) = &mut cluster.transport_socket {
        *socket = announced(std::mem::take(socket), protocol);
    }
    for of in &mut cluster.transport_socket_matches {
        of.transport_socket = of.transport_socket.take().map(|socket| announced(socket, protocol));
    }
}

fn announced(socket: TransportSocket, protocol: &ProxyProtocol) -> TransportSocket {
    let version = match protocol.version {
        ProxyProtocolVersion::V1 => Version::V1,
        ProxyProtocolVersion::V2 => Version::V2,
    };
    TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version.into(),
                ..ProxyProtocolConfig::default()
            }),
            transport_socket: Some(socket),
            ..ProxyProtocolUpstreamTransport::default()
        }))),
    }
}
