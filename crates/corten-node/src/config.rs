//! The settings of a node proxy, resolved from environment variables with Istio's names and defaults.
//!
//! Pure: the variables are an argument, and every problem is returned, not the first. No part of the program looks at the environment again.

mod vars;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use vars::Reader;
pub use vars::{Problem, Vars};

/// Port of the listener for connections that leave a pod.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of the listener for plain connections that enter a pod.
pub const INBOUND_PLAIN_PORT: u16 = 15006;
/// Port of the listener for tunnels that enter a pod.
pub const HBONE_PORT: u16 = 15008;

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
    /// A file of workloads, services and policies instead of, or before, what the control plane says (`LOCAL_XDS_PATH`).
    pub local_xds_path: Option<PathBuf>,
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
    /// Open connections of its applications and tunnels (`CORTEN_POD_CONNECTIONS_MAX`).
    pub connections_max: usize,
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

const TOKEN_PATH: &str = "./var/run/secrets/tokens/istio-token";
const ROOT_PATH: &str = "./var/run/secrets/istio/root-cert.pem";

impl Config {
    /// Makes sense of the variables, or says everything that is wrong with them.
    pub fn resolve(vars: &dyn Vars, cores: usize) -> Result<Config, Vec<Problem>> {
        let mut r = Reader::new(vars);
        let ipv6 = r.boolean("IPV6_ENABLED", true);
        let metadata = metadata(&mut r);
        let local_xds_path = r.path("LOCAL_XDS_PATH");
        let test_ca_dir = r.path("CORTEN_TEST_CA_DIR");
        let default_address = if r.text("KUBERNETES_SERVICE_HOST").is_some() {
            "https://istiod.istio-system.svc:15012"
        } else {
            "https://localhost:15012"
        };
        let mut xds = upstream(&mut r, "XDS", default_address);
        let mut ca = upstream(&mut r, "CA", default_address);
        if local_xds_path.is_some() && r.text("XDS_ADDRESS").is_none() {
            xds.address = None;
        }
        if test_ca_dir.is_some() && r.text("CA_ADDRESS").is_none() {
            ca.address = None;
        }
        let wildcard = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let dns_capture = match metadata.get("DNS_CAPTURE") {
            None => true,
            Some(serde_json::Value::Bool(value)) => *value,
            Some(value) => value.as_str() == Some("true"),
        };
        let xds_on_demand = r.boolean("XDS_ON_DEMAND", false);
        if xds_on_demand {
            r.problem(
                "XDS_ON_DEMAND",
                "is not supported: leave it unset, and all workloads are subscribed to",
            );
        }
        if r.text("PROXY_MODE").is_some_and(|mode| mode != "shared") {
            r.problem(
                "PROXY_MODE",
                "only 'shared' is supported: one proxy serves all pods of its node",
            );
        }
        let config = Config {
            network: r.string("NETWORK", ""),
            node_name: r.string("NODE_NAME", ""),
            cluster_id: r
                .text("ISTIO_META_CLUSTER_ID")
                .or_else(|| r.text("CLUSTER_ID"))
                .unwrap_or_else(|| "Kubernetes".into()),
            cluster_domain: r.string("CLUSTER_DOMAIN", "cluster.local"),
            pod: PodSelf {
                name: r.string("POD_NAME", ""),
                namespace: r.string("POD_NAMESPACE", ""),
                service_account: r.string("SERVICE_ACCOUNT", ""),
                ip: r.parsed("INSTANCE_IP"),
            },
            xds,
            ca,
            local_xds_path,
            test_ca_dir,
            auth_token: r.string("AUTH_TOKEN", TOKEN_PATH),
            secret_ttl: r.duration("SECRET_TTL", Duration::from_secs(86400)),
            crl_path: r.path("CRL_PATH"),
            metadata,
            inpod_uds: r
                .path("INPOD_UDS")
                .unwrap_or_else(|| "/var/run/ztunnel/ztunnel.sock".into()),
            port_reuse: r.boolean("INPOD_PORT_REUSE", true),
            packet_mark: Some(r.parsed("PACKET_MARK").unwrap_or(1337)).filter(|mark| *mark != 0),
            shards: r.threads(cores),
            spin: Duration::from_micros(r.parsed("CORTEN_SPIN_US").unwrap_or(0)),
            connections: connections(&mut r),
            limits: PodLimits {
                connections_max: r.parsed("CORTEN_POD_CONNECTIONS_MAX").unwrap_or(65_536),
                streams_max: r.parsed("CORTEN_POD_STREAMS_MAX").unwrap_or(65_536),
                buffered_bytes_max: r.parsed("CORTEN_POD_BUFFERED_BYTES_MAX").unwrap_or(64 << 20),
            },
            ipv6,
            original_source: match r.optional_boolean("ENABLE_ORIG_SRC") {
                None => OriginalSource::BestEffort,
                Some(true) => OriginalSource::Required,
                Some(false) => OriginalSource::Off,
            },
            localhost_app_tunnel: r.boolean("LOCALHOST_APP_TUNNEL", true),
            response_baggage: r.boolean("ENABLE_RESPONSE_BAGGAGE", true),
            authz_info_logging: r.boolean("AUTHZ_POLICY_INFO_LOGGING", false),
            preferred_service_namespace: r.text("PREFERED_SERVICE_NAMESPACE"),
            dns: dns_capture,
            dns_port: r
                .parsed::<SocketAddr>("DNS_PROXY_ADDR")
                .map_or(15053, |address| address.port()),
            resolv_conf: r
                .path("CORTEN_RESOLV_CONF")
                .unwrap_or_else(|| "/etc/resolv.conf".into()),
            servers: Servers {
                admin: r
                    .parsed("ADMIN_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(localhost, 15000)),
                stats: r
                    .parsed("STATS_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(wildcard, 15020)),
                readiness: r
                    .parsed("READINESS_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(wildcard, 15021)),
            },
            termination_deadline: termination_deadline(&mut r),
            state_dir: r.path("CORTEN_STATE_DIR"),
            log_level: r.text("RUST_LOG"),
            log_json: r.string("LOG_FORMAT", "plain") == "json",
        };
        r.finish(config)
    }

    /// The node's name towards the control plane; the suffix is fixed in Istio.
    pub fn node_id(&self) -> String {
        let ip = self.pod.ip.unwrap_or(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
        let PodSelf { name, namespace, .. } = &self.pod;
        format!("ztunnel~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// Ports whose traffic would come back to the proxy.
    pub fn illegal_port(port: u16) -> bool {
        matches!(port, OUTBOUND_PORT | INBOUND_PLAIN_PORT | HBONE_PORT)
    }
}

fn upstream(r: &mut Reader<'_>, prefix: &str, default_address: &str) -> Upstream {
    let address_name = format!("{prefix}_ADDRESS");
    let address = r.string(&address_name, default_address);
    let (tls, rest) = match address.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some((_, rest)) => (true, rest),
        None => (true, address.as_str()),
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse()),
        None => (rest, Ok(15012)),
    };
    let address = match port {
        // An empty variable turns the server off, as the upstream proxy has it.
        _ if rest.is_empty() => None,
        Ok(port) => Some(HostPort {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        }),
        Err(_) => {
            r.problem(
                &address_name,
                &format!("'{address}' is not of the form https://host:port"),
            );
            None
        }
    };
    Upstream {
        address,
        tls,
        root: r.string(&format!("{prefix}_ROOT_CA"), ROOT_PATH),
        server_name: r.text(&format!("ALT_{prefix}_HOSTNAME")),
        headers: r.prefixed(&format!("{prefix}_HEADER_")).collect(),
    }
}

fn metadata(r: &mut Reader<'_>) -> BTreeMap<String, serde_json::Value> {
    let mut metadata: BTreeMap<_, _> = r
        .prefixed("ISTIO_META_")
        .map(|(key, value)| (key, serde_json::Value::String(value)))
        .collect();
    let json: Vec<_> = r.prefixed("ISTIO_METAJSON_").collect();
    for (key, value) in json {
        match serde_json::from_str(&value) {
            Ok(value) => drop(metadata.insert(key, value)),
            Err(error) => r.problem(&format!("ISTIO_METAJSON_{key}"), &format!("is not JSON: {error}")),
        }
    }
    metadata
}

fn connections(r: &mut Reader<'_>) -> Connections {
    let keepalive = Keepalive {
        time: r.duration("KEEPALIVE_TIME", Duration::from_secs(180)),
        interval: r.duration("KEEPALIVE_INTERVAL", Duration::from_secs(180)),
        retries: r.parsed("KEEPALIVE_RETRIES").unwrap_or(9),
    };
    Connections {
        keepalive: r.boolean("KEEPALIVE_ENABLED", true).then_some(keepalive),
        user_timeout: r.boolean("USER_TIMEOUT_ENABLED", false),
        pool_streams_max: r.parsed("POOL_MAX_STREAMS_PER_CONNECTION").unwrap_or(100),
        pool_unused_timeout: r.duration("POOL_UNUSED_RELEASE_TIMEOUT", Duration::from_secs(300)),
        stream_window: r.parsed("HTTP2_STREAM_WINDOW_SIZE").unwrap_or(4 << 20),
        connection_window: r.parsed("HTTP2_CONNECTION_WINDOW_SIZE").unwrap_or(16 << 20),
        frame_size: r.parsed("HTTP2_FRAME_SIZE").unwrap_or(1 << 20),
        tls12: r.boolean("TLS12_ENABLED", false),
        connect_timeout: r.duration("CORTEN_CONNECT_TIMEOUT", Duration::from_secs(10)),
        congestion_control: r
            .text("CORTEN_CONGESTION_CONTROL")
            .or_else(|| Some("cubic".to_owned()))
            .filter(|name| name != "system"),
    }
}

/// Explicit, or what the grace period of the pod leaves, or an hour: nobody waits for the end but an operator who then says so.
fn termination_deadline(r: &mut Reader<'_>) -> Duration {
    if r.text("CONNECTION_TERMINATION_DEADLINE").is_some() {
        return r.duration("CONNECTION_TERMINATION_DEADLINE", Duration::ZERO);
    }
    match r.parsed::<u64>("TERMINATION_GRACE_PERIOD_SECONDS") {
        Some(seconds) => {
            let margin = if seconds <= 10 { 1 } else { 5 };
            Duration::from_secs(seconds.saturating_sub(margin).max(1))
        }
        None => Duration::from_secs(3600),
    }
}

#[cfg(test)]
mod tests;
