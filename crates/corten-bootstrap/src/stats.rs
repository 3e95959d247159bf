//! What Envoy counts, which of it is kept, and where it is sent.

use corten_core::Duration;
use serde_json::{Map, Value, json};

use crate::config::{Problem, place};
use crate::{Inputs, clusters};

/// What readiness and people who look for faults need.
const PREFIXES: [&str; 5] = [
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
];
/// What says how policies decide.
const SUFFIXES: [&str; 4] = ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied"];
/// What draining waits for.
const OPEN: &str = "downstream_cx_active";
/// Routes that are counted on their own.
const REGEXES: [&str; 1] = [r"vhost\..*\.route\..*"];
/// How often counts are handed on, where nobody says it: 5 seconds.
const FLUSH_NANOS: i128 = 5_000_000_000;

/// Names of tags and what finds them in the names of counts; those before and after the ones of the configuration.
const TAGS: [(&str, &str); 9] = [
    ("cluster_name", r"^cluster(\.(.+);)"),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
    ),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "listener_address",
        r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "mongo_prefix",
        r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
    ),
];
const MORE_TAGS: [(&str, &str); 7] = [
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];

fn annotation<'a>(inputs: &Inputs<'a>, name: &str) -> Option<&'a str> {
    let name = format!("sidecar.istio.io/{name}");
    inputs.metadata.get("ANNOTATIONS")?.get(name)?.as_str()
}

