//! Where connections go that come to a router and are not HTTP.

use std::{collections::HashSet, sync::Arc};

use corten_api::istio::gateway::ServerTLSSettingsTLSmode as Mode;
use corten_core::{Host, NamespacedHost, Port, Protocol};
use corten_envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use corten_routing::VirtualService;

use super::merge::Served;
use crate::{
    Context, names,
    route::{self, L4Chain},
};

/// Set on what was made of a route of the Gateway API: which kind, and its name.
const PARENTS: &str = "internal.istio.io/parents";

/// Whether a match is about a server's port and its Gateway.
fn meant(served: &Served, port: Port, gateways: &[String]) -> bool {
    (!port.is_given() || port.0 == served.written_port())
        && (gateways.is_empty() || gateways.iter().any(|gateway| **gateway == *served.gateway))
}

/// The VirtualServices that a server has hosts for.
fn routing(cx: &Context<'_>, served: &Served) -> Vec<Arc<VirtualService>> {
    let all = cx
        .snapshot
        .catalog
        .virtual_services
        .for_gateway(&served.gateway, &cx.proxy.namespace);
    let covers = |service: &VirtualService| {
        served
            .server
            .hosts
            .iter()
            .map(|host| NamespacedHost::parse(host))
            .any(|of| {
                let host = Host::from(of.host);
                of.namespace.is_none_or(|namespace| *namespace == *service.namespace)
                    && service.spec.hosts.iter().any(|own| host.matches(own))
            })
    };
    all.into_iter().filter(|service| covers(service)).collect()
}

/// The way of a server's connections, once TLS is off them; `None`: no route is for them.
pub(super) fn of_bytes(cx: &Context<'_>, served: &Served) -> Option<L4Chain> {
    let port = served.written_port();
    for service in routing(cx, served) {
        for route in service.spec.tcp.iter().filter(|route| !route.route.is_empty()) {
            let is_meant = route.match_.is_empty()
                || route
                    .match_
                    .iter()
                    .any(|wanted| meant(served, wanted.port, &wanted.gateways));
            if is_meant {
                return route::chain_to(cx, &service, &route.route, port);
            }
        }
        // A TLS route of the Gateway API may be attached to a listener that ends TLS.
        let parents = service.annotations.get(PARENTS);
        if parents.is_none_or(|parents| !parents.starts_with("TLSRoute/")) {
            continue;
        }
        let found = service.spec.tls.iter().find(|route| {
            let mut wanted = route.match_.iter();
            wanted.any(|wanted| meant(served, wanted.port, &wanted.gateways))
        });
        if let Some(route) = found {
            return route::chain_to(cx, &service, &route.route, port);
        }
    }
    None
}

/// The ways of connections whose TLS ends elsewhere, by the names in their greetings. `taken` are the names that are served at
/// this port and address already.
pub(super) fn passed_through(cx: &Context<'_>, served: &Served, taken: &mut HashSet<String>) -> Vec<L4Chain> {
    if served
        .server
        .tls
        .as_ref()
        .is_some_and(|tls| tls.mode == Mode::AutoPassthrough)
    {
        return by_cluster(cx, served);
    }
    let mut made = Vec::new();
    for service in routing(cx, served) {
        for route in service.spec.tls.iter().filter(|route| !route.route.is_empty()) {
            for wanted in &route.match_ {
                if !meant(served, wanted.port, &wanted.gateways) {
                    continue;
                }
                let names: Vec<String> = wanted
                    .sni_hosts
                    .iter()
                    .map(|host| host.as_str().to_ascii_lowercase())
                    .collect();
                if names.iter().any(|name| taken.contains(name)) {
                    continue;
                }
                let Some(mut chain) = route::chain_to(cx, &service, &route.route, served.written_port()) else {
                    continue;
                };
                taken.extend(names.iter().cloned());
                chain.names = names;
                made.push(chain);
            }
        }
    }
    made
}

/// Mutual TLS of the mesh, from another network: the name in the greeting is the cluster.
fn by_cluster(cx: &Context<'_>, served: &Served) -> Vec<L4Chain> {
    let hosts: Vec<Host> = served.names.iter().map(|name| Host::from(name.as_str())).collect();
    let mut made = Vec::new();
    let services = cx.scope.services.iter().filter(|service| !service.mesh_external);
    for service in services.filter(|service| hosts.iter().any(|host| service.host.is_subset_of(host))) {
        let rule = cx.scope.destination_rule(service);
        let subsets = rule
            .into_iter()
            .flat_map(|rule| &rule.spec.subsets)
            .map(|subset| subset.name.as_str());
        let subsets: Vec<&str> = std::iter::once("").chain(subsets).collect();
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            for subset in &subsets {
                let cluster = names::sni(port.number, subset, &service.host);
                let mut options = route::tcp_options(cx, rule.map(AsRef::as_ref), subset);
                options.tunneling = None;
                made.push(L4Chain {
                    names: vec![cluster.clone()],
                    subnets: Vec::new(),
                    stat_prefix: cluster.clone(),
                    to: ClusterSpecifier::Cluster(cluster),
                    options,
                    origin: None,
                });
            }
        }
    }
    made
}
