//! What a cluster is: how it knows its endpoints, how it chooses among them, and its limits.

use corten_envoy::envoy::config::cluster::v3::{
    Cluster,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig},
};
use corten_envoy::envoy::config::core::v3::{Metadata, RoutingPriority};
use corten_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use corten_envoy::google::protobuf::{Struct, UInt32Value};
use serde_json::{Map, Value};

use crate::facts::Facts;
use crate::network::Ended;
use crate::text::duration;
use crate::trace::{Choice, Destination, EndpointShare, Outcome, Refusal, Setting, Upstream};
use crate::values::json_of;
use crate::{Config, Request, endpoints, tls};

/// Under what name endpoints say how they want to be spoken to.
const TRANSPORT_METADATA: &str = "envoy.transport_socket_match";
/// Where Istio writes what concerns its own extensions.
const ISTIO_METADATA: &str = "istio";
/// From what number on a limit is none.
const LIMIT_NONE: u32 = u32::MAX;

/// What the cluster of this name is for the call; `None`: the proxy does not have it.
pub(crate) fn upstream(
    config: &Config,
    name: &str,
    facts: &Facts,
    request: Option<&Request>,
    hop: &Ended,
) -> Option<Upstream> {
    let cluster = config.clusters.get(name)?;
    let (discovery, kind) = match &cluster.cluster_discovery_type {
        None => ("STATIC".to_owned(), Some(DiscoveryType::Static)),
        Some(ClusterDiscoveryType::Type(kind)) => {
            let kind = DiscoveryType::try_from(*kind).unwrap_or(DiscoveryType::Static);
            (kind.as_str_name().to_owned(), Some(kind))
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => (custom.name.clone(), None),
    };
    let transport = |metadata: Option<&Metadata>| transport(cluster, metadata, request.is_some(), hop);
    let (found, note) = match kind {
        Some(DiscoveryType::OriginalDst) => {
            let (address, note) = original(cluster, facts, request);
            let share = EndpointShare {
                address,
                share: 1.0,
                weight: 1,
                priority: 0,
                health: "UNKNOWN".to_owned(),
                locality: String::new(),
                target: None,
                transport: transport(None),
            };
            (vec![share], note)
        }
        None => {
            let host = request.map_or_else(|| facts.server_name.clone(), |request| request.host.clone());
            let share = EndpointShare {
                address: if host.is_empty() { "unknown".to_owned() } else { host },
                share: 1.0,
                weight: 1,
                priority: 0,
                health: "UNKNOWN".to_owned(),
                locality: String::new(),
                target: None,
                transport: transport(None),
            };
            (vec![share], "whatever the name resolves to".to_owned())
        }
        Some(_) => match assignment(config, cluster) {
            None => (Vec::new(), "its endpoints have not been sent".to_owned()),
            Some(assignment) => endpoints::shares(cluster, assignment, &transport),
        },
    };
    Some(Upstream {
        discovery,
        policy: cluster.lb_policy().as_str_name().to_owned(),
        settings: settings(cluster),
        note,
        endpoints: found,
    })
}

fn assignment<'a>(config: &'a Config, cluster: &'a Cluster) -> Option<&'a ClusterLoadAssignment> {
    let is_eds = matches!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(kind)) if kind == i32::from(DiscoveryType::Eds));
    if !is_eds {
        return cluster.load_assignment.as_ref();
    }
    let asked = cluster
        .eds_cluster_config
        .as_ref()
        .map(|eds| &*eds.service_name)
        .filter(|name| !name.is_empty());
    config.endpoints.get(asked.unwrap_or(&cluster.name))
}

/// Where a cluster sends that goes to where the call was going.
fn original(cluster: &Cluster, facts: &Facts, request: Option<&Request>) -> (String, String) {
    let mut address = facts.destination;
    let mut note = "to where the call was going".to_owned();
    if let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config {
        let name = if config.http_header_name.is_empty() {
            "x-envoy-original-dst-host"
        } else {
            &config.http_header_name
        };
        let said = request
            .filter(|_| config.use_http_header)
            .and_then(|request| request.get(name));
        if let Some(said) = said.and_then(|said| said.parse().ok()) {
            address = said;
            note = format!("to where the header {name:?} says");
        }
        if let Some(port) = config
            .upstream_port_override
            .as_ref()
            .and_then(|port| u16::try_from(port.value).ok())
        {
            address.set_port(port);
            note.push_str(", at a port of the cluster's");
        }
    }
    (address.to_string(), note)
}

