//! Network and HTTP filters, and the values that their fields share.

use corten_api::istio::mesh_config::NormalizationType as Normalization;
use corten_envoy::{
    any, boolean,
    envoy::{
        config::{
            core::v3::{
                Address, AggregatedConfigSource, ConfigSource, HttpProtocolOptions, Pipe, SocketAddress, address,
                config_source, socket_address,
            },
            listener::v3::{Filter, ListenerFilter, filter, listener_filter},
            route::v3::RouteConfiguration,
        },
        extensions::filters::{
            http::{
                cors::v3::Cors, fault::v3::HttpFault, grpc_stats::v3::FilterConfig as GrpcStats, grpc_web::v3::GrpcWeb,
                router::v3::Router,
            },
            listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, original_src::v3::OriginalSrc,
                proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector,
            },
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{
                        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                        SetCurrentClientCertDetails, UpgradeConfig,
                    },
                    http_filter,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy},
            },
        },
    },
    google::protobuf::{Any, Duration},
    prost::{Message, Name},
    seconds, uint32,
};

use super::proxied;
use crate::Context;
use crate::telemetry::Signals;

/// The length of a cluster's name after which its statistics' name ends: names hold no `;`.
const STAT_END: char = ';';

/// A network filter.
pub(crate) fn network<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(config))),
    }
}

/// An HTTP filter.
pub(crate) fn http<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    http_any(name, any(config))
}

/// An HTTP filter whose configuration is packed.
pub(crate) fn http_any(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

fn listener<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(config))),
        ..ListenerFilter::default()
    }
}

/// Finds where a redirected connection wanted to go.
pub(crate) fn original_dst() -> ListenerFilter {
    listener("envoy.filters.listener.original_dst", &OriginalDst {})
}

/// Keeps the client's address towards the application, with the mark that tells such connections apart.
pub(crate) fn original_src() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_src",
        &OriginalSrc {
            mark: 1337,
            ..OriginalSrc::default()
        },
    )
}

/// Finds server name and protocols in a TLS greeting.
pub(crate) fn tls_inspector() -> ListenerFilter {
    let config = TlsInspector {
        initial_read_buffer_size: uint32(512),
        ..TlsInspector::default()
    };
    listener("envoy.filters.listener.tls_inspector", &config)
}

/// Finds whether HTTP is spoken.
pub(crate) fn http_inspector() -> ListenerFilter {
    listener("envoy.filters.listener.http_inspector", &HttpInspector {})
}

/// Finds who called, where a balancer before the proxy says it.
pub(crate) fn proxy_protocol() -> ListenerFilter {
    listener("envoy.filters.listener.proxy_protocol", &ProxyProtocol::default())
}

/// From where routes and endpoints come: the same stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: corten_envoy::envoy::config::core::v3::ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

/// Where a listener is: a TCP socket, or a path for `unix:PATH`.
pub(crate) fn address(bind: &str, port: u16) -> Address {
    let Some(path) = bind.strip_prefix("unix:") else {
        return socket(bind, port);
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    Address {
        address: Some(address::Address::Pipe(Pipe {
            path: path.to_owned(),
            ..Pipe::default()
        })),
    }
}

/// A TCP socket.
pub(crate) fn socket(address: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

/// The name of a cluster's, or listener's, statistics.
pub(crate) fn stat(name: &str) -> String {
    format!("{name}{STAT_END}")
}

/// Passes bytes on to a cluster.
pub(crate) fn tcp_proxy(stat_prefix: &str, to: tcp_proxy::ClusterSpecifier, more: TcpOptions, log: &Signals) -> Filter {
    let config = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        access_log: log.of_connections(),
        idle_timeout: more.idle_timeout,
        max_downstream_connection_duration: more.longest,
        hash_policy: more.hash_policy,
        tunneling_config: more.tunneling,
        cluster_specifier: Some(to),
        ..TcpProxy::default()
    };
    network("envoy.filters.network.tcp_proxy", &config)
}

/// What a DestinationRule says about bytes passed on.
#[derive(Debug, Clone, Default)]
pub(crate) struct TcpOptions {
    /// How long a connection may be silent.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long a connection may last.
    pub(crate) longest: Option<Duration>,
    /// Which endpoint.
    pub(crate) hash_policy: Vec<corten_envoy::envoy::r#type::v3::HashPolicy>,
    /// Inside which tunnel.
    pub(crate) tunneling: Option<tcp_proxy::TunnelingConfig>,
}

/// Passes bytes on to one cluster, as it was made for a blackhole or a passthrough.
pub(crate) fn tcp_to(cluster: &str, log: &Signals) -> Filter {
    let to = tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned());
    tcp_proxy(cluster, to, TcpOptions::default(), log)
}

