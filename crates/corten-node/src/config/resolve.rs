//! Settings from variables: each with its default, everything that is wrong told at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use corten_identity::KeyExchange;

use super::proxy_config::ProxyConfig;
use super::vars::Reader;
use super::{
    Config, Connections, Dedicated, HostPort, Keepalive, LocalXds, OriginalSource, PodLimits, PodSelf, Problem,
    Servers, Upstream, Vars,
};

const TOKEN_PATH: &str = "./var/run/secrets/tokens/istio-token";
const ROOT_PATH: &str = "./var/run/secrets/istio/root-cert.pem";

impl Config {
    /// Makes sense of the variables, or says everything that is wrong with them.
    pub fn resolve(vars: &dyn Vars, cores: usize) -> Result<Config, Vec<Problem>> {
        let mut r = Reader::new(vars);
        let ipv6 = r.boolean("IPV6_ENABLED", true);
        let proxy_config = ProxyConfig::read(&mut r);
        let metadata = metadata(&mut r, &proxy_config);
        let local_xds = local_xds(&mut r);
        let test_ca_dir = r.path("CORTEN_TEST_CA_DIR");
        let default_address = if r.text("KUBERNETES_SERVICE_HOST").is_some() {
            "https://istiod.istio-system.svc:15012"
        } else {
            "https://localhost:15012"
        };
        let discovery_address = proxy_config.discovery_address.as_deref();
        let mut xds = upstream(&mut r, "XDS", discovery_address.unwrap_or(default_address));
        let mut ca = upstream(&mut r, "CA", default_address);
        if local_xds.is_some() && discovery_address.is_none() && r.text("XDS_ADDRESS").is_none() {
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
        let dns = dns_capture(&metadata);
        let on_demand = r.boolean("XDS_ON_DEMAND", false);
        if on_demand && dns {
            r.problem(
                "XDS_ON_DEMAND",
                "cannot be 'true' while DNS questions are answered, which takes all names: set ISTIO_META_DNS_CAPTURE=false",
            );
        }
        if r.boolean("FAKE_CA", false) {
            r.problem(
                "FAKE_CA",
                "'true' is not supported: set CORTEN_TEST_CA_DIR to a folder with ca-cert.pem and ca-key.pem, and they sign",
            );
        }
        let dedicated = dedicated(&mut r);
        let socks5 = r.boolean("UNSTABLE_ENABLE_SOCKS5", false);
        for (name, set) in [("XDS_ON_DEMAND", on_demand && !dns), ("UNSTABLE_ENABLE_SOCKS5", socks5)] {
            if set {
                r.problem(name, "'true' is not supported: leave it unset");
            }
        }
        let ports = &proxy_config;
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
            on_demand,
            local_xds,
            proxy: r.boolean("ENABLE_PROXY", true),
            socks5,
            test_ca_dir,
            auth_token: r.string("AUTH_TOKEN", TOKEN_PATH),
            secret_ttl: r.duration("SECRET_TTL", Duration::from_secs(86400)),
            crl_path: r.path("CRL_PATH"),
            inpod_uds: r
                .path("INPOD_UDS")
                .unwrap_or_else(|| "/var/run/ztunnel/ztunnel.sock".into()),
            port_reuse: r.boolean("INPOD_PORT_REUSE", true),
            // Without a mark a pod's own rules would lead the proxy back to itself; where it serves itself only, there are none by default.
            packet_mark: r
                .parsed("PACKET_MARK")
                .or_else(|| dedicated.is_none().then_some(1337))
                .filter(|mark| *mark != 0),
            dedicated,
            shards: r.threads(cores, proxy_config.concurrency),
            spin: Duration::from_micros(r.parsed("CORTEN_SPIN_US").unwrap_or(0)),
            connections: connections(&mut r),
            limits: PodLimits {
                connections_max: r.parsed("CORTEN_POD_CONNECTIONS_MAX").unwrap_or(65_536),
                handshakes_max: r.parsed("CORTEN_POD_HANDSHAKES_MAX").unwrap_or(512),
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
            dns,
            dns_port: dns_port(&mut r, &metadata),
            metadata,
            resolv_conf: r
                .path("CORTEN_RESOLV_CONF")
                .unwrap_or_else(|| "/etc/resolv.conf".into()),
            servers: Servers {
                admin: r
                    .parsed("ADMIN_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(localhost, ports.proxy_admin_port.unwrap_or(15000))),
                stats: r
                    .parsed("STATS_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(wildcard, ports.stats_port.unwrap_or(15020))),
                readiness: r
                    .parsed("READINESS_ADDR")
                    .unwrap_or_else(|| SocketAddr::new(wildcard, 15021)),
            },
            termination_deadline: termination_deadline(&mut r),
            state_dir: r.path("CORTEN_STATE_DIR"),
            keep_keys: r.optional_boolean("CORTEN_KEEP_KEYS"),
            log_level: r.text("RUST_LOG"),
            log_json: log_json(&mut r),
        };
        r.finish(config)
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

/// From the ProxyConfig, over which go the variables.
fn metadata(r: &mut Reader<'_>, proxy_config: &ProxyConfig) -> BTreeMap<String, serde_json::Value> {
    let given = proxy_config.proxy_metadata.clone();
    let mut metadata: BTreeMap<_, _> = given
        .into_iter()
        .chain(r.prefixed("ISTIO_META_"))
        .map(|(key, value)| (key, serde_json::Value::String(value)))
        .collect();
    let json: Vec<_> = r.prefixed("ISTIO_METAJSON_").collect();
    for (key, value) in json {
        match serde_json::from_str(&value) {
            Ok(value) => drop(metadata.insert(key, value)),
            Err(error) => r.problem(
                &format!("ISTIO_METAJSON_{key}"),
                &format!("'{value}' is not JSON: {error}"),
            ),
        }
    }
    metadata
}

/// Answered unless the metadata say otherwise.
fn dns_capture(metadata: &BTreeMap<String, serde_json::Value>) -> bool {
    match metadata.get("DNS_CAPTURE") {
        None => true,
        Some(serde_json::Value::Bool(value)) => *value,
        Some(value) => value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")),
    }
}

/// `DNS_PROXY_ADDR` of the metadata: questions are answered on the pods' loopback addresses, so that only the port can be chosen.
fn dns_port(r: &mut Reader<'_>, metadata: &BTreeMap<String, serde_json::Value>) -> u16 {
    let name = "DNS_PROXY_ADDR";
    let given = metadata
        .get(name)
        .and_then(serde_json::Value::as_str)
        .map(str::to_owned);
    let Some(text) = given.or_else(|| r.text(name)) else {
        return 15053;
    };
    let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let host = host.trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match port.parse() {
        Ok(port) if loopback => port,
        _ => {
            let reason = format!(
                "'{text}' is not a port of the loopback address, where pods' questions are led: write localhost:PORT"
            );
            r.problem(name, &reason);
            15053
        }
    }
}

fn local_xds(r: &mut Reader<'_>) -> Option<LocalXds> {
    let text = r.text("LOCAL_XDS");
    match r.path("LOCAL_XDS_PATH") {
        None => text.map(LocalXds::Text),
        Some(path) => {
            if text.is_some() {
                let reason = format!("is set beside LOCAL_XDS_PATH='{}': set one of them", path.display());
                r.problem("LOCAL_XDS", &reason);
            }
            Some(LocalXds::File(path))
        }
    }
}

/// The one workload of a proxy that serves no node.
fn dedicated(r: &mut Reader<'_>) -> Option<Dedicated> {
    let info = r.text("PROXY_WORKLOAD_INFO");
    match r.string("PROXY_MODE", "shared").as_str() {
        "shared" | "" => None,
        "dedicated" => {
            let given = info.unwrap_or_default();
            let parts: Vec<&str> = given.splitn(3, '/').collect();
            let &[namespace, name, service_account] = parts.as_slice() else {
                let reason = format!(
                    "'{given}' is not of the form namespace/name/service-account, which PROXY_MODE=dedicated needs"
                );
                r.problem("PROXY_WORKLOAD_INFO", &reason);
                return None;
            };
            Some(Dedicated {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                service_account: service_account.to_owned(),
            })
        }
        other => {
            let reason = format!(
                "'{other}' is neither 'shared' (one proxy for all pods of its node) nor 'dedicated' (one for its own)"
            );
            r.problem("PROXY_MODE", &reason);
            None
        }
    }
}

/// Istio's names of rules for cryptography; the same words as for its other components.
fn key_exchange(r: &mut Reader<'_>) -> KeyExchange {
    match r.string("COMPLIANCE_POLICY", "").as_str() {
        "" => KeyExchange::HybridPreferred,
        "pqc" => KeyExchange::HybridOnly,
        "fips-140-2" => KeyExchange::Nist,
        other => {
            let reason = format!("'{other}' is not a policy: write pqc or fips-140-2, or leave it unset");
            r.problem("COMPLIANCE_POLICY", &reason);
            KeyExchange::HybridPreferred
        }
    }
}

fn log_json(r: &mut Reader<'_>) -> bool {
    match r.string("LOG_FORMAT", "plain").as_str() {
        "json" => true,
        "plain" | "" => false,
        other => {
            r.problem("LOG_FORMAT", &format!("'{other}' is neither 'plain' nor 'json'"));
            false
        }
    }
}

/// What HTTP/2 can say; a window smaller than a frame of the smallest size would make no progress worth the name.
const WINDOW: std::ops::RangeInclusive<u32> = 16_384..=(1 << 31) - 1;

fn connections(r: &mut Reader<'_>) -> Connections {
    let keepalive = Keepalive {
        time: r.duration("KEEPALIVE_TIME", Duration::from_secs(180)),
        interval: r.duration("KEEPALIVE_INTERVAL", Duration::from_secs(180)),
        retries: r.parsed("KEEPALIVE_RETRIES").unwrap_or(9),
    };
    Connections {
        keepalive: r.boolean("KEEPALIVE_ENABLED", true).then_some(keepalive),
        user_timeout: r.boolean("USER_TIMEOUT_ENABLED", false),
        pool_streams_max: r.within("POOL_MAX_STREAMS_PER_CONNECTION", 1..=1 << 30, 100),
        pool_unused_timeout: r.duration("POOL_UNUSED_RELEASE_TIMEOUT", Duration::from_secs(300)),
        stream_window: r.within("HTTP2_STREAM_WINDOW_SIZE", WINDOW, 4 << 20),
        connection_window: r.within("HTTP2_CONNECTION_WINDOW_SIZE", WINDOW, 16 << 20),
        frame_size: r.within("HTTP2_FRAME_SIZE", 16_384..=16_777_215, 1 << 20),
        tls12: r.boolean("TLS12_ENABLED", false),
        key_exchange: key_exchange(r),
        connect_timeout: r.duration("CORTEN_CONNECT_TIMEOUT", Duration::from_secs(10)),
        congestion_control: r
            .text("CORTEN_CONGESTION_CONTROL")
            .or_else(|| Some("cubic".to_owned()))
            .filter(|name| name != "system"),
    }
}

/// Explicit, or what the grace period of the pod leaves, or an hour: nobody waits for the end but an operator who then says so.
fn termination_deadline(r: &mut Reader<'_>) -> Duration {
    let grace = r.parsed::<u64>("TERMINATION_GRACE_PERIOD_SECONDS");
    if r.text("CONNECTION_TERMINATION_DEADLINE").is_some() {
        return r.duration("CONNECTION_TERMINATION_DEADLINE", Duration::ZERO);
    }
    match grace {
        Some(seconds) => {
            let margin = if seconds <= 10 { 1 } else { 5 };
            Duration::from_secs(seconds.saturating_sub(margin).max(1))
        }
        None => Duration::from_secs(3600),
    }
}
