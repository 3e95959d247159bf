//! The listener of a waypoint that decides: which service is meant by the address that was called, what its policies say, and which
//! route is taken.

use std::borrow::Cow;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use corten_core::Protocol;
use corten_envoy::{
    IpMatcher, IpRangeMatcher, any, duration,
    envoy::{
        config::{
            common::mutation_rules::v3::{HeaderMutation as Mutation, header_mutation::Action as Change},
            core::v3::{HeaderValue, HeaderValueOption, TrafficDirection, header_value_option::HeaderAppendAction},
            listener::v3::{Filter, FilterChain, Listener, ListenerFilter},
        },
        extensions::{
            filters::{
                http::header_mutation::v3::{HeaderMutation, Mutations},
                network::http_connection_manager::v3::{HttpFilter, http_connection_manager::ForwardClientCertDetails},
            },
            matching::common_inputs::network::v3::{
                ApplicationProtocolInput, DestinationIpInput, DestinationPortInput,
            },
        },
    },
    google::protobuf::{Any, StringValue},
    prost::{Message, Name},
    seconds, uint32,
    xds::{
        core::v3::{CidrRange, TypedExtensionConfig},
        r#type::matcher::v3::{
            Matcher,
            matcher::{
                MatcherTree, MatcherType, OnMatch,
                matcher_tree::{MatchMap, TreeType},
                on_match,
            },
        },
    },
};
use corten_routing::{Resolution, Service, ServicePort};
use ipnet::IpNet;

use super::{Behind, clusters_of, listener::internal, state};
use crate::telemetry::Signals;
use crate::{
    Context, dynamic,
    listener::{
        filters::{self, Http, Routes, Side},
        inbound::on,
    },
    names, route,
    security::{attach::Place, authz::Peer, enforcement::Enforcement},
};

/// The application protocols by which plain HTTP is told, as the input has them.
const PLAIN_HTTP: [&str; 3] = ["'h2c'", "'http/1.0'", "'http/1.1'"];
/// The annotation by which a waypoint's gateway asks that applications are told who called.
const CLIENT_IDENTITY: &str = "ambient.istio.io/xfcc-include-client-identity";
/// The chains for workloads that are called by their own address.
const DIRECT: [(&str, &str); 2] = [("http", "direct-http"), ("tcp", "direct-tcp")];

/// The listener.
pub(super) fn listener(cx: &Context<'_>, log: &Signals) -> Listener {
    let mut made = Made {
        cx,
        log,
        chains: Vec::new(),
        ranges: Vec::new(),
    };
    let behind = Behind::of(cx);
    let services = behind.map_or_else(Vec::new, |behind| behind.services(cx));
    for service in &services {
        made.service(service);
    }
    let workloads: Vec<IpNet> = behind
        .map_or_else(BTreeMap::new, |behind| behind.workloads(cx))
        .into_keys()
        .map(IpNet::from)
        .collect();
    let anything = !workloads.is_empty();
    if anything {
        made.workloads(&workloads);
    }
    let detection = cx
        .mesh()
        .protocol_detection_timeout
        .and_then(corten_core::Duration::to_std)
        .map(duration);
    let mut listener = Listener {
        name: names::MAIN.to_owned(),
        listener_specifier: Some(internal()),
        listener_filters: inspectors(&services, anything),
        listener_filters_timeout: Some(detection.unwrap_or_else(|| seconds(0))),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Inbound.into(),
        access_log: log.unrouted.clone(),
        ..Listener::default()
    };
    if made.ranges.is_empty() {
        // Nothing is behind it: a listener must have a chain, and a tree a branch.
        listener.filter_chains = vec![FilterChain {
            name: "virtualInbound-blackhole".to_owned(),
            filters: vec![filters::tcp_to(names::BLACK_HOLE, log)],
            ..FilterChain::default()
        }];
        return listener;
    }
    listener.filter_chains = made.chains;
    listener.filter_chain_matcher = Some(by_address(made.ranges, None));
    listener
}

/// A listener in the making.
struct Made<'a> {
    cx: &'a Context<'a>,
    log: &'a Signals,
    chains: Vec<FilterChain>,
    ranges: Vec<IpRangeMatcher>,
}

