//! The HTTP routes of a VirtualService.

use std::sync::Arc;

use corten_api::istio::{
    proxy_config::ProxyHeaders,
    virtual_service::{Destination, HTTPMatchRequest, HTTPRoute},
};
use corten_core::{Host, Labels};
use corten_envoy::{
    envoy::config::{
        core::v3::Metadata,
        route::v3::{Decorator, Route, RouteMatch, route, route_action, route_match::PathSpecifier},
    },
    google::protobuf::Duration,
    string_value, structure,
};
use corten_routing::{ProxyKind, Semantics, Service, VirtualService};

use super::{action, filter, matching};
use crate::{Context, names, waypoint};

/// Where requests come that are to be routed.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The gateway, `namespace/name`, or `mesh`.
    pub gateway: &'a str,
    /// The port; 0: that of an HTTP proxy.
    pub port: u16,
    /// They come by TLS.
    pub tls: bool,
    /// What the hosts of destinations stand for.
    pub target: &'a dyn Fn(&Host) -> Option<Target>,
}

impl std::fmt::Debug for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "At({}, {}, tls: {})", self.gateway, self.port, self.tls)
    }
}

/// The service that a host stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its host: another one where the name is only an alias.
    pub host: Host,
    /// Its port, if it has one alone.
    pub port: Option<u16>,
    /// The service, where the proxy is a waypoint that is for it.
    pub behind: Option<Arc<Service>>,
}

/// The routes of a VirtualService for requests that come to a place: in order, up to one that takes all that is left.
pub fn http_routes(cx: &Context<'_>, service: &VirtualService, at: &At<'_>) -> Vec<Route> {
    let mut made = Vec::new();
    for written in &service.spec.http {
        if written.match_.is_empty() {
            made.push(made_of(cx, service, written, None, at));
            break;
        }
        for wanted in written.match_.iter().filter(|wanted| comes(cx, wanted, at)) {
            let one = made_of(cx, service, written, Some(wanted), at);
            let ends = is_catch_all(&one);
            made.push(one);
            if ends {
                return made;
            }
        }
    }
    made
}

/// Whether requests that a match takes come here at all. Where it names gateways, who sends them does not count.
fn comes(cx: &Context<'_>, wanted: &HTTPMatchRequest, at: &At<'_>) -> bool {
    if wanted.port.is_given() && wanted.port.0 != at.port {
        return false;
    }
    // A waypoint does not know the labels of who calls.
    if cx.proxy.kind == ProxyKind::Waypoint && !wanted.source_labels.is_empty() {
        return false;
    }
    if !wanted.gateways.is_empty() {
        return wanted.gateways.iter().any(|gateway| gateway == at.gateway);
    }
    let namespace = &wanted.source_namespace;
    Labels(&wanted.source_labels).is_subset_of(&cx.proxy.labels)
        && (namespace.is_empty() || **namespace == *cx.proxy.namespace)
}

fn made_of(
    cx: &Context<'_>,
    service: &VirtualService,
    written: &HTTPRoute,
    wanted: Option<&HTTPMatchRequest>,
    at: &At<'_>,
) -> Route {
    let name = match wanted
        .map(|wanted| wanted.name.as_str())
        .filter(|name| !name.is_empty())
    {
        Some(of_match) => format!("{}.{of_match}", written.name),
        None => written.name.clone(),
    };
    let mut made = Route {
        name,
        r#match: Some(matching::route_match(service.semantics, wanted)),
        metadata: Some(origin(service)),
        stat_prefix: wanted.map(|wanted| wanted.stat_prefix.clone()).unwrap_or_default(),
        typed_per_filter_config: filter::of_route(written),
        ..Route::default()
    };
    action::apply(cx, &mut made, service, written, at);
    made.decorator = Some(Decorator {
        operation: operation(&made, service, at.port),
        ..Decorator::default()
    });
    made
}

/// Which object a route is of.
pub(super) fn origin(service: &VirtualService) -> Metadata {
    let fields = structure([("config", string_value(service.path()))]);
    Metadata {
        filter_metadata: [("istio".to_owned(), fields)].into(),
        ..Metadata::default()
    }
}

/// What a traced request is called.
fn operation(route: &Route, service: &VirtualService, port: u16) -> String {
    let path = match route.r#match.as_ref().and_then(|of| of.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    if let Some(route::Action::Route(action)) = &route.action
        && let Some(route_action::ClusterSpecifier::Cluster(cluster)) = &action.cluster_specifier
        && let Some((port, host)) = names::port_and_host(cluster)
    {
        return format!("{host}:{port}{path}");
    }
    format!("{}:{port}{path}", service.name)
}

/// Whether a route takes all requests.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    let Some(wanted) = &route.r#match else {
        return true;
    };
    takes_all_paths(wanted)
        && wanted.headers.is_empty()
        && wanted.query_parameters.is_empty()
        && wanted.dynamic_metadata.is_empty()
}

fn takes_all_paths(wanted: &RouteMatch) -> bool {
    match &wanted.path_specifier {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    }
}

/// The cluster of a destination.
pub(crate) fn cluster(destination: &Destination, at: &At<'_>) -> String {
    cluster_of(destination, (at.target)(&destination.host), at.port)
}

/// The cluster of a destination whose host stands for `target`, for connections to a port.
pub(crate) fn cluster_of(destination: &Destination, target: Option<Target>, port: u16) -> String {
    if destination.host.as_str().is_empty() {
        return names::UNKNOWN_SERVICE.to_owned();
    }
    let named = destination.port.as_ref().map(|port| port.number.0);
    let alone = target.as_ref().and_then(|target| target.port);
    let number = named.or(alone).unwrap_or(port);
    let Some(target) = target else {
        return names::outbound(number, &destination.subset, &destination.host);
    };
    match target.behind {
        Some(service) => {
            let protocol = service.port(number).map(|port| waypoint::clusters_of(port.protocol));
            let protocol = protocol.and_then(|of| of.first()).copied().unwrap_or("http");
            names::vip(number, protocol, &destination.subset, &target.host)
        }
        None => names::outbound(number, &destination.subset, &target.host),
    }
}

/// A span of time; none are negative.
pub(crate) fn span(time: corten_core::Duration) -> Duration {
    corten_envoy::duration(time.to_std().unwrap_or_default())
}

/// What the proxy's configuration says about headers.
pub(crate) fn proxy_headers<'a>(cx: &'a Context<'_>) -> Option<&'a ProxyHeaders> {
    cx.proxy_config()?.proxy_headers.as_ref()
}

/// Whether requests say how many attempts there have been.
pub(crate) fn counts_attempts(cx: &Context<'_>) -> bool {
    let said = proxy_headers(cx).and_then(|headers| headers.attempt_count.as_ref());
    said.and_then(|count| count.disabled) != Some(true)
}

/// Whether requests whose host is rewritten say what it was.
pub(crate) fn tells_host(cx: &Context<'_>) -> bool {
    let said = proxy_headers(cx).and_then(|headers| headers.x_forwarded_host.as_ref());
    said.and_then(|host| host.enabled) == Some(true)
}

/// Whether a VirtualService's routes are meant as the Gateway API's.
pub(super) fn is_gateway(service: &VirtualService) -> bool {
    service.semantics == Semantics::Gateway
}
