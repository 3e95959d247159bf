//! What an Envoy of the mesh is started with, as JSON: from how proxies are to run (ProxyConfig), what is known of the pod, and where its
//! agent is.
//!
//! A pure function of its arguments, for `corten-sidecar`, which starts Envoys, and for commands that show what it would start them with.
//! What configuration says and cannot have is left out and reported. Where the control plane's own messages are is no business of this crate.

mod clusters;
mod config;
mod listeners;
mod metadata;
mod stats;
mod unheeded;

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

pub use self::config::{Problem, canonical, defaults, honoured_elsewhere, merge, port};
pub use self::metadata::{Pod, labels_of, metadata};
pub use self::unheeded::unheeded;

/// What kind of Envoy is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Any Envoy: what only Istio's have is left out, as Envoy would not start.
    Stock,
    /// One with Istio's own extensions.
    Istio,
}

/// What a bootstrap is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The node's id, as in `sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local`.
    pub id: &'a str,
    /// What the node says about itself, as [`metadata`] makes it.
    pub metadata: &'a Map<String, Value>,
    /// How the proxy runs: a ProxyConfig as JSON, complete.
    pub config: &'a Value,
    /// Host and port of the control plane.
    pub discovery: (&'a str, u16),
    /// The name that the control plane's certificate has; usually that host.
    pub discovery_name: &'a str,
    /// The socket on which the agent serves certificates.
    pub secrets: &'a Path,
    /// What stands for `$(HOST_IP)` in addresses.
    pub host_ip: Option<&'a str>,
    /// Envoy's own log is JSON.
    pub log_as_json: bool,
    /// What the policy `fips-140-2` asks for.
    pub fips: bool,
    /// Both families of addresses are listened on, where the pod has both.
    pub dual_stack: bool,
    /// The status port takes the PROXY protocol as well.
    pub proxy_protocol: bool,
    /// A socket priority (`SO_PRIORITY`) of all of Envoy's connections.
    pub priority: Option<u32>,
    /// The Envoy.
    pub build: Build,
}

/// The addresses that Envoy uses for itself.
#[derive(Debug, Clone, Copy)]
struct Family {
    loopback: &'static str,
    wildcard: &'static str,
    /// Those of the other family, where both are listened on.
    others: Option<(&'static str, &'static str)>,
    lookup: &'static str,
}