/// How an endpoint with this metadata is spoken to: the first match whose every field the endpoint has.
fn transport(cluster: &Cluster, metadata: Option<&Metadata>, is_http: bool, hop: &Ended) -> Choice {
    let nothing = Struct::default();
    let has = metadata
        .and_then(|metadata| metadata.filter_metadata.get(TRANSPORT_METADATA))
        .unwrap_or(&nothing);
    let chosen = cluster.transport_socket_matches.iter().find(|candidate| {
        let wanted = candidate.r#match.as_ref().unwrap_or(&nothing);
        wanted
            .fields
            .iter()
            .all(|(key, value)| has.fields.get(key) == Some(value))
    });
    let mut choice = match chosen {
        Some(chosen) => Choice {
            matched: chosen.name.clone(),
            ..tls::upstream(chosen.transport_socket.as_ref())
        },
        None => tls::upstream(cluster.transport_socket.as_ref()),
    };
    // Istio's own filter offers the protocol of the request, so that the server knows it before it reads it.
    let istio: Map<String, Value> = cluster
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.filter_metadata.get(ISTIO_METADATA))
        .map_or_else(Map::new, json_of);
    let overrides = istio.get("alpn_override").and_then(Value::as_str) != Some("false");
    if is_http && hop.alpn_override && overrides && choice.mode == "mtls" {
        let version = if hop.http2 {
            ["istio-h2", "istio", "h2"]
        } else {
            ["istio-http/1.1", "istio", "http/1.1"]
        };
        choice.alpn = version.map(str::to_owned).to_vec();
    }
    choice
}

/// How a call ends that goes to these clusters.
pub(crate) fn outcome(destinations: &[Destination], missing: Option<u16>) -> Outcome {
    let names = || {
        destinations
            .iter()
            .map(|destination| &*destination.cluster)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if destinations.iter().all(|destination| destination.upstream.is_none()) {
        let why = format!("the proxy does not have the cluster {}", names());
        return Outcome::Refused {
            error: Refusal::NoCluster,
            status: missing,
            why,
        };
    }
    let usable = |destination: &Destination| {
        destination
            .upstream
            .as_ref()
            .is_some_and(|upstream| upstream.endpoints.iter().any(|endpoint| endpoint.share > 0.0))
    };
    if !destinations.iter().any(usable) {
        let why = format!("{} has no endpoint that may be used", names());
        return Outcome::Refused {
            error: Refusal::NoEndpoint,
            status: missing.map(|_| 503),
            why,
        };
    }
    Outcome::Forwarded
}

/// Limits, ejection, pools and the like, for people. What limits nothing is left out.
fn settings(cluster: &Cluster) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut push = |name: &str, value: String| {
        if !value.is_empty() {
            settings.push(Setting::new(name, value));
        }
    };
    push(
        "connect timeout",
        cluster.connect_timeout.as_ref().map_or(String::new(), duration),
    );
    let thresholds = cluster
        .circuit_breakers
        .iter()
        .flat_map(|breakers| &breakers.thresholds);
    for threshold in thresholds.filter(|threshold| threshold.priority() == RoutingPriority::Default) {
        push("circuit breakers", limits(threshold));
    }
    if let Some(outlier) = &cluster.outlier_detection {
        let number = |value: &Option<UInt32Value>, default: u32| value.as_ref().map_or(default, |value| value.value);
        let mut counts = Vec::new();
        if number(&outlier.enforcing_consecutive_5xx, 100) > 0 {
            counts.push(format!("{} times 5xx", number(&outlier.consecutive_5xx, 5)));
        }
        if number(&outlier.enforcing_consecutive_gateway_failure, 0) > 0 {
            counts.push(format!(
                "{} gateway failures",
                number(&outlier.consecutive_gateway_failure, 5)
            ));
        }
        if outlier.split_external_local_origin_errors
            && number(&outlier.enforcing_consecutive_local_origin_failure, 100) > 0
        {
            counts.push(format!(
                "{} failures to connect",
                number(&outlier.consecutive_local_origin_failure, 5)
            ));
        }
        let time = |value: &Option<corten_envoy::google::protobuf::Duration>, default: &str| {
            value.as_ref().map_or_else(|| default.to_owned(), duration)
        };
        push(
            "outlier detection",
            format!(
                "after {} in a row, for {} and longer each time, at most {} % of them, looked at every {}",
                if counts.is_empty() {
                    "nothing".to_owned()
                } else {
                    counts.join(" or ")
                },
                time(&outlier.base_ejection_time, "30s"),
                number(&outlier.max_ejection_percent, 10),
                time(&outlier.interval, "10s"),
            ),
        );
    }
    push(
        "requests per connection",
        cluster
            .max_requests_per_connection
            .as_ref()
            .map_or(String::new(), |requests| requests.value.to_string()),
    );
    settings
}

fn limits(threshold: &Thresholds) -> String {
    let mut limits = Vec::new();
    for (name, value, default) in [
        ("connections", &threshold.max_connections, 1024),
        ("pending requests", &threshold.max_pending_requests, 1024),
        ("requests", &threshold.max_requests, 1024),
        ("retries", &threshold.max_retries, 3),
    ] {
        let value = value.as_ref().map_or(default, |value| value.value);
        if value != LIMIT_NONE {
            limits.push(format!("{value} {name}"));
        }
    }
    limits.join(", ")
}
