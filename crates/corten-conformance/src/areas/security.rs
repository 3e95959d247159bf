//! Area `istio-security-policies`: whether a server's node proxy lets a client in, and whether its sidecar does.
//!
//! Where a policy asks something of requests, a node proxy can only judge ports that carry none. How clients are made to send
//! plain text is a matter of sidecars: for a node proxy such a client simply has no identity.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use corten_model::Settings;
use corten_traffic::{Peer, Tables};
use serde_json::{Value, json};

use super::{
    ambient,
    sidecars::{self, Mesh},
};
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
/// Who is called where a row names nobody.
const SERVER: &str = "ns1/b";
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
    let keys = std::fs::read_to_string(area.dir.join("jwks.json")).context("reading jwks.json")?;
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
                push(String::new(), Outcome::Skipped("it has no requests".to_owned()));
                continue;
            };
            for (at, request) in requests.iter().enumerate() {
                let name = format!(": {} {}", at + 1, text(&request["from"]));
                push(name, judge(case, request, &keys)?);
            }
        }
    }
    Ok(cases)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn judge(case: &Value, request: &Value, keys: &str) -> Result<Outcome> {
    let party = |name: &str| match name {
        "mesh" => None,
        "naked" => Some(sidecars::OUTSIDE.to_owned()),
        "ingress-gateway" => Some(sidecars::GATEWAY.to_owned()),
        other => Some(other.to_owned()),
    };
    let from = party(request["from"].as_str().unwrap_or("mesh")).unwrap_or_else(|| "ns1/a".to_owned());
    let to = request["to"].as_str().or_else(|| case["to"].as_str());
    let to = party(to.unwrap_or("mesh")).unwrap_or_else(|| SERVER.to_owned());
    if from == to {
        // Which is why rows may expect anything of it.
        return Ok(Outcome::Skipped(
            "a workload that calls itself, which the tests of origin leave out".to_owned(),
        ));
    }
    let mut config: Vec<Value> =
        serde_saphyr::from_multiple(text(&case["config"])).context("parsing the configuration")?;
    config.iter_mut().for_each(|object| concern(object, &to));
    let addresses = &case["workloadAddresses"];
    let address = |path: &str| address(addresses, path);
    let mesh = Mesh::new(&config, &case["meshConfig"], keys, &address)?;
    let Some(expected) = request["allow"].as_bool().or_else(|| request["success"].as_bool()) else {
        let port = request["port"].as_str().unwrap_or("http");
        let hop = mesh.call(&from, &to, port, &sidecars::request(request, &to, port))?.hop;
        let Some(wanted) = request["upstreamPath"].as_str() else {
            return Ok(sidecars::judge_status(&hop, request));
        };
        let sent = hop
            .destinations
            .first()
            .and_then(|destination| destination.request.as_ref());
        let path = sent.map_or("none", |request| request.path.as_str());
        return Ok(if path == wanted {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("the server sees {path}, expected {wanted}: {:?}", hop.outcome))
        });
    };
    let verdict = |allowed: bool| if allowed { "let in" } else { "refused" };
    for port in request["ports"].as_array().into_iter().flatten().map(text) {
        let arrived = mesh.call(&from, &to, port, &sidecars::request(request, &to, port))?;
        let refusal = arrived.refusal();
        if refusal.is_none() != expected {
            let why = format!(
                "{from} is {} on {port} of {to} by sidecars: {}",
                verdict(refusal.is_none()),
                refusal.unwrap_or_default()
            );
            return Ok(Outcome::Failed(why));
        }
        if let Some(mutual) = request["mtls"].as_bool().filter(|_| expected)
            && mutual != arrived.mutual
        {
            return Ok(Outcome::Failed(format!("mutual TLS on {port}: {}", arrived.mutual)));
        }
    }
    // Node proxies have nobody to judge where the client is a gateway, or the server has no proxy.
    if from == sidecars::GATEWAY || to != SERVER {
        return Ok(Outcome::Passed);
    }
    match judge_node(case, request, &from, &config)? {
        Some((name, allowed)) if allowed != expected => Ok(Outcome::Failed(format!(
            "{from} is {} on {name} by node proxies",
            verdict(allowed)
        ))),
        _ => Ok(Outcome::Passed),
    }
}

/// What concerns the usual server by its name is applied for each server that is called.
fn concern(object: &mut Value, server: &str) {
    let (namespace, name) = server.split_once('/').unwrap_or_default();
    let (usual_namespace, usual_name) = SERVER.split_once('/').unwrap_or_default();
    let host = format!("{usual_name}.{usual_namespace}.svc.cluster.local");
    let is_of_usual =
        object["spec"]["host"] == json!(host) || object["spec"]["selector"]["matchLabels"]["app"] == json!(usual_name);
    if [SERVER, sidecars::MIGRATION].contains(&server) || !is_of_usual {
        return;
    }
    object["metadata"]["namespace"] = json!(namespace);
    if object["spec"]["host"].is_string() {
        object["spec"]["host"] = json!(format!("{name}.{namespace}.svc.cluster.local"));
    } else {
        object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    }
}

/// What the server's node proxy says on the ports that it can judge: the first that is not as expected, or the last.
fn judge_node(case: &Value, request: &Value, from: &str, config: &[Value]) -> Result<Option<(&'static str, bool)>> {
    let expected = request["allow"].as_bool().or_else(|| request["success"].as_bool());
    let mut objects = environment(&case["workloadAddresses"]);
    objects.extend(config.iter().filter(|object| !object.is_null()).cloned());
    let mesh = ambient::mesh(Settings::default(), &objects);
    let sees_all = mesh.snapshot().diagnostics().next().is_none();
    let tables = ambient::node_tables(&mesh.snapshot())?;
    let named = |port: &Value| PORTS.iter().find(|(name, ..)| *name == text(port));
    let ports = request["ports"].as_array().into_iter().flatten().filter_map(named);
    let mut judged = None;
    for (name, port, _) in ports.filter(|(_, _, carries_requests)| sees_all || !carries_requests) {
        let allowed = is_let_in(&tables, from, *port, sends_plain_text(config, from))?;
        judged = Some((*name, allowed));
        if Some(allowed) != expected {
            break;
        }
    }
    Ok(judged)
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
    for (path, _) in WORKLOADS {
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        let address = address(addresses, path).to_string();
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

/// The address of a workload: the row's, or the usual one.
fn address(addresses: &Value, path: &str) -> IpAddr {
    let usual = WORKLOADS
        .iter()
        .find(|(name, _)| *name == path)
        .map_or(0, |(_, place)| *place);
    let written = addresses[path][0].as_str().and_then(|address| address.parse().ok());
    written.unwrap_or_else(|| IpAddr::V4(Ipv4Addr::new(10, 0, 0, usual)))
}
