//! Several clusters: networks that name clusters nobody knows, and services that differ between clusters.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::istio::mesh_networks::NetworkEndpointsNe;
use corten_api::kubernetes::core::{Service, ServiceSpec};

use crate::catalogue::{self, list};
use crate::objects::{Item, World};
use crate::report::Report;

/// The label of secrets that let the control plane into another cluster; their keys are the clusters' names.
const REMOTE: &str = "istio/multiCluster";
/// Registries that are always there.
const REGISTRIES: [&str; 3] = ["Mock", "Kubernetes", "External"];

pub(super) fn networks(world: &World, report: &mut Report) {
    let mut known: BTreeSet<&str> = REGISTRIES.into();
    for secret in &world.secrets {
        if secret.object.labels.get(REMOTE).is_some_and(|value| value == "true") {
            known.extend(secret.spec.data.iter().flatten().map(|(cluster, _)| cluster.as_str()));
            known.extend(
                secret
                    .spec
                    .string_data
                    .iter()
                    .flatten()
                    .map(|(cluster, _)| cluster.as_str()),
            );
        }
    }
    let Some(networks) = &world.mesh_networks else { return };
    for (name, network) in &networks.spec.networks {
        for endpoints in &network.endpoints {
            if let Some(NetworkEndpointsNe::FromRegistry(registry)) = &endpoints.ne
                && !known.contains(registry.as_str())
            {
                let parameters = [("serviceregistry", registry.as_str()), ("network", name)];
                let kind = &catalogue::UNKNOWN_MESH_NETWORKS_SERVICE_REGISTRY;
                report.add_once(kind, &networks.object, "", &parameters);
            }
        }
    }
}

pub(super) fn services(world: &World, report: &mut Report) {
    let mut by_name: BTreeMap<(&str, &str), BTreeMap<&str, &Item<Service>>> = BTreeMap::new();
    for service in &world.services {
        let clusters = by_name.entry(service.object.key()).or_default();
        clusters.insert(&service.object.cluster, service);
    }
    for ((namespace, name), clusters) in by_name {
        let Some((clusters_named, reasons)) = differences(&clusters) else {
            continue;
        };
        let Some((_, first)) = clusters.first_key_value() else {
            continue;
        };
        let quoted = list(clusters_named.iter().map(|cluster| format!("{cluster:?}")));
        let parameters = [
            ("serviceName", name),
            ("namespace", namespace),
            ("clusters", &*quoted),
            ("error", &*reasons),
        ];
        report.add_once(
            &catalogue::MULTI_CLUSTER_INCONSISTENT_SERVICE,
            &first.object,
            "",
            &parameters,
        );
    }
}

/// The clusters in which a service differs, and by what.
fn differences<'a>(clusters: &BTreeMap<&'a str, &Item<Service>>) -> Option<(BTreeSet<&'a str>, String)> {
    let nothing = ServiceSpec::default();
    let spec = |service: &'_ Item<Service>| service.spec.spec.clone().unwrap_or_else(|| nothing.clone());
    let mut all = clusters.iter();
    let (first_cluster, first) = all.next()?;
    let first = spec(first);
    let mut reasons = BTreeSet::new();
    let mut differing = BTreeSet::new();
    for (cluster, service) in all {
        let other = spec(service);
        let headless = |spec: &ServiceSpec| spec.cluster_ip.as_deref() == Some("None");
        if headless(&first) != headless(&other) {
            differing.extend(clusters.keys().copied());
            reasons.insert("service has mixed mode like headless and clusterIP");
        }
        if first.type_ != other.type_ {
            differing.insert(*cluster);
            reasons.insert("service type is inconsistent");
        }
        if ports(&first) != ports(&other) {
            differing.insert(*cluster);
            reasons.insert("service ports are inconsistent");
        }
    }
    if differing.is_empty() {
        return None;
    }
    differing.insert(*first_cluster);
    let reasons: Vec<&str> = reasons.into_iter().collect();
    Some((differing, reasons.join("; ")))
}

/// The ports by name; where a node listens for them is each cluster's own business.
fn ports(spec: &ServiceSpec) -> Vec<corten_api::kubernetes::core::ServicePort> {
    let mut ports = spec.ports.clone().unwrap_or_default();
    for port in &mut ports {
        port.node_port = None;
    }
    ports.sort_by(|left, right| left.name.cmp(&right.name));
    ports
}
