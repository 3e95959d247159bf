//! What the process is told: arguments and, with Istio's names, environment variables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_bootstrap::{Build, Pod};
use serde_json::{Map, Value, json};

/// The annotation that changes how the pod's proxy runs.
const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// The annotations that change one field of it each.
const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// The Envoy of proxies' images, which here is whatever Envoy is on the path.
const USUAL_ENVOY: &str = "/usr/local/bin/envoy";

/// What the command line says.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "corten-sidecar",
    version,
    about = "Runs a stock Envoy beside a workload, or as a gateway",
    after_help = "Environment, as Istio's proxies have it: POD_NAME, POD_NAMESPACE, INSTANCE_IP(S), SERVICE_ACCOUNT, NODE_NAME, HOST_IP, CA_ADDR,
DISCOVERY_ADDRESS, ISTIOD_SAN, TRUST_DOMAIN, AUTH_TOKEN (a file), CA_ROOT_CA (a file), PROXY_CONFIG, ISTIO_META_*, ISTIO_METAJSON_*,
ISTIO_CPU_LIMIT, ENVOY_STATUS_PORT, ENVOY_PROMETHEUS_PORT, ENVOY_SECURE_METRICS_PORT, ENVOY_SECURE_MERGED_METRICS_PORT,
ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL, ENVOY_SKIP_DEPRECATED_LOGS, ISTIO_DUAL_STACK, PEER_METADATA_DISCOVERY (for Istio's builds of Envoy),
COMPLIANCE_POLICY, TERMINATION_DRAIN_DURATION_SECONDS.
How the proxy runs (a ProxyConfig): what the mesh's configuration says in defaultConfig, then PROXY_CONFIG, then the annotation
proxy.istio.io/config, then the annotations sidecar.istio.io/discoveryAddress and status.sidecar.istio.io/port."
)]
pub struct Arguments {
    /// What the proxy is
    #[arg(value_enum, default_value = "sidecar")]
    pub kind: Kind,
    /// The Envoy to run [default: binaryPath, or else envoy on the path]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// The end of names in the pod's namespace [default: NAMESPACE.svc.cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Where its bootstrap and the socket of its certificates are kept [default: configPath]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What stands for the proxy where only one name fits, as in traces [default: as serviceCluster and the pod's labels say]
    #[arg(long = "serviceCluster", value_name = "NAME")]
    pub service_cluster: Option<String>,
    /// The file of the pod's labels, as the downward API writes it; annotations are beside it
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/pod/labels")]
    pub labels: PathBuf,
    /// The file of the mesh's configuration, if there is one
    #[arg(long = "meshConfig", value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub mesh: PathBuf,
    /// How much Envoy says: trace, debug, info, warning, error, critical, off
    #[arg(long = "proxyLogLevel", value_name = "LEVEL", default_value = "warning")]
    pub log_level: String,
    /// The same for parts of Envoy, as in misc:error
    #[arg(long = "proxyComponentLogLevel", value_name = "LEVELS", default_value = "")]
    pub component_log_level: String,
    /// How much this program says, as in info or default:info
    #[arg(long = "log_output_level", value_name = "LEVELS")]
    pub log_output_level: Option<String>,
    /// Envoy's lines are JSON; those of this program stay text
    #[arg(long = "log_as_json")]
    pub log_as_json: bool,
    /// The file that Envoy writes to which endpoints it puts out of service
    #[arg(long = "outlierLogPath", value_name = "FILE", default_value = "")]
    pub outlier_log: String,
    /// Threads of Envoy; 0: one for each core [default: concurrency, or else the pod's limit of processors, or else 2]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
    /// Port of Envoy's administration, on loopback [default: proxyAdminPort, which is 15000 usually]
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Port that says whether the proxy is ready [default: 15021]
    #[arg(long, value_name = "PORT")]
    pub status_port: Option<u16>,
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

/// Files that say something about the pod, read.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Its labels.
    pub labels: Option<String>,
    /// Its annotations.
    pub annotations: Option<String>,
    /// The mesh's configuration.
    pub mesh: Option<String>,
}

impl Files {
    /// Reads those that are there.
    pub fn read(arguments: &Arguments) -> Files {
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "a file about the pod cannot be read");
                }
                None
            }
        };
        Files {
            labels: read(&arguments.labels),
            annotations: read(&arguments.labels.with_file_name("annotations")),
            mesh: read(&arguments.mesh),
        }
    }
}

