//! Area `istio-ambient-traffic`: who may reach whom, from the resources to the verdict of the node proxy's own tables, without a packet.
//!
//! Each request gets a mesh of its own: the environment of the area, its policies with the placeholders filled in, everything that the control
//! plane derives from them as it goes over the wire, and the decisions on the way: where the client's node, its sidecar or the gateway sends
//! the call, what a waypoint's Envoy does with it, and what the server's node or sidecar says to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use corten_api::istio::mesh_config::MeshConfig;
use corten_core::Identity;

use corten_explain::{Call, Certificate, Outcome as End, Request, follow, onward};
use corten_model::Settings as MeshSettings;
use corten_routing::{Snapshot, World};
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
/// The waypoint's gateway, service account, service and pod, and its place in the addresses.
const WAYPOINT: (&str, u8) = ("waypoint", 9);
/// The label that names a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// Long after the tokens of the data were made, and long before those that are good end.
const NOW: u64 = 1_750_000_000;
/// Service ports of the environment, and where they lead.
const PORTS: [(&str, u16, u16); 3] = [("http", 80, 18080), ("http-other", 85, 18085), ("tcp", 9090, 19090)];
/// The gateway's namespace, pod and service account, its place in the addresses, and where it takes requests.
const GATEWAY: (&str, &str, u8, u16) = ("istio-system", "istio-ingressgateway", 8, 8080);
/// The workload with a sidecar.
const SIDECAR: &str = "sidecar";

mod proxies;

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
    let config = config
        .replace("{FROM}", from)
        .replace("{TO}", to)
        .replace("{WAYPOINT}", "waypoint")
        .replace("{INGRESS_SA}", GATEWAY.1);
    let mesh = Ambient::new(&config)?;
    let expected = request["allow"]
        .as_bool()
        .context("a request says whether it is allowed")?;
    for scheme in request["schemes"].as_array().into_iter().flatten() {
        let end = mesh.call(from, to, text(scheme), request)?;
        if end.allowed != expected {
            let verdict = if end.allowed { "allowed" } else { "refused" };
            return Ok(Outcome::Failed(format!("{} is {verdict}: {}", text(scheme), end.why)));
        }
        let refused = u64::from(end.status.unwrap_or_default());
        if let Some(status) = request["status"].as_u64().filter(|_| !expected && refused != 0)
            && status != refused
        {
            return Ok(Outcome::Failed(format!(
                "{} is refused with {refused}, not {status}: {}",
                text(scheme),
                end.why
            )));
        }
    }
    Ok(Outcome::Passed)
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
    let (waypoint, place) = WAYPOINT;
    objects.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": waypoint, "namespace": NAMESPACE, "labels": {"istio.io/waypoint-for": "all"}},
        "spec": {
            "gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
        "status": {"addresses": [{"type": "Hostname", "value": format!("{waypoint}.{NAMESPACE}.svc.cluster.local")}]},
    }));
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": waypoint, "namespace": NAMESPACE, "labels": {"gateway.istio.io/managed": "istio.io-mesh-controller"}},
        "spec": {
            "selector": gateway_label(), "ports": [{"name": "mesh", "port": 15008, "targetPort": 15008}], "clusterIP": format!("10.1.0.{place}"),
        },
    }));
    objects.push(pod(waypoint, place, &gateway_label(), &json!({})));
    for (name, place) in WORKLOADS {
        // What the node agent says once a pod's traffic is redirected.
        let captured = !matches!(name, "uncaptured" | SIDECAR);
        let annotations = if captured {
            json!({"ambient.istio.io/redirection": "enabled"})
        } else {
            json!({})
        };
        let mut labels = json!({"app": name});
        if name == "workload-waypoint" {
            labels[USE_WAYPOINT] = json!(waypoint);
        }
        if name == SIDECAR {
            // What injection adds in a mesh where proxies know tunnels.
            labels["security.istio.io/tlsMode"] = json!("istio");
            labels["networking.istio.io/tunnel"] = json!("http");
        }
        objects.push(pod(name, place, &labels, &annotations));
        let ports = PORTS.map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target}));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "namespace": NAMESPACE,
                "labels": if name == "service-waypoint" { json!({USE_WAYPOINT: waypoint}) } else { json!({}) },
            },
            "spec": {
                "selector": {"app": name}, "ports": ports,
                "clusterIP": format!("10.1.0.{place}"), "clusterIPs": [format!("10.1.0.{place}")],
            },
        }));
    }
    let (namespace, name, place, _) = GATEWAY;
    let mut gateway = pod(name, place, &ingress_label(), &json!({}));
    gateway["metadata"]["namespace"] = json!(namespace);
    objects.push(gateway);
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": ingress_label(), "ports": [{"name": "http2", "port": 80, "targetPort": GATEWAY.3}],
            "clusterIP": format!("10.1.0.{place}"),
        },
    }));
    objects
}