impl Made<'_> {
    /// Puts a service's chains, and the addresses and ports that lead to them.
    fn service(&mut self, service: &Service) {
        // Nobody can call it by an address of its own.
        let addresses = service.addresses_for(true);
        if addresses.is_empty() {
            return;
        }
        let place = Place::of(self.cx.proxy, &self.cx.snapshot.catalog.settings.root_namespace).for_service(service);
        let enforced = Enforcement::new(self.cx, place, Peer::Tunnel);
        let mut ports = HashMap::new();
        for port in &service.ports {
            let kinds = chains_of(service, port);
            let mut named: BTreeMap<&str, String> = BTreeMap::new();
            for kind in kinds {
                let name = names::vip(port.number, kind, "", &service.host);
                let filters = match *kind {
                    "http" => vec![self.http(&enforced, &name, Some((service, port)))],
                    _ => self.tcp(&enforced, &name, Some((service, port))),
                };
                self.chains.push(chain(&name, filters));
                named.insert(kind, name);
            }
            let to = match (named.get("http"), named.get("tcp")) {
                (Some(http), Some(tcp)) => by_protocol(http, tcp),
                (Some(only), None) | (None, Some(only)) => to_chain(only),
                (None, None) => continue,
            };
            ports.insert(port.number.to_string(), to);
        }
        if ports.is_empty() {
            return;
        }
        let by_port = Matcher {
            on_no_match: None,
            matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
                input: Some(extension("port", &DestinationPortInput::default())),
                tree_type: Some(TreeType::ExactMatchMap(MatchMap { map: ports })),
            })),
        };
        self.range(
            &addresses,
            OnMatch {
                on_match: Some(on_match::OnMatch::Matcher(Box::new(by_port))),
                ..OnMatch::default()
            },
        );
    }

    /// Puts the chains of workloads that are called by their own addresses, whatever the port.
    fn workloads(&mut self, addresses: &[IpNet]) {
        let place = Place::of(self.cx.proxy, &self.cx.snapshot.catalog.settings.root_namespace);
        let enforced = Enforcement::new(self.cx, place, Peer::Tunnel);
        for (kind, name) in DIRECT {
            let mut filters = vec![state::same_destination()];
            match kind {
                "http" => filters.push(self.http(&enforced, names::ENCAP, None)),
                _ => filters.extend(self.tcp(&enforced, names::ENCAP, None)),
            }
            self.chains.push(chain(name, filters));
        }
        self.range(addresses, by_protocol(DIRECT[0].1, DIRECT[1].1));
    }

    fn range(&mut self, addresses: &[IpNet], to: OnMatch) {
        self.ranges.push(range(addresses, to));
    }

    /// Requests to a service's port, or straight to a workload.
    fn http(&self, enforced: &Enforcement, name: &str, of: Option<(&Service, &ServicePort)>) -> Filter {
        let (cx, number) = (self.cx, of.map_or(0, |(_, port)| port.number));
        let routes = match of {
            Some((service, port)) => route::waypoint_route(cx, name, service, port),
            None => route::inbound_route(cx, name, None),
        };
        let protocol = of.map_or(Protocol::Unsupported, |(_, port)| port.protocol);
        let tells = cx
            .proxy
            .annotations
            .get(CLIENT_IDENTITY)
            .is_some_and(|said| said.eq_ignore_ascii_case("true"));
        let mut all = Vec::new();
        if tells {
            all.push(client_identity());
        }
        all.extend(enforced.http.iter().cloned());
        let mut all = filters::http_filters(protocol == Protocol::GrpcWeb, all);
        if let Some((service, _)) = of.filter(|(service, _)| service.resolution == Resolution::DynamicDns) {
            let before_router = all.len().saturating_sub(1);
            all.insert(before_router, dynamic::by_host(cx, service));
        }
        let mut manager = Http {
            side: Side::Inbound,
            stat_prefix: filters::stat(&format!("inbound_{}", names::listener("0.0.0.0", number))),
            routes: Routes::Inline(Box::new(routes)),
            filters: all,
            cx,
            log: &self.signals(of),
        }
        .manager();
        // The connection inside has no certificate: what a request says of one is the caller's own invention.
        manager.forward_client_cert_details = if tells {
            ForwardClientCertDetails::AlwaysForwardOnly.into()
        } else {
            ForwardClientCertDetails::Sanitize.into()
        };
        manager.set_current_client_cert_details = None;
        if protocol.is_http2() {
            manager.http2_protocol_options.get_or_insert_default();
        }
        filters::manager_filter(&manager)
    }

    /// What is told of calls to a service: its namespace's Telemetries are asked too.
    fn signals(&self, of: Option<(&Service, &ServicePort)>) -> Cow<'_, Signals> {
        let any = !self.cx.snapshot.catalog.configs.telemetries.is_empty();
        match of.filter(|_| any) {
            Some((service, _)) => Cow::Owned(Signals::of_service(self.cx, service)),
            None => Cow::Borrowed(self.log),
        }
    }

    /// Bytes to a service's port, or straight to a workload.
    fn tcp(&self, enforced: &Enforcement, name: &str, of: Option<(&Service, &ServicePort)>) -> Vec<Filter> {
        let mut all = enforced.tcp.clone();
        all.push(match of {
            Some((service, port)) => {
                let (to, options) = route::waypoint_l4(self.cx, name, service, port);
                filters::tcp_proxy(name, to, options, &self.signals(of))
            }
            None => filters::tcp_to(name, self.log),
        });
        all
    }
}