/// Everything that is settled before anything starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From the command line.
    pub arguments: Arguments,
    /// How the proxy runs: a ProxyConfig, complete.
    pub config: Value,
    /// The Envoy to run.
    pub envoy: PathBuf,
    /// Where files are kept that only this process and Envoy read.
    pub state: PathBuf,
    /// Threads of Envoy; 0: one for each core.
    pub concurrency: u32,
    /// Port of Envoy's administration.
    pub admin_port: u16,
    /// Port of Envoy that says whether the proxy is ready; 0: none.
    pub status_port: u16,
    /// Port of what else is asked of the proxy; 0: nobody asks.
    pub agent_port: u16,
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
    /// The name that discovery has a certificate of.
    pub discovery_name: String,
    /// The token's file.
    pub token: String,
    /// The file of the roots that the control plane's certificate is verified by.
    pub roots: String,
    /// How long what is open may take to end, when the proxy ends.
    pub drain: Duration,
    /// How long connections of listeners that are given up may go on.
    pub drain_listeners: Duration,
    /// How often Envoy writes its logs to files.
    pub flush: Duration,
    /// The environment.
    variables: Vec<(String, String)>,
    labels: Option<Map<String, Value>>,
    annotations: Option<Map<String, Value>>,
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

fn wrong(name: &'static str, value: impl Into<String>, expected: &'static str) -> SettingsError {
    SettingsError::Value {
        name,
        value: value.into(),
        expected,
    }
}

impl Settings {
    /// From arguments, variables and files.
    ///
    /// # Errors
    ///
    /// Something is missing or has no usable value; the variable is named.
    pub fn resolve(
        arguments: &Arguments,
        variables: &[(String, String)],
        files: &Files,
    ) -> Result<Settings, SettingsError> {
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
        let addresses =
            addresses.map_err(|_| wrong("INSTANCE_IP", listed, "an address, or several separated by commas"))?;
        let annotations = files.annotations.as_deref().map(corten_bootstrap::labels_of);
        let said = said(get("PROXY_CONFIG"), annotations.as_ref(), files.mesh.as_deref())?;
        let discovery = get("DISCOVERY_ADDRESS").or_else(|| said["discoveryAddress"].as_str());
        let mut config = corten_bootstrap::defaults();
        corten_bootstrap::merge(&mut config, &said);
        let usual = config["discoveryAddress"].as_str().unwrap_or_default();
        let authority = place("CA_ADDR", get("CA_ADDR").or(discovery).unwrap_or(usual))?;
        let discovery = match discovery {
            Some(text) => place("DISCOVERY_ADDRESS", text)?,
            None => authority.clone(),
        };
        let discovery_name = match (get("ISTIOD_SAN"), discovery.0.as_str()) {
            (Some(name), _) => name,
            (None, "localhost") => "istiod.istio-system.svc",
            (None, host) => host,
        };
        let duration = |field: &'static str| match &config[field] {
            Value::Null => Ok(None),
            value => {
                let read = value
                    .as_str()
                    .and_then(|text| corten_core::Duration::parse_argument(text).ok());
                let read = read.ok_or_else(|| wrong(field, value.to_string(), "a duration, as 5s is"));
                read.map(Some)
            }
        };
        let number = |name: &'static str, field: &Value, max: u64| match field {
            Value::Null => Ok(None),
            value => match value
                .as_u64()
                .filter(|number| *number <= max)
                .and_then(|number| u32::try_from(number).ok())
            {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, value.to_string(), "a number that fits")),
            },
        };
        let variable = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(text) => text.parse::<u16>().map(Some).map_err(|_| wrong(name, text, "a port")),
        };
        let concurrency = match arguments.concurrency {
            Some(given) => Some(given),
            None => number("concurrency", &config["concurrency"], 1024)?,
        };
        let limit = get("ISTIO_CPU_LIMIT").and_then(|text| text.parse().ok());
        let admin = number("proxyAdminPort", &config["proxyAdminPort"], 65535)?;
        let agent = number("statusPort", &config["statusPort"], 65535)?;
        let port = |number: Option<u32>| number.and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
        let admin_port = arguments.admin_port.unwrap_or_else(|| port(admin));
        let status_port = match arguments.status_port {
            Some(given) => given,
            None => variable("ENVOY_STATUS_PORT")?.unwrap_or(15021),
        };
        for name in [
            "ENVOY_PROMETHEUS_PORT",
            "ENVOY_SECURE_METRICS_PORT",
            "ENVOY_SECURE_MERGED_METRICS_PORT",
        ] {
            variable(name)?;
        }
        let ending = match get("TERMINATION_DRAIN_DURATION_SECONDS") {
            None => duration("terminationDrainDuration")?.unwrap_or_default(),
            Some(text) => {
                let seconds = text.parse();
                Duration::from_secs(
                    seconds.map_err(|_| wrong("TERMINATION_DRAIN_DURATION_SECONDS", text, "a number of seconds"))?,
                )
            }
        };
        let binary = config["binaryPath"]
            .as_str()
            .filter(|path| !matches!(*path, "" | USUAL_ENVOY));
        let binary = arguments
            .envoy
            .clone()
            .unwrap_or_else(|| binary.unwrap_or("envoy").into());
        let state = config["configPath"].as_str().unwrap_or_default();
        let state = arguments.state.clone().unwrap_or_else(|| state.into());
        let drain_listeners = duration("drainDuration")?.unwrap_or_default();
        let flush = duration("fileFlushInterval")?.unwrap_or(Duration::from_secs(1));
        config["proxyAdminPort"] = json!(admin_port);
        if let Some(name) = arguments.service_cluster.as_deref().filter(|name| !name.is_empty())
            && config["serviceCluster"] == "istio-proxy"
        {
            config["serviceCluster"] = json!(name);
        }
        Ok(Settings {
            envoy: binary,
            state,
            concurrency: concurrency.or(limit).unwrap_or(2),
            admin_port,
            status_port,
            agent_port: port(agent),
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
            drain: ending,
            drain_listeners,
            flush,
            marked: false,
            probes: get("ISTIO_KUBE_APP_PROBERS").map(str::to_owned),
            metrics: get("ISTIO_PROMETHEUS_ANNOTATIONS").map(str::to_owned),
            service_account: get("SERVICE_ACCOUNT").unwrap_or("default").to_owned(),
            discovery_name: discovery_name.to_owned(),
            arguments: arguments.clone(),
            variables: variables.to_vec(),
            labels: files.labels.as_deref().map(corten_bootstrap::labels_of),
            annotations,
            config,
            pod,
            namespace,
            addresses,
            authority,
            discovery,
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
        }
    }

    /// A variable that is set to something.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a variable is a yes.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.variable(name), Some("1" | "true" | "TRUE" | "True"))
    }

    /// What Envoy tells the control plane about itself.
    pub fn metadata(&self) -> Map<String, Value> {
        let port = |name: &str| self.variable(name).and_then(|text| text.parse().ok());
        let (mut made, problems) = corten_bootstrap::metadata(&Pod {
            variables: &self.variables,
            labels: self.labels.as_ref(),
            annotations: self.annotations.as_ref(),
            addresses: &self.addresses,
            config: &self.config,
            discovery_names: std::slice::from_ref(&self.discovery_name),
            outlier_log: &self.arguments.outlier_log,
            status_port: self.status_port,
            prometheus_port: port("ENVOY_PROMETHEUS_PORT").unwrap_or(15090),
            secure_metrics_port: port("ENVOY_SECURE_METRICS_PORT").unwrap_or(0),
            secure_merged_metrics_port: port("ENVOY_SECURE_MERGED_METRICS_PORT").unwrap_or(0),
            // The end is waited for here in any case.
            exits_when_idle: true,
            skips_deprecated_logs: self.variable("ENVOY_SKIP_DEPRECATED_LOGS") != Some("false"),
            socket: "socket",
            // Not a number alone, which istiod would take for a release of Istio and switch features by.
            version: concat!("corten-", env!("CARGO_PKG_VERSION")),
            build: self.build(),
        });
        for problem in problems {
            tracing::warn!("{problem}");
        }
        let mut put = |name: &str, value: &str| {
            made.entry(name).or_insert_with(|| json!(value));
        };
        put("SERVICE_ACCOUNT", &self.service_account);
        put("CLUSTER_ID", "Kubernetes");
        put("NODE_NAME", self.variable("NODE_NAME").unwrap_or_default());
        made
    }

    /// What kind of Envoy runs: nobody asks others than Istio's for peers.
    pub fn build(&self) -> Build {
        if self.switch("PEER_METADATA_DISCOVERY") {
            Build::Istio
        } else {
            Build::Stock
        }
    }
}

