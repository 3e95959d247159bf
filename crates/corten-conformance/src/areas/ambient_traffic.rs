//! Area `istio-ambient-traffic`: who may reach whom, from the resources to the verdict of the node proxy's own tables, without a packet.
//!
//! Each request gets a mesh of its own: the environment of the area, its policies with the placeholders filled in, everything that the control
//! plane derives from them as it goes over the wire, and two decisions: where the client's node sends the call, and what the server's says to it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use corten_model::Settings as MeshSettings;
use corten_traffic::{Authority, Connect, Outbound, Peer, Protocol, Settings, Tables};
use serde_json::{Value, json};

use super::ambient;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

const NAMESPACE: &str = "echo";
/// Each destination with its place in the addresses.
const WORKLOADS: [(&str, u8); 5] = [
    ("captured", 1),
    ("uncaptured", 2),
    ("sidecar", 3),
    ("service-waypoint", 4),
    ("workload-waypoint", 5),
];
/// Service ports of the environment, and where they lead.
const PORTS: [(&str, u16, u16); 2] = [("http", 80, 18080), ("tcp", 9090, 19090)];

/// Runs the requests of all tables, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        for (row, case) in data::rows(&table) {
            for (at, request) in case["requests"].as_array().into_iter().flatten().enumerate() {
                let (from, to) = (text(&request["from"]), text(&request["to"]));
                let name = request["name"]
                    .as_str()
                    .map(|name| format!(" {name}"))
                    .unwrap_or_default();
                cases.push(Case {
                    area: area.name.clone(),
                    case: format!("{relative}: {row}: {}{name} {from} to {to}", at + 1),
                    outcome: judge(text(&case["config"]), request)?,
                });
            }
        }
    }
    Ok(cases)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn judge(config: &str, request: &Value) -> Result<Outcome> {
    let (from, to) = (text(&request["from"]), text(&request["to"]));
    if let Some(feature) = needs(from, to) {
        return Ok(Outcome::Skipped(feature.to_owned()));
    }
    let config = config
        .replace("{FROM}", from)
        .replace("{TO}", to)
        .replace("{WAYPOINT}", "waypoint");
    let tables = tables(&config)?;
    let expected = request["allow"]
        .as_bool()
        .context("a request says whether it is allowed")?;
    for scheme in request["schemes"].as_array().into_iter().flatten() {
        let (allowed, why) = call(&tables, from, to, text(scheme))?;
        if allowed != expected {
            let verdict = if allowed { "allowed" } else { "refused" };
            return Ok(Outcome::Failed(format!("{} is {verdict}: {why}", text(scheme))));
        }
    }
    Ok(Outcome::Passed)
}

/// The feature that a request needs beyond the node proxy. A client outside the mesh goes past waypoints.
fn needs(from: &str, to: &str) -> Option<&'static str> {
    match (from, to) {
        ("ingress-gateway", _) => Some("ingress gateway"),
        ("sidecar", _) | (_, "sidecar") => Some("sidecar"),
        ("captured", "service-waypoint" | "workload-waypoint") => Some("waypoint"),
        _ => None,
    }
}

/// What the environment and the policies become at a node proxy.
fn tables(config: &str) -> Result<Arc<Tables>> {
    let mut objects = environment();
    let policies: Vec<Value> = serde_saphyr::from_multiple(config).context("parsing the policies")?;
    objects.extend(policies.into_iter().filter(|policy| !policy.is_null()));
    ambient::node_tables(&ambient::mesh(MeshSettings::default(), &objects).snapshot())
}

/// Namespaces, pods and services of the area's description.
fn environment() -> Vec<Value> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}),
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"istio.io/dataplane-mode": "ambient"}},
        }),
    ];
    for (name, place) in WORKLOADS {
        // What the node agent says once a pod's traffic is redirected.
        let captured = !matches!(name, "uncaptured" | "sidecar");
        let annotations = if captured {
            json!({"ambient.istio.io/redirection": "enabled"})
        } else {
            json!({})
        };
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}, "annotations": annotations},
            "spec": {"serviceAccountName": name, "nodeName": "node", "containers": [{"name": "app"}]},
            "status": {
                "phase": "Running", "podIP": format!("10.0.0.{place}"), "podIPs": [{"ip": format!("10.0.0.{place}")}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }));
        let ports = PORTS.map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target}));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "selector": {"app": name}, "ports": ports,
                "clusterIP": format!("10.1.0.{place}"), "clusterIPs": [format!("10.1.0.{place}")],
            },
        }));
    }
    objects
}

/// Whether a call gets through, and why or why not.
fn call(tables: &Tables, from: &str, to: &str, scheme: &str) -> Result<(bool, String)> {
    let workload = |name: &str| {
        tables
            .local(NAMESPACE, name, name)
            .with_context(|| format!("no workload {name}"))
    };
    let (source, server) = (workload(from)?, workload(to)?);
    let (client, address) = (source.addresses[0], server.addresses[0]);
    let port = PORTS
        .iter()
        .find(|(name, ..)| *name == scheme)
        .with_context(|| format!("no port for {scheme}"))?;
    let service = tables
        .service(NAMESPACE, &format!("{to}.{NAMESPACE}.svc.cluster.local"))
        .context("no service")?;
    let vip = service.addresses.first().context("the service has no address")?.1;
    let settings = Settings::default();

    // A client outside the mesh is taken to an endpoint by the node's own load balancing.
    let mut destination = SocketAddr::new(address, port.2);
    let mut identity = None;
    if source.is_hbone() {
        let call = Outbound {
            source,
            client,
            destination: SocketAddr::new(vip, port.1),
            random: 0,
        };
        let upstream = tables.outbound(&settings, &call)?;
        match (upstream.protocol, &upstream.authority, &upstream.connect) {
            (Protocol::Hbone, Some(authority @ Authority::Address(_)), Connect::Address(hop)) => {
                if !upstream.expected.contains(&server.identity) {
                    return Ok((false, "the client's node expects another identity".to_owned()));
                }
                let target = tables.inbound(&settings, server, *hop, &authority.text(hop.ip()))?;
                destination = target.destination;
                identity = Some(&*source.identity);
            }
            (Protocol::Tcp, _, Connect::Address(hop)) => destination = *hop,
            other => bail!("{other:?} is no hop of this mesh"),
        }
    }
    if destination != SocketAddr::new(address, port.2) {
        bail!("{destination} is not the port of {to}");
    }
    if !server.is_hbone() {
        return Ok((true, "no proxy stands before the server".to_owned()));
    }
    let verdict = tables.authorize(
        server,
        &Peer {
            source: client,
            identity,
            destination,
        },
    );
    Ok((verdict.allowed, verdict.reason.to_string()))
}
