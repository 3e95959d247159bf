//! Several VirtualServices for the same host within the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_core::Host;

use crate::catalogue::CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS;
use crate::hosts::{EVERYWHERE, MESH, ScopedHost, scopes, whole};
use crate::objects::{Object, World};
use crate::report::Report;

pub(crate) fn conflicts(world: &World, report: &mut Report) {
    let mut hosts: BTreeMap<ScopedHost, Vec<&Arc<Object>>> = BTreeMap::new();
    for service in &world.virtual_services {
        let spec = &service.spec;
        if !spec.gateways.is_empty() && !spec.gateways.iter().any(|gateway| gateway == MESH) {
            continue;
        }
        let namespace = service.object.namespace();
        for scope in scopes(&spec.export_to, namespace) {
            for host in &spec.hosts {
                let place = (scope.clone(), whole(host.as_str(), namespace));
                hosts.entry(place).or_default().push(&service.object);
            }
        }
    }
    let mut reported: BTreeSet<(&str, &str)> = BTreeSet::new();
    for ((scope, host), own) in &hosts {
        let mut services = own.clone();
        if scope != EVERYWHERE {
            let wanted = Host::from(host.as_str());
            let covering = hosts
                .iter()
                .filter(|((scope, other), _)| scope == EVERYWHERE && wanted.matches(&Host::from(other.as_str())));
            services.extend(covering.flat_map(|(_, services)| services));
        }
        if services.len() < 2 {
            continue;
        }
        let mut names: Vec<String> = services.iter().map(|service| service.full_name()).collect();
        names.sort_unstable();
        let (names, host) = (names.join(","), format!("{scope}/{host}"));
        for service in services {
            if reported.insert(service.key()) {
                let parameters = [("virtualServices", &*names), ("host", &*host)];
                let kind = &CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS;
                report.add(kind, service, "metadata.name", &parameters);
            }
        }
    }
}
