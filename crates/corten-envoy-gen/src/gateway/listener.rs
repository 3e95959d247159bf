//! The listeners of routers.

use std::collections::{BTreeMap, HashSet};

use corten_api::istio::telemetry::WorkloadMode;
use corten_api::istio::{gateway::ServerTLSSettingsTLSmode as Mode, proxy_config::Topology};
use corten_core::Protocol;
use corten_envoy::{
    boolean,
    envoy::{
        config::{
            core::v3::TrafficDirection,
            listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
        },
        extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
            ForwardClientCertDetails, SetCurrentClientCertDetails,
        },
    },
    seconds, uint32,
};

use super::{
    merge::{Bound, Merged, Served},
    tcp, tls,
};
use crate::telemetry::Signals;
use crate::{
    Context,
    listener::{
        filters::{self, Http, Routes, Side},
        proxied,
    },
    names,
    route::{self, L4Chain},
    security::{attach::Place, authz::Peer, enforcement::Enforcement, tls::server_socket},
};

/// The ports of the router itself.
const OWN_PORTS: [u16; 3] = [15020, 15021, 15090];

/// What a client that is in the mesh says it speaks.
const MESH_PROTOCOLS: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// The listeners of a router: one for each address and port that anything is served at.
pub(super) fn listeners(cx: &Context<'_>, merged: &Merged) -> Vec<Listener> {
    let log = Signals::of(cx, WorkloadMode::Client);
    let place = Place::of(cx.proxy, &cx.snapshot.catalog.settings.root_namespace);
    let enforced = Enforcement::new(cx, place, Peer::Certificate);
    let mut chains: BTreeMap<(String, u16), Vec<FilterChain>> = BTreeMap::new();
    let mut taken: BTreeMap<(String, u16), HashSet<String>> = BTreeMap::new();
    for bound in &merged.bound {
        if (cx.proxy.unprivileged && bound.port < 1024) || OWN_PORTS.contains(&bound.port) {
            continue;
        }
        let bind = match bound.bind.as_str() {
            "" => cx.proxy.wildcard().to_owned(),
            bind => bind.to_owned(),
        };
        let place = (bind, bound.port);
        let taken = taken.entry(place.clone()).or_default();
        let made = chains_of(cx, bound, &place, taken, &log, &enforced);
        chains.entry(place).or_default().extend(made);
    }
    chains.retain(|_, chains| !chains.is_empty());
    chains
        .into_iter()
        .map(|((bind, port), chains)| Listener {
            access_log: log.unrouted.clone(),
            ..listener(cx, &bind, port, chains)
        })
        .collect()
}

fn topology<'a>(cx: &'a Context<'_>) -> Option<&'a Topology> {
    cx.proxy_config()?.gateway_topology.as_ref()
}

fn listener(cx: &Context<'_>, bind: &str, port: u16, chains: Vec<FilterChain>) -> Listener {
    let greeted = |chain: &FilterChain| {
        let wanted = chain.filter_chain_match.as_ref();
        chain.transport_socket.is_some()
            || wanted.is_some_and(|wanted| !wanted.server_names.is_empty() || !wanted.application_protocols.is_empty())
    };
    let proxied = topology(cx).is_some_and(|topology| topology.proxy_protocol.is_some());
    let mut listener_filters = Vec::new();
    if proxied {
        listener_filters.push(filters::proxy_protocol());
    }
    if chains.iter().any(greeted) {
        listener_filters.push(filters::tls_inspector());
    }
    Listener {
        name: names::listener(bind, port),
        address: Some(filters::address(bind, port)),
        filter_chains: chains,
        listener_filters,
        per_connection_buffer_limit_bytes: proxied::connections(cx)
            .and_then(|said| u32::try_from(said.listener_per_connection_buffer_limit_bytes?).ok())
            .and_then(uint32),
        traffic_direction: TrafficDirection::Outbound.into(),
        max_connections_to_accept_per_socket_event: uint32(1),
        ..Listener::default()
    }
}