impl Inputs<'_> {
    fn family(&self) -> Family {
        const V4: (&str, &str) = ("127.0.0.1", "0.0.0.0");
        const V6: (&str, &str) = ("::1", "::");
        let text = self.metadata.get("INSTANCE_IPS").and_then(Value::as_str);
        let ips = text.unwrap_or_default().split(',');
        let ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        let four = ips.iter().any(IpAddr::is_ipv4);
        let six = ips.iter().any(IpAddr::is_ipv6);
        let (own, others, lookup) = match (four, six, self.dual_stack) {
            (true, true, true) if ips.first().is_some_and(IpAddr::is_ipv6) => (V6, Some(V4), "ALL"),
            (true, true, true) => (V4, Some(V6), "ALL"),
            (false, true, _) => (V6, None, "V6_ONLY"),
            _ => (V4, None, "V4_ONLY"),
        };
        Family {
            loopback: own.0,
            wildcard: own.1,
            others,
            lookup,
        }
    }

    fn says(&self, key: &str) -> &str {
        self.metadata.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A port that the node says it has; 0: none.
    fn own_port(&self, key: &str) -> u64 {
        self.metadata.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    fn finds_peers(&self) -> bool {
        let wanted = self.says("METADATA_DISCOVERY") == "true" || self.id.starts_with("waypoint~");
        wanted && self.build == Build::Istio
    }
}

/// The bootstrap, and what of the configuration takes no effect in it.
pub fn bootstrap(inputs: &Inputs<'_>) -> (Value, Vec<Problem>) {
    let mut problems = Vec::new();
    let family = inputs.family();
    let config = inputs.config;
    let traces = clusters::Tracer::of(inputs, &mut problems);
    let admin = port(config, "proxyAdminPort");
    for field in ["listenerConnectionLimit", "clusterPerConnectionBufferLimitBytes"] {
        if !config["connectionSettings"][field].is_null() {
            problems.push(Problem::new(&format!("connectionSettings.{field}"), "has no effect"));
        }
    }
    if !config["proxyHeaders"]["metadataExchangeHeaders"]["mode"].is_null() {
        problems.push(Problem::new(
            "proxyHeaders.metadataExchangeHeaders.mode",
            "has no effect: proxies tell each other nothing by headers, inside the mesh or outside",
        ));
    }
    let ads = json!({"ads": {}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"});
    let log = if inputs.log_as_json {
        json!({"jsonFormat": {
            "time": "%Y-%m-%dT%T.%fZ", "level": "%l", "scope": "envoy %n", "msg": "%j", "caller": "%g:%#", "thread": "%t",
        }})
    } else {
        json!({"textFormat": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"})
    };
    let mut made = json!({
        "applicationLogConfig": {"logFormat": log},
        "node": {
            "id": inputs.id,
            "cluster": metadata::service_cluster(config, inputs.metadata),
            "locality": metadata::locality(inputs.metadata),
            "metadata": inputs.metadata,
        },
        "layeredRuntime": {"layers": [
            {"name": "global config", "staticLayer": runtime(inputs)},
            {"name": "admin", "adminLayer": {}},
        ]},
        "bootstrapExtensions": extensions(inputs),
        "statsConfig": stats::config(inputs, &mut problems),
        "admin": {
            "accessLog": [{"name": "envoy.access_loggers.file", "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": "/dev/null",
            }}],
            "profilePath": "/var/lib/istio/data/envoy.prof",
            "address": clusters::address(family.loopback, u64::from(admin)),
        },
        "dynamicResources": {
            "ldsConfig": ads,
            "cdsConfig": ads,
            "adsConfig": {
                "apiType": "DELTA_GRPC",
                "transportApiVersion": "V3",
                "setNodeOnFirstMessageOnly": true,
                "grpcServices": [{"envoyGrpc": {"clusterName": clusters::DISCOVERY}}],
            },
        },
        "staticResources": {
            "clusters": clusters::all(inputs, family, traces.as_ref(), &mut problems),
            "listeners": listeners::all(inputs, family),
        },
        "overloadManager": {"resourceMonitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "maxActiveDownstreamConnections": connections(config),
            },
        }]},
        "deferredStatOptions": {"enableDeferredCreationStats": true},
    });
    let (flush, eviction) = stats::intervals(inputs, &mut problems);
    let sinks = stats::sinks(inputs, &mut problems);
    for (name, value) in [
        ("statsFlushInterval", flush),
        ("statsEvictionInterval", eviction),
        ("statsSinks", (!sinks.is_empty()).then(|| json!(sinks))),
        ("tracing", traces.map(|tracer| tracer.config)),
        ("clusterManager", manager(inputs, &mut problems)),
    ] {
        if let Some(value) = value {
            made[name] = value;
        }
    }
    (made, problems)
}

/// What Envoy's runtime says from the start: Istio's values, and those of the configuration, of which an empty one takes a value away.
fn runtime(inputs: &Inputs<'_>) -> Value {
    let mut flags = Map::new();
    let mut put = |name: &str, value: Value| drop(flags.insert(name.to_owned(), value));
    put("re2.max_program_size.error_level", json!("32768"));
    put(
        "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst",
        json!(true),
    );
    put("envoy.reloadable_features.http_reject_path_with_fragment", json!(false));
    put("envoy.reloadable_features.fixed_heap_use_allocated", json!(true));
    put(
        "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update",
        json!(false),
    );
    if inputs.fips {
        put("envoy.reloadable_features.google_grpc_disable_tls_13", json!(true));
    }
    for (name, value) in inputs.config["runtimeValues"].as_object().into_iter().flatten() {
        match value.as_str() {
            Some("") => drop(flags.remove(name)),
            // Envoy wants these as what they are.
            Some("true") => drop(flags.insert(name.clone(), json!(true))),
            Some("false") => drop(flags.insert(name.clone(), json!(false))),
            _ => drop(flags.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(flags)
}

fn extensions(inputs: &Inputs<'_>) -> Value {
    let typed = |name: &str, url: &str, value: Value| {
        json!({"name": name, "typedConfig": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "typeUrl": format!("type.googleapis.com/{url}"),
            "value": value,
        }})
    };
    let mut extensions = Vec::new();
    if inputs.finds_peers() {
        let source = json!({"config_source": {"ads": {}}});
        extensions.push(typed("metadata_discovery", "istio.workload.BootstrapExtension", source));
    }
    extensions.push(typed(
        "envoy.bootstrap.internal_listener",
        "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
        json!({"buffer_size_kb": 64}),
    ));
    json!(extensions)
}

/// How many connections Envoy takes: as the configuration says in its own field, in a variable, or in a runtime value; else all.
fn connections(config: &Value) -> i64 {
    let field = &config["connectionSettings"]["globalDownstreamConnectionLimit"];
    let number = |text: &Value| text.as_str().and_then(|text| text.parse().ok());
    field
        .as_i64()
        .filter(|limit| *limit > 0)
        .or_else(|| number(&config["proxyMetadata"]["ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"]))
        .or_else(|| number(&config["runtimeValues"]["overload.global_downstream_max_connections"]))
        .unwrap_or_else(|| i64::from(i32::MAX))
}

fn manager(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Option<Value> {
    let mut manager = Map::new();
    let outliers = inputs.says("OUTLIER_LOG_PATH");
    if !outliers.is_empty() {
        manager.insert("outlierDetection".to_owned(), json!({"eventLogPath": outliers}));
    }
    let discovers = inputs.says("ENABLE_SELF_DISCOVERY") == "true";
    if discovers {
        manager.insert("localClusterName".to_owned(), json!(clusters::OWN));
    }
    let load = inputs.says("LOAD_STATS_CONFIG_JSON");
    if !load.is_empty() {
        match serde_json::from_str::<Value>(load) {
            Ok(value) => drop(manager.insert("loadStatsConfig".to_owned(), value)),
            Err(error) => problems.push(Problem::new("LOAD_STATS_CONFIG_JSON", &format!("is no JSON: {error}"))),
        }
    }
    if !manager.is_empty() {
        manager.insert("enableDeferredClusterCreation".to_owned(), json!(true));
    }
    if let Some(priority) = inputs.priority {
        // SOL_SOCKET, SO_PRIORITY.
        let mark = json!({"level": 1, "name": 12, "intValue": priority, "state": "STATE_PREBIND"});
        manager.insert("upstreamBindConfig".to_owned(), json!({"socketOptions": [mark]}));
    }
    (!manager.is_empty()).then_some(Value::Object(manager))
}

#[cfg(test)]
mod tests;
