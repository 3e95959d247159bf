//! The listeners at which tunnels end and begin: a waypoint's, and those of other proxies that know tunnels.

use std::collections::BTreeMap;

use corten_api::istio::telemetry::WorkloadMode;
use corten_envoy::{
    boolean,
    envoy::{
        config::{
            accesslog::v3::{AccessLogFilter, ResponseFlagFilter, access_log_filter::FilterSpecifier},
            core::v3::{Http2ProtocolOptions, KeepaliveSettings},
            listener::v3::{
                FilterChain, Listener,
                listener::{
                    ConnectionBalanceConfig, InternalListenerConfig, ListenerSpecifier,
                    connection_balance_config::{BalanceType, ExactBalance},
                },
            },
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
                route::Action,
                route_action::{ClusterSpecifier, UpgradeConfig, upgrade_config::ConnectConfig},
                route_match::{ConnectMatcher, PathSpecifier},
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::{
                http_connection_manager::v3::http_connection_manager::UpgradeConfig as Upgrade,
                tcp_proxy::v3::tcp_proxy::{ClusterSpecifier as To, TunnelingConfig},
            },
        },
    },
    seconds, uint32,
};
use corten_routing::IpMode;
use ipnet::IpNet;

use super::{Behind, HBONE_PORT, main_internal, state};
use crate::telemetry::{Signals, with};
use crate::{
    Context,
    listener::{
        TcpOptions,
        filters::{self, Http, Routes, Side},
    },
    names,
    security::tls,
};

/// How many connections of one client share its tunnel's connection: all of them are one thread's.
const STREAMS_MAX: u32 = 100;
/// When silent clients are asked whether they are still there, and how long they may take.
const KEEPALIVE_SECONDS: (i64, i64) = (10, 20);
const CONNECT: &str = "CONNECT";

/// The three listeners.
pub(crate) fn listeners(cx: &Context<'_>) -> Vec<Listener> {
    let log = Signals::of(cx, WorkloadMode::Server);
    vec![
        terminate(cx, &log),
        main_internal::listener(cx, &log),
        originate(cx, &log),
    ]
}

/// Ends tunnels: the caller must show a certificate of the mesh, and names the address it wants to reach.
pub(crate) fn terminate(cx: &Context<'_>, log: &Signals) -> Listener {
    let mut manager = Http {
        side: Side::Inbound,
        stat_prefix: names::TERMINATE.to_owned(),
        routes: Routes::Inline(Box::new(to_main())),
        filters: vec![
            state::of_tunnel(),
            filters::http("envoy.filters.http.router", &Router::default()),
        ],
        cx,
        log: &failures(log),
    }
    .unlimited();
    // Where a tunnel comes from is where its connection comes from, and not what a header of it says.
    manager.use_remote_address = boolean(true);
    manager.skip_xff_append = true;
    manager.upgrade_configs = vec![Upgrade {
        upgrade_type: CONNECT.to_owned(),
        ..Upgrade::default()
    }];
    manager.http2_protocol_options = Some(Http2ProtocolOptions {
        allow_connect: true,
        max_concurrent_streams: uint32(STREAMS_MAX),
        connection_keepalive: Some(KeepaliveSettings {
            interval: Some(seconds(KEEPALIVE_SECONDS.0)),
            timeout: Some(seconds(KEEPALIVE_SECONDS.1)),
            ..KeepaliveSettings::default()
        }),
        ..Http2ProtocolOptions::default()
    });
    let mut listener = Listener {
        name: names::TERMINATE.to_owned(),
        address: Some(filters::socket(cx.proxy.wildcard(), HBONE_PORT)),
        filter_chains: vec![FilterChain {
            name: "default".to_owned(),
            filters: vec![filters::manager_filter(&manager)],
            transport_socket: Some(tls::server_socket(&tls::tunnel_inbound(&tls::trust_domains(cx.mesh())))),
            ..FilterChain::default()
        }],
        // Few connections that carry much: spread over threads one by one.
        connection_balance_config: Some(ConnectionBalanceConfig {
            balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
        }),
        ..Listener::default()
    };
    if cx.proxy.ip_mode() == IpMode::Dual {
        crate::listener::take_both(&mut listener, cx.proxy.wildcard());
    }
    listener
}

/// Every tunnel's connection goes on to the listener that decides.
fn to_main() -> RouteConfiguration {
    let connect = RouteAction {
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: CONNECT.to_owned(),
            connect_config: Some(ConnectConfig::default()),
            ..UpgradeConfig::default()
        }],
        cluster_specifier: Some(ClusterSpecifier::Cluster(names::MAIN.to_owned())),
        // A tunnel lasts as long as its connection does.
        timeout: Some(seconds(0)),
        ..RouteAction::default()
    };
    RouteConfiguration {
        name: "default".to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "default".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                r#match: Some(RouteMatch {
                    path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher::default())),
                    ..RouteMatch::default()
                }),
                action: Some(Action::Route(connect)),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

/// Begins tunnels, to the address that the connection has inside the proxy.
///
/// Who must be at the other end is said by the endpoint that was chosen. Where none was, because a workload was called by its own
/// address, the address tells.
pub(crate) fn originate(cx: &Context<'_>, log: &Signals) -> Listener {
    let tunnel = TcpOptions {
        tunneling: Some(TunnelingConfig {
            hostname: "%DOWNSTREAM_LOCAL_ADDRESS%".to_owned(),
            ..TunnelingConfig::default()
        }),
        ..TcpOptions::default()
    };
    let to = To::Cluster(names::ORIGINATE.to_owned());
    let proxy = filters::tcp_proxy(names::ORIGINATE, to, tunnel, &failures(log));
    let chain = |name: &str, known: Option<&str>| FilterChain {
        name: name.to_owned(),
        filters: vec![state::expected(known), proxy.clone()],
        ..FilterChain::default()
    };
    let mut listener = Listener {
        name: names::ORIGINATE.to_owned(),
        listener_specifier: Some(internal()),
        use_original_dst: boolean(false),
        listener_filters: vec![filters::original_dst()],
        filter_chains: vec![chain(names::ORIGINATE, None)],
        ..Listener::default()
    };
    let mut known: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for (address, names) in Behind::of(cx).map_or_else(BTreeMap::new, |behind| behind.workloads(cx)) {
        if let Some(names) = names {
            known.entry(names).or_default().push(address.into());
        }
    }
    if !known.is_empty() {
        let mut ranges = Vec::new();
        for (names, addresses) in &known {
            listener.filter_chains.push(chain(names, Some(names)));
            ranges.push(main_internal::range(addresses, main_internal::to_chain(names)));
        }
        let otherwise = main_internal::to_chain(names::ORIGINATE);
        listener.filter_chain_matcher = Some(main_internal::by_address(ranges, Some(otherwise)));
    }
    listener
}

/// A listener that only clusters of the same proxy send to.
pub(crate) fn internal() -> ListenerSpecifier {
    ListenerSpecifier::InternalListener(InternalListenerConfig::default())
}

/// The log of what fails at a tunnel's end: what succeeds is in the log of what was inside.
fn failures(log: &Signals) -> Signals {
    let failed = AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter::default())),
    };
    log.with_logs(|log| with(log, failed.clone())).without_traces()
}
