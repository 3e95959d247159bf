//! What a filter chain takes and where it leads, in a few words.

use serde_json::Value;

use super::{items, text};

const HTTP: &str = "envoy.filters.network.http_connection_manager";
const TCP: &str = "envoy.filters.network.tcp_proxy";
const BLACK_HOLE: &str = "BlackHoleCluster";

/// Groups of application protocols that Istio uses.
const PROTOCOLS: [(&str, &[&str]); 4] = [
    (
        "App: HTTP TLS",
        &[
            "http/1.0",
            "http/1.1",
            "h2c",
            "istio-http/1.0",
            "istio-http/1.1",
            "istio-h2",
        ],
    ),
    (
        "App: Istio HTTP Plain",
        &["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
    ),
    ("App: TCP TLS", &["istio-peer-exchange", "istio"]),
    ("App: HTTP", &["http/1.0", "http/1.1", "h2c"]),
];

/// The chains of a listener, the default one last.
pub(super) fn chains(listener: &Value) -> impl Iterator<Item = &Value> {
    let default = &listener["defaultFilterChain"];
    items(&listener["filterChains"]).chain((!default.is_null()).then_some(default))
}

/// Whether a filter sends what it gets nowhere.
fn is_black_hole(filter: &Value) -> bool {
    filter["typedConfig"].to_string().contains(BLACK_HOLE)
}

/// `HTTP`, `TCP`, `HTTP+TCP` or `UNKNOWN`.
pub(super) fn listener_type(listener: &Value) -> &'static str {
    let filters = || chains(listener).flat_map(|chain| items(&chain["filters"]));
    let http = filters().any(|filter| filter["name"] == HTTP);
    let tcp = filters().any(|filter| filter["name"] == TCP && !is_black_hole(filter));
    match (http, tcp) {
        (true, false) => "HTTP",
        (true, true) => "HTTP+TCP",
        (false, true) => "TCP",
        (false, false) => "UNKNOWN",
    }
}

fn joined(list: &Value, between: &str) -> String {
    items(list).map(text).collect::<Vec<_>>().join(between)
}

/// What a chain takes.
pub(super) fn matches(chain: &Value) -> String {
    let rule = &chain["filterChainMatch"];
    let mut said = Vec::new();
    let names = joined(&rule["serverNames"], ",");
    if !names.is_empty() {
        said.push(format!("SNI: {names}"));
    }
    let transport = text(&rule["transportProtocol"]);
    if !transport.is_empty() {
        said.push(format!("Trans: {transport}"));
    }
    let protocols: Vec<&str> = items(&rule["applicationProtocols"]).map(text).collect();
    if !protocols.is_empty() {
        let group = PROTOCOLS.iter().find(|(_, group)| *group == protocols);
        said.push(group.map_or_else(
            || format!("App: {}", protocols.join(",")),
            |(name, _)| (*name).to_owned(),
        ));
    }
    let port = rule["destinationPort"].as_u64().map(|port| format!(":{port}"));
    let ranges: Vec<String> = items(&rule["prefixRanges"])
        .map(|range| {
            let length = range["prefixLen"].as_u64().unwrap_or(0);
            format!("{}/{length}", text(&range["addressPrefix"]))
        })
        .collect();
    match (ranges.is_empty(), port) {
        (false, port) => said.push(format!("Addr: {}{}", ranges.join(","), port.unwrap_or_default())),
        (true, Some(port)) => said.push(format!("Addr: *{port}")),
        (true, None) => {}
    }
    if said.is_empty() {
        said.push("ALL".to_owned());
    }
    said.join("; ")
}

/// Where a chain leads.
pub(super) fn destination(chain: &Value) -> String {
    for filter in items(&chain["filters"]) {
        let config = &filter["typedConfig"];
        if filter["name"] == HTTP {
            if !config["routeConfig"].is_null() {
                return inline(&config["routeConfig"]);
            }
            let route = text(&config["rds"]["routeConfigName"]);
            return if route.is_empty() {
                "HTTP".to_owned()
            } else {
                format!("Route: {route}")
            };
        }
        if filter["name"] == TCP && !is_black_hole(filter) {
            let weighted = items(&config["weightedClusters"]["clusters"]);
            let weighted: Vec<String> = weighted
                .map(|cluster| {
                    format!(
                        "{} ({})",
                        text(&cluster["name"]),
                        cluster["weight"].as_u64().unwrap_or(0)
                    )
                })
                .collect();
            if !weighted.is_empty() {
                return format!("Clusters: {}", weighted.join(", "));
            }
            return cluster(text(&config["cluster"]));
        }
        if filter["name"] == "envoy.filters.network.echo" {
            return "Echo".to_owned();
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

/// `Cluster: NAME`, but Istio's own `...Cluster` by their names alone.
fn cluster(name: &str) -> String {
    if name.contains("Cluster") {
        name.to_owned()
    } else {
        format!("Cluster: {name}")
    }
}

/// Routes that stand in the listener.
fn inline(route: &Value) -> String {
    let hosts: Vec<&Value> = items(&route["virtualHosts"]).collect();
    if let [host] = hosts[..]
        && joined(&host["domains"], ",") == "*"
        && let [only] = items(&host["routes"]).collect::<Vec<_>>()[..]
        && only["match"]["prefix"] == "/"
        && let Some(name) = only["route"]["cluster"].as_str()
    {
        return cluster(name);
    }
    let hosts = hosts.iter().map(|host| {
        let routes: Vec<String> = items(&host["routes"]).map(|route| path(&route["match"])).collect();
        let routes = routes.join(", ");
        match joined(&host["domains"], "/").as_str() {
            "*" => routes,
            domains => format!("{domains} {routes}"),
        }
    });
    format!("Inline Route: {}", hosts.collect::<Vec<_>>().join("; "))
}

/// The paths that a route takes; what else it asks for is left out.
pub(super) fn path(rule: &Value) -> String {
    let mut said = Vec::new();
    let mut say = |value: &Value, form: fn(&str) -> String| {
        if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            said.push(form(value));
        }
    };
    say(&rule["prefix"], |it| format!("{it}*"));
    say(&rule["pathSeparatedPrefix"], |it| format!("PathPrefix:{it}"));
    say(&rule["path"], str::to_owned);
    say(&rule["safeRegex"]["regex"], |it| format!("regex {it}"));
    said.join(" ")
}
