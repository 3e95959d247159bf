//! What a node proxy knows, as its admin port shows it: ztunnel's `/config_dump` as types that are written and read.
//!
//! Reading is lenient, since dumps of several versions are read: lists may be maps, `null` counts as absent, keys that are not known are passed
//! over. Writing puts the keys that istioctl prints first and in its order, always present; keys that only newer proxies have come after
//! them, and only with a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// All that a command may ask of a dump.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dump {
    /// By uid.
    pub workloads: Vec<Workload>,
    /// By host name.
    pub services: Vec<Service>,
    /// By resource name.
    pub policies: Vec<Policy>,
    /// By identity.
    pub certificates: Vec<Certificate>,
    /// Pods of the node, by uid.
    pub workload_state: BTreeMap<String, WorkloadState>,
}

/// A workload of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// The resource name.
    pub uid: String,
    /// Addresses.
    pub workload_ips: Vec<String>,
    /// The waypoint that takes what is sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<Gateway>,
    /// The gateway of its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_gateway: Option<Gateway>,
    /// `HBONE` or `TCP`.
    pub protocol: String,
    /// The pod's name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// What the pod belongs to.
    pub workload_name: String,
    /// The kind of it.
    pub workload_type: String,
    /// The application.
    pub canonical_name: String,
    /// Its version.
    pub canonical_revision: String,
    /// The cluster.
    pub cluster_id: String,
    /// The trust domain of its identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust_domain: String,
    /// Where it runs.
    pub locality: Locality,
    /// The node.
    pub node: String,
    /// The network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// `Healthy` or `Unhealthy`.
    pub status: String,
    /// The name to resolve where it has no address.
    pub hostname: String,
    /// Its weight.
    pub capacity: u32,
    /// How the proxy hands connections to the application.
    pub application_tunnel: ApplicationTunnel,
    /// Policies that select it, by resource name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_policies: Vec<String>,
    /// `Standard` or `HostNetwork`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// It speaks HBONE itself.
    #[serde(skip_serializing_if = "is_false")]
    pub native_tunnel: bool,
    /// Services it is behind, `namespace/hostname`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

/// A waypoint or gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// `network/ip` or `namespace/hostname`.
    pub destination: String,
    /// The port for tunnels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hbone_mtls_port: Option<u16>,
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Locality {
    /// The region.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// The zone in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// The part of the zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subzone: String,
}

/// How the proxy hands connections to the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationTunnel {
    /// `NONE` or `PROXY`.
    pub protocol: String,
    /// To this port instead of the one called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The host name.
    pub hostname: String,
    /// Virtual addresses, `network/ip`.
    pub vips: Vec<String>,
    /// Ranges of virtual addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidr_vips: Vec<Range>,
    /// The workloads' ports by the service's.
    pub ports: BTreeMap<String, u16>,
    /// How endpoints are chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// The waypoint that takes what is sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<Gateway>,
    /// By workload.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Identities that may answer for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// `Dual`, `IPv4` or `IPv6`.
    pub ip_families: String,
    /// The one that is meant by its name in other namespaces.
    #[serde(skip_serializing_if = "is_false")]
    pub canonical: bool,
    /// `Public` or `Namespace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub visibility: String,
    /// Waypoints among which connections are divided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weighted_waypoints: Vec<WeightedWaypoint>,
}

/// A range of virtual addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenRange")]
pub struct Range {
    /// The network.
    pub network: String,
    /// The range.
    pub cidr: String,
}

/// Both forms in which proxies have written ranges.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenRange {
    Fields {
        #[serde(default)]
        network: String,
        cidr: String,
    },
    Text(String),
}

impl From<WrittenRange> for Range {
    fn from(written: WrittenRange) -> Range {
        match written {
            WrittenRange::Fields { network, cidr } => Range { network, cidr },
            WrittenRange::Text(text) => {
                let (network, cidr) = text.split_once('/').unwrap_or(("", &text));
                Range {
                    network: network.to_owned(),
                    cidr: cidr.to_owned(),
                }
            }
        }
    }
}

/// How endpoints are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// `Standard`, `Strict`, `Failover` or `Passthrough`.
    pub mode: String,
    /// What is preferred, most important first.
    pub routing_preferences: Vec<String>,
    /// `OnlyHealthy` or `AllowAll`.
    pub health_policy: String,
}

/// A workload behind a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The workload.
    pub workload_uid: String,
    /// The service, where it is said again.
    pub service: String,
    /// The address, where the proxy keeps it here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The workload's ports by the service's.
    pub port: BTreeMap<String, u16>,
    /// `Healthy` or `Unhealthy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// One of several waypoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightedWaypoint {
    /// `network/ip` or `namespace/hostname`.
    pub destination: String,
    /// Its share.
    pub weight: u32,
}

