//! Where connections come in: one listener for all that are redirected, with chains for each port of the workload, and one for each
//! port that a Sidecar has the proxy itself listen on.

use std::{collections::BTreeSet, net::IpAddr};

use corten_api::istio::{
    peer_authentication::MutualTLSMode,
    sidecar::{CaptureMode, IstioIngressListener},
};
use corten_core::Protocol;
use corten_envoy::{
    boolean, duration,
    envoy::{
        config::{
            core::v3::{CidrRange, TrafficDirection},
            listener::v3::{
                Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
                listener_filter_chain_match_predicate::{MatchSet, Rule},
            },
        },
        r#type::v3::Int32Range,
    },
    google::protobuf::Duration,
    seconds, uint32,
};
use corten_model::{Labels, Name, rules::PeerModes};
use corten_routing::{Interception, Service, ServicePort};
use ipnet::IpNet;

use super::{
    OWN_PORTS, blackhole,
    draft::{PLAIN_HTTP, cidr},
    filters::{self, Http, Routes, Side},
    port_or,
    targets::targets,
};
use crate::telemetry::Signals;
use crate::{
    Context, names, route,
    security::{
        attach::Place,
        authz::Peer,
        enforcement::Enforcement,
        peer,
        tls::{self, Inbound},
    },
    waypoint,
};

/// The port that redirected inbound connections come to, unless the mesh says otherwise.
const INBOUND_PORT: u16 = 15006;

/// The application protocols by which sidecars say that they are sidecars, for HTTP.
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// The same for bytes.
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// What leads to a chain, and what it does with TLS.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// `tls` or `raw_buffer`; empty: either.
    transport: &'static str,
    protocols: Protocols,
    /// The mesh's mutual TLS ends here.
    terminates: bool,
    /// HTTP is spoken.
    http: bool,
}

#[derive(Debug, Clone, Copy)]
enum Protocols {
    Any,
    PlainHttp,
    MeshHttp,
    MeshTcp,
    Mesh,
}

