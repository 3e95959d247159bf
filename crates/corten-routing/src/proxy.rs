//! The proxy that asks: who it is, by its node id and metadata.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use corten_api::{decode::Node, istio::proxy_config::ProxyConfig};
use corten_core::{LabelMap, Locality};
use corten_model::Name;
use serde_json::Value;

use crate::proxy_config;

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it is.
    pub kind: ProxyKind,
    /// Its pod.
    pub name: Name,
    /// The namespace whose configuration it takes.
    pub namespace: Name,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `namespace.svc.cluster.local`.
    pub dns_domain: String,
    /// The labels of its workload.
    pub labels: LabelMap,
    /// The annotations of its workload.
    pub annotations: BTreeMap<String, String>,
    /// The service account, if it says one.
    pub service_account: Name,
    /// The cluster.
    pub cluster: Name,
    /// The network.
    pub network: Name,
    /// Where it is.
    pub locality: Locality,
    /// The node.
    pub node: Name,
    /// How connections come to it.
    pub interception: Interception,
    /// It takes and makes HBONE tunnels.
    pub hbone: bool,
    /// Its DNS proxy tells its pod the names of services.
    pub dns_capture: bool,
    /// It may not listen on ports below 1024.
    pub unprivileged: bool,
    /// The version that it says; empty: none.
    pub version: String,
    /// The extensions that only Istio's own proxies are built with, by the names by which Envoy's node lists them: what needs one is
    /// sent to those that have it.
    pub extensions: BTreeSet<&'static str>,
    /// How it runs, as far as that counts here, where it says so itself.
    pub config: OwnConfig,
    /// What else of its node's metadata counts, as it was sent.
    pub metadata: Value,
    /// The texts in its node's metadata that are not its alone: patches choose proxies by them.
    pub said: BTreeMap<String, String>,
}

/// The configuration that a proxy says it has; most agree, and share it.
///
/// It is shown as the metadata that it was read from, which is short.
#[derive(Clone, Default)]
pub struct OwnConfig {
    written: Value,
    read: Option<Arc<ProxyConfig>>,
}

/// The fields that count for what a proxy is sent.
const CONFIG_FIELDS: [&str; 7] = [
    "connectionSettings",
    "envoyAccessLogService",
    "gatewayTopology",
    "privateKeyProvider",
    "proxyHeaders",
    "tracing",
    "tracingServiceName",
];

impl OwnConfig {
    fn of(written: &Value) -> OwnConfig {
        let Some(fields) = written.as_object() else {
            return OwnConfig::default();
        };
        let counting = fields.iter().filter(|(name, _)| CONFIG_FIELDS.contains(&name.as_str()));
        let written: Value = counting.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut read = ProxyConfig::default();
        // The proxy has been told by whoever wrote it, and goes on with the rest.
        let _ = proxy_config::merge(&mut read, &Node::from_value(&written));
        OwnConfig {
            written,
            read: Some(Arc::new(read)),
        }
    }

    /// The configuration; `None`: the proxy says nothing, and the mesh's counts.
    pub fn get(&self) -> Option<&ProxyConfig> {
        self.read.as_deref()
    }
}

impl PartialEq for OwnConfig {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for OwnConfig {}

impl std::fmt::Debug for OwnConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.written)
    }
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// Beside a workload.
    Sidecar,
    /// At the edge of the mesh.
    Router,
    /// In front of services or workloads.
    Waypoint,
}

/// How connections come to a sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interception {
    /// Redirected.
    #[default]
    Redirect,
    /// Redirected, with the client's address kept.
    Tproxy,
    /// They do not, unless its listeners are called.
    None,
}

/// The families of a proxy's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpMode {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

/// Why a node is no proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyError {
    /// The id has not the four parts.
    Id(String),
    /// The kind is not one of ours.
    Kind(String),
}

impl std::error::Error for ProxyError {}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProxyError::Id(id) => write!(f, "the node id {id:?} is not KIND~ADDRESS~POD.NAMESPACE~DOMAIN"),
            ProxyError::Kind(kind) => write!(f, "the kind of node {kind:?} is none of sidecar, router, waypoint"),
        }
    }
}

/// The entries of a node's metadata that generators may look at beside the fields above: proxies that agree on all of them are sent
/// the same.
const COUNTING: [&str; 13] = [
    "IDLE_TIMEOUT",
    "HTTP10",
    "HTTP_PROXY_PORT",
    "REQUESTED_NETWORK_VIEW",
    "DNS_AUTO_ALLOCATE",
    "DISABLE_HBONE_SEND",
    "TLS_SERVER_CERT_CHAIN",
    "TLS_SERVER_KEY",
    "TLS_SERVER_ROOT_CERT",
    "TLS_CLIENT_CERT_CHAIN",
    "TLS_CLIENT_KEY",
    "TLS_CLIENT_ROOT_CERT",
    "file-credential",
];

/// The entries of a node's metadata that are different for each proxy.
const OWN: [&str; 5] = ["NAME", "INSTANCE_IPS", "NODE_NAME", "POD_PORTS", "ENVOY_STATUS_PORT"];

/// The extensions that only Istio's own proxies are built with, as far as anything is sent that needs them.
const EXTENSIONS: [&str; 1] = ["envoy.filters.network.upstream.metadata_exchange"];

