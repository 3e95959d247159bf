//! What a node says about itself: from the pod's variables, labels and annotations, with Istio's names.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::Build;
use crate::config::{Problem, canonical};

/// What goes before variables that become texts.
const TEXT: &str = "ISTIO_META_";
/// What goes before variables whose JSON is taken over.
const JSON: &str = "ISTIO_METAJSON_";
/// Switches, which are written `true` however they were.
const SWITCHES: [&str; 7] = [
    "DISABLE_HBONE_SEND",
    "DNS_AUTO_ALLOCATE",
    "DNS_CAPTURE",
    "ENABLE_HBONE",
    "ENABLE_SELF_DISCOVERY",
    "INBOUND_LISTENER_EXACT_BALANCE",
    "OUTBOUND_LISTENER_EXACT_BALANCE",
];
/// Labels that say where a workload is, the first that is there.
const LOCALITY: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// What is known of a pod and its proxy.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// The environment.
    pub variables: &'a [(String, String)],
    /// The file of the pod's labels, read; `None`: there is none.
    pub labels: Option<&'a Map<String, Value>>,
    /// The same of its annotations.
    pub annotations: Option<&'a Map<String, Value>>,
    /// The pod's addresses, the first of which is the one it is known by.
    pub addresses: &'a [IpAddr],
    /// How the proxy runs: a ProxyConfig.
    pub config: &'a Value,
    /// Names that the control plane's certificate may have.
    pub discovery_names: &'a [String],
    /// The file that Envoy writes to what it puts out of service; empty: none.
    pub outlier_log: &'a str,
    /// Port of the proxy's readiness.
    pub status_port: u16,
    /// Port of Envoy's metrics.
    pub prometheus_port: u16,
    /// Port of Envoy's metrics for the mesh; 0: none.
    pub secure_metrics_port: u16,
    /// Port of all metrics for the mesh; 0: none.
    pub secure_merged_metrics_port: u16,
    /// At the end, the proxy ends as soon as no connection is open.
    pub exits_when_idle: bool,
    /// Envoy says nothing of settings that are given up.
    pub skips_deprecated_logs: bool,
    /// The name of the socket for certificates.
    pub socket: &'a str,
    /// What the proxy's version is, where no variable says it.
    pub version: &'a str,
    /// The Envoy.
    pub build: Build,
}

/// Reads what the downward API writes of labels or annotations: a line each, `key="value"`.
pub fn labels_of(text: &str) -> Map<String, Value> {
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value: String = serde_json::from_str(value).ok()?;
        Some((key.trim().to_owned(), json!(value)))
    };
    text.lines().filter_map(pair).collect()
}

/// What the node says about itself, and which variables cannot be read.
pub fn metadata(pod: &Pod<'_>) -> (Map<String, Value>, Vec<Problem>) {
    let mut problems = Vec::new();
    let (mut made, read) = variables(pod, &mut problems);
    let text = |name: &str| {
        let found = pod
            .variables
            .iter()
            .find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    };
    let mut put = |name: &str, value: Value| drop(made.insert(name.to_owned(), value));
    for (name, variable) in [
        ("NAME", "POD_NAME"),
        ("NAMESPACE", "POD_NAMESPACE"),
        ("SERVICE_ACCOUNT", "SERVICE_ACCOUNT"),
        ("DNS_PROXY_ADDR", "DNS_PROXY_ADDR"),
    ] {
        if let Some(value) = text(variable) {
            put(name, json!(value));
        }
    }
    let mut ips: Vec<String> = Vec::new();
    for ip in pod.addresses.iter().map(ToString::to_string) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    put("INSTANCE_IPS", json!(ips.join(",")));
    put("PROXY_CONFIG", canonical(pod.config));
    put("WORKLOAD_IDENTITY_SOCKET_FILE", json!(pod.socket));
    for (name, port) in [
        ("ENVOY_STATUS_PORT", pod.status_port),
        ("ENVOY_PROMETHEUS_PORT", pod.prometheus_port),
        ("ENVOY_SECURE_METRICS_PORT", pod.secure_metrics_port),
        ("ENVOY_SECURE_MERGED_METRICS_PORT", pod.secure_merged_metrics_port),
    ] {
        if port > 0 {
            put(name, json!(port));
        }
    }
    for (name, is) in [
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", pod.exits_when_idle),
        ("ENVOY_SKIP_DEPRECATED_LOGS", pod.skips_deprecated_logs),
    ] {
        if is {
            put(name, json!("true"));
        }
    }
    if !pod.discovery_names.is_empty() {
        put("PILOT_SAN", json!(pod.discovery_names));
    }
    if !pod.outlier_log.is_empty() {
        put("OUTLIER_LOG_PATH", json!(pod.outlier_log));
    }
    for (name, value) in [
        ("LABELS", labels(&read.labels, pod.labels)),
        ("STATIC_LABELS", labels(&read.labels, None)),
        ("ANNOTATIONS", pod.annotations.cloned().unwrap_or(read.annotations)),
    ] {
        if !value.is_empty() {
            put(name, Value::Object(value));
        }
    }
    let ambient = made.get("ENABLE_HBONE").and_then(Value::as_str) == Some("true");
    let discovers = match text("PEER_METADATA_DISCOVERY") {
        Some(said) => is_true(said),
        None => ambient,
    };
    let discovers = discovers && pod.build == Build::Istio;
    made.insert("METADATA_DISCOVERY".to_owned(), json!(discovers.to_string()));
    made.entry("ISTIO_VERSION").or_insert_with(|| json!(pod.version));
    (made, problems)
}

