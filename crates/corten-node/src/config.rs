//! The settings of a node proxy, resolved from environment variables with Istio's names and defaults.
//!
//! Pure: the variables are an argument, and every problem is returned, not the first. No part of the program looks at the environment again.

pub mod catalog;
mod proxy_config;
mod resolve;
mod vars;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use corten_identity::KeyExchange;
pub use vars::{Problem, Vars};

/// Port of the listener for connections that leave a pod.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of the listener for plain connections that enter a pod.
pub const INBOUND_PLAIN_PORT: u16 = 15006;
/// Port of the listener for tunnels that enter a pod.
pub const HBONE_PORT: u16 = 15008;

/// Port of the SOCKS5 listener in each pod, on its loopback address.
pub const SOCKS5_PORT: u16 = 15080;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Network of this node (`NETWORK`).
    pub network: String,
    /// Name of this node (`NODE_NAME`).
    pub node_name: String,
    /// This cluster (`ISTIO_META_CLUSTER_ID`, `CLUSTER_ID`).
    pub cluster_id: String,
    /// Domain of Kubernetes' service names (`CLUSTER_DOMAIN`).
    pub cluster_domain: String,
    /// This proxy's own pod (`POD_NAME`, `POD_NAMESPACE`, `SERVICE_ACCOUNT`, `INSTANCE_IP`).
    pub pod: PodSelf,
    /// Where configuration comes from.
    pub xds: Upstream,
    /// Where certificates come from.
    pub ca: Upstream,
    /// Only the workloads and services that connections ask for are subscribed to, not all of the mesh (`XDS_ON_DEMAND`).
    pub on_demand: bool,
    /// Workloads, services and policies instead of, or before, what the control plane says (`LOCAL_XDS_PATH`, `LOCAL_XDS`).
    pub local_xds: Option<LocalXds>,
    /// The one workload that this proxy serves, in its own network namespace, instead of those that a node agent names
    /// (`PROXY_MODE=dedicated`, `PROXY_WORKLOAD_INFO`).
    pub dedicated: Option<Dedicated>,
    /// Whether connections are taken at all, or only DNS questions (`ENABLE_PROXY`).
    pub proxy: bool,
    /// A SOCKS5 listener in each pod (`UNSTABLE_ENABLE_SOCKS5`).
    pub socks5: bool,
    /// A folder with a root certificate and its key from which certificates are made here, for tests (`CORTEN_TEST_CA_DIR`).
    pub test_ca_dir: Option<PathBuf>,
    /// A file with a token, or the token (`AUTH_TOKEN`).
    pub auth_token: String,
    /// How long certificates are asked to be valid (`SECRET_TTL`).
    pub secret_ttl: Duration,
    /// Revoked certificates (`CRL_PATH`).
    pub crl_path: Option<PathBuf>,
    /// Metadata told to the control plane (`ISTIO_META_*`, `ISTIO_METAJSON_*`, `proxyMetadata`).
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// Socket of the node agent (`INPOD_UDS`).
    pub inpod_uds: PathBuf,
    /// Let another node proxy listen on the same ports (`INPOD_PORT_REUSE`).
    pub port_reuse: bool,
    /// Mark on everything that is sent (`PACKET_MARK`).
    pub packet_mark: Option<u32>,
    /// Shards of the data path (`ZTUNNEL_WORKER_THREADS` and relatives).
    pub shards: usize,
    /// How long a shard stays awake for the next event, if they have lately come that soon (`CORTEN_SPIN_US`, microseconds).
    pub spin: Duration,
    /// How connections behave.
    pub connections: Connections,
    /// Limits of each pod.
    pub limits: PodLimits,
    /// Whether IPv6 is used (`IPV6_ENABLED`).
    pub ipv6: bool,
    /// Whether applications see the client's address (`ENABLE_ORIG_SRC`).
    pub original_source: OriginalSource,
    /// Connections with a PROXY header go to loopback (`LOCALHOST_APP_TUNNEL`).
    pub localhost_app_tunnel: bool,
    /// Tell and read who a workload is in baggage headers (`ENABLE_RESPONSE_BAGGAGE`).
    pub response_baggage: bool,
    /// Authorization decisions are logged at level info (`AUTHZ_POLICY_INFO_LOGGING`).
    pub authz_info_logging: bool,
    /// A namespace whose services win over others of their name (`PREFERED_SERVICE_NAMESPACE`).
    pub preferred_service_namespace: Option<String>,
    /// Whether pods' DNS questions are answered (`DNS_CAPTURE` in the metadata).
    pub dns: bool,
    /// Where pods' DNS questions arrive (`DNS_PROXY_ADDR`).
    pub dns_port: u16,
    /// File of name servers (`CORTEN_RESOLV_CONF`).
    pub resolv_conf: PathBuf,
    /// Addresses of the admin, metrics and readiness servers.
    pub servers: Servers,
    /// How long connections may last after the word to stop (`CONNECTION_TERMINATION_DEADLINE`, `TERMINATION_GRACE_PERIOD_SECONDS`).
    pub termination_deadline: Duration,
    /// Where the last good configuration is kept (`CORTEN_STATE_DIR`).
    pub state_dir: Option<PathBuf>,
    /// Whether keys and certificates are kept there, too (`CORTEN_KEEP_KEYS`); unset: if the folder is in memory.
    pub keep_keys: Option<bool>,
    /// Log levels (`RUST_LOG`).
    pub log_level: Option<String>,
    /// Log lines are JSON objects (`LOG_FORMAT`).
    pub log_json: bool,
}

