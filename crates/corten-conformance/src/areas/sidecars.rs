//! The rows of area `istio-security-policies` about requests: each is followed through the configuration of its client's
//! sidecar, or of the gateway, and of its server's, without sockets.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use corten_api::{decode::document, istio::mesh_config::MeshConfig, validate::mesh_config::over_defaults};
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
/// Where the gateway takes what comes to its port for requests.
const GATEWAY_PORT: u16 = 8080;
/// The services and their addresses.
const SERVICES: [(&str, &str); 3] = [
    (SERVER, "10.255.0.1"),
    (OUTSIDE, "10.255.0.2"),
    (MIGRATION, "10.255.0.3"),
];
const SERVER: &str = "ns1/b";
/// A workload without a sidecar, which calls and is called.
pub(crate) const OUTSIDE: &str = "naked/naked";
/// A service of two workloads, of which one has a sidecar.
pub(crate) const MIGRATION: &str = "ns1/migration";
/// The gateway; calls by way of it begin outside.
pub(crate) const GATEWAY: &str = "istio-system/istio-ingressgateway";
/// Where calls by way of the gateway begin: a proxy that the gateway trusts.
const BEYOND: &str = "10.3.0.1";
/// Long after the tokens of the data were made, and long before those that are good end.
const NOW: u64 = 1_750_000_000;

/// Where the parties are.
pub(crate) type Addresses<'a> = &'a dyn Fn(&str) -> IpAddr;

/// A pod: its service account's path, its address, its labels, and whether it has a proxy.
struct Party {
    path: &'static str,
    address: IpAddr,
    labels: Value,
    has_proxy: bool,
}

/// How a call came to its end.
pub(crate) struct Arrived {
    /// The last proxy on its way.
    pub(crate) hop: Hop,
    /// Why whatever stands behind that proxy does not understand the call; none: it does.
    pub(crate) garbled: Option<String>,
    /// Whether the last connection that proxies made was in TLS of their own, on both sides.
    pub(crate) mutual: bool,
}

/// A mesh of sidecars in which a row's calls are made.
pub(crate) struct Mesh {
    snapshot: Snapshot,
    parties: Vec<Party>,
}

impl Mesh {
    /// With the area's workloads and a row's configuration; `keys` are what every address of keys answers.
    pub(crate) fn new(config: &[Value], mesh: &Value, keys: &str, address: Addresses<'_>) -> Result<Mesh> {
        let mut mesh = mesh.clone();
        // As the area describes its gateway.
        mesh["defaultConfig"]["gatewayTopology"]["numTrustedProxies"] = json!(1);
        let (root, _) = document("mesh", &mesh.to_string());
        let settings = root.map_or_else(MeshConfig::default, |root| over_defaults(&root).0);
        let mut world = World::new(Settings::default(), settings);
        let parties = parties(address)?;
        let mut objects: Vec<Value> = parties.iter().flat_map(Party::objects).collect();
        objects.extend(SERVICES.map(|(path, ip)| service(path, ip)));
        objects.push(gateway_service());
        objects.extend(config.iter().filter(|object| !object.is_null()).cloned());
        world.put(&objects);
        world.set_keys(answered(config, keys));
        Ok(Mesh {
            snapshot: world.snapshot(),
            parties,
        })
    }

    fn party(&self, path: &str) -> Result<&Party> {
        let found = self.parties.iter().find(|party| party.path == path);
        found.with_context(|| format!("nobody is called {path}"))
    }

    /// What a party's proxy is sent.
    fn sent(&self, party: &Party) -> Result<Config> {
        let (namespace, name) = party.path.split_once('/').context("namespace/name")?;
        let kind = if party.path == GATEWAY { "router" } else { "sidecar" };
        let id = format!(
            "{kind}~{}~{name}.{namespace}~{namespace}.svc.cluster.local",
            party.address
        );
        let metadata = json!({ "NAMESPACE": namespace, "LABELS": party.labels });
        let proxy = Proxy::of_node(&id, &metadata)?;
        let made = crate::accepted::generate(&self.snapshot, &proxy);
        let endpoints = made.endpoints.into_values();
        Ok(Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters,
            endpoints,
        ))
    }

    /// A call of a client, or by way of the gateway, to a port of the server.
    pub(crate) fn call(&self, from: &str, to: &str, port: &str, request: &Request) -> Result<Arrived> {
        let (_, number, target) = *PORTS.iter().find(|(name, ..)| *name == port).context("a port")?;
        let client = self.party(from)?;
        let (_, service) = SERVICES.iter().find(|(path, _)| *path == to).context("a server")?;
        let (source, at) = match from {
            GATEWAY => (BEYOND.parse()?, SocketAddr::new(client.address, GATEWAY_PORT)),
            // Who has no proxy comes to the server's as its node leads it.
            OUTSIDE => (client.address, SocketAddr::new(self.party(to)?.address, target)),
            _ => (client.address, SocketAddr::new(service.parse()?, number)),
        };
        let mut call = Call {
            source: SocketAddr::new(source, 40_000),
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
        if !client.has_proxy {
            return self.arrive(call.inbound());
        }
        if from != GATEWAY {
            call = call.outbound();
        }
        let trace = follow(&self.sent(client)?, &call);
        let hop = trace.ends().next().context("the call goes nowhere")?.clone();
        if hop.outcome != End::Forwarded {
            return Ok(Arrived::at(hop));
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
        let arriving = self.past_services(arriving);
        let ip = arriving.destination.ip();
        let server = self.parties.iter().find(|party| party.address == ip);
        if server.is_some_and(|server| server.has_proxy) {
            return self.arrive(arriving);
        }
        // Only proxies understand what proxies say to each other in TLS.
        let mode = &endpoint.transport.mode;
        let garbled =
            (mode != "plain").then(|| format!("{} is spoken to in {mode}, and has no proxy", endpoint.address));
        Ok(Arrived {
            garbled,
            ..Arrived::at(hop)
        })
    }

    /// What goes to a service's address is taken to a pod behind it by the client's node.
    fn past_services(&self, call: Call) -> Call {
        let at = call.destination;
        let service = SERVICES.iter().find(|(_, ip)| *ip == at.ip().to_string());
        let port = PORTS.iter().find(|(_, port, _)| *port == at.port());
        let pod = service.and_then(|(path, _)| self.party(path).ok());
        match (pod, port) {
            (Some(pod), Some((.., target))) => Call {
                destination: SocketAddr::new(pod.address, *target),
                ..call
            },
            _ => call,
        }
    }

    fn arrive(&self, call: Call) -> Result<Arrived> {
        let ip = call.destination.ip();
        let server = self
            .parties
            .iter()
            .find(|party| party.address == ip)
            .context("nobody is there")?;
        let trace = follow(&self.sent(server)?, &call);
        let hop = trace.ends().next().context("the call goes nowhere")?.clone();
        let mutual = hop.tls.as_ref().is_some_and(|tls| !tls.peer.is_empty());
        Ok(Arrived {
            mutual,
            ..Arrived::at(hop)
        })
    }
}

impl Arrived {
    fn at(hop: Hop) -> Arrived {
        Arrived {
            hop,
            garbled: None,
            mutual: false,
        }
    }

    /// Why the call comes to nothing; none: it is answered.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused = self.hop.refusal().map(|_| format!("{:?}", self.hop.outcome));
        refused.or_else(|| self.garbled.clone())
    }
}

