//! The rows of area `istio-security-policies` about requests: each is followed through the configuration of its client's
//! sidecar and of its server's, without sockets.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use corten_api::{decode::document, istio::mesh_config::MeshConfig, validate::mesh_config::over_defaults};
use corten_envoy_gen::generate;
use corten_explain::{Call, Certificate, Config, Hop, Outcome as End, Protocol, Request, Tls, follow, onward};
use corten_model::Settings;
use corten_routing::{KeySets, Proxy, Snapshot, World};
use serde_json::{Value, json};

use crate::outcome::Outcome;

/// The ports of the server: name, the service's, the workload's.
const PORTS: [(&str, u16, u16); 5] = [
    ("http", 80, 18080),
    ("http2", 85, 18085),
    ("grpc", 7070, 17070),
    ("tcp", 9090, 19090),
    ("https", 443, 18443),
];
const SERVICE: &str = "10.255.0.1";
const SERVER: &str = "ns1/b";
/// Long after the tokens of the data were made, and long before those that are good end.
const NOW: u64 = 1_750_000_000;

/// Where the parties are.
pub(crate) type Addresses<'a> = &'a dyn Fn(&str) -> IpAddr;

/// A mesh of sidecars in which a row's calls are made.
pub(crate) struct Mesh<'a> {
    snapshot: Snapshot,
    address: Addresses<'a>,
}

impl<'a> Mesh<'a> {
    /// With the area's workloads and a row's configuration; `keys` are what every address of keys answers.
    pub(crate) fn new(config: &[Value], mesh: &Value, keys: &str, address: Addresses<'a>) -> Result<Mesh<'a>> {
        let (root, _) = document("mesh", &mesh.to_string());
        let settings = root.map_or_else(MeshConfig::default, |root| over_defaults(&root).0);
        let mut world = World::new(Settings::default(), settings);
        let mut objects = Vec::new();
        for path in ["ns1/a", "ns2/a", SERVER, "naked/naked"] {
            let (namespace, name) = path.split_once('/').unwrap_or_default();
            let mut labels = json!({ "app": name });
            if namespace != "naked" {
                labels["security.istio.io/tlsMode"] = json!("istio");
            }
            let ip = address(path).to_string();
            objects.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace, "uid": path, "labels": labels },
                "spec": { "serviceAccountName": name, "containers": [{ "name": "app" }] },
                "status": {
                    "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            }));
        }
        let ports = PORTS
            .map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" }));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "b", "namespace": "ns1" },
            "spec": { "clusterIP": SERVICE, "clusterIPs": [SERVICE], "selector": { "app": "b" }, "ports": ports },
        }));
        objects.extend(config.iter().filter(|object| !object.is_null()).cloned());
        world.put(&objects);
        world.set_keys(answered(config, keys));
        Ok(Mesh {
            snapshot: world.snapshot(),
            address,
        })
    }

    fn sidecar(&self, path: &str) -> Result<Config> {
        let (namespace, name) = path.split_once('/').context("namespace/name")?;
        let id = format!(
            "sidecar~{}~{name}.{namespace}~{namespace}.svc.cluster.local",
            (self.address)(path)
        );
        let metadata = json!({ "NAMESPACE": namespace, "LABELS": { "app": name } });
        let proxy = Proxy::of_node(&id, &metadata)?;
        let made = generate(&self.snapshot, &proxy);
        let endpoints = made.endpoints.into_values();
        Ok(Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters,
            endpoints,
        ))
    }

    /// The last hop of a call of a client to a port of the server.
    pub(crate) fn call(&self, from: &str, port: &str, request: &Request) -> Result<Hop> {
        let (_, number, target) = *PORTS.iter().find(|(name, ..)| *name == port).context("a port")?;
        let in_mesh = from != "naked/naked";
        let at = if in_mesh {
            SocketAddr::new(SERVICE.parse()?, number)
        } else {
            SocketAddr::new((self.address)(SERVER), target)
        };
        let mut call = Call {
            source: SocketAddr::new((self.address)(from), 40_000),
            now: Some(NOW),
            ..Call::new(at)
        };
        if port != "tcp" {
            call = call.http(request.clone());
        }
        if matches!(port, "http2" | "grpc") {
            call.protocol = Protocol::Http2;
        }
        if port == "https" {
            let names = ["h2".to_owned(), "http/1.1".to_owned()];
            call = call.tls(Tls {
                sni: request.host.clone(),
                alpn: names.into(),
                ..Tls::default()
            });
        }
        if !in_mesh {
            return self.arrive(call.inbound());
        }
        let trace = follow(&self.sidecar(from)?, &call.outbound());
        let hop = trace.ends().next().context("the call goes nowhere")?.clone();
        if hop.outcome != End::Forwarded {
            return Ok(hop);
        }
        let (namespace, account) = from.split_once('/').unwrap_or_default();
        let certificate = Certificate {
            uris: vec![format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")],
            dns: Vec::new(),
        };
        let destination = hop.destinations.first().context("no destination")?;
        let endpoint = destination
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.endpoints.first());
        let endpoint = endpoint.with_context(|| format!("{} has no endpoint", destination.cluster))?;
        let arriving = onward(&hop, destination, endpoint, Some(certificate)).context("no address")?;
        self.arrive(arriving)
    }

    fn arrive(&self, call: Call) -> Result<Hop> {
        let trace = follow(&self.sidecar(SERVER)?, &call);
        Ok(trace.ends().next().context("the call goes nowhere")?.clone())
    }
}

