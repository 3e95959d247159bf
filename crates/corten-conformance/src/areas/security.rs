//! Area `istio-security-policies`, as far as it concerns connections: whether a server's node proxy lets a client in.
//!
//! Where a policy asks something of requests, a node proxy can only judge ports that carry none; the other ports, and
//! what tokens, paths and gateways decide, wait for the proxies that see requests. How clients are made to send plain text
//! is a matter of sidecars: here such a client simply has no identity.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use corten_model::Settings;
use corten_traffic::{Peer, Tables};
use serde_json::{Value, json};

use super::ambient;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Clients and the server, `namespace/name`, and the last part of their addresses.
const WORKLOADS: [(&str, u8); 5] = [
    ("ns1/a", 1),
    ("ns2/a", 2),
    ("ns1/b", 3),
    ("naked/naked", 4),
    ("ns1/mesh", 5),
];
/// The ports of the server, by the names the requests use, and whether they carry requests.
const PORTS: [(&str, u16, bool); 5] = [
    ("tcp", 19090, false),
    ("https", 18443, false),
    ("http", 18080, true),
    ("http2", 18085, true),
    ("grpc", 17070, true),
];

/// Runs every request of every table, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        for (row, case) in data::rows(&table) {
            let mut push = |name: String, outcome: Outcome| {
                cases.push(Case {
                    area: area.name.clone(),
                    case: format!("{relative}: {row}{name}"),
                    outcome,
                });
            };
            let Some(requests) = case["requests"].as_array() else {
                push(
                    String::new(),
                    Outcome::Skipped("requests are not looked into yet".to_owned()),
                );
                continue;
            };
            for (at, request) in requests.iter().enumerate() {
                let name = format!(": {} {}", at + 1, text(&request["from"]));
                push(name, judge(case, request)?);
            }
        }
    }
    Ok(cases)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn judge(case: &Value, request: &Value) -> Result<Outcome> {
    let skipped = |feature: &str| Ok(Outcome::Skipped(format!("{feature} is not built yet")));
    let Some(expected) = request["allow"].as_bool().or_else(|| request["success"].as_bool()) else {
        let tokens = case.get("jwks").is_some();
        return skipped(if tokens {
            "authentication by tokens"
        } else {
            "normalization of paths"
        });
    };
    // The data has clients inside and outside of the mesh, and ports of one server.
    let from = match text(&request["from"]) {
        "mesh" => "ns1/a",
        "naked" => "naked/naked",
        "ingress-gateway" => return skipped("the ingress gateway"),
        other => other,
    };
    match request["to"].as_str().or_else(|| case["to"].as_str()) {
        Some("mesh" | "ns1/b") => {}
        Some("naked") => return skipped("mutual TLS by DestinationRule"),
        _ => return skipped("VirtualService routing"),
    }
    let config: Vec<Value> = serde_saphyr::from_multiple(text(&case["config"])).context("parsing the configuration")?;
    let mut objects = environment(&case["workloadAddresses"]);
    objects.extend(config.iter().filter(|object| !object.is_null()).cloned());
    let mesh = ambient::mesh(Settings::default(), &objects);
    let sees_all = mesh.snapshot().diagnostics().next().is_none();
    let tables = ambient::node_tables(&mesh.snapshot())?;
    let named = |port: &Value| PORTS.iter().find(|(name, ..)| *name == text(port));
    let ports = request["ports"].as_array().into_iter().flatten().filter_map(named);
    let mut judged = 0;
    for (name, port, _) in ports.filter(|(_, _, carries_requests)| sees_all || !carries_requests) {
        let allowed = is_let_in(&tables, from, *port, sends_plain_text(&config, from))?;
        if allowed != expected {
            let verdict = if allowed { "let in" } else { "refused" };
            return Ok(Outcome::Failed(format!("{from} is {verdict} on {name}")));
        }
        judged += 1;
    }
    if judged == 0 {
        skipped("enforcement of policies about requests")
    } else {
        Ok(Outcome::Passed)
    }
}

/// Whether the configuration has a client's sidecar send plain text.
fn sends_plain_text(config: &[Value], client: &str) -> bool {
    let namespace = client.split('/').next().unwrap_or_default();
    let mut rules = config
        .iter()
        .filter(|object| text(&object["kind"]) == "DestinationRule");
    rules.any(|rule| {
        let of = text(&rule["metadata"]["namespace"]);
        // A rule of the server's namespace is for all clients, unless theirs has one.
        let applies = of == namespace || of == "istio-system" || (of == "ns1" && namespace != "ns2");
        applies && text(&rule["spec"]["trafficPolicy"]["tls"]["mode"]) == "DISABLE"
    })
}

fn is_let_in(tables: &Tables, from: &str, port: u16, plain: bool) -> Result<bool> {
    let workload = |path: &str| {
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        tables
            .local(namespace, name, name)
            .with_context(|| format!("no workload {path}"))
    };
    let (client, server) = (workload(from)?, workload("ns1/b")?);
    let peer = Peer {
        source: client.addresses[0],
        identity: (client.is_hbone() && !plain).then_some(&*client.identity),
        destination: SocketAddr::new(server.addresses[0], port),
    };
    Ok(tables.authorize(server, &peer).allowed)
}

/// Namespaces and pods of the area's description; their addresses are the row's, where it has some.
fn environment(addresses: &Value) -> Vec<Value> {
    let mut objects = Vec::new();
    for (path, place) in WORKLOADS {
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        let usual = IpAddr::V4(Ipv4Addr::new(10, 0, 0, place)).to_string();
        let address = addresses[path][0].as_str().unwrap_or(&usual);
        let annotations = if namespace == "naked" {
            json!({})
        } else {
            json!({ "ambient.istio.io/redirection": "enabled" })
        };
        objects.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace, "labels": { "app": name }, "annotations": annotations },
            "spec": { "serviceAccountName": name, "containers": [{ "name": "app" }] },
            "status": {
                "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }));
    }
    objects
}