impl Protocols {
    fn names(self) -> Vec<String> {
        let names: Vec<&str> = match self {
            Protocols::Any => Vec::new(),
            Protocols::PlainHttp => PLAIN_HTTP.to_vec(),
            Protocols::MeshHttp => MESH_HTTP.to_vec(),
            Protocols::MeshTcp => MESH_TCP.to_vec(),
            Protocols::Mesh => MESH_TCP.iter().rev().chain(&MESH_HTTP).copied().collect(),
        };
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The ways into a port, by what is spoken there and what the workload demands.
fn ways(protocol: Protocol, mode: MutualTLSMode) -> Vec<Way> {
    let way = |transport, protocols, terminates, http| Way {
        transport,
        protocols,
        terminates,
        http,
    };
    let (is_http, is_tcp) = (protocol.is_http(), protocol.is_tcp());
    match mode {
        MutualTLSMode::Strict if is_http => vec![way("tls", Protocols::Any, true, true)],
        MutualTLSMode::Strict if is_tcp => vec![way("tls", Protocols::Any, true, false)],
        MutualTLSMode::Strict => vec![
            way("tls", Protocols::MeshHttp, true, true),
            way("tls", Protocols::Any, true, false),
        ],
        MutualTLSMode::Disable if is_http => vec![way("raw_buffer", Protocols::Any, false, true)],
        // Nobody looks for TLS on such a port, so that all bytes are plain ones.
        MutualTLSMode::Disable if is_tcp => vec![way("raw_buffer", Protocols::Any, false, false)],
        MutualTLSMode::Disable => vec![
            way("raw_buffer", Protocols::PlainHttp, false, true),
            way("raw_buffer", Protocols::Any, false, false),
        ],
        MutualTLSMode::Permissive | MutualTLSMode::Unset if is_http => vec![
            way("tls", Protocols::Mesh, true, true),
            way("raw_buffer", Protocols::Any, false, true),
        ],
        MutualTLSMode::Permissive | MutualTLSMode::Unset if is_tcp => vec![
            way("tls", Protocols::Mesh, true, false),
            way("tls", Protocols::Any, false, false),
            way("raw_buffer", Protocols::Any, false, false),
        ],
        MutualTLSMode::Permissive | MutualTLSMode::Unset => vec![
            way("tls", Protocols::MeshHttp, true, true),
            way("raw_buffer", Protocols::PlainHttp, false, true),
            way("tls", Protocols::MeshTcp, true, false),
            way("raw_buffer", Protocols::Any, false, false),
            way("tls", Protocols::Any, false, false),
        ],
    }
}

/// A port that is served: a service's, a Sidecar's, or all others (0).
struct Served {
    /// The port called, which chains are chosen by; 0: any other.
    called: u16,
    /// The workload's port, which mutual TLS and the cluster go by.
    number: u16,
    protocol: Protocol,
    cluster: String,
    of: Option<(Service, ServicePort)>,
    /// The address that the proxy itself listens on for it; `None`: connections are redirected.
    bind: Option<String>,
}

/// What makes chains: what all of them share.
struct Maker<'a> {
    cx: &'a Context<'a>,
    log: &'a Signals,
    modes: PeerModes,
    trust_domains: Vec<String>,
    enforcement: Enforcement,
}

/// The listeners for inbound connections.
pub(super) fn listeners(cx: &Context<'_>, log: &Signals) -> Vec<Listener> {
    let maker = Maker::new(cx, log, Peer::Certificate);
    let (bound, redirected): (Vec<Served>, Vec<Served>) =
        served(cx).into_iter().partition(|served| served.bind.is_some());
    let mut made = Vec::new();
    if cx.proxy.interception != Interception::None {
        made.push(virtual_inbound(&maker, &redirected));
    }
    made.extend(bound.iter().map(|served| maker.listening(served)));
    made
}

/// The listener that all redirected inbound connections come to.
fn virtual_inbound(maker: &Maker<'_>, served: &[Served]) -> Listener {
    let Maker { cx, log, .. } = *maker;
    let port = port_or(cx.mesh().proxy_inbound_listen_port, INBOUND_PORT);
    let mut chains = vec![blackhole("virtualInbound-blackhole", port, log)];
    chains.extend(maker.passthrough(0));
    // Ports that mutual TLS is demanded of by number though no service leads there.
    let known: BTreeSet<u16> = served.iter().map(|served| served.called).collect();
    for number in maker.modes.ports.keys().filter(|number| !known.contains(number)) {
        chains.extend(maker.passthrough(*number));
    }
    chains.extend(served.iter().flat_map(|served| maker.chains(served)));
    Listener {
        name: names::VIRTUAL_INBOUND.to_owned(),
        address: Some(filters::socket(cx.proxy.wildcard(), port)),
        listener_filters: [redirection(cx), inspectors(&chains)].concat(),
        filter_chains: chains,
        listener_filters_timeout: Some(detection_timeout(cx)),
        continue_on_listener_filters_timeout: true,
        transparent: if cx.proxy.interception == Interception::Tproxy {
            boolean(true)
        } else {
            None
        },
        access_log: log.unrouted.clone(),
        traffic_direction: TrafficDirection::Inbound.into(),
        max_connections_to_accept_per_socket_event: uint32(1),
        ..Listener::default()
    }
}

/// How long it may take to find out what a connection speaks.
fn detection_timeout(cx: &Context<'_>) -> Duration {
    let written = cx.mesh().protocol_detection_timeout;
    let written = written.and_then(corten_core::Duration::to_std).map(duration);
    written.unwrap_or_else(|| seconds(0))
}

/// Where the proxy itself listens for a port that a Sidecar lists; `None`: connections to it are redirected.
///
/// Without an address it is the workload's own, so that the application can have the same port on loopback.
fn bind(cx: &Context<'_>, ingress: &IstioIngressListener) -> Option<String> {
    let listens = match ingress.capture_mode {
        CaptureMode::Default => cx.proxy.interception == Interception::None,
        mode => mode == CaptureMode::None,
    };
    let own = || match cx.proxy.addresses.iter().find(|address| is_global(address)) {
        Some(address) => address.to_string(),
        None => cx.proxy.wildcard().to_owned(),
    };
    let written = &ingress.bind;
    listens.then(|| if written.is_empty() { own() } else { written.clone() })
}

/// Whether an address can be called from elsewhere.
fn is_global(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// Whether a listener is possible: for one that listens by itself the proxy needs the right to, and the proxy's own ports are taken.
fn may_listen(cx: &Context<'_>, bind: Option<&String>, port: u16) -> bool {
    let taken = bind.is_some_and(|bind| bind == cx.proxy.wildcard()) && OWN_PORTS.contains(&port);
    let refused = bind.is_some() && cx.proxy.unprivileged && port < 1024;
    !taken && !refused
}

/// The ports that are served: those of a Sidecar that lists them, else those that services lead to.
fn served(cx: &Context<'_>) -> Vec<Served> {
    let targets = targets(cx);
    let listed = cx
        .scope
        .sidecar
        .as_ref()
        .map_or(&[][..], |sidecar| &sidecar.spec.ingress);
    if listed.is_empty() {
        // Without redirection the application has these ports itself.
        if cx.proxy.interception == Interception::None {
            return Vec::new();
        }
        let of = targets.into_iter().map(|target| Served {
            called: target.number,
            number: target.number,
            protocol: target.port.protocol,
            cluster: names::inbound(target.number),
            of: Some((Service::clone(&target.service), target.port)),
            bind: None,
        });
        return of.collect();
    }
    let mut seen = BTreeSet::new();
    let of = listed.iter().filter_map(|ingress| {
        let port = ingress.port.as_ref()?;
        let number = port.number.0;
        let bind = bind(cx, ingress);
        if !may_listen(cx, bind.as_ref(), number) || !seen.insert(number) {
            return None;
        }
        let target = targets
            .iter()
            .find(|target| target.number == number || target.port.number == number);
        Some(Served {
            called: number,
            number,
            protocol: Protocol::parse(&port.protocol),
            cluster: names::inbound(number),
            of: target.map(|target| (Service::clone(&target.service), target.port.clone())),
            bind,
        })
    });
    of.collect()
}

/// The listener for what comes out of tunnels that end here: no TLS is left, and who calls is whom the tunnel is of.
pub(super) fn tunnelled(cx: &Context<'_>, log: &Signals) -> Listener {
    let maker = Maker {
        modes: PeerModes {
            mode: MutualTLSMode::Disable,
            ..PeerModes::default()
        },
        ..Maker::new(cx, log, Peer::Tunnel)
    };
    let of_ports = served(cx).into_iter().filter(|served| served.bind.is_none());
    let mut chains: Vec<FilterChain> = of_ports.flat_map(|served| maker.chains(&served)).collect();
    chains.extend(maker.passthrough(0));
    // Whoever opens a tunnel says where it leads, which must be here.
    let own: Vec<CidrRange> = cx
        .proxy
        .addresses
        .iter()
        .map(|address| cidr(&IpNet::from(*address)))
        .collect();
    for wanted in chains.iter_mut().filter_map(|chain| chain.filter_chain_match.as_mut()) {
        wanted.transport_protocol.clear();
        wanted.prefix_ranges.clone_from(&own);
    }
    Listener {
        name: names::MAIN.to_owned(),
        listener_specifier: Some(waypoint::internal()),
        listener_filters: [vec![filters::original_dst()], inspectors(&chains)].concat(),
        filter_chains: chains,
        listener_filters_timeout: Some(detection_timeout(cx)),
        continue_on_listener_filters_timeout: true,
        access_log: log.unrouted.clone(),
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Listener::default()
    }
}

impl<'a> Maker<'a> {
    /// `peer`: whose identity policies are about.
    fn new(cx: &'a Context<'a>, log: &'a Signals, peer: Peer) -> Maker<'a> {
        let catalog = &cx.snapshot.catalog;
        let pairs = cx.proxy.labels.iter();
        let labels = Labels::new(pairs.map(|(key, value)| (Name::from(key.as_str()), Name::from(value.as_str()))));
        let policies = catalog.configs.peer_authentications.values();
        Maker {
            cx,
            log,
            modes: peer::of_workload(policies, &cx.proxy.namespace, &labels, &catalog.settings.root_namespace),
            trust_domains: tls::trust_domains(cx.mesh()),
            enforcement: Enforcement::new(cx, Place::of(cx.proxy, &catalog.settings.root_namespace), peer),
        }
    }

    /// The listener of a port that the proxy itself listens on.
    fn listening(&self, served: &Served) -> Listener {
        let bind = self.bind(served);
        let chains = self.chains(served);
        Listener {
            name: names::listener(bind, served.called),
            address: Some(filters::socket(bind, served.called)),
            listener_filters: inspectors(&chains),
            filter_chains: chains,
            listener_filters_timeout: Some(detection_timeout(self.cx)),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Inbound.into(),
            max_connections_to_accept_per_socket_event: uint32(1),
            access_log: self.log.unrouted.clone(),
            ..Listener::default()
        }
    }

    /// The address that the chains of a port are named by.
    fn bind<'s>(&'s self, served: &'s Served) -> &'s str {
        served.bind.as_deref().unwrap_or_else(|| self.cx.proxy.wildcard())
    }

    /// The chains of a port that a service or a Sidecar names.
    fn chains(&self, served: &Served) -> Vec<FilterChain> {
        let mode = peer::of_port(&self.modes, served.number);
        let name = names::listener(self.bind(served), served.called);
        ways(served.protocol, mode)
            .into_iter()
            .map(|way| self.chain(way, &name, served))
            .collect()
    }

    /// The chains of ports that nobody names, or of one that only a PeerAuthentication names.
    fn passthrough(&self, number: u16) -> Vec<FilterChain> {
        let mode = peer::of_port(&self.modes, number);
        let served = Served {
            called: number,
            number,
            protocol: Protocol::Unsupported,
            cluster: names::INBOUND_PASSTHROUGH.to_owned(),
            of: None,
            bind: None,
        };
        let made = ways(served.protocol, mode).into_iter().map(|way| {
            let name = if way.http {
                "virtualInbound-catchall-http"
            } else {
                names::VIRTUAL_INBOUND
            };
            self.chain(way, name, &served)
        });
        made.collect()
    }

    fn chain(&self, way: Way, name: &str, served: &Served) -> FilterChain {
        let socket = way.terminates.then(|| {
            tls::server_socket(&tls::inbound(&Inbound {
                trust_domains: &self.trust_domains,
                settings: self.cx.mesh().mesh_mtls.as_ref(),
                files: None,
            }))
        });
        FilterChain {
            name: name.to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: if served.called == 0 {
                    None
                } else {
                    uint32(served.called.into())
                },
                transport_protocol: way.transport.to_owned(),
                application_protocols: way.protocols.names(),
                ..FilterChainMatch::default()
            }),
            filters: if way.http {
                vec![self.http(served)]
            } else {
                let mut all = self.enforcement.tcp.clone();
                all.push(filters::tcp_to(&served.cluster, self.log));
                all
            },
            transport_socket: socket,
            ..FilterChain::default()
        }
    }

    fn http(&self, served: &Served) -> Filter {
        let listener = names::listener(self.bind(served), served.called);
        let of = served.of.as_ref().map(|(service, port)| (service, port));
        Http {
            side: Side::Inbound,
            stat_prefix: filters::stat(&format!("inbound_{listener}")),
            routes: Routes::Inline(Box::new(route::inbound_route(self.cx, &served.cluster, of))),
            filters: filters::http_filters(served.protocol == Protocol::GrpcWeb, self.enforcement.http.clone()),
            cx: self.cx,
            log: self.log,
        }
        .filter()
    }
}

/// What finds out where a redirected connection was made to, and keeps where it came from.
fn redirection(cx: &Context<'_>) -> Vec<ListenerFilter> {
    let mut filters = vec![filters::original_dst()];
    if cx.proxy.interception == Interception::Tproxy {
        filters.push(filters::original_src());
    }
    filters
}

/// What looks at the first bytes of a connection, on the ports where that tells chains apart.
fn inspectors(chains: &[FilterChain]) -> Vec<ListenerFilter> {
    let port = |chain: &FilterChain| {
        chain
            .filter_chain_match
            .as_ref()?
            .destination_port
            .map(|port| port.value)
    };
    let ports: BTreeSet<u32> = chains.iter().filter_map(port).collect();
    // Where nobody asks what was found out, it is not looked for: TLS then passes as bytes like any other.
    let add = |mut filter: ListenerFilter, needs: &dyn Fn(&FilterChainMatch) -> bool| {
        let needed = |number: Option<u32>| {
            let of_port = chains.iter().filter(|chain| port(chain) == number);
            of_port.filter_map(|chain| chain.filter_chain_match.as_ref()).any(needs)
        };
        let (with, without): (Vec<u32>, Vec<u32>) = ports.iter().partition(|number| needed(Some(**number)));
        let elsewhere = needed(None);
        filter.filter_disabled = if elsewhere { on(&without) } else { on(&with).map(not_on) };
        (elsewhere || !with.is_empty()).then_some(filter)
    };
    let mut filters = Vec::new();
    filters.extend(add(filters::tls_inspector(), &|wanted| {
        wanted.transport_protocol == "tls"
    }));
    let plain = |wanted: &FilterChainMatch| {
        let mut names = wanted.application_protocols.iter();
        wanted.transport_protocol != "tls" && names.any(|name| PLAIN_HTTP.contains(&name.as_str()))
    };
    filters.extend(add(filters::http_inspector(), &plain));
    filters
}

fn not_on(ports: ListenerFilterChainMatchPredicate) -> ListenerFilterChainMatchPredicate {
    ListenerFilterChainMatchPredicate {
        rule: Some(Rule::NotMatch(Box::new(ports))),
    }
}

/// What holds on some ports.
pub(crate) fn on(ports: &[u32]) -> Option<ListenerFilterChainMatchPredicate> {
    let range = |port: &u32| {
        let start = i32::try_from(*port).unwrap_or(i32::MAX - 1);
        ListenerFilterChainMatchPredicate {
            rule: Some(Rule::DestinationPortRange(Int32Range { start, end: start + 1 })),
        }
    };
    match ports {
        [] => None,
        [port] => Some(range(port)),
        ports => Some(ListenerFilterChainMatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet {
                rules: ports.iter().map(range).collect(),
            })),
        }),
    }
}