/// The keys of all issuers whose address is the data's server of keys.
fn answered(config: &[Value], keys: &str) -> KeySets {
    let rules = config
        .iter()
        .flat_map(|object| object["spec"]["jwtRules"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_server = rules.filter(|rule| text(&rule["jwksUri"]).ends_with(":8000/jwks"));
    of_server
        .map(|rule| ((text(&rule["issuer"]), text(&rule["jwksUri"])), keys.into()))
        .collect()
}

/// The request that a row describes, to a port.
pub(crate) fn request(row: &Value, port: &str) -> Request {
    let text = |key: &str, otherwise: &str| row[key].as_str().unwrap_or(otherwise).to_owned();
    // What follows a # stays with the client.
    let path = text("path", "/").split('#').next().unwrap_or_default().to_owned();
    let mut request = Request {
        method: text("method", "GET"),
        host: text("host", "b.ns1.svc.cluster.local"),
        path,
        ..Request::default()
    };
    if port == "grpc" {
        request.method = "POST".to_owned();
        request.path = "/proto.EchoTestService/Echo".to_owned();
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    request
}

/// Whether a hop lets the call on, as the row has it: `true`, or the status that it expects.
pub(crate) fn judge_status(hop: &Hop, row: &Value) -> Outcome {
    let status = match &hop.outcome {
        End::Forwarded => 200,
        End::Answered(answer) => answer.status,
        End::Refused { status, .. } => status.unwrap_or_default(),
    };
    // What the server sees, where the call comes to it.
    let request = hop.destinations.first().and_then(|to| to.request.as_ref());
    let sees = |name: &str| request.and_then(|request| request.get(name)).unwrap_or_default();
    for expected in row["expect"].as_array().into_iter().flatten() {
        let args = &expected["args"];
        let wanted = match expected["check"].as_str().unwrap_or_default() {
            "OK" => json!(200),
            "Status" => args[0].clone(),
            "RequestHeader" | "RequestHeaders" => {
                let single = json!({ (args[0].as_str().unwrap_or_default()): args[1] });
                let wanted = if args[0].is_object() { &args[0] } else { &single };
                for (name, value) in wanted.as_object().into_iter().flatten() {
                    if *value != json!(sees(name)) {
                        return Outcome::Failed(format!("header {name} is {:?}, expected {value}", sees(name)));
                    }
                }
                continue;
            }
            other => return Outcome::Skipped(format!("the check {other} is not known")),
        };
        if wanted != json!(status) {
            return Outcome::Failed(format!("status {status}, expected {wanted}: {:?}", hop.outcome));
        }
    }
    Outcome::Passed
}
