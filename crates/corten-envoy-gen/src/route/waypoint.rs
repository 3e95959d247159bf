//! Where requests and connections go that a waypoint has for a service.

use corten_api::istio::virtual_service::RouteDestination;
use corten_core::LabelMap;
use corten_envoy::{
    boolean,
    envoy::{
        config::route::v3::{Route, RouteConfiguration, VirtualHost},
        extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier,
    },
    uint32,
};
use corten_routing::{Resolution, Service, ServicePort, VirtualService};

use super::{
    DIRECT_BODY,
    http::At,
    http_routes, inbound_route,
    l4::{chain_to, target, tcp_matches, tcp_options, tls_matches},
};
use crate::{Context, listener::TcpOptions, waypoint};

/// The routes for a service's port: those of all VirtualServices that are for it, else straight to the service. Which service it is
/// has been told by the address, so that the host of requests does not count.
pub(crate) fn waypoint_route(
    cx: &Context<'_>,
    cluster: &str,
    service: &Service,
    port: &ServicePort,
) -> RouteConfiguration {
    let at = At {
        gateway: waypoint::GATEWAY,
        port: port.number,
        tls: false,
        target: &|host| target(cx, host),
    };
    let of = waypoint::virtual_services(cx, service);
    let routes: Vec<Route> = of.iter().flat_map(|routes| http_routes(cx, routes, &at)).collect();
    let mut made = inbound_route(cx, cluster, Some((service, port)));
    // Hosts that are looked up must be those that the service is for.
    let dynamic = service.resolution == Resolution::DynamicDns;
    if routes.is_empty() {
        for host in made.virtual_hosts.iter_mut().filter(|_| dynamic) {
            host.domains = vec![service.host.to_string()];
        }
        return made;
    }
    made.virtual_hosts = vec![VirtualHost {
        name: format!("inbound|http|{}", port.number),
        domains: vec![if dynamic {
            service.host.to_string()
        } else {
            "*".to_owned()
        }],
        routes,
        ..VirtualHost::default()
    }];
    RouteConfiguration {
        validate_clusters: boolean(false),
        max_direct_response_body_size_bytes: uint32(DIRECT_BODY),
        ..made
    }
}

/// Where bytes go to a service's port: the first route for it, of TLS before those of TCP, else the service's own cluster.
pub(crate) fn waypoint_l4(
    cx: &Context<'_>,
    cluster: &str,
    service: &Service,
    port: &ServicePort,
) -> (ClusterSpecifier, TcpOptions) {
    let of = waypoint::virtual_services(cx, service);
    let routed = of
        .iter()
        .find_map(|routes| Some((routes, of_tls(routes, service, port.number)?)))
        .or_else(|| {
            of.iter()
                .find_map(|routes| Some((routes, of_tcp(routes, port.number)?)))
        });
    let chain = routed.and_then(|(routes, to)| chain_to(cx, routes, to, port.number));
    match chain {
        Some(chain) => (chain.to, chain.options),
        None => {
            let rule = cx.scope.destination_rule(service).map(AsRef::as_ref);
            (ClusterSpecifier::Cluster(cluster.to_owned()), tcp_options(cx, rule, ""))
        }
    }
}

/// Where a route of TLS leads that is for all connections to the service: server names are not looked at.
fn of_tls<'a>(routes: &'a VirtualService, service: &Service, port: u16) -> Option<&'a [RouteDestination]> {
    let nobody = LabelMap::new();
    let meant = routes.spec.tls.iter().find(|route| {
        route.match_.is_empty()
            || route.match_.iter().any(|wanted| {
                matches!(wanted.sni_hosts.as_slice(), [only] if *only == service.host)
                    && tls_matches(wanted, &nobody, "", waypoint::GATEWAY, port)
            })
    });
    meant.map(|route| &*route.route).filter(|to| !to.is_empty())
}

/// Where a route of bytes leads. Nothing is known of who calls.
fn of_tcp(routes: &VirtualService, port: u16) -> Option<&[RouteDestination]> {
    let nobody = LabelMap::new();
    let meant = routes.spec.tcp.iter().find(|route| {
        let mut wanted = route.match_.iter();
        route.match_.is_empty() || wanted.any(|wanted| tcp_matches(wanted, &nobody, "", waypoint::GATEWAY, port))
    });
    meant.map(|route| &*route.route).filter(|to| !to.is_empty())
}