impl Proxy {
    /// From a node's id, `KIND~ADDRESS~POD.NAMESPACE~DOMAIN`, and its metadata.
    ///
    /// # Errors
    ///
    /// The id is not one of an L7 proxy.
    pub fn of_node(id: &str, metadata: &Value) -> Result<Proxy, ProxyError> {
        let parts: Vec<&str> = id.split('~').collect();
        let &[kind, address, pod, dns_domain] = parts.as_slice() else {
            return Err(ProxyError::Id(id.to_owned()));
        };
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            "waypoint" => ProxyKind::Waypoint,
            other => return Err(ProxyError::Kind(other.to_owned())),
        };
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let truth =
            |key: &str| matches!(text(key), "true" | "1" | "TRUE" | "True") || metadata[key] == Value::Bool(true);
        let mut addresses: Vec<IpAddr> = text("INSTANCE_IPS")
            .split(',')
            .filter_map(|ip| ip.trim().parse().ok())
            .collect();
        if let Ok(first) = address.parse::<IpAddr>() {
            addresses.retain(|known| *known != first);
            addresses.insert(0, first);
        }
        let pairs = |key: &str| -> BTreeMap<String, String> {
            let members = metadata[key].as_object().into_iter().flatten();
            members
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let (name, of_pod) = pod.split_once('.').unwrap_or((pod, ""));
        let namespace = match (text("NAMESPACE"), of_pod) {
            ("", "") => dns_domain.split('.').next().unwrap_or_default(),
            ("", of_pod) => of_pod,
            (said, _) => said,
        };
        let mut labels = pairs("STATIC_LABELS");
        labels.extend(pairs("LABELS"));
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let locality = Locality {
            region: label("topology.kubernetes.io/region"),
            zone: label("topology.kubernetes.io/zone"),
            subzone: label("topology.istio.io/subzone"),
        };
        let written = label("topology.istio.io/locality").replace('.', "/");
        let or = |value: &str, otherwise: &str| Name::from(if value.is_empty() { otherwise } else { value });
        Ok(Proxy {
            kind,
            name: Name::from(name),
            namespace: Name::from(namespace),
            addresses,
            dns_domain: dns_domain.to_owned(),
            annotations: pairs("ANNOTATIONS"),
            service_account: Name::from(text("SERVICE_ACCOUNT")),
            cluster: or(text("CLUSTER_ID"), "Kubernetes"),
            network: Name::from(text("NETWORK")),
            locality: if locality == Locality::default() {
                Locality::from(written.as_str())
            } else {
                locality
            },
            labels,
            node: Name::from(text("NODE_NAME")),
            interception: match text("INTERCEPTION_MODE") {
                "TPROXY" => Interception::Tproxy,
                "NONE" => Interception::None,
                _ => Interception::Redirect,
            },
            hbone: truth("ENABLE_HBONE"),
            dns_capture: truth("DNS_CAPTURE"),
            unprivileged: truth("UNPRIVILEGED_POD"),
            version: text("ISTIO_VERSION").to_owned(),
            extensions: BTreeSet::new(),
            config: OwnConfig::of(&metadata["PROXY_CONFIG"]),
            metadata: COUNTING
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), metadata.get(*key)?.clone())))
                .collect(),
            said: metadata
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, _)| !OWN.contains(&key.as_str()))
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        })
    }

    /// The same proxy, with the extensions that its node lists (`node.extensions[].name`).
    #[must_use]
    pub fn with_extensions<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Proxy {
        let known = |name: &str| EXTENSIONS.into_iter().find(|known| *known == name);
        self.extensions = names.into_iter().filter_map(known).collect();
        self
    }

    /// The families of its addresses.
    pub fn ip_mode(&self) -> IpMode {
        let v4 = self.addresses.iter().any(IpAddr::is_ipv4);
        let v6 = self.addresses.iter().any(IpAddr::is_ipv6);
        match (v4, v6) {
            (true, true) => IpMode::Dual,
            (false, true) => IpMode::V6,
            _ => IpMode::V4,
        }
    }

    /// The networks that it wants endpoints of; none: all.
    pub fn network_view(&self) -> Vec<&str> {
        let listed = self.metadata["REQUESTED_NETWORK_VIEW"].as_str().unwrap_or_default();
        listed
            .split(',')
            .map(str::trim)
            .filter(|network| !network.is_empty())
            .collect()
    }

    /// The address that stands for all of its own: `0.0.0.0`, or `::` where it has IPv6 alone.
    pub fn wildcard(&self) -> &'static str {
        match self.ip_mode() {
            IpMode::V6 => "::",
            IpMode::V4 | IpMode::Dual => "0.0.0.0",
        }
    }

    /// The loopback address.
    pub fn loopback(&self) -> &'static str {
        match self.ip_mode() {
            IpMode::V6 => "::1",
            IpMode::V4 | IpMode::Dual => "127.0.0.1",
        }
    }

    /// The end of the names of the services of its cluster: what follows `NAMESPACE.svc.` in its DNS domain.
    pub fn cluster_domain(&self) -> &str {
        self.dns_domain
            .split_once(".svc.")
            .map_or("cluster.local", |(_, domain)| domain)
    }
}
