//! What the process is told: arguments and, with Istio's names, environment variables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// What the command line says.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "corten-sidecar",
    version,
    about = "Runs a stock Envoy beside a workload, or as a gateway",
    after_help = "Environment, as Istio's proxies have it: POD_NAME, POD_NAMESPACE, INSTANCE_IP(S), SERVICE_ACCOUNT, NODE_NAME, CA_ADDR,
DISCOVERY_ADDRESS, TRUST_DOMAIN, AUTH_TOKEN (a file), CA_ROOT_CA (a file), ISTIO_META_*, ISTIO_METAJSON_*, TERMINATION_DRAIN_DURATION_SECONDS."
)]
pub struct Arguments {
    /// What the proxy is
    #[arg(value_enum, default_value = "sidecar")]
    pub kind: Kind,
    /// The Envoy to run
    #[arg(long, value_name = "PATH", default_value = "envoy")]
    pub envoy: PathBuf,
    /// The end of names in the pod's namespace [default: NAMESPACE.svc.cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// The cluster that it says it is of [default: what its workload is called, and where]
    #[arg(long = "serviceCluster", value_name = "NAME")]
    pub service_cluster: Option<String>,
    /// Where its bootstrap and the socket of its certificates are kept
    #[arg(long, value_name = "DIR", default_value = "./etc/istio/proxy")]
    pub state: PathBuf,
    /// The file of the pod's labels, as the downward API writes it
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/pod/labels")]
    pub labels: PathBuf,
    /// How much Envoy says: trace, debug, info, warning, error, critical, off
    #[arg(long = "proxyLogLevel", value_name = "LEVEL", default_value = "warning")]
    pub log_level: String,
    /// The same for parts of Envoy, as in misc:error
    #[arg(long = "proxyComponentLogLevel", value_name = "LEVELS", default_value = "")]
    pub component_log_level: String,
    /// How much this program says, as in info or default:info
    #[arg(long = "log_output_level", value_name = "LEVELS")]
    pub log_output_level: Option<String>,
    /// Understood; the lines are text
    #[arg(long = "log_as_json", hide = true)]
    pub log_as_json: bool,
    /// Threads of Envoy; 0: one for each core
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub concurrency: u32,
    /// Port of Envoy's administration, on loopback
    #[arg(long, value_name = "PORT", default_value_t = 15000)]
    pub admin_port: u16,
    /// Port that says whether the proxy is ready
    #[arg(long, value_name = "PORT", default_value_t = 15021)]
    pub status_port: u16,
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Beside a workload.
    Sidecar,
    /// At the edge of the mesh.
    #[value(alias = "gateway")]
    Router,
    /// In front of services or workloads.
    Waypoint,
}

impl Kind {
    /// As node ids have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sidecar => "sidecar",
            Kind::Router => "router",
            Kind::Waypoint => "waypoint",
        }
    }
}

/// Everything that is settled before anything starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From the command line.
    pub arguments: Arguments,
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its service account.
    pub service_account: String,
    /// The trust domain of its identity.
    pub trust_domain: String,
    /// The end of the names in its namespace, as in `shop.svc.cluster.local`.
    pub domain: String,
    /// Port of what else is asked of the proxy; 0: nobody asks.
    pub agent_port: u16,
    /// Probes of the application, as injection wrote them.
    pub probes: Option<String>,
    /// Where metrics of the application are, as injection wrote it.
    pub metrics: Option<String>,
    /// Its sockets are marked, as it cannot be told from the pod by its user.
    pub marked: bool,
    /// `HOST:PORT` of the certificate authority.
    pub authority: (String, u16),
    /// `HOST:PORT` of discovery.
    pub discovery: (String, u16),
    /// The token's file.
    pub token: String,
    /// The file of the roots that the control plane's certificate is verified by.
    pub roots: String,
    /// What Envoy tells the control plane about itself.
    pub metadata: Map<String, Value>,
    /// How long what is open may take to end.
    pub drain: Duration,
}

