//! How proxies run: a ProxyConfig as JSON, as it is where nobody says anything, laid over one another, and read.

use std::fmt;

use serde_json::{Map, Value, json};

/// What configuration says and does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, annotation or variable.
    pub field: String,
    /// What is wrong with it, as the end of a sentence.
    pub reason: String,
}

impl Problem {
    pub(crate) fn new(field: &str, reason: &str) -> Problem {
        Problem {
            field: field.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.field, self.reason)
    }
}

/// What holds where nobody says anything.
pub fn defaults() -> Value {
    json!({
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "proxyAdminPort": 15000,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "statNameLength": 189,
        "statusPort": 15020,
    })
}

/// Lays a configuration over another: variables are added one by one, other fields replaced.
pub fn merge(below: &mut Value, above: &Value) {
    let Some(fields) = below.as_object_mut() else {
        return;
    };
    for (name, value) in above.as_object().into_iter().flatten() {
        match (fields.get_mut(name), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(mine)), Value::Object(theirs)) if name == "proxyMetadata" => {
                mine.extend(theirs.clone());
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    // One of both says what the proxy is called.
    if above["tracingServiceName"].is_string() {
        fields.remove("serviceCluster");
    } else if above["serviceCluster"].is_string() {
        fields.remove("tracingServiceName");
    }
}

/// The configuration without what says nothing, as messages are written: empty texts and lists, and plain values that are 0.
pub fn canonical(config: &Value) -> Value {
    const PLAIN: [&str; 4] = ["proxyAdminPort", "statNameLength", "statusPort", "fileFlushMinSizeKb"];
    let says = |(name, value): &(&String, &Value)| match value {
        Value::Null => false,
        Value::String(text) => !matches!(
            (name.as_str(), text.as_str()),
            (_, "") | ("controlPlaneAuthPolicy", "NONE") | ("interceptionMode", "REDIRECT")
        ),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !(map.is_empty() && matches!(name.as_str(), "proxyMetadata" | "runtimeValues")),
        Value::Number(number) => !(number.as_u64() == Some(0) && PLAIN.contains(&name.as_str())),
        Value::Bool(_) => true,
    };
    let kept = config.as_object().into_iter().flatten().filter(says);
    Value::Object(
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

/// A port; 0: the configuration has none.
pub fn port(config: &Value, field: &str) -> u16 {
    let number = config[field].as_u64().and_then(|port| u16::try_from(port).ok());
    number.unwrap_or_default()
}

/// What becomes of a field outside of the bootstrap; `None`: the field is none.
///
/// `Ok`: the agent, injection or the control plane heed it. `Err`: nobody does; why.
pub fn honoured_elsewhere(field: &str, value: &Value) -> Option<Result<(), &'static str>> {
    let usual = defaults();
    Some(match field {
        "configPath"
        | "binaryPath"
        | "serviceCluster"
        | "tracingServiceName"
        | "drainDuration"
        | "discoveryAddress"
        | "terminationDrainDuration"
        | "proxyAdminPort"
        | "statusPort"
        | "concurrency"
        | "interceptionMode"
        | "tracing"
        | "envoyAccessLogService"
        | "envoyMetricsService"
        | "envoyMetricsServiceAddress"
        | "statsdUdpAddress"
        | "proxyMetadata"
        | "runtimeValues"
        | "extraStatTags"
        | "gatewayTopology"
        | "proxyStatsMatcher"
        | "holdApplicationUntilProxyStarts"
        | "image"
        | "proxyHeaders"
        | "fileFlushInterval"
        | "fileFlushMinSizeKb"
        | "statsCompression"
        | "connectionSettings" => Ok(()),
        _ if *value == usual[field] || value.as_str() == Some("") => Ok(()),
        "controlPlaneAuthPolicy" => Err("has no effect: the control plane is asked with mutual TLS"),
        "meshId" => {
            Err("has no effect: injection says the mesh's id, by values.global.meshID or else the trust domain")
        }
        "statNameLength" => Err("has no effect: Envoy has no limit any more"),
        "customConfigFile" | "proxyBootstrapTemplatePath" => {
            Err("has no effect: the bootstrap is made without templates")
        }
        "readinessProbe" => Err("has no effect: applications outside of Kubernetes are not probed"),
        "caCertificatesPem" => Err("has no effect: only the mesh's own authorities are trusted"),
        "privateKeyProvider" => Err("has no effect: keys are used as they are"),
        "discoveryRefreshDelay" | "zipkinAddress" | "availabilityZone" | "sds" => {
            Err("has no effect: Istio has given it up as well")
        }
        _ => return None,
    })
}

/// `HOST:PORT`, with the machine's address for `$(HOST_IP)`.
pub(crate) fn place(text: &str, host_ip: Option<&str>) -> Result<(String, u64), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("is not HOST:PORT")?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse::<u16>().map_err(|_| "is not HOST:PORT")?;
    let host = match host_ip {
        Some(ip) if host == "$(HOST_IP)" => ip,
        _ => host,
    };
    if host.is_empty() {
        return Err("is not HOST:PORT");
    }
    Ok((host.to_owned(), u64::from(port)))
}