/// What is said of how the proxy runs, the defaults aside.
fn said(
    variable: Option<&str>,
    annotations: Option<&Map<String, Value>>,
    mesh: Option<&str>,
) -> Result<Value, SettingsError> {
    let annotation = |name: &str| annotations?.get(name)?.as_str();
    let mut said = json!({});
    for (name, text) in [
        ("the mesh's configuration", mesh),
        ("PROXY_CONFIG", variable),
        (PROXY_CONFIG, annotation(PROXY_CONFIG)),
    ] {
        let Some(text) = text else {
            continue;
        };
        let read = serde_saphyr::from_str::<Option<Map<String, Value>>>(text);
        let read = read.map_err(|_| wrong(name, text, "YAML of a proxy's configuration"))?;
        let mut read = Value::Object(read.unwrap_or_default());
        if mesh == Some(text) {
            read = read["defaultConfig"].take();
        }
        for (field, value) in read.as_object().into_iter().flatten() {
            match corten_bootstrap::honoured_elsewhere(field, value) {
                Some(Ok(())) => {}
                Some(Err(why)) => tracing::warn!("{name}: {field} {why}"),
                None => tracing::warn!("{name}: a proxy's configuration has no field {field}"),
            }
        }
        corten_bootstrap::merge(&mut said, &read);
    }
    if let Some(address) = annotation(DISCOVERY_ADDRESS) {
        said["discoveryAddress"] = json!(address);
    }
    if let Some(text) = annotation(STATUS_PORT) {
        let port = text.trim().parse::<u16>();
        said["statusPort"] = json!(port.map_err(|_| wrong(STATUS_PORT, text, "a port"))?);
    }
    Ok(said)
}