/// The pods of the area's description.
fn parties(address: Addresses<'_>) -> Result<Vec<Party>> {
    let party = |path: &'static str| {
        let (_, name) = path.split_once('/').unwrap_or_default();
        Party {
            path,
            address: address(path),
            labels: json!({ "app": name }),
            has_proxy: path != OUTSIDE,
        }
    };
    let mut parties: Vec<Party> = ["ns1/a", "ns2/a", SERVER, OUTSIDE].map(party).into();
    for (version, address, has_proxy) in [("vistio", "10.0.1.1", true), ("vlegacy", "10.0.1.2", false)] {
        parties.push(Party {
            path: MIGRATION,
            address: address.parse()?,
            labels: json!({ "app": "migration", "version": version }),
            has_proxy,
        });
    }
    parties.push(Party {
        path: GATEWAY,
        address: "10.0.1.3".parse()?,
        labels: json!({ "app": "istio-ingressgateway", "istio": "ingressgateway" }),
        has_proxy: true,
    });
    Ok(parties)
}

impl Party {
    /// Its namespace and its pod.
    fn objects(&self) -> [Value; 2] {
        let (namespace, name) = self.path.split_once('/').unwrap_or_default();
        let ip = self.address.to_string();
        let mut labels = self.labels.clone();
        if self.has_proxy {
            labels["security.istio.io/tlsMode"] = json!("istio");
        }
        let pod = labels["version"]
            .as_str()
            .map_or_else(|| name.to_owned(), |version| format!("{name}-{version}"));
        let metadata =
            json!({ "name": pod, "namespace": namespace, "uid": format!("{namespace}/{pod}"), "labels": labels });
        [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": { "serviceAccountName": name, "containers": [{ "name": "app" }] },
                "status": {
                    "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            }),
        ]
    }
}

fn service(path: &str, ip: &str) -> Value {
    let (namespace, name) = path.split_once('/').unwrap_or_default();
    let ports = PORTS
        .map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" }));
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": { "clusterIP": ip, "clusterIPs": [ip], "selector": { "app": name }, "ports": ports },
    })
}

fn gateway_service() -> Value {
    let (namespace, name) = GATEWAY.split_once('/').unwrap_or_default();
    let ports = json!([{ "name": "http", "port": 80, "targetPort": GATEWAY_PORT }]);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "clusterIP": "10.255.0.9", "clusterIPs": ["10.255.0.9"], "selector": { "istio": "ingressgateway" }, "ports": ports,
        },
    })
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

/// The request that a row describes, to a port of a server.
pub(crate) fn request(row: &Value, to: &str, port: &str) -> Request {
    let text = |key: &str, otherwise: &str| row[key].as_str().unwrap_or(otherwise).to_owned();
    let (namespace, name) = to.split_once('/').unwrap_or_default();
    // What follows a # stays with the client.
    let path = text("path", "/").split('#').next().unwrap_or_default().to_owned();
    let mut request = Request {
        method: text("method", "GET"),
        host: text("host", &format!("{name}.{namespace}.svc.cluster.local")),
        path,
        ..Request::default()
    };
    if port == "grpc" {
        request.method = "POST".to_owned();
        request.path = "/proto.EchoTestService/Echo".to_owned();
        request = request.header("content-type", "application/grpc");
    }
    if let Some(before) = row["xForwardedFor"].as_str() {
        request = request.header("x-forwarded-for", before);
    }
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if name.eq_ignore_ascii_case("host") {
            value.clone_into(&mut request.host);
        } else {
            request = request.header(name, value);
        }
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