/// The labels of the gateway's pod.
fn ingress_label() -> Value {
    json!({"istio": "ingressgateway"})
}

/// The labels of the waypoint's pod.
fn gateway_label() -> Value {
    json!({"gateway.networking.k8s.io/gateway-name": WAYPOINT.0})
}

fn pod(name: &str, place: u8, labels: &Value, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": annotations},
        "spec": {"serviceAccountName": name, "nodeName": "node", "containers": [{"name": "app"}]},
        "status": {
            "phase": "Running", "podIP": format!("10.0.0.{place}"), "podIPs": [{"ip": format!("10.0.0.{place}")}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// How a call ends.
struct Ended {
    allowed: bool,
    why: String,
    /// The status that a proxy answers with instead of the server.
    status: Option<u32>,
}

impl Ended {
    fn new(allowed: bool, why: impl Into<String>) -> Ended {
        Ended {
            allowed,
            why: why.into(),
            status: None,
        }
    }
}

/// The environment with a row's policies: what node proxies know of it, and what waypoints are made from.
struct Ambient {
    snapshot: Snapshot,
    tables: Arc<Tables>,
}

impl Ambient {
    fn new(config: &str) -> Result<Ambient> {
        let mut objects = environment();
        let policies: Vec<Value> = serde_saphyr::from_multiple(config).context("parsing the policies")?;
        objects.extend(policies.into_iter().filter(|policy| !policy.is_null()));
        let mut world = World::new(MeshSettings::default(), MeshConfig::default());
        world.put(&objects);
        let snapshot = world.snapshot();
        Ok(Ambient {
            tables: ambient::node_tables(&snapshot.model)?,
            snapshot,
        })
    }

    fn workload(&self, name: &str) -> Result<&Arc<corten_traffic::Workload>> {
        let found = self.tables.local(NAMESPACE, name, name);
        found.with_context(|| format!("no workload {name}"))
    }

    /// How a call ends.
    fn call(&self, from: &str, to: &str, scheme: &str, request: &Value) -> Result<Ended> {
        if from == "ingress-gateway" || from == SIDECAR {
            return self.by_proxy(from, to, scheme, request);
        }
        let (source, server) = (self.workload(from)?, self.workload(to)?);
        let (client, address) = (source.addresses[0], server.addresses[0]);
        let port = PORTS
            .iter()
            .find(|(name, ..)| *name == scheme)
            .with_context(|| format!("no port for {scheme}"))?;
        let service = self
            .tables
            .service(NAMESPACE, &format!("{to}.{NAMESPACE}.svc.cluster.local"))
            .context("no service")?;
        let vip = service.addresses.first().context("the service has no address")?.1;

        // A client outside the mesh is taken to an endpoint by the node's own load balancing.
        let mut destination = SocketAddr::new(address, port.2);
        if source.is_hbone() {
            let called = if to == "workload-waypoint" {
                destination
            } else {
                SocketAddr::new(vip, port.1)
            };
            let call = Outbound {
                source,
                client,
                destination: called,
                random: 0,
            };
            let upstream = self.tables.outbound(&Settings::default(), &call)?;
            match (upstream.protocol, &upstream.authority, &upstream.connect) {
                (Protocol::Hbone, Some(authority @ Authority::Address(_)), Connect::Address(hop)) => {
                    let waypoint = self.workload(WAYPOINT.0)?;
                    if hop.ip() == waypoint.addresses[0] {
                        if !upstream.expected.contains(&waypoint.identity) {
                            return Ok(Ended::new(
                                false,
                                "the client's node does not expect the waypoint's identity",
                            ));
                        }
                        let client = SocketAddr::new(client, 40_000);
                        return self.through_waypoint(client, &source.identity, *hop, called, scheme, request);
                    }
                    if !upstream.expected.contains(&server.identity) {
                        return Ok(Ended::new(false, "the client's node expects another identity"));
                    }
                    let authority = authority.text(hop.ip());
                    if to == SIDECAR {
                        let client = SocketAddr::new(client, 40_000);
                        let called = authority.parse().context("the authority is no address")?;
                        return self.at_sidecar(tunnelled(client, &source.identity, *hop, called, scheme, request));
                    }
                    return self.arrive(client, &source.identity, *hop, &authority);
                }
                (Protocol::Tcp, _, Connect::Address(hop)) => destination = *hop,
                other => bail!("{other:?} is no hop of this mesh"),
            }
        }
        if destination != SocketAddr::new(address, port.2) {
            bail!("{destination} is not the port of {to}");
        }
        if to == SIDECAR {
            let client = SocketAddr::new(client, 40_000);
            return self.at_sidecar(sent(client, destination, scheme, request).inbound());
        }
        Ok(self.judged(server, client, None, destination))
    }

    /// A tunnel's connection at the server's node.
    fn arrive(&self, source: IpAddr, identity: &Identity, hop: SocketAddr, authority: &str) -> Result<Ended> {
        let server = self.tables.workload_at("", hop.ip()).context("nobody is there")?;
        if !server.is_hbone() {
            bail!("{hop} takes no tunnels");
        }
        let target = self.tables.inbound(&Settings::default(), server, hop, authority)?;
        Ok(self.judged(server, source, Some(identity), target.destination))
    }

    fn judged(
        &self,
        server: &corten_traffic::Workload,
        source: IpAddr,
        identity: Option<&Identity>,
        destination: SocketAddr,
    ) -> Ended {
        if !server.is_hbone() {
            return Ended::new(true, "no proxy stands before the server");
        }
        let verdict = self.tables.authorize(
            server,
            &Peer {
                source,
                identity,
                destination,
            },
        );
        Ended::new(verdict.allowed, verdict.reason.to_string())
    }

    /// A tunnel's connection at the waypoint, and from there on.
    fn through_waypoint(
        &self,
        client: SocketAddr,
        identity: &Identity,
        hop: SocketAddr,
        called: SocketAddr,
        scheme: &str,
        request: &Value,
    ) -> Result<Ended> {
        let id = format!(
            "waypoint~{}~{}.{NAMESPACE}~{NAMESPACE}.svc.cluster.local",
            hop.ip(),
            WAYPOINT.0
        );
        let config = self.made(&id, &json!({"NAMESPACE": NAMESPACE, "LABELS": gateway_label()}))?;
        let trace = follow(&config, &tunnelled(client, identity, hop, called, scheme, request));
        let end = trace.ends().next().context("the call goes nowhere")?;
        if let End::Refused { status, why, .. } = &end.outcome {
            return Ok(Ended {
                allowed: false,
                why: why.clone(),
                status: status.map(u32::from),
            });
        }
        let destination = end.destinations.first().context("no destination")?;
        let endpoints = destination.upstream.iter().flat_map(|upstream| &upstream.endpoints);
        let endpoint = endpoints.into_iter().next().context("no endpoint")?;
        let own = &self.workload(WAYPOINT.0)?.identity;
        let shown = Certificate {
            uris: vec![own.to_string()],
            dns: Vec::new(),
        };
        let next = onward(end, destination, endpoint, Some(shown)).context("no address")?;
        let authority = next.request.as_ref().filter(|request| request.method == "CONNECT");
        let authority = authority.context("what goes on is no tunnel")?;
        self.arrive(hop.ip(), own, next.destination, &authority.host)
    }
}

/// A call in the tunnel that its client's node opened.
fn tunnelled(
    client: SocketAddr,
    identity: &Identity,
    hop: SocketAddr,
    called: SocketAddr,
    scheme: &str,
    request: &Value,
) -> Call {
    sent(client, called, scheme, request).tunnelled(hop, &called.to_string(), identity.to_string())
}

/// A call as its client makes it.
fn sent(client: SocketAddr, called: SocketAddr, scheme: &str, request: &Value) -> Call {
    let call = Call {
        source: client,
        now: Some(NOW),
        ..Call::new(called)
    };
    if scheme == "http" {
        let method = request["method"].as_str().unwrap_or("GET").to_owned();
        let mut sent = Request {
            method,
            host: called.to_string(),
            path: request["path"].as_str().unwrap_or("/").to_owned(),
            headers: Vec::new(),
        };
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            sent = sent.header(name, text(value));
        }
        return call.http(sent);
    }
    call
}
