//! The tables of endpoints: as the proxy uses them (`/clusters`), and as it was told of them (`/config_dump?include_eds`).

use serde_json::Value;

use super::{Dump, DumpError, by_service, items, text};
use crate::table::{columns, row};
use corten_envoy::camel_case;

/// Which endpoints; what is not given excludes none.
#[derive(Clone, Debug, Default)]
pub struct EndpointFilter {
    /// The address: with its port where a dump is looked at, without it where a live proxy is, as istioctl has it; either is understood.
    pub address: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The cluster's whole name.
    pub cluster: Option<String>,
    /// `HEALTHY`, `UNHEALTHY`, `DRAINING` ...
    pub status: Option<String>,
}

/// Endpoints, from either source.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// Entries of `cluster_statuses`.
    Used(Vec<Value>),
    /// Messages `ClusterLoadAssignment`.
    Told(Vec<Value>),
}

impl EndpointFilter {
    fn passes(&self, addresses: &[String], port: u64, status: &str, cluster: &str) -> bool {
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|it| it.eq_ignore_ascii_case(found));
        let address = self.address.as_deref().is_none_or(|wanted| {
            let is_it = |found: &String| {
                let host = found.rsplit_once(':').map_or("", |(host, _)| host);
                found.eq_ignore_ascii_case(wanted) || host.eq_ignore_ascii_case(wanted)
            };
            addresses.iter().any(is_it)
        });
        address
            && self.port.is_none_or(|wanted| port == u64::from(wanted))
            && same(&self.status, status)
            && same(&self.cluster, cluster)
    }
}

impl Endpoints {
    /// From the text of a dump, or of `/clusters?format=json`.
    ///
    /// # Errors
    ///
    /// The text is neither.
    pub fn parse(text: &[u8], filter: &EndpointFilter) -> Result<Endpoints, DumpError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| DumpError::NotJson(error.to_string()))?;
        let is_clusters = ["cluster_statuses", "clusterStatuses"]
            .iter()
            .any(|key| value.get(key).is_some());
        // A proxy without clusters shows an empty object.
        if is_clusters || value.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(used(value, filter));
        }
        Ok(told(&Dump::of(value)?, filter))
    }

    /// From a dump.
    pub fn told(dump: &Dump, filter: &EndpointFilter) -> Endpoints {
        told(dump, filter)
    }

    /// The resources that have something to show, for JSON and YAML, and the name of their type.
    pub fn resources(&self) -> (&'static str, &[Value]) {
        match self {
            Endpoints::Used(clusters) => ("envoy.admin.v3.ClusterStatus", clusters),
            Endpoints::Told(assignments) => ("envoy.config.endpoint.v3.ClusterLoadAssignment", assignments),
        }
    }

    /// The table; `named` says before each what it is.
    pub fn table(&self, filter: &EndpointFilter, named: bool) -> String {
        let mut rows = Vec::new();
        match self {
            Endpoints::Used(clusters) => {
                rows.push(row(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]));
                let mut found = Vec::new();
                for cluster in clusters {
                    let name = text(&cluster["name"]);
                    for host in items(&cluster["hostStatuses"]).filter(|host| passes(host, name, filter)) {
                        let port = port(&host["address"]);
                        let address = address(&host["address"], "unix://");
                        let failed = host["healthStatus"]["failedOutlierCheck"] == true;
                        let outlier = if failed { "FAILED" } else { "OK" };
                        found.push((
                            host_of(&address).to_owned(),
                            port,
                            name,
                            row([&address, status(host), outlier, name]),
                        ));
                    }
                }
                found.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
                rows.extend(found.into_iter().map(|(.., row)| row));
            }
            Endpoints::Told(assignments) => {
                rows.push(row(["NAME", "STATUS", "LOCALITY", "CLUSTER"]));
                for assignment in assignments {
                    let cluster = text(&assignment["clusterName"]);
                    for group in items(&assignment["endpoints"]) {
                        let locality = locality(&group["locality"]);
                        for endpoint in items(&group["lbEndpoints"]) {
                            let mut name = addresses(&endpoint["endpoint"]).join(",");
                            if named {
                                name.insert_str(0, "endpoint/");
                            }
                            rows.push(row([&name, health(endpoint), &locality, cluster]));
                        }
                    }
                }
            }
        }
        columns(&rows, 5)
    }
}