fn chains_of(
    cx: &Context<'_>,
    bound: &Bound,
    place: &(String, u16),
    taken: &mut HashSet<String>,
    log: &Signals,
    enforced: &Enforcement,
) -> Vec<FilterChain> {
    if bound.protocol.is_http() {
        let filter = manager(cx, place, &bound.table, "", bound.protocol, log, enforced);
        return vec![FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }];
    }
    let mut made = Vec::new();
    for served in &bound.servers {
        let name = |chain: FilterChain| with_names(chain, &served.names);
        if served.is_https() {
            let filter = manager(
                cx,
                place,
                &served.table,
                &served.server.name,
                bound.protocol,
                log,
                enforced,
            );
            made.push(name(terminated(cx, served, filter)));
        } else if served.server.tls.is_none() {
            made.extend(tcp::of_bytes(cx, served).map(|chain| of_l4(chain, log, enforced)));
        } else if served.passes_through() {
            let of_mesh = served
                .server
                .tls
                .as_ref()
                .is_some_and(|tls| tls.mode == Mode::AutoPassthrough);
            for l4 in tcp::passed_through(cx, served, taken) {
                let names = l4.names.clone();
                let mut chain = with_names(of_l4(l4, log, enforced), &names);
                if of_mesh {
                    let wanted = chain.filter_chain_match.get_or_insert_default();
                    wanted.application_protocols = MESH_PROTOCOLS.map(str::to_owned).to_vec();
                }
                made.push(chain);
            }
        } else if let Some(chain) = tcp::of_bytes(cx, served) {
            let chain = of_l4(chain, log, enforced);
            let mut ended = terminated(cx, served, chain.filters);
            ended.metadata = chain.metadata;
            made.push(name(ended));
        }
    }
    made
}

/// A chain that takes connections whose greeting has one of the names; `*` takes all.
fn with_names(mut chain: FilterChain, names: &[String]) -> FilterChain {
    if !names.is_empty() && !names.iter().any(|name| name == "*") {
        chain.filter_chain_match = Some(FilterChainMatch {
            server_names: names.to_vec(),
            ..FilterChainMatch::default()
        });
    }
    chain
}

/// A chain that ends TLS.
fn terminated(cx: &Context<'_>, served: &Served, filters: impl Into<Filters>) -> FilterChain {
    let socket = served
        .server
        .tls
        .as_ref()
        .map(|settings| server_socket(&tls::context(settings, cx.mesh())));
    FilterChain {
        filters: filters.into().0,
        transport_socket: socket,
        transport_socket_connect_timeout: Some(seconds(15)),
        ..FilterChain::default()
    }
}

/// Filters of a chain: one or several.
struct Filters(Vec<Filter>);

impl From<Filter> for Filters {
    fn from(filter: Filter) -> Filters {
        Filters(vec![filter])
    }
}

impl From<Vec<Filter>> for Filters {
    fn from(filters: Vec<Filter>) -> Filters {
        Filters(filters)
    }
}

fn of_l4(chain: L4Chain, log: &Signals, enforced: &Enforcement) -> FilterChain {
    let mut all = enforced.tcp.clone();
    all.push(filters::tcp_proxy(&chain.stat_prefix, chain.to, chain.options, log));
    FilterChain {
        filters: all,
        metadata: chain.origin,
        ..FilterChain::default()
    }
}

/// Takes HTTP from clients that nothing is known of.
fn manager(
    cx: &Context<'_>,
    (bind, port): &(String, u16),
    table: &str,
    name: &str,
    protocol: Protocol,
    log: &Signals,
    enforced: &Enforcement,
) -> Filter {
    let stat_prefix = if name.is_empty() {
        filters::stat(&format!("outbound_{}", names::listener(bind, *port)))
    } else {
        name.to_owned()
    };
    let mut manager = Http {
        side: Side::Outbound,
        stat_prefix,
        routes: Routes::Named(table.to_owned()),
        filters: filters::http_filters(protocol == Protocol::GrpcWeb, enforced.http.clone()),
        cx,
        log,
    }
    .manager();
    let topology = topology(cx);
    let details = topology.and_then(|topology| proxied::forwarded(topology.forward_client_cert_details));
    let details = details.unwrap_or(ForwardClientCertDetails::SanitizeSet);
    let tells = matches!(
        details,
        ForwardClientCertDetails::SanitizeSet | ForwardClientCertDetails::AppendForward
    );
    manager.use_remote_address = boolean(true);
    manager.xff_num_trusted_hops = topology.map_or(0, |topology| topology.num_trusted_proxies);
    manager.forward_client_cert_details = details.into();
    manager.set_current_client_cert_details = tells.then(|| SetCurrentClientCertDetails {
        subject: boolean(true),
        cert: true,
        dns: true,
        uri: true,
        ..SetCurrentClientCertDetails::default()
    });
    "istio-envoy".clone_into(&mut manager.server_name);
    if let Some(said) = route::proxy_headers(cx) {
        proxied::server(said, &mut manager);
    }
    filters::manager_filter(&manager)
}
