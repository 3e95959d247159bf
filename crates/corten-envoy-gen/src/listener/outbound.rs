//! Where a workload's connections go out: a listener for each address and port of the services that its proxy sees.

use std::collections::BTreeMap;

use corten_core::Protocol;
use corten_envoy::{
    duration,
    envoy::{
        config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
        extensions::filters::network::tcp_proxy::v3::tcp_proxy,
    },
};
use corten_routing::{EgressListener, Interception, Registry, Resolution, Service, ServicePort, endpoints};
use ipnet::IpNet;

use super::{
    OWN_PORTS,
    draft::{Chain, Draft, PLAIN_HTTP, Speaks},
    filters::{self, Http, Routes, Side, TcpOptions},
};
use crate::telemetry::Signals;
use crate::{
    Context,
    dynamic::{self, Lookups},
    names, route,
};

/// All listeners for outbound connections but the one for everything.
pub(super) fn listeners(cx: &Context<'_>, log: &Signals) -> Vec<Listener> {
    let mut drafts: BTreeMap<(String, u16), (Draft, String)> = BTreeMap::new();
    let mut put = |bind: String, port: u16, name: String, draft: Draft| match drafts.get_mut(&(bind.clone(), port)) {
        Some((held, _)) => {
            held.merge(draft);
        }
        None => {
            drafts.insert((bind, port), (draft, name));
        }
    };
    for egress in &cx.scope.egress {
        let written = egress.written.as_ref();
        let is_proxy = written
            .and_then(|written| written.port.as_ref())
            .is_some_and(|port| Protocol::parse(&port.protocol) == Protocol::HttpProxy);
        if is_proxy {
            if let Some((bind, port, draft)) = http_proxy(cx, egress, log) {
                let name = names::listener(&bind, port);
                put(bind, port, name, draft);
            }
            continue;
        }
        let lookups = Lookups::of(cx, egress);
        for service in egress
            .services
            .iter()
            .filter(|service| service.resolution != Resolution::Alias)
        {
            for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
                let port = &as_written(port, egress);
                for (bind, draft) in of_port(cx, egress, service, port, &lookups, log) {
                    let number = egress.port().filter(|number| *number != 0).unwrap_or(port.number);
                    if may_listen(cx, &bind, number, &draft) {
                        let name = names::listener(&bind, number);
                        put(bind, number, name, draft);
                    }
                }
            }
        }
    }
    let detection = cx
        .mesh()
        .protocol_detection_timeout
        .and_then(corten_core::Duration::to_std)
        .map(duration);
    drafts
        .into_iter()
        .map(|((bind, port), (draft, name))| draft.build(name, &bind, port, detection))
        .collect()
}

/// A service's port as a listener of a Sidecar takes it: what is spoken there is the listener's to say, where it has a port.
fn as_written(port: &ServicePort, egress: &EgressListener) -> ServicePort {
    let written = egress.written.as_ref().and_then(|written| written.port.as_ref());
    let said = written.filter(|written| written.number.is_given());
    ServicePort {
        protocol: said.map_or(port.protocol, |written| Protocol::parse(&written.protocol)),
        ..port.clone()
    }
}

/// Whether a listener is possible: for one that listens by itself the proxy needs the right to, and the proxy's own ports are taken.
fn may_listen(cx: &Context<'_>, bind: &str, port: u16, draft: &Draft) -> bool {
    let taken = bind == cx.proxy.wildcard() && OWN_PORTS.contains(&port);
    let refused = !draft.captured && cx.proxy.unprivileged && port < 1024;
    !taken && !refused
}

