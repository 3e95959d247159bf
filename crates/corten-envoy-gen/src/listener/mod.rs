//! Listeners: where a proxy takes connections, and what it does with them.

mod draft;
pub(crate) mod filters;
pub(crate) mod inbound;
mod outbound;
pub(crate) mod proxied;
mod targets;

use corten_api::istio::telemetry::WorkloadMode;
use corten_envoy::{
    boolean,
    envoy::config::{
        core::v3::{TrafficDirection, address::Address as Socket, socket_address::PortSpecifier},
        listener::v3::{AdditionalAddress, FilterChain, FilterChainMatch, Listener},
    },
    uint32,
};
use corten_routing::{Interception, IpMode, ProxyKind};

pub(crate) use self::filters::TcpOptions;
pub use self::targets::{Target, all_targets, targets};
use crate::telemetry::Signals;
use crate::{Context, dynamic, gateway, names, waypoint};

/// The port that redirected outbound connections come to, unless the mesh says otherwise.
const OUTBOUND_PORT: u16 = 15001;

/// The ports of the proxy itself, on which nothing may be taken for all addresses.
const OWN_PORTS: [u16; 5] = [15001, 15006, 15020, 15021, 15090];

/// All listeners of a proxy.
pub fn listeners(cx: &Context<'_>) -> Vec<Listener> {
    match cx.proxy.kind {
        ProxyKind::Sidecar => {}
        ProxyKind::Router => {
            let mut made = gateway::listeners(cx);
            if cx.tunnels() {
                made.push(waypoint::originate(cx, &Signals::of(cx, WorkloadMode::Client)));
            }
            return made;
        }
        ProxyKind::Waypoint => return waypoint::listeners(cx),
    }
    let mut made = outward(cx);
    made.extend(inward(cx));
    made
}

/// The listeners of a sidecar for what its workload sends.
pub fn outward(cx: &Context<'_>) -> Vec<Listener> {
    let log = Signals::of(cx, WorkloadMode::Client);
    let mut made = outbound::listeners(cx, &log);
    if cx.proxy.interception != Interception::None {
        made.push(virtual_outbound(cx, &log));
    }
    for_all_families(cx, &mut made);
    if cx.tunnels() {
        made.push(waypoint::originate(cx, &log));
    }
    made
}

/// The listeners of a sidecar for what its workload is sent.
pub fn inward(cx: &Context<'_>) -> Vec<Listener> {
    let log = Signals::of(cx, WorkloadMode::Server);
    let mut made = inbound::listeners(cx, &log);
    for_all_families(cx, &mut made);
    if takes_tunnels(cx) {
        made.push(waypoint::terminate(cx, &log));
        made.push(inbound::tunnelled(cx, &log));
    }
    made
}

/// Whether tunnels end at a sidecar: it must say that it knows them, and connections must come to it rather than to its workload.
pub(crate) fn takes_tunnels(cx: &Context<'_>) -> bool {
    cx.proxy.kind == ProxyKind::Sidecar && cx.proxy.hbone && cx.proxy.interception != Interception::None
}

fn for_all_families(cx: &Context<'_>, made: &mut [Listener]) {
    if cx.proxy.ip_mode() == IpMode::Dual {
        made.iter_mut()
            .for_each(|listener| take_both(listener, cx.proxy.wildcard()));
    }
}

/// What a listener takes for all addresses of one family it takes for those of the other one too.
pub(crate) fn take_both(listener: &mut Listener, wildcard: &str) {
    let Some(Socket::SocketAddress(socket)) = listener.address.as_ref().and_then(|address| address.address.as_ref())
    else {
        return;
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return;
    };
    if socket.address == wildcard {
        let port = u16::try_from(port).unwrap_or_default();
        listener.additional_addresses.push(AdditionalAddress {
            address: Some(filters::socket("::", port)),
            ..AdditionalAddress::default()
        });
    }
}

/// The port of a listener that the mesh's configuration may change.
fn port_or(configured: i32, otherwise: u16) -> u16 {
    u16::try_from(configured)
        .ok()
        .filter(|port| *port != 0)
        .unwrap_or(otherwise)
}

/// The listener that all redirected outbound connections come to first: from here they go to the listener for the address that
/// they were made to, and stay here when there is none.
fn virtual_outbound(cx: &Context<'_>, log: &Signals) -> Listener {
    let port = port_or(cx.mesh().proxy_listen_port, OUTBOUND_PORT);
    // Only requests say a name that could be looked up.
    let looks_up = dynamic::resolves_unknown(cx);
    Listener {
        name: names::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(filters::socket(cx.proxy.wildcard(), port)),
        // What calls this very port would come back for ever.
        filter_chains: std::iter::once(blackhole("virtualOutbound-blackhole", port, log))
            .chain(looks_up.then(|| outbound::unknown_requests(cx, log)))
            .chain([FilterChain {
                name: "virtualOutbound-catchall-tcp".to_owned(),
                filters: vec![outbound::passthrough_filter(cx, log)],
                ..FilterChain::default()
            }])
            .collect(),
        listener_filters: looks_up.then(filters::http_inspector).into_iter().collect(),
        use_original_dst: boolean(true),
        transparent: if cx.proxy.interception == Interception::Tproxy {
            boolean(true)
        } else {
            None
        },
        traffic_direction: TrafficDirection::Outbound.into(),
        access_log: log.unrouted.clone(),
        max_connections_to_accept_per_socket_event: uint32(1),
        ..Listener::default()
    }
}

/// A chain that ends connections to a port.
fn blackhole(name: &str, port: u16, log: &Signals) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: uint32(port.into()),
            ..FilterChainMatch::default()
        }),
        filters: vec![filters::tcp_to(names::BLACK_HOLE, log)],
        ..FilterChain::default()
    }
}