/// This proxy's own pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSelf {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its address.
    pub ip: Option<IpAddr>,
}

/// Workloads, services and policies that are given.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalXds {
    /// In a file.
    File(PathBuf),
    /// As text.
    Text(String),
}

/// The workload that a proxy of its own serves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dedicated {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
}

/// A server of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Host and port; absent: not used.
    pub address: Option<HostPort>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Root certificates: a file, the word `SYSTEM`, or PEM text.
    pub root: String,
    /// The name its certificate must be for, if not the host.
    pub server_name: Option<String>,
    /// Further headers of each call.
    pub headers: BTreeMap<String, String>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HostPort {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How connections behave.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// TCP keep-alive, if wanted (`KEEPALIVE_*`).
    pub keepalive: Option<Keepalive>,
    /// Give up on data not acknowledged for as long as keep-alive would (`USER_TIMEOUT_ENABLED`).
    pub user_timeout: bool,
    /// Streams of one tunnel (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub pool_streams_max: u32,
    /// How long an unused tunnel stays open (`POOL_UNUSED_RELEASE_TIMEOUT`).
    pub pool_unused_timeout: Duration,
    /// HTTP/2 window of a stream (`HTTP2_STREAM_WINDOW_SIZE`).
    pub stream_window: u32,
    /// HTTP/2 window of a connection (`HTTP2_CONNECTION_WINDOW_SIZE`).
    pub connection_window: u32,
    /// Longest HTTP/2 frame (`HTTP2_FRAME_SIZE`).
    pub frame_size: u32,
    /// TLS 1.2 is spoken too (`TLS12_ENABLED`).
    pub tls12: bool,
    /// Which key exchanges are offered and accepted (`COMPLIANCE_POLICY`).
    #[serde(skip)]
    pub key_exchange: KeyExchange,
    /// How long a connection may take to come about (`CORTEN_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// Congestion control of the proxy's connections (`CORTEN_CONGESTION_CONTROL`, by default `cubic`); absent: the system's
    /// (`system`). Most of these connections never leave their pod, and pacing as `bbr` has it costs more than it brings there.
    pub congestion_control: Option<String>,
}

/// TCP keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub time: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes before giving up.
    pub retries: u32,
}

/// What one pod may take of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLimits {
    /// Open connections of its applications and tunnels, in each direction (`CORTEN_POD_CONNECTIONS_MAX`).
    pub connections_max: usize,
    /// Callers that have not completed their TLS handshake (`CORTEN_POD_HANDSHAKES_MAX`).
    pub handshakes_max: usize,
    /// Open streams, both directions (`CORTEN_POD_STREAMS_MAX`).
    pub streams_max: usize,
    /// Bytes waiting to be written (`CORTEN_POD_BUFFERED_BYTES_MAX`).
    pub buffered_bytes_max: usize,
}

/// Whether applications see the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginalSource {
    /// Never.
    Off,
    /// Where the kernel lets us.
    BestEffort,
    /// Always: a listener that cannot is an error.
    Required,
}

/// Addresses of the proxy's own servers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Servers {
    /// Admin (`ADMIN_ADDR`).
    pub admin: SocketAddr,
    /// Metrics (`STATS_ADDR`).
    pub stats: SocketAddr,
    /// Readiness (`READINESS_ADDR`).
    pub readiness: SocketAddr,
}

impl Config {
    /// The node's name towards the control plane; the suffix is fixed in Istio.
    pub fn node_id(&self) -> String {
        let ip = self.pod.ip.unwrap_or(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
        let PodSelf { name, namespace, .. } = &self.pod;
        format!("ztunnel~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// Whether this proxy answers tunnels to itself, in its own network namespace and with its own identity, so that its metrics can be read
    /// through the mesh: where it knows who it is, and serves a node.
    pub fn serves_itself(&self) -> bool {
        let PodSelf {
            name,
            namespace,
            service_account,
            ..
        } = &self.pod;
        let known = [name, namespace, service_account].iter().all(|part| !part.is_empty());
        known && self.proxy && self.dedicated.is_none()
    }

    /// Ports whose traffic would come back to the proxy.
    pub fn illegal_port(&self, port: u16) -> bool {
        matches!(port, OUTBOUND_PORT | INBOUND_PLAIN_PORT | HBONE_PORT) || (self.socks5 && port == SOCKS5_PORT)
    }
}

#[cfg(test)]
mod tests;