fn used(value: Value, filter: &EndpointFilter) -> Endpoints {
    let mut value = camel_case("envoy.admin.v3.Clusters", value);
    let mut clusters = match value["clusterStatuses"].take() {
        Value::Array(clusters) => clusters,
        _ => Vec::new(),
    };
    clusters.retain(|cluster| {
        let name = text(&cluster["name"]);
        items(&cluster["hostStatuses"]).any(|host| passes(host, name, filter))
    });
    Endpoints::Used(clusters)
}

fn passes(host: &Value, cluster: &str, filter: &EndpointFilter) -> bool {
    let address = address(&host["address"], "unix://");
    filter.passes(&[address], port(&host["address"]), status(host), cluster)
}

/// What the control plane says of a host's health.
fn status(host: &Value) -> &str {
    host["healthStatus"]["edsHealthStatus"].as_str().unwrap_or("UNKNOWN")
}

fn told(dump: &Dump, filter: &EndpointFilter) -> Endpoints {
    let lists = [
        ("dynamicEndpointConfigs", "/endpointConfig"),
        ("staticEndpointConfigs", "/endpointConfig"),
    ];
    let found = dump.entries("EndpointsConfigDump", &lists).into_iter();
    let mut assignments: Vec<Value> = found
        .filter_map(|assignment| {
            let mut assignment = assignment.clone();
            let cluster = text(&assignment["clusterName"]).to_owned();
            let mut left = 0;
            for group in assignment["endpoints"].as_array_mut().into_iter().flatten() {
                let Some(endpoints) = group.get_mut("lbEndpoints").and_then(Value::as_array_mut) else {
                    continue;
                };
                endpoints.retain(|it| {
                    let endpoint = &it["endpoint"];
                    filter.passes(&addresses(endpoint), port(&endpoint["address"]), health(it), &cluster)
                });
                left += endpoints.len();
                if endpoints.is_empty() {
                    group.as_object_mut().map(|group| group.remove("lbEndpoints"));
                }
            }
            // The list says of what type its messages are.
            assignment.as_object_mut().map(|it| it.remove("@type"));
            (left > 0).then_some(assignment)
        })
        .collect();
    assignments.sort_by(|a, b| by_service(text(&a["clusterName"]), text(&b["clusterName"])));
    Endpoints::Told(assignments)
}

fn health(endpoint: &Value) -> &str {
    endpoint["healthStatus"].as_str().unwrap_or("UNKNOWN")
}

fn port(address: &Value) -> u64 {
    address["socketAddress"]["portValue"].as_u64().unwrap_or(0)
}

/// Without the port, where there is one.
fn host_of(address: &str) -> &str {
    address
        .rsplit_once(':')
        .filter(|_| !address.contains("://"))
        .map_or(address, |(host, _)| host)
}

fn addresses(endpoint: &Value) -> Vec<String> {
    let further = items(&endpoint["additionalAddresses"]).map(|it| &it["address"]);
    std::iter::once(&endpoint["address"])
        .chain(further)
        .map(|it| address(it, ""))
        .collect()
}

fn address(address: &Value, before_path: &str) -> String {
    let socket = &address["socketAddress"];
    if !socket.is_null() {
        let ip = text(&socket["address"]);
        return match port(address) {
            0 => ip.to_owned(),
            port => format!("{ip}:{port}"),
        };
    }
    if let Some(path) = address["pipe"]["path"].as_str() {
        return format!("{before_path}{path}");
    }
    let internal = &address["envoyInternalAddress"];
    match internal["serverListenerName"].as_str() {
        Some(listener) => format!("envoy://{listener}/{}", text(&internal["endpointId"])),
        None => "unknown".to_owned(),
    }
}

/// `region/zone/subzone`, as far as it is known.
fn locality(locality: &Value) -> String {
    let parts = ["region", "zone", "subZone"].map(|key| text(&locality[key]));
    let known = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |at| at + 1);
    parts[..known].join("/")
}