/// `HOST:PORT`.
fn place(name: &'static str, text: &str) -> Result<(String, u16), SettingsError> {
    let read = text.rsplit_once(':');
    let read = read.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    read.ok_or_else(|| wrong(name, text, "HOST:PORT"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn with_files(variables: &[(&str, &str)], files: &Files) -> Result<Settings, SettingsError> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::resolve(&Arguments::parse_from(["corten-sidecar"]), &variables, files)
    }

    fn resolve(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        with_files(variables, &Files::default())
    }

    const POD: [(&str, &str); 3] = [
        ("POD_NAME", "web-1"),
        ("POD_NAMESPACE", "shop"),
        ("INSTANCE_IP", "10.0.0.1"),
    ];

    #[test]
    fn what_a_pod_says_becomes_the_nodes_metadata() {
        let files = Files {
            labels: Some("app=\"web\"\nversion=\"v1\"\n".to_owned()),
            ..Files::default()
        };
        let more = [
            ("ISTIO_META_INTERCEPTION_MODE", "NONE"),
            ("ISTIO_METAJSON_ANNOTATIONS", r#"{"a": "b"}"#),
        ];
        let settings = with_files(&[&POD[..], &more].concat(), &files).unwrap();
        assert_eq!(settings.authority, ("istiod.istio-system.svc".to_owned(), 15012));
        let metadata = settings.metadata();
        assert_eq!(metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(metadata["ANNOTATIONS"], json!({"a": "b"}));
        assert_eq!(metadata["LABELS"], json!({"app": "web", "version": "v1"}));
        assert_eq!(metadata["INSTANCE_IPS"], "10.0.0.1");
        assert_eq!(metadata["PROXY_CONFIG"]["statusPort"], 15020);
    }

    #[test]
    fn what_the_mesh_says_about_its_proxies_is_heeded() {
        let with = |text: &'static str| resolve(&[POD[0], POD[1], POD[2], ("PROXY_CONFIG", text)]);
        let settings = with(
            r#"{"concurrency":4,"discoveryAddress":"istiod.mesh.svc:15012","terminationDrainDuration":"30s","drainDuration":"1s"}"#,
        )
        .unwrap();
        assert_eq!(settings.concurrency, 4);
        assert_eq!(settings.discovery, ("istiod.mesh.svc".to_owned(), 15012));
        assert_eq!(settings.authority, settings.discovery);
        assert_eq!((settings.drain.as_secs(), settings.drain_listeners.as_secs()), (30, 1));
        assert_eq!(with("{}\n").unwrap().drain, Duration::from_secs(5));
        assert!(with("[nonsense]").is_err() && with(r#"{"concurrency":"many"}"#).is_err());
    }

    #[test]
    fn the_nearest_says_how_a_proxy_runs() {
        let files = Files {
            mesh: Some("defaultConfig: {concurrency: 1, proxyAdminPort: 1, statusPort: 1}".to_owned()),
            annotations: Some(
                "proxy.istio.io/config=\"statusPort: 3\\nconfigPath: /here\"\nstatus.sidecar.istio.io/port=\"4\"\n"
                    .to_owned(),
            ),
            ..Files::default()
        };
        let variable = ("PROXY_CONFIG", "{proxyAdminPort: 2, statusPort: 2}");
        let settings = with_files(&[&POD[..], &[variable]].concat(), &files).unwrap();
        assert_eq!(
            (settings.concurrency, settings.admin_port, settings.agent_port),
            (1, 2, 4)
        );
        assert_eq!(settings.state, PathBuf::from("/here"));
        let files = Files {
            annotations: Some("status.sidecar.istio.io/port=\"x\"\n".to_owned()),
            ..Files::default()
        };
        let refused = with_files(&POD, &files).unwrap_err();
        assert_eq!(refused.to_string(), "status.sidecar.istio.io/port: 'x' is not a port");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(resolve(&POD[..2]).unwrap_err(), SettingsError::Missing("INSTANCE_IP"));
        let wrong = resolve(&[POD[0], POD[1], POD[2], ("CA_ADDR", "istiod")]).unwrap_err();
        assert_eq!(wrong.to_string(), "CA_ADDR: 'istiod' is not HOST:PORT");
    }
}
