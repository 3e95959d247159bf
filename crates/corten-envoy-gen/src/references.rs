//! Whether what a proxy is sent holds together: every name by which one resource calls another is the name of one that is there.

use std::collections::BTreeSet;

use corten_envoy::{message_to_json, prost};
use serde_json::Value;

use crate::{Resources, names::Parsed};

/// Clusters that a proxy has from its start.
const BOOTSTRAP: [&str; 9] = [
    "agent",
    "envoy_accesslog_service",
    "envoy_metrics_service",
    "prometheus_stats",
    "sds-external",
    "sds-files-grpc",
    "sds-grpc",
    "xds-grpc",
    "zipkin",
];

/// Where a proxy's resources name what is not among them, a sentence each.
///
/// A destination that somebody wrote and that is not there, a host, a port or a subset, is none of these: it keeps the name that
/// Istio gives it, under which people look for it, analysis reports it, and Envoy answers 503.
pub fn dangling(made: &Resources) -> Vec<String> {
    let clusters: BTreeSet<&str> = made.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let services = clusters.iter().filter_map(|name| Parsed::of(name));
    let mut check = Check {
        services: services.map(|parsed| (parsed.host, parsed.port)).collect(),
        clusters,
        made,
        wrong: BTreeSet::new(),
    };
    for cluster in &made.clusters {
        check.message("cluster", &cluster.name, cluster);
    }
    for listener in &made.listeners {
        check.message("listener", &listener.name, listener);
    }
    for (name, route) in &made.routes {
        check.message("route", name, route);
    }
    for name in made.endpoints.keys() {
        let asked = |cluster: &&corten_envoy::envoy::config::cluster::v3::Cluster| {
            let eds = cluster.eds_cluster_config.as_ref();
            eds.is_some_and(|eds| eds.service_name == *name)
        };
        if made.clusters.iter().find(asked).is_none() {
            check.wrong.insert(format!("endpoints {name} are no cluster's"));
        }
    }
    check.wrong.into_iter().collect()
}

struct Check<'a> {
    clusters: BTreeSet<&'a str>,
    /// The hosts and ports that have a cluster.
    services: BTreeSet<(&'a str, u16)>,
    made: &'a Resources,
    wrong: BTreeSet<String>,
}

impl Check<'_> {
    fn message<M: prost::Message + prost::Name>(&mut self, kind: &str, name: &str, message: &M) {
        let place = format!("{kind} {name}");
        match message_to_json(message) {
            Ok(value) => self.value(&place, &value),
            Err(error) => {
                self.wrong.insert(format!("{place} cannot be shown: {error}"));
            }
        }
    }

    fn value(&mut self, place: &str, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.value(place, item)),
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        // What people and telemetry read.
                        ("metadata" | "filterMetadata", _) => {}
                        ("cluster" | "clusterName", Value::String(name)) => self.cluster(place, name),
                        ("weightedClusters", weighted) => {
                            for one in weighted["clusters"].as_array().into_iter().flatten() {
                                self.cluster(place, one["name"].as_str().unwrap_or_default());
                            }
                            self.value(place, weighted);
                        }
                        ("routeConfigName", Value::String(name)) if !self.made.routes.contains_key(name) => {
                            self.wrong
                                .insert(format!("{place} asks for route {name}, which is not there"));
                        }
                        ("edsClusterConfig", eds) => {
                            let name = eds["serviceName"].as_str().unwrap_or_default();
                            if !self.made.endpoints.contains_key(name) {
                                self.wrong
                                    .insert(format!("{place} asks for endpoints {name}, which are not there"));
                            }
                        }
                        ("serverListenerName", Value::String(name)) => {
                            if !self.made.listeners.iter().any(|listener| listener.name == *name) {
                                self.wrong
                                    .insert(format!("{place} leads to listener {name}, which is not there"));
                            }
                        }
                        _ => self.value(place, value),
                    }
                }
            }
            _ => {}
        }
    }

    fn cluster(&mut self, place: &str, name: &str) {
        let is_unknown = |parsed: Parsed<'_>| {
            let service = (parsed.host, parsed.port);
            !parsed.host.is_empty() && (!parsed.subset.is_empty() || !self.services.contains(&service))
        };
        let is_unknown = || name == crate::names::UNKNOWN_SERVICE || Parsed::of(name).is_some_and(is_unknown);
        if !self.clusters.contains(name) && !BOOTSTRAP.contains(&name) && !is_unknown() {
            self.wrong
                .insert(format!("{place} leads to cluster {name}, which is not there"));
        }
    }
}