/// Which side of a proxy HTTP is spoken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Towards the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// Where an HTTP connection's routes are.
#[derive(Debug, Clone)]
pub(crate) enum Routes {
    /// Fetched, by name.
    Named(String),
    /// Here.
    Inline(Box<RouteConfiguration>),
}

/// The HTTP filters of a connection: those of security first.
pub(crate) fn http_filters(grpc_web: bool, security: Vec<HttpFilter>) -> Vec<HttpFilter> {
    let mut filters = security;
    if grpc_web {
        filters.push(http("envoy.filters.http.grpc_web", &GrpcWeb {}));
    }
    let stats = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(
            corten_envoy::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier::StatsForAllMethods(
                corten_envoy::google::protobuf::BoolValue { value: false },
            ),
        ),
        ..GrpcStats::default()
    };
    filters.push(http("envoy.filters.http.grpc_stats", &stats));
    filters.push(http("envoy.filters.http.fault", &HttpFault::default()));
    filters.push(http("envoy.filters.http.cors", &Cors {}));
    let router = Router {
        suppress_envoy_headers: false,
        ..Router::default()
    };
    filters.push(http("envoy.filters.http.router", &router));
    filters
}

/// What an HTTP connection manager is made of.
#[derive(Debug)]
pub(crate) struct Http<'a> {
    /// The side.
    pub(crate) side: Side,
    /// The prefix of its statistics.
    pub(crate) stat_prefix: String,
    /// Where its routes are.
    pub(crate) routes: Routes,
    /// Its filters, the router last.
    pub(crate) filters: Vec<HttpFilter>,
    /// For whom.
    pub(crate) cx: &'a Context<'a>,
    /// Its access log.
    pub(crate) log: &'a Signals,
}

impl Http<'_> {
    /// The configuration, before it is packed.
    pub(crate) fn manager(self) -> HttpConnectionManager {
        let cx = self.cx;
        let mut manager = self.unlimited();
        manager.common_http_protocol_options = cx.idle_timeout().map(|timeout| HttpProtocolOptions {
            idle_timeout: Some(timeout),
            ..HttpProtocolOptions::default()
        });
        proxied::limit(cx, &mut manager);
        manager
    }

    /// The same for what carries other connections, whose limits do not count for it.
    pub(crate) fn unlimited(self) -> HttpConnectionManager {
        let mesh = self.cx.mesh();
        let normalization = mesh
            .path_normalization
            .as_ref()
            .map(|of| of.normalization)
            .unwrap_or_default();
        let inbound = self.side == Side::Inbound;
        let mut manager = HttpConnectionManager {
            stat_prefix: self.stat_prefix,
            http_filters: self.filters,
            use_remote_address: boolean(false),
            server_name: if inbound {
                "istio-envoy".to_owned()
            } else {
                String::new()
            },
            forward_client_cert_details: if inbound {
                ForwardClientCertDetails::AppendForward.into()
            } else {
                ForwardClientCertDetails::Sanitize.into()
            },
            set_current_client_cert_details: inbound.then(|| SetCurrentClientCertDetails {
                subject: boolean(true),
                dns: true,
                uri: true,
                ..SetCurrentClientCertDetails::default()
            }),
            stream_idle_timeout: Some(seconds(0)),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "websocket".to_owned(),
                ..UpgradeConfig::default()
            }],
            proxy_100_continue: true,
            normalize_path: boolean(normalization != Normalization::None),
            merge_slashes: matches!(
                normalization,
                Normalization::MergeSlashes | Normalization::DecodeAndMergeSlashes
            ),
            path_with_escaped_slashes_action: if normalization == Normalization::DecodeAndMergeSlashes {
                PathWithEscapedSlashesAction::UnescapeAndForward.into()
            } else {
                PathWithEscapedSlashesAction::KeepUnchanged.into()
            },
            access_log: self.log.of_requests(),
            tracing: self.log.tracing.clone(),
            request_id_extension: self.log.request_id.clone(),
            route_specifier: Some(match self.routes {
                Routes::Named(route_config_name) => RouteSpecifier::Rds(Rds {
                    config_source: Some(ads()),
                    route_config_name,
                }),
                Routes::Inline(routes) => RouteSpecifier::RouteConfig(*routes),
            }),
            ..HttpConnectionManager::default()
        };
        proxied::headers(self.cx, inbound, &mut manager);
        manager
    }

    /// The filter.
    pub(crate) fn filter(self) -> Filter {
        manager_filter(&self.manager())
    }
}

/// The filter of an HTTP connection manager.
pub(crate) fn manager_filter(manager: &HttpConnectionManager) -> Filter {
    network("envoy.filters.network.http_connection_manager", manager)
}

/// Takes requests as HTTP proxies take them, with whole URLs.
pub(crate) fn allow_absolute_urls(manager: &mut HttpConnectionManager) {
    let options = manager.http_protocol_options.get_or_insert_default();
    options.allow_absolute_url = boolean(true);
}