/// What a service's port wants of which addresses.
fn of_port(
    cx: &Context<'_>,
    egress: &EgressListener,
    service: &Service,
    port: &ServicePort,
    lookups: &Lookups,
    log: &Signals,
) -> Vec<(String, Draft)> {
    let captured = egress.is_captured() && cx.proxy.interception != Interception::None;
    let written = egress.written.as_ref().filter(|written| !written.bind.is_empty());
    let locked = egress.port().is_some_and(|port| port != 0);
    let wildcard = cx.proxy.wildcard();
    // A listener that is not redirected to answers on loopback unless it says where.
    let otherwise = if captured { wildcard } else { cx.proxy.loopback() };
    let draft = |speaks, chains| Draft {
        speaks,
        locked,
        alone: matches!(port.protocol, Protocol::Mongo | Protocol::MySql),
        chains,
        otherwise: None,
        captured,
    };
    if port.protocol.is_http() {
        let name = egress
            .port()
            .filter(|number| *number != 0)
            .unwrap_or(port.number)
            .to_string();
        let manager = http(
            cx,
            &names::listener(written.map_or(otherwise, |written| &written.bind), port.number),
            name,
            port,
            lookups,
            log,
        );
        if let Some(written) = written {
            return vec![(
                written.bind.clone(),
                draft(Speaks::Http, vec![Chain::new(vec![manager])]),
            )];
        }
        let mut http = draft(Speaks::Http, vec![Chain::plain_http(manager)]);
        http.otherwise = Some(passthrough(cx, log));
        return vec![(otherwise.to_owned(), http)];
    }
    let auto = !port.protocol.is_tcp();
    let speaks = if auto { Speaks::Either } else { Speaks::Tcp };
    let on = |bind: &str, subnets: &[IpNet]| {
        let everywhere = bind == wildcard;
        let mut chains = route::l4_chains(cx, egress, service, port, everywhere, subnets);
        let mut made: Vec<Chain> = chains
            .drain(..)
            .map(|chain| of_l4(chain, dynamic::by_server_name(cx, service, port), log))
            .collect();
        if auto {
            let routes = if everywhere {
                port.number.to_string()
            } else {
                names::virtual_host(service.host.as_str(), port.number)
            };
            let manager = http(cx, &names::listener(bind, port.number), routes, port, lookups, log);
            made.push(Chain::plain_http(manager));
        }
        let mut drafted = draft(speaks, made);
        if everywhere {
            // What is for none of the services goes on to where it was going.
            drafted.otherwise = Some(passthrough(cx, log));
        }
        drafted
    };
    if let Some(written) = written {
        return vec![(written.bind.clone(), on(&written.bind, &[]))];
    }
    if !captured {
        return vec![(otherwise.to_owned(), on(otherwise, &[]))];
    }
    let addresses = service.addresses_for(cx.proxy.dns_capture);
    if addresses.is_empty() && service.resolution == Resolution::Passthrough {
        let own = |address: &std::net::IpAddr| cx.proxy.addresses.contains(address);
        let found = endpoints(&cx.snapshot.model, service, port);
        let mut binds: Vec<String> = Vec::new();
        let called = found.iter().filter_map(|endpoint| endpoint.address.ip());
        for address in called.filter(|address| !own(address)) {
            let bind = address.to_string();
            if !binds.contains(&bind) {
                binds.push(bind);
            }
        }
        let selects = service.registry == Registry::Kubernetes || !service.selector.is_empty();
        if !binds.is_empty() || selects {
            return binds.into_iter().map(|bind| (bind.clone(), on(&bind, &[]))).collect();
        }
    }
    if addresses.is_empty() {
        return vec![(wildcard.to_owned(), on(wildcard, &[]))];
    }
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let (single, ranges): (Vec<IpNet>, Vec<IpNet>) = addresses.into_iter().partition(single);
    let mode = cx.proxy.ip_mode();
    let fits = |net: &IpNet| match mode {
        corten_routing::IpMode::V4 => matches!(net, IpNet::V4(_)),
        corten_routing::IpMode::V6 => matches!(net, IpNet::V6(_)),
        corten_routing::IpMode::Dual => true,
    };
    let mut made: Vec<(String, Draft)> = Vec::new();
    for net in single.iter().filter(|net| fits(net)) {
        let bind = net.addr().to_string();
        made.push((bind.clone(), on(&bind, &[])));
    }
    if !ranges.is_empty() {
        made.push((wildcard.to_owned(), on(wildcard, &ranges)));
    }
    made
}