/// What is counted and kept.
pub(crate) fn config(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Value {
    let tag = |(name, regex): (&str, &str)| json!({"tagName": name, "regex": regex});
    let mut tags: Vec<Value> = TAGS.map(tag).to_vec();
    let said = inputs.config["extraStatTags"].as_array().into_iter().flatten();
    let said = said.filter_map(Value::as_str);
    let mut extra: Vec<&str> = Vec::new();
    for name in said.chain(annotation(inputs, "extraStatTags").unwrap_or_default().split(',')) {
        if !name.is_empty() && !extra.contains(&name) {
            extra.push(name);
        }
    }
    tags.extend(extra.iter().map(|name| tag((name, &format!(r"({name}=\.=(.*?);\.;)")))));
    tags.extend(MORE_TAGS.map(tag));
    let mut made = json!({
        "useAllDefaultTags": false,
        "statsTags": tags,
        "statsMatcher": {"inclusionList": {"patterns": patterns(inputs)}},
    });
    let buckets = buckets(inputs, problems);
    if !buckets.is_empty() {
        made["histogramBucketSettings"] = json!(buckets);
    }
    made
}

/// What is kept of all counts. An annotation goes before the configuration.
fn patterns(inputs: &Inputs<'_>) -> Vec<Value> {
    let wanted = |name: &str, field: &str, required: &[&str]| -> Vec<String> {
        let configured = inputs.config["proxyStatsMatcher"][field].as_array();
        let mut wanted: Vec<&str> = match annotation(inputs, name).filter(|text| !text.is_empty()) {
            Some(text) => text.split(',').collect(),
            None => configured.into_iter().flatten().filter_map(Value::as_str).collect(),
        };
        wanted.extend(required);
        // What comes in to an address of the pod is counted by that address.
        let ips: Vec<&str> = inputs.says("INSTANCE_IPS").split(',').collect();
        let each = |text: &str| -> Vec<String> {
            if text.contains("{pod_ip}") {
                ips.iter().map(|ip| text.replace("{pod_ip}", ip)).collect()
            } else {
                vec![text.to_owned()]
            }
        };
        wanted.into_iter().flat_map(each).collect()
    };
    let mut suffixes = SUFFIXES.to_vec();
    if inputs.says("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") == "true" {
        suffixes.push(OPEN);
    }
    let mut patterns = vec![json!({"prefix": "reporter="})];
    if inputs.finds_peers() {
        patterns.push(json!({"prefix": "workload_discovery"}));
    }
    let prefixes = wanted("statsInclusionPrefixes", "inclusionPrefixes", &PREFIXES);
    patterns.extend(prefixes.iter().map(|text| json!({"prefix": text})));
    let suffixes = wanted("statsInclusionSuffixes", "inclusionSuffixes", &suffixes);
    patterns.extend(suffixes.iter().map(|text| json!({"suffix": text})));
    let regexes = wanted("statsInclusionRegexps", "inclusionRegexps", &REGEXES);
    patterns.extend(regexes.iter().map(|text| json!({"safeRegex": {"regex": text}})));
    patterns.extend(["component", "istio"].map(|text| json!({"prefix": text})));
    patterns
}

/// Bounds of histograms by the beginning of their names, as an annotation says.
fn buckets(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Vec<Value> {
    let Some(text) = annotation(inputs, "statsHistogramBuckets") else {
        return Vec::new();
    };
    match serde_json::from_str::<std::collections::BTreeMap<String, Vec<f64>>>(text) {
        Ok(said) => {
            let setting = |(prefix, buckets)| json!({"match": {"prefix": prefix}, "buckets": buckets});
            said.into_iter().map(setting).collect()
        }
        Err(error) => {
            problems.push(Problem::new(
                "sidecar.istio.io/statsHistogramBuckets",
                &format!("has no effect: it is no JSON of lists of numbers: {error}"),
            ));
            Vec::new()
        }
    }
}

/// How often counts are handed on, and after how long those that nobody counts any more are forgotten.
pub(crate) fn intervals(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> (Option<Value>, Option<Value>) {
    let mut interval = |name: &str| {
        let text = annotation(inputs, name)?;
        let read = Duration::parse(text)
            .ok()
            .map(Duration::as_nanos)
            .filter(|nanos| *nanos > 0);
        if read.is_none() {
            let reason = format!("has no effect: '{text}' is no duration, as 10s is");
            problems.push(Problem::new(&format!("sidecar.istio.io/{name}"), &reason));
        }
        read
    };
    let flush = interval("statsFlushInterval");
    let mut eviction = interval("statsEvictionInterval");
    if eviction.is_some_and(|eviction| eviction % flush.unwrap_or(FLUSH_NANOS) != 0) {
        problems.push(Problem::new(
            "sidecar.istio.io/statsEvictionInterval",
            "has no effect: it is no multiple of statsFlushInterval (5s where nothing is said)",
        ));
        eviction = None;
    }
    let written = |nanos: i128| {
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        json!(if rest == 0 {
            format!("{seconds}s")
        } else {
            format!("{seconds}.{rest:09}s")
        })
    };
    (flush.map(written), eviction.map(written))
}

/// Who is told what is counted.
pub(crate) fn sinks(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Vec<Value> {
    let mut sinks = Vec::new();
    if clusters::service(inputs, "envoyMetricsService").is_some() {
        sinks.push(json!({"name": "envoy.stat_sinks.metrics_service", "typedConfig": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
            "transportApiVersion": "V3",
            "grpcService": {"envoyGrpc": {"clusterName": clusters::METRICS}},
        }}));
    }
    if let Some(text) = inputs.config["statsdUdpAddress"]
        .as_str()
        .filter(|text| !text.is_empty())
    {
        match place(text, inputs.host_ip) {
            // Envoy asks no resolver here: the agent has.
            Ok((host, port)) => sinks.push(json!({"name": "envoy.stat_sinks.statsd", "typedConfig": {
                "@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink",
                "address": clusters::address(&host, port),
            }})),
            Err(reason) => problems.push(Problem::new("statsdUdpAddress", reason)),
        }
    }
    sinks
}

/// An object with one more field.
pub(crate) fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    if let (Some(value), Some(fields)) = (value, object.as_object_mut()) {
        let fields: &mut Map<String, Value> = fields;
        fields.insert(name.to_owned(), value);
    }
    object
}
