//! Where routes lead: hosts, ports and subsets that are not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_api::istio::virtual_service::{Destination, VirtualServiceSpec};

use crate::catalogue::{self, list};
use crate::hosts::{self, Hosts};
use crate::objects::{Item, Object, World};
use crate::report::Report;

/// A destination of a route, or of a copy of its traffic.
struct Target<'a> {
    /// `None`: it was left out, so that it is a host without a name.
    destination: Option<&'a Destination>,
    path: String,
    is_mirror: bool,
}

impl Target<'_> {
    fn host(&self) -> &str {
        self.destination.map_or("", |to| to.host.as_str())
    }

    fn subset(&self) -> &str {
        self.destination.map_or("", |to| to.subset.as_str())
    }
}

fn targets(service: &VirtualServiceSpec) -> Vec<Target<'_>> {
    let mut found = Vec::new();
    let target = |destination, path, is_mirror| Target {
        destination,
        path,
        is_mirror,
    };
    for (i, route) in service.tcp.iter().enumerate() {
        for (j, to) in route.route.iter().enumerate() {
            let path = format!("spec.tcp[{i}].route[{j}].destination");
            found.push(target(to.destination.as_ref(), path, false));
        }
    }
    for (i, route) in service.tls.iter().enumerate() {
        for (j, to) in route.route.iter().enumerate() {
            let path = format!("spec.tls[{i}].route[{j}].destination");
            found.push(target(to.destination.as_ref(), path, false));
        }
    }
    for (i, route) in service.http.iter().enumerate() {
        for (j, to) in route.route.iter().enumerate() {
            let path = format!("spec.http[{i}].route[{j}].destination");
            found.push(target(to.destination.as_ref(), path, false));
        }
        if route.mirror.is_some() {
            found.push(target(route.mirror.as_ref(), format!("spec.http[{i}].mirror"), true));
        }
        for (j, mirror) in route.mirrors.iter().enumerate() {
            let path = format!("spec.http[{i}].mirrors[{j}].destination");
            found.push(target(mirror.destination.as_ref(), path, true));
        }
    }
    found
}

pub(crate) fn destinations(world: &World, report: &mut Report) {
    let hosts = Hosts::of(world);
    for service in &world.virtual_services {
        let namespace = service.object.namespace();
        for target in targets(&service.spec) {
            let host = target.host();
            let path = format!("{}.host", target.path);
            let Some(found) = hosts.find(host, namespace, &service.spec.export_to) else {
                let what = if target.is_mirror { "mirror host" } else { "host" };
                missing(&service.object, what, host, &path, report);
                continue;
            };
            match target.destination.and_then(|to| to.port.as_ref()) {
                None if found.ports.len() > 1 => {
                    let ports = list(found.ports.iter().map(u32::to_string));
                    let parameters = [("destHost", host), ("destPorts", &*ports)];
                    let kind = &catalogue::VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED;
                    report.add(kind, &service.object, &path, &parameters);
                }
                Some(port) if !found.ports.contains(&port.number.0.into()) => {
                    let place = format!("{host}:{}", port.number);
                    missing(&service.object, "host:port", &place, &path, report);
                }
                _ => {}
            }
        }
        ineffective_subsets(service, world, report);
    }
}

fn missing(object: &Arc<Object>, what: &str, name: &str, path: &str, report: &mut Report) {
    let parameters = [("reftype", what), ("refval", name)];
    report.add(&catalogue::REFERENCED_RESOURCE_NOT_FOUND, object, path, &parameters);
}

/// A gateway's route to a host without a subset does not pass the VirtualService that chooses one within the mesh.
fn ineffective_subsets(service: &Item<VirtualServiceSpec>, world: &World, report: &mut Report) {
    if service.spec.gateways.is_empty() {
        return;
    }
    for (i, route) in service.spec.http.iter().enumerate() {
        for (j, to) in route.route.iter().enumerate() {
            let Some(to) = to.destination.as_ref().filter(|to| to.subset.is_empty()) else {
                continue;
            };
            for other in world
                .virtual_services
                .iter()
                .filter(|other| chooses_subset(&other.spec, to))
            {
                let parameters = [
                    ("virtualservicesubset", &*other.object.full_name()),
                    ("virtualservice", &*service.object.full_name()),
                ];
                let path = format!("spec.http[{i}].route[{j}].destination.host");
                report.add_once(
                    &catalogue::INGRESS_ROUTE_RULES_NOT_AFFECTED,
                    &service.object,
                    &path,
                    &parameters,
                );
            }
        }
    }
}

/// Whether a VirtualService is for a destination's host, and gives it a subset.
fn chooses_subset(service: &VirtualServiceSpec, to: &Destination) -> bool {
    let routes = service.http.iter().flat_map(|route| &route.route);
    let mut subsets = routes
        .filter_map(|route| route.destination.as_ref())
        .filter(|chosen| !chosen.subset.is_empty());
    service.hosts.contains(&to.host) && subsets.any(|chosen| chosen.host == to.host)
}

pub(crate) fn subsets(world: &World, report: &mut Report) {
    let mut known: BTreeSet<((String, String), &str)> = BTreeSet::new();
    for rule in &world.destination_rules {
        let host = hosts::service(rule.spec.host.as_str(), rule.object.namespace());
        known.extend(
            rule.spec
                .subsets
                .iter()
                .map(|subset| (host.clone(), subset.name.as_str())),
        );
    }
    for service in &world.virtual_services {
        for target in targets(&service.spec) {
            let (host, subset) = (target.host(), target.subset());
            let name = hosts::service(host, service.object.namespace());
            if !subset.is_empty() && !known.contains(&(name, subset)) {
                let what = if target.is_mirror {
                    "mirror+subset in destinationrule"
                } else {
                    "host+subset in destinationrule"
                };
                let path = format!("{}.host", target.path);
                missing(&service.object, what, &format!("{host}+{subset}"), &path, report);
            }
        }
    }
}