/// The kinds of chains of a port. Hosts that are looked up for each request must be named by requests.
fn chains_of(service: &Service, port: &ServicePort) -> &'static [&'static str] {
    match (service.resolution, port.protocol) {
        (Resolution::DynamicDns, protocol) if !protocol.is_http() => &[],
        (_, protocol) => clusters_of(protocol),
    }
}

fn chain(name: &str, filters: Vec<Filter>) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filters,
        ..FilterChain::default()
    }
}

fn extension<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    named(name, any(config))
}

fn named(name: &str, config: Any) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(config),
    }
}

/// A tree that goes by the address that was called.
pub(super) fn by_address(range_matchers: Vec<IpRangeMatcher>, otherwise: Option<OnMatch>) -> Matcher {
    Matcher {
        on_no_match: otherwise.map(Box::new),
        matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
            input: Some(extension("ip", &DestinationIpInput::default())),
            tree_type: Some(TreeType::CustomMatch(extension("ip", &IpMatcher { range_matchers }))),
        })),
    }
}

/// The branch of some addresses.
pub(super) fn range(addresses: &[IpNet], to: OnMatch) -> IpRangeMatcher {
    let range = |net: &IpNet| CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: uint32(net.prefix_len().into()),
    };
    let mut sorted = addresses.to_vec();
    sorted.sort();
    sorted.dedup();
    IpRangeMatcher {
        ranges: sorted.iter().map(range).collect(),
        on_match: Some(to),
        exclusive: false,
    }
}

/// A branch that ends at a chain.
pub(super) fn to_chain(name: &str) -> OnMatch {
    let value = StringValue { value: name.to_owned() };
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(extension(name, &value))),
        ..OnMatch::default()
    }
}

/// A branch that goes by whether HTTP is spoken.
fn by_protocol(http: &str, tcp: &str) -> OnMatch {
    let tree = MatcherTree {
        input: Some(extension("application-protocol", &ApplicationProtocolInput::default())),
        tree_type: Some(TreeType::ExactMatchMap(MatchMap {
            map: PLAIN_HTTP.map(|protocol| (protocol.to_owned(), to_chain(http))).into(),
        })),
    };
    OnMatch {
        on_match: Some(on_match::OnMatch::Matcher(Box::new(Matcher {
            on_no_match: Some(Box::new(to_chain(tcp))),
            matcher_type: Some(MatcherType::MatcherTree(tree)),
        }))),
        ..OnMatch::default()
    }
}

/// What looks at the first bytes of connections, on the ports where that tells something. Workloads have whatever ports.
fn inspectors(services: &[&std::sync::Arc<Service>], anything: bool) -> Vec<ListenerFilter> {
    let mut known: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let (mut tls, mut plain) = (BTreeSet::new(), BTreeSet::new());
    for port in services.iter().flat_map(|service| &service.ports) {
        let kinds = clusters_of(port.protocol);
        if !kinds.is_empty() {
            known.entry(port.number).or_default().extend(kinds);
            if port.protocol.is_tls() {
                tls.insert(port.number);
            } else {
                plain.insert(port.number);
            }
        }
    }
    let certain = known.iter().filter(|(_, kinds)| kinds.len() == 1 && !anything);
    let certain: Vec<u32> = certain.map(|(number, _)| u32::from(*number)).collect();
    let mut http = filters::http_inspector();
    http.filter_disabled = on(&certain);
    let mut all = vec![filters::original_dst(), http];
    if !tls.is_empty() {
        let others: Vec<u32> = plain.difference(&tls).map(|number| u32::from(*number)).collect();
        let mut inspector = filters::tls_inspector();
        inspector.filter_disabled = on(&others);
        all.push(inspector);
    }
    all
}

/// Tells the application who opened the tunnel.
fn client_identity() -> HttpFilter {
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-forwarded-client-cert".to_owned(),
            value: state::client_identity(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    let config = HeaderMutation {
        mutations: Some(Mutations {
            request_mutations: vec![Mutation {
                action: Some(Change::Append(header)),
            }],
            ..Mutations::default()
        }),
        ..HeaderMutation::default()
    };
    filters::http("istio.waypoint.xfcc_client_identity", &config)
}