/// Why nothing can start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable must be set.
    #[error("{0} is not set: it comes from the pod's own fields (downward API)")]
    Missing(&'static str),
    /// A variable has no usable value.
    #[error("{name}: '{value}' is not {expected}")]
    Value {
        /// The variable.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Settings {
    /// From arguments and variables.
    ///
    /// # Errors
    ///
    /// Something is missing or has no usable value; the variable is named.
    pub fn resolve(arguments: &Arguments, variables: &[(String, String)]) -> Result<Settings, SettingsError> {
        let known: BTreeMap<&str, &str> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let get = |name: &str| known.get(name).copied().filter(|value| !value.is_empty());
        let required = |name: &'static str| get(name).ok_or(SettingsError::Missing(name)).map(str::to_owned);
        let pod = required("POD_NAME")?;
        let namespace = required("POD_NAMESPACE")?;
        let listed = get("INSTANCE_IPS")
            .or_else(|| get("INSTANCE_IP"))
            .ok_or(SettingsError::Missing("INSTANCE_IP"))?;
        let addresses: Result<Vec<IpAddr>, _> = listed.split(',').map(|ip| ip.trim().parse()).collect();
        let addresses = addresses.map_err(|_| SettingsError::Value {
            name: "INSTANCE_IP",
            value: listed.to_owned(),
            expected: "an address, or several separated by commas",
        })?;
        let place = |name: &'static str, otherwise: &str| {
            let value = get(name).unwrap_or(otherwise);
            let wrong = || SettingsError::Value {
                name,
                value: value.to_owned(),
                expected: "HOST:PORT",
            };
            let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
            Ok((host.to_owned(), port.parse::<u16>().map_err(|_| wrong())?))
        };
        let authority = place("CA_ADDR", "istiod.istio-system.svc:15012")?;
        let discovery = place("DISCOVERY_ADDRESS", &format!("{}:{}", authority.0, authority.1))?;
        let drain = match get("TERMINATION_DRAIN_DURATION_SECONDS") {
            None => 5,
            Some(text) => text.parse().map_err(|_| SettingsError::Value {
                name: "TERMINATION_DRAIN_DURATION_SECONDS",
                value: text.to_owned(),
                expected: "a number of seconds",
            })?,
        };
        let mut arguments = arguments.clone();
        let (mut discovery, mut drain) = (discovery, Duration::from_secs(drain));
        if let Some(text) = get("PROXY_CONFIG") {
            let wrong = || SettingsError::Value {
                name: "PROXY_CONFIG",
                value: text.to_owned(),
                expected: "a configuration of a proxy, as JSON",
            };
            let config: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
            for (name, value) in &config {
                let number = |max: u64| value.as_u64().filter(|number| *number <= max).ok_or_else(wrong);
                match name.as_str() {
                    "discoveryAddress" if get("DISCOVERY_ADDRESS").is_none() => {
                        let (host, port) = value
                            .as_str()
                            .and_then(|text| text.rsplit_once(':'))
                            .ok_or_else(wrong)?;
                        discovery = (host.to_owned(), port.parse().map_err(|_| wrong())?);
                    }
                    "terminationDrainDuration" if get("TERMINATION_DRAIN_DURATION_SECONDS").is_none() => {
                        let text = value.as_str().ok_or_else(wrong)?;
                        drain = corten_core::Duration::parse_argument(text).map_err(|_| wrong())?;
                    }
                    "concurrency" => arguments.concurrency = u32::try_from(number(1024)?).map_err(|_| wrong())?,
                    "proxyAdminPort" => arguments.admin_port = u16::try_from(number(65535)?).map_err(|_| wrong())?,
                    "discoveryAddress" | "terminationDrainDuration" => {}
                    // These are variables of their own, or were injection's to look at.
                    "proxyMetadata" | "holdApplicationUntilProxyStarts" | "image" | "interceptionMode" | "meshId" => {}
                    // What the control plane puts into listeners.
                    "tracing" | "gatewayTopology" | "proxyHeaders" => {}
                    _ => tracing::warn!("PROXY_CONFIG: {name} has no effect"),
                }
            }
        }
        let arguments = &arguments;
        let service_account = get("SERVICE_ACCOUNT").unwrap_or("default").to_owned();
        let mut metadata = metadata(variables);
        let mut put = |name: &str, value: Value| {
            metadata.entry(name).or_insert(value);
        };
        put("NAME", json!(pod));
        put("NAMESPACE", json!(namespace));
        put("SERVICE_ACCOUNT", json!(service_account));
        put("CLUSTER_ID", json!("Kubernetes"));
        // Not a number alone, which istiod would take for a release of Istio and switch features by.
        put("ISTIO_VERSION", json!(concat!("corten-", env!("CARGO_PKG_VERSION"))));
        put("NODE_NAME", json!(get("NODE_NAME").unwrap_or_default()));
        let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        put("INSTANCE_IPS", json!(ips.join(",")));
        put("ENVOY_STATUS_PORT", json!(arguments.status_port));
        Ok(Settings {
            arguments: arguments.clone(),
            trust_domain: get("TRUST_DOMAIN").unwrap_or("cluster.local").to_owned(),
            domain: arguments.domain.clone().unwrap_or_else(|| {
                let end = get("CLUSTER_DOMAIN").unwrap_or("cluster.local");
                format!("{namespace}.svc.{end}")
            }),
            token: get("AUTH_TOKEN")
                .unwrap_or("./var/run/secrets/tokens/istio-token")
                .to_owned(),
            roots: get("CA_ROOT_CA")
                .unwrap_or("./var/run/secrets/istio/root-cert.pem")
                .to_owned(),
            drain,
            marked: false,
            agent_port: 15020,
            probes: get("ISTIO_KUBE_APP_PROBERS").map(str::to_owned),
            metrics: get("ISTIO_PROMETHEUS_ANNOTATIONS").map(str::to_owned),
            pod,
            namespace,
            addresses,
            service_account,
            authority,
            discovery,
            metadata,
        })
    }

    /// Takes over what the network namespace knows and the downward API does not: all addresses of the pod, if the one that it was told
    /// is among them.
    pub fn with_addresses(&mut self, own: &[IpAddr]) {
        if let [told] = self.addresses[..]
            && own.contains(&told)
        {
            self.addresses
                .extend(own.iter().copied().filter(|address| *address != told));
            let all: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
            self.metadata.insert("INSTANCE_IPS".to_owned(), json!(all.join(",")));
        }
    }

    /// Takes over the pod's labels, as the downward API writes them: a line each, `key="value"`.
    pub fn with_labels(&mut self, text: &str) {
        let pairs = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let value: String = serde_json::from_str(value).ok()?;
            Some((key.trim().to_owned(), json!(value)))
        });
        let labels: Map<String, Value> = pairs.collect();
        if !labels.is_empty() && !self.metadata.contains_key("LABELS") {
            self.metadata.insert("LABELS".to_owned(), Value::Object(labels));
        }
    }
}