/// What was read beside what is taken over.
#[derive(Default)]
struct Read {
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
}

/// What variables say for the node, those of the configuration first.
fn variables(pod: &Pod<'_>, problems: &mut Vec<Problem>) -> (Map<String, Value>, Read) {
    let (mut made, mut read) = (Map::new(), Read::default());
    let mut put = |name: &str, value: &Value| {
        let switch = value.as_str().filter(|text| SWITCHES.contains(&name) && is_true(text));
        made.insert(name.to_owned(), switch.map_or_else(|| value.clone(), |_| json!("true")));
    };
    let configured = pod.config["proxyMetadata"].as_object().into_iter().flatten();
    for (name, value) in configured {
        if let Some(name) = name.strip_prefix(TEXT) {
            put(name, value);
        }
    }
    for (name, value) in pod.variables {
        if let Some(name) = name.strip_prefix(TEXT) {
            put(name, &json!(value));
        }
    }
    for (name, value) in pod.variables {
        let Some(key) = name.strip_prefix(JSON) else {
            continue;
        };
        match serde_json::from_str::<Map<String, Value>>(value) {
            Ok(fields) => {
                match key {
                    "LABELS" => read.labels.clone_from(&fields),
                    "ANNOTATIONS" => read.annotations.clone_from(&fields),
                    _ => {}
                }
                for (name, value) in &fields {
                    put(name, value);
                }
            }
            Err(error) => problems.push(Problem::new(
                name,
                &format!("is left out: it is no object of JSON: {error}"),
            )),
        }
    }
    (made, read)
}

/// As Go reads it.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Labels that were set, and those of the pod. Labels cannot have slashes, so a locality is written with dots; here it is as everywhere else.
fn labels(set: &Map<String, Value>, pods: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut labels = set.clone();
    let pods = pods.into_iter().flatten();
    // It differs between pods that are otherwise equal.
    let pods = pods.filter(|(key, _)| *key != "pod-template-hash");
    labels.extend(pods.map(|(key, value)| (key.clone(), value.clone())));
    if let Some(place) = place(&labels) {
        labels.insert("istio-locality".to_owned(), json!(place));
    }
    labels
}

/// `region/zone/subzone`.
fn place(labels: &Map<String, Value>) -> Option<String> {
    let said = LOCALITY.iter().find_map(|key| labels.get(*key)?.as_str())?;
    let place = if said.contains('/') {
        said.to_owned()
    } else {
        said.replace('.', "/")
    };
    (!place.is_empty()).then_some(place)
}

/// Where the node is, as Envoy has it.
pub(crate) fn locality(metadata: &Map<String, Value>) -> Value {
    let labels = metadata.get("LABELS").and_then(Value::as_object);
    let place = labels.and_then(place).unwrap_or_default();
    let parts = ["region", "zone", "subZone"].into_iter().zip(place.splitn(3, '/'));
    let parts = parts.filter(|(_, part)| !part.is_empty());
    Value::Object(parts.map(|(name, part)| (name.to_owned(), json!(part))).collect())
}

/// What the node is called where only one name fits, as in traces.
pub(crate) fn service_cluster(config: &Value, metadata: &Map<String, Value>) -> String {
    const NAMES: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let labels = metadata.get("LABELS").and_then(Value::as_object);
    let label = |key: &&str| labels.and_then(|labels| labels.get(*key)).and_then(Value::as_str);
    let text = |key: &str| {
        metadata
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let namespace = text("NAMESPACE");
    let workload = text("WORKLOAD_NAME");
    let within = |name: &str| format!("{name}.{}", namespace.unwrap_or_default());
    let or_default = |name: &str| {
        if !matches!(name, "" | PROXY) {
            return name.to_owned();
        }
        let known = NAMES.iter().rev().find_map(label).or(workload);
        match (known, namespace) {
            (Some(name), _) => within(name),
            (None, Some(_)) => within(PROXY),
            (None, None) => PROXY.to_owned(),
        }
    };
    let canonical = || NAMES.iter().find_map(label).or(workload).unwrap_or(PROXY);
    match config["tracingServiceName"].as_str() {
        Some("CANONICAL_NAME_ONLY") => or_default(canonical()),
        Some("CANONICAL_NAME_AND_NAMESPACE") if namespace.is_some() => within(canonical()),
        Some("CANONICAL_NAME_AND_NAMESPACE") => or_default(canonical()),
        Some(_) => or_default(PROXY),
        None => or_default(config["serviceCluster"].as_str().unwrap_or(PROXY)),
    }
}

/// The name of a proxy that has none.
const PROXY: &str = "istio-proxy";
