//! What a workload serves: the ports that services lead to at it.

use std::sync::Arc;

use corten_core::{Host, Protocol};
use corten_model::{AddressKey, ObjectKind, Workload};
use corten_routing::{Service, ServicePort};

use crate::Context;

/// A port of the workload, and the service's port that leads there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service.
    pub service: Arc<Service>,
    /// The service's port.
    pub port: ServicePort,
    /// The workload's port.
    pub number: u16,
}

/// The proxy's workload: all that have its address, its own pod alone if that is among them.
fn workloads(cx: &Context<'_>) -> Vec<Arc<Workload>> {
    let model = &cx.snapshot.model;
    let mut found: Vec<Arc<Workload>> = Vec::new();
    for address in &cx.proxy.addresses {
        for key in model.resolve(&format!("{}/{address}", model.network())) {
            let AddressKey::Workload(uid) = key else { continue };
            let has_it = |workload: &&Arc<Workload>| workload.addresses.contains(address);
            if let Some(workload) = model.workload(&uid).filter(has_it)
                && !found.iter().any(|known| known.uid == workload.uid)
            {
                found.push(Arc::clone(workload));
            }
        }
    }
    let is_pod = |workload: &&Arc<Workload>| {
        workload.source.kind == ObjectKind::Pod
            && workload.name == cx.proxy.name
            && workload.namespace == cx.proxy.namespace
    };
    match found.iter().find(is_pod).cloned() {
        Some(pod) => vec![pod],
        None => found,
    }
}

/// The ports of the workload that services lead to, each once: the oldest service's.
pub fn targets(cx: &Context<'_>) -> Vec<Target> {
    let mut found = all_targets(cx);
    found.dedup_by_key(|target| target.number);
    found
}

/// The ports of the workload that services lead to, by number; several services' in the order of their age.
pub fn all_targets(cx: &Context<'_>) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    let services = &cx.snapshot.catalog.services;
    for workload in workloads(cx) {
        for (key, ports) in workload.services.iter() {
            let place = key
                .split_once('/')
                .map(|(namespace, host)| (namespace, Host::from(host)));
            let Some(service) = place.and_then(|(namespace, host)| services.get(&host, namespace)) else {
                continue;
            };
            for of in ports.iter() {
                let Some(port) = service
                    .port(of.service_port)
                    .filter(|port| port.protocol != Protocol::Udp)
                else {
                    continue;
                };
                found.push(Target {
                    service: Arc::clone(service),
                    port: port.clone(),
                    number: if of.target_port == 0 {
                        port.number
                    } else {
                        of.target_port
                    },
                });
            }
        }
    }
    found.sort_by(|a, b| {
        let age = |target: &Target| (target.service.created, target.service.host.clone(), target.port.number);
        age(a).cmp(&age(b))
    });
    found.sort_by_key(|target| target.number);
    found
}