/// The chain of an L4 route, and what stands before it.
fn of_l4(chain: route::L4Chain, before: Option<Filter>, log: &Signals) -> Chain {
    let to = filters::tcp_proxy(&chain.stat_prefix, chain.to, chain.options, log);
    Chain {
        transport: if chain.names.is_empty() { "" } else { "tls" },
        names: chain.names,
        subnets: chain.subnets,
        metadata: chain.origin,
        ..Chain::new(before.into_iter().chain([to]).collect())
    }
}

/// The filter of plain HTTP.
fn http(
    cx: &Context<'_>,
    listener: &str,
    routes: String,
    port: &ServicePort,
    lookups: &Lookups,
    log: &Signals,
) -> Filter {
    let mut made = filters::http_filters(port.protocol == Protocol::GrpcWeb, Vec::new());
    lookups.add(port.number, &mut made);
    Http {
        side: Side::Outbound,
        stat_prefix: filters::stat(&format!("outbound_{listener}")),
        routes: Routes::Named(routes),
        filters: made,
        cx,
        log,
    }
    .filter()
}

/// The chain for requests to addresses that the mesh does not know, which go to what their hosts' names resolve to.
pub(super) fn unknown_requests(cx: &Context<'_>, log: &Signals) -> FilterChain {
    let mut made = filters::http_filters(false, Vec::new());
    dynamic::add_unknown(cx, &mut made);
    let manager = Http {
        side: Side::Outbound,
        stat_prefix: filters::stat("outbound_virtualOutbound_allow_any_dynamic_dns"),
        routes: Routes::Inline(Box::new(route::unknown(cx))),
        filters: made,
        cx,
        log,
    };
    FilterChain {
        name: "virtualOutbound-catchall-tcp-http".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            application_protocols: PLAIN_HTTP.map(str::to_owned).to_vec(),
            ..FilterChainMatch::default()
        }),
        filters: vec![manager.filter()],
        ..FilterChain::default()
    }
}

/// The chain for what the mesh does not know.
pub(super) fn passthrough(cx: &Context<'_>, log: &Signals) -> FilterChain {
    FilterChain {
        name: "PassthroughFilterChain".to_owned(),
        filters: vec![passthrough_filter(cx, log)],
        ..FilterChain::default()
    }
}

/// Passes what the mesh does not know on, to a proxy for it, or nowhere.
pub(super) fn passthrough_filter(cx: &Context<'_>, log: &Signals) -> Filter {
    if let Some(proxy) = cx.scope.egress_proxy() {
        let port = proxy.port.as_ref().map_or(0, |port| port.number.0);
        let cluster = names::outbound(port, &proxy.subset, &proxy.host);
        let to = tcp_proxy::ClusterSpecifier::Cluster(cluster.clone());
        return filters::tcp_proxy(&cluster, to, TcpOptions::default(), log);
    }
    let cluster = if cx.scope.is_registry_only() {
        names::BLACK_HOLE
    } else {
        names::PASSTHROUGH
    };
    filters::tcp_to(cluster, log)
}

/// A listener that is spoken to as an HTTP proxy, for the services of an egress listener.
fn http_proxy(cx: &Context<'_>, egress: &EgressListener, log: &Signals) -> Option<(String, u16, Draft)> {
    let written = egress.written.as_ref()?;
    let port = written.port.as_ref()?.number.0;
    let bind = if written.bind.is_empty() {
        cx.proxy.loopback().to_owned()
    } else {
        written.bind.clone()
    };
    let mut made = filters::http_filters(false, Vec::new());
    Lookups::of(cx, egress).add(0, &mut made);
    let mut manager = Http {
        side: Side::Outbound,
        stat_prefix: filters::stat(&format!("outbound_{}", names::listener(&bind, port))),
        routes: Routes::Named(port.to_string()),
        filters: made,
        cx,
        log,
    }
    .manager();
    filters::allow_absolute_urls(&mut manager);
    let draft = Draft {
        speaks: Speaks::Http,
        locked: true,
        alone: false,
        chains: vec![Chain::new(vec![filters::manager_filter(&manager)])],
        otherwise: None,
        captured: false,
    };
    Some((bind, port, draft))
}