/// `ISTIO_META_NAME=text` and `ISTIO_METAJSON_NAME=json`.
fn metadata(variables: &[(String, String)]) -> Map<String, Value> {
    let mut metadata = Map::new();
    for (name, value) in variables {
        if let Some(key) = name.strip_prefix("ISTIO_METAJSON_") {
            match serde_json::from_str(value) {
                Ok(value) => drop(metadata.insert(key.to_owned(), value)),
                Err(error) => tracing::warn!("{name} is left out: it is no JSON: {error}"),
            }
        } else if let Some(key) = name.strip_prefix("ISTIO_META_") {
            metadata.insert(key.to_owned(), json!(value));
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn resolve(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::resolve(&Arguments::parse_from(["corten-sidecar"]), &variables)
    }

    #[test]
    fn what_a_pod_says_becomes_the_nodes_metadata() {
        let mut settings = resolve(&[
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IP", "10.0.0.1"),
            ("ISTIO_META_INTERCEPTION_MODE", "NONE"),
            ("ISTIO_METAJSON_ANNOTATIONS", r#"{"a": "b"}"#),
        ])
        .unwrap();
        settings.with_labels("app=\"web\"\nversion=\"v1\"\n");
        assert_eq!(settings.authority, ("istiod.istio-system.svc".to_owned(), 15012));
        assert_eq!(settings.metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(settings.metadata["ANNOTATIONS"], json!({"a": "b"}));
        assert_eq!(settings.metadata["LABELS"], json!({"app": "web", "version": "v1"}));
        assert_eq!(settings.metadata["INSTANCE_IPS"], "10.0.0.1");
    }

    #[test]
    fn what_the_mesh_says_about_its_proxies_is_heeded() {
        let pod = [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IP", "10.0.0.1"),
        ];
        let with = |text: &'static str| resolve(&[pod[0], pod[1], pod[2], ("PROXY_CONFIG", text)]);
        let settings = with(
            r#"{"concurrency":4,"discoveryAddress":"istiod.mesh.svc:15012","terminationDrainDuration":"30s","drainDuration":"1s"}"#,
        )
        .unwrap();
        assert_eq!(settings.arguments.concurrency, 4);
        assert_eq!(settings.discovery, ("istiod.mesh.svc".to_owned(), 15012));
        assert_eq!(settings.drain, Duration::from_secs(30));
        assert_eq!(with("{}\n").unwrap().drain, Duration::from_secs(5));
        assert!(with("nonsense").is_err() && with(r#"{"concurrency":"many"}"#).is_err());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let pod = [("POD_NAME", "web-1"), ("POD_NAMESPACE", "shop")];
        assert_eq!(resolve(&pod).unwrap_err(), SettingsError::Missing("INSTANCE_IP"));
        let wrong = resolve(&[pod[0], pod[1], ("INSTANCE_IP", "10.0.0.1"), ("CA_ADDR", "istiod")]).unwrap_err();
        assert_eq!(wrong.to_string(), "CA_ADDR: 'istiod' is not HOST:PORT");
    }
}