/// An authorization policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// `Global`, `Namespace` or `WorkloadSelector`.
    pub scope: String,
    /// `Allow` or `Deny`.
    pub action: String,
    /// Any rule; in it every clause; in that any match.
    pub rules: Vec<Vec<Vec<Match>>>,
    /// It is only logged.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// The caller's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<StringMatch>,
    /// Not the caller's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_namespaces: Vec<StringMatch>,
    /// The caller's identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<StringMatch>,
    /// Not the caller's identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_principals: Vec<StringMatch>,
    /// The caller's address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// Not the caller's address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_source_ips: Vec<String>,
    /// The address called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ips: Vec<String>,
    /// Not the address called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ips: Vec<String>,
    /// The port called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ports: Vec<u16>,
    /// Not the port called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ports: Vec<u16>,
    /// The caller's service account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ServiceAccount>,
    /// Not the caller's service account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_service_accounts: Vec<ServiceAccount>,
}

/// A pattern for text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StringMatch {
    /// The whole text.
    Exact(String),
    /// Its end.
    Suffix(String),
    /// Its beginning.
    Prefix(String),
    /// Any text that is not empty. What stands there means nothing.
    Presence(Value),
}

/// A service account of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccount {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub service_account: String,
}

/// What the proxy has for an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// The identity, as a SPIFFE URI.
    pub identity: String,
    /// `Available`, `Initializing`, or `Unavailable: ` and why.
    pub state: String,
    /// The leaf, then intermediates.
    pub cert_chain: Vec<ChainedCertificate>,
    /// What others are trusted by.
    pub root_certs: Vec<ChainedCertificate>,
}

/// One certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChainedCertificate {
    /// PEM in base64.
    pub pem: String,
    /// In decimal.
    pub serial_number: String,
    /// RFC 3339.
    pub valid_from: String,
    /// RFC 3339.
    pub expiration_time: String,
}

/// A pod that the proxy serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadState {
    /// `Pending` or `Up`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// What is open now.
    pub connections: Connections,
    /// Who it is.
    pub info: WorkloadInfo,
}

/// Open connections of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connections {
    /// To it.
    pub inbound: Vec<Connection>,
    /// From it.
    pub outbound: Vec<Connection>,
}

/// An open connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// The caller.
    pub src: String,
    /// What was called; for inbound connections, the host name that the caller's proxy told.
    pub original_dst: String,
    /// What is connected to.
    pub actual_dst: String,
    /// `TCP`, `HBONE` or `DOUBLEHBONE`.
    pub protocol: String,
}

/// Who a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadInfo {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The trust domain.
    pub trust_domain: String,
    /// The service account.
    pub service_account: String,
}

/// A text that is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is not JSON.
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    /// It is JSON of another form.
    #[error("it has not the form of a node proxy's config_dump")]
    Form(#[source] serde_json::Error),
    /// It is an object without any of the parts of a dump.
    #[error(
        "it has none of the keys of a node proxy's config_dump, such as workloads; is it the dump of another program?"
    )]
    Foreign,
}

impl Dump {
    /// Reads a dump.
    pub fn parse(text: &[u8]) -> Result<Dump, DumpError> {
        let mut value: Value = serde_json::from_slice(text).map_err(DumpError::Json)?;
        without_nulls(&mut value);
        let mut parts = Map::new();
        if let Value::Object(mut given) = value {
            for list in ["workloads", "services", "policies", "certificates"] {
                if let Some(found) = given.remove(list) {
                    parts.insert(list.to_owned(), as_list(found));
                }
            }
            // Istioctl does not mind how this one is capitalized.
            let state = given
                .into_iter()
                .find(|(key, _)| key.eq_ignore_ascii_case("workloadState"));
            parts.extend(state.map(|(_, state)| ("workloadState".to_owned(), state)));
        }
        if parts.is_empty() {
            return Err(DumpError::Foreign);
        }
        Dump::deserialize(Value::Object(parts)).map_err(DumpError::Form)
    }
}

/// The values of a map in the order of its keys.
fn as_list(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Array(map.into_iter().map(|(_, value)| value).collect()),
        other => other,
    }
}

/// Takes away keys without a value, which are the same as absent ones.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Object(map) => {
            // The value of a presence match means nothing, but its key does.
            map.retain(|key, value| !value.is_null() || key == "Presence");
            map.values_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
