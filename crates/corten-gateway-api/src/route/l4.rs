//! TCPRoutes and TLSRoutes.

use corten_api::{
    gateway_api::{TCPRoute, TLSRoute, shared::BackendRef},
    istio::virtual_service::{
        self as istio, Destination, L4MatchAttributes, PortSelector, RouteDestination, TLSMatchAttributes,
        VirtualServiceSpec,
    },
};
use corten_core::{Host, Port, intersection};

use super::{
    Parents, Route, RouteResult, Routes, bind, collect,
    destination::{Backend, Sender, weightless},
    mesh_hosts, virtual_service,
};
use crate::{annotation, condition::Problem, index::Index, reference::Kind};

/// Converts a TCPRoute, which sees nothing but the index and the listeners.
pub(crate) fn tcp(index: &Index<'_>, parents: &Parents, object: &TCPRoute) -> RouteResult {
    let route = Route {
        kind: Kind::TCP_ROUTE,
        meta: &object.metadata,
        parents: &object.spec.parent_refs,
        hostnames: &[],
        status: object.status.as_ref().map_or(&[], |status| &status.parents),
    };
    let bound = bind(index, parents, route, |guarded| {
        let sender = sender(index, route, guarded);
        collect(object.spec.rules.iter().map(|rule| {
            let (route, problem) = destinations(sender, &rule.backend_refs)?;
            let match_ = Vec::new();
            Ok((istio::TCPRoute { match_, route }, problem))
        }))
    });
    let mut result = bound.result(index, route);
    for attempt in bound.succeeded() {
        let mut tcp = bound.rules(attempt).to_vec();
        let mut hosts = vec!["*".to_owned()];
        if attempt.is_mesh() {
            hosts = mesh_hosts(index, attempt);
            if let Some(port) = attempt.reference.port {
                for route in &mut tcp {
                    let at = L4MatchAttributes {
                        port,
                        ..L4MatchAttributes::default()
                    };
                    route.match_ = vec![at];
                }
            }
        }
        for host in hosts {
            let name = format!(
                "{}~tcp~{}~{}",
                route.meta.name,
                result.routes.len(),
                annotation::GENERATED
            );
            let spec = VirtualServiceSpec {
                tcp: tcp.clone(),
                ..VirtualServiceSpec::default()
            };
            push(
                &mut result,
                Routes {
                    object: virtual_service(route, name, &host, attempt, spec),
                    ..Routes::default()
                },
            );
        }
    }
    result
}

/// Converts a TLSRoute, which sees nothing but the index and the listeners.
pub(crate) fn tls(index: &Index<'_>, parents: &Parents, object: &TLSRoute) -> RouteResult {
    let route = Route {
        kind: Kind::TLS_ROUTE,
        meta: &object.metadata,
        parents: &object.spec.parent_refs,
        hostnames: &object.spec.hostnames,
        status: object.status.as_ref().map_or(&[], |status| &status.parents),
    };
    let own: Vec<Host> = match route.hostnames {
        [] => vec![Host::from("*")],
        hostnames => hostnames.to_vec(),
    };
    let bound = bind(index, parents, route, |guarded| {
        let sender = sender(index, route, guarded);
        collect(object.spec.rules.iter().map(|rule| {
            let (route, problem) = destinations(sender, &rule.backend_refs)?;
            let names = TLSMatchAttributes {
                sni_hosts: own.clone(),
                ..TLSMatchAttributes::default()
            };
            // Nothing is named where connections are to be refused anyway.
            let match_ = if weightless(rule.backend_refs.iter().map(Backend::from)) {
                Vec::new()
            } else {
                vec![names]
            };
            Ok((istio::TLSRoute { match_, route }, problem))
        }))
    });
    let mut result = bound.result(index, route);
    for attempt in bound.succeeded() {
        let mut tls = bound.rules(attempt).to_vec();
        let mut hosts = own.clone();
        if attempt.is_mesh() {
            hosts = mesh_hosts(index, attempt).into_iter().map(Host::from).collect();
            within_mesh(&mut tls, attempt.reference.port, &hosts);
        } else if !attempt.hostname.is_empty() {
            let listener = [Host::from(attempt.hostname.as_str())];
            hosts = intersection(&hosts, &listener);
            within_listener(&mut tls, &listener);
        }
        for host in &hosts {
            let name = format!(
                "{}~tls~{}~{}",
                route.meta.name,
                result.routes.len(),
                annotation::GENERATED
            );
            let mut tls = tls.clone();
            if attempt.is_mesh() {
                tls.iter_mut().for_each(|route| keep_fitting(route, host));
            }
            let spec = VirtualServiceSpec {
                tls,
                ..VirtualServiceSpec::default()
            };
            push(
                &mut result,
                Routes {
                    object: virtual_service(route, name, host.as_str(), attempt, spec),
                    ..Routes::default()
                },
            );
        }
    }
    result
}

/// Routes of connections are not merged: each is its own.
fn push(result: &mut RouteResult, routes: Routes) {
    let meta = &routes.object.metadata;
    result
        .routes
        .push((format!("{}/{}", meta.namespace, meta.name), routes));
}

fn sender<'a>(index: &'a Index<'a>, route: Route<'a>, guarded: bool) -> Sender<'a> {
    Sender {
        index,
        kind: route.kind,
        namespace: &route.meta.namespace,
        guarded,
    }
}

/// Destinations; without any weight one that does not exist, so that connections are refused.
fn destinations(
    sender: Sender<'_>,
    backends: &[BackendRef],
) -> Result<(Vec<RouteDestination>, Option<Problem>), Problem> {
    if weightless(backends.iter().map(Backend::from)) {
        let destination = Destination {
            host: Host::from("internal.cluster.local"),
            subset: "zero-weight".to_owned(),
            port: Some(PortSelector { number: Port(65535) }),
        };
        let nowhere = RouteDestination {
            destination: Some(destination),
            weight: 0,
        };
        return Ok((vec![nowhere], None));
    }
    sender.destinations(backends)
}

/// In the mesh the names of the service are meant where a route names none.
fn within_mesh(routes: &mut [istio::TLSRoute], port: Option<Port>, hosts: &[Host]) {
    for route in routes {
        if let [only] = route.match_.as_mut_slice()
            && only.sni_hosts == [Host::from("*")]
        {
            only.sni_hosts = hosts.to_vec();
        }
        for names in &mut route.match_ {
            names.port = port.unwrap_or(names.port);
        }
    }
}

/// Of several names only those that a host covers.
fn keep_fitting(route: &mut istio::TLSRoute, host: &Host) {
    if let [only] = route.match_.as_mut_slice()
        && only.sni_hosts.len() > 1
    {
        only.sni_hosts.retain(|name| host.matches(name));
    }
}

/// Only names that the listener has; a route without any left is none.
fn within_listener(routes: &mut Vec<istio::TLSRoute>, listener: &[Host]) {
    for names in routes.iter_mut().flat_map(|route| &mut route.match_) {
        names.sni_hosts = intersection(&names.sni_hosts, listener);
    }
    routes.retain(|route| route.match_.is_empty() || route.match_.iter().any(|names| !names.sni_hosts.is_empty()));
}
