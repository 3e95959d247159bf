//! Area `istio-traffic-features`: calls between echo services, and from an ingress gateway to them, followed through what all proxies
//! on the way are sent, without sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use corten_api::istio::mesh_config::MeshConfig;
use corten_envoy::envoy::config::cluster::v3::Cluster;
use corten_envoy::message_to_json;
use corten_explain::{
    Call, Certificate, Config, Destination, EndpointShare, Hop, Outcome as End, Protocol, Request, Tls, follow, onward,
};
use corten_model::Settings;
use corten_routing::{Proxy, Snapshot, World};
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

const SYSTEM: &str = "istio-system";
const GATEWAY: &str = "istio-ingressgateway";
/// The gateway's ports: called, and listened on.
const GATEWAY_PORTS: [(&str, u16, u16); 2] = [("http", 80, 8080), ("https", 443, 8443)];
/// Where the data names a constant of its own tests instead of the service.
const PLACEHOLDER: &str = "to.Config().Service";
/// As many redirections as a client follows.
const REDIRECTS: usize = 10;

/// Runs every row, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        for (name, row) in data::rows(&table) {
            let outcome = match judge(&table, row) {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            cases.push(Case {
                area: area.name.clone(),
                case: format!("{relative}: {name}"),
                outcome,
            });
        }
    }
    Ok(cases)
}

fn judge(table: &Value, row: &Value) -> Result<Outcome> {
    let from = text(&row["from"]);
    let client = match from.strip_prefix("sidecar or waypoint captured client ") {
        Some(name) => Some(name),
        None if from == "ingress gateway" => None,
        None => return Ok(Outcome::Skipped(format!("calls from {from:?} are not followed"))),
    };
    if let Some(value) = unset(row) {
        let reason =
            format!("the row expects the header value {value:?}, and neither its configuration nor its call has it");
        return Ok(Outcome::Skipped(reason));
    }
    let mesh = Mesh::new(table, row)?;
    for call in row["calls"].as_array().into_iter().flatten() {
        let arrivals = mesh.call(client, text(&row["to"]), call)?;
        anyhow::ensure!(!arrivals.is_empty(), "{}: the call ends nowhere", text(&call["name"]));
        for expected in call["expect"].as_array().into_iter().flatten() {
            if let Some(problem) = check(&arrivals, expected)? {
                return Ok(Outcome::Failed(format!("{}: {problem}", text(&call["name"]))));
            }
        }
    }
    Ok(Outcome::Passed)
}

/// A header's value that a row expects and that nothing in it could set: some rows have lost parts of their configuration.
fn unset(row: &Value) -> Option<String> {
    let calls = row["calls"].as_array().into_iter().flatten();
    let expected = calls.flat_map(|call| call["expect"].as_array().into_iter().flatten());
    let wanted = expected.filter(|expected| expected["check"] == "RequestHeader");
    let mut values = wanted
        .map(|expected| text(&expected["args"][1]))
        .filter(|value| !value.is_empty());
    let headers = || {
        row["calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| call["headers"].to_string())
    };
    let is_there =
        |value: &str| text(&row["config"]).contains(value) || headers().any(|headers| headers.contains(value));
    values.find(|value| !is_there(value)).map(str::to_owned)
}

/// Where a share of the calls comes to an end.
struct Arrival {
    share: f64,
    /// The service, where it arrives at one.
    backend: Option<String>,
    hop: Hop,
}

impl Arrival {
    fn status(&self) -> u16 {
        match &self.hop.outcome {
            End::Forwarded => 200,
            End::Answered(answer) => answer.status,
            End::Refused { status, .. } => status.unwrap_or_default(),
        }
    }
}

/// What is wrong, if anything is.
fn check(arrivals: &[Arrival], expected: &Value) -> Result<Option<String>> {
    let args = expected["args"].as_array().cloned().unwrap_or_default();
    let arg = |index: usize| args.get(index).cloned().unwrap_or_default();
    let kind = text(&expected["check"]);
    if kind == "Distribution" {
        return Ok(distribution(arrivals, &arg(0), &arg(1)));
    }
    for arrival in arrivals {
        let call = &arrival.hop.call;
        let request = call.request.as_ref();
        let (found, wanted) = match kind {
            "OK" => (json!(arrival.status()), json!(200)),
            "Status" => (json!(arrival.status()), arg(0)),
            // Nobody on the way looks into bytes: what the client wrote is what arrives.
            "Host" if !call.protocol.is_http() => (json!(arrival.status()), json!(200)),
            "Host" => (json!(request.map(|request| request.host.clone())), arg(0)),
            "URL" => (json!(request.map(|request| request.path.clone())), arg(0)),
            "Protocol" => {
                let found = match call.protocol {
                    Protocol::Http2 => "HTTP/2.0",
                    other => other.name(),
                };
                (json!(found), arg(0))
            }
            "RequestHeader" => {
                let value = request.and_then(|request| request.get(text(&arg(0))));
                (json!(value.unwrap_or_default()), arg(1))
            }
            "RequestHeaders" => {
                for (name, value) in arg(0).as_object().into_iter().flatten() {
                    let found = request.and_then(|request| request.get(name)).unwrap_or_default();
                    if *value != json!(found) {
                        return Ok(Some(format!("header {name} is {found:?}, not {value}")));
                    }
                }
                continue;
            }
            other => bail!("the check {other} is not known"),
        };
        let equal = found == wanted || wanted == json!(found.to_string());
        if !equal {
            return Ok(Some(format!(
                "{kind}: {found}, not {wanted}: {:?}",
                arrival.hop.outcome
            )));
        }
    }
    Ok(None)
}

fn distribution(arrivals: &[Arrival], wanted: &Value, options: &Value) -> Option<String> {
    let tolerance = options["tolerancePercent"].as_f64().unwrap_or(10.0) / 100.0;
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for arrival in arrivals {
        *shares
            .entry(arrival.backend.as_deref().unwrap_or_default())
            .or_default() += arrival.share;
    }
    let wanted = wanted.as_object()?;
    let fits =
        |name: &str, percent: f64| (shares.get(name).copied().unwrap_or_default() - percent / 100.0).abs() <= tolerance;
    let all = wanted
        .iter()
        .all(|(name, percent)| fits(name, percent.as_f64().unwrap_or_default()));
    let strangers = shares.keys().any(|name| !wanted.contains_key(*name));
    (!all || strangers).then(|| format!("shares are {shares:?}"))
}

/// The echo services with a sidecar each, and the gateway.
struct Mesh {
    snapshot: Snapshot,
    namespace: String,
    names: Vec<String>,
    ports: BTreeMap<String, u16>,
}

/// The port that a workload listens on.
fn target(port: u16) -> u16 {
    port.checked_add(if port < 1024 { 18000 } else { 10000 })
        .unwrap_or(port)
}

impl Mesh {
    fn new(table: &Value, row: &Value) -> Result<Mesh> {
        let services = &table["services"];
        let list = services["names"].as_array().into_iter().flatten();
        let mut mesh = Mesh {
            snapshot: World::new(Settings::default(), MeshConfig::default()).snapshot(),
            namespace: text(&services["namespace"]).to_owned(),
            names: list.map(|name| text(name).to_owned()).collect(),
            ports: BTreeMap::new(),
        };
        for (name, port) in services["ports"].as_object().into_iter().flatten() {
            let port = port.as_u64().and_then(|port| port.try_into().ok()).context("a port")?;
            mesh.ports.insert(name.clone(), port);
        }
        let settings =
            corten_api::validate::mesh_config::over_defaults(&corten_api::decode::Node::from_value(&json!({}))).0;
        let mut world = World::new(Settings::default(), settings);
        world.put(&mesh.objects());
        let written = row["config"]
            .as_str()
            .unwrap_or_default()
            .replace(PLACEHOLDER, text(&row["to"]));
        let (documents, problems) = corten_api::decode::documents("config", &written);
        if let Some(problem) = problems.first() {
            bail!("{problem}");
        }
        for document in documents {
            let mut object = document.to_value();
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = json!(mesh.namespace);
            }
            world.put([&object]);
        }
        mesh.snapshot = world.snapshot();
        Ok(mesh)
    }

    fn objects(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        for name in [&self.namespace, SYSTEM] {
            objects.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        }
        let mut put = |namespace: &str, name: &str, labels: Value, ports: Vec<Value>| {
            let (pod, service) = (self.pod(name).to_string(), self.service(name).to_string());
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace, "uid": name, "labels": labels },
                "spec": { "serviceAccountName": name, "containers": [{ "name": "app" }] },
                "status": {
                    "phase": "Running", "podIP": pod, "podIPs": [{ "ip": pod }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            }));
            objects.push(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
                "spec": { "clusterIP": service, "clusterIPs": [service], "selector": labels, "ports": ports },
            }));
        };
        for name in &self.names {
            let ports = self.ports.iter().map(
                |(name, port)| json!({ "name": name, "port": port, "targetPort": target(*port), "protocol": "TCP" }),
            );
            let labels = json!({ "app": name, "security.istio.io/tlsMode": "istio" });
            put(&self.namespace, name, labels, ports.collect());
        }
        let ports = GATEWAY_PORTS
            .map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" }));
        put(SYSTEM, GATEWAY, json!({ "istio": "ingressgateway" }), ports.into());
        objects
    }

    /// The place of a party among all, from 1.
    fn place(&self, name: &str) -> u8 {
        let found = self.names.iter().position(|known| known == name);
        found.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(100)
    }

    fn pod(&self, name: &str) -> IpAddr {
        Ipv4Addr::new(10, 2, 0, self.place(name)).into()
    }

    fn service(&self, name: &str) -> IpAddr {
        Ipv4Addr::new(10, 1, 0, self.place(name)).into()
    }

    /// What a party's proxy is sent.
    fn sent(&self, name: &str) -> Result<(Config, Vec<Cluster>)> {
        let (kind, namespace) = if name == GATEWAY {
            ("router", SYSTEM)
        } else {
            ("sidecar", &*self.namespace)
        };
        let labels = if name == GATEWAY {
            json!({ "istio": "ingressgateway" })
        } else {
            json!({ "app": name })
        };
        let id = format!(
            "{kind}~{}~{name}.{namespace}~{namespace}.svc.cluster.local",
            self.pod(name)
        );
        let metadata = json!({ "NAMESPACE": namespace, "LABELS": labels, "ISTIO_VERSION": "1.27.0" });
        let proxy = Proxy::of_node(&id, &metadata)?;
        let made = crate::accepted::generate(&self.snapshot, &proxy);
        let config = Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters.clone(),
            made.endpoints.into_values(),
        );
        Ok((config, made.clusters))
    }

    /// Where a call of a client, or through the gateway, comes to an end.
    fn call(&self, client: Option<&str>, to: &str, row: &Value) -> Result<Vec<Arrival>> {
        let mut request = self.request(client, to, row);
        let port = self.port(row)?;
        for _ in 0..REDIRECTS {
            let call = self.first(client, to, port, row, request.clone())?;
            let arrivals = self.follow(client.unwrap_or(GATEWAY), &call, client.is_some())?;
            let followed = row["followRedirects"] == true;
            let location = arrivals.first().and_then(|arrival| match &arrival.hop.outcome {
                End::Answered(answer) => answer.location.clone().filter(|_| followed),
                _ => None,
            });
            let Some(location) = location else { return Ok(arrivals) };
            let rest = location.split_once("://").map_or(&*location, |(_, rest)| rest);
            match rest.find('/') {
                Some(0) => rest.clone_into(&mut request.path),
                Some(at) => {
                    request.host = rest[..at].to_owned();
                    request.path = rest[at..].to_owned();
                }
                None => {
                    request.host = rest.to_owned();
                    "/".clone_into(&mut request.path);
                }
            }
        }
        bail!("redirected more than {REDIRECTS} times")
    }

    fn port(&self, row: &Value) -> Result<u16> {
        let name = row["port"].as_str().unwrap_or("http");
        self.ports
            .get(name)
            .copied()
            .with_context(|| format!("there is no port {name:?}"))
    }

    fn request(&self, client: Option<&str>, to: &str, row: &Value) -> Request {
        let mut request = Request {
            method: row["method"].as_str().unwrap_or("GET").to_owned(),
            host: format!("{to}.{}.svc.cluster.local", self.namespace),
            path: row["path"].as_str().unwrap_or("/").to_owned(),
            ..Request::default()
        };
        if client.is_none() {
            request.host = self.service(GATEWAY).to_string();
        }
        if row["scheme"] == "grpc" {
            "POST".clone_into(&mut request.method);
            "/proto.EchoTestService/Echo".clone_into(&mut request.path);
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in row["headers"].as_object().into_iter().flatten() {
            if name.eq_ignore_ascii_case("host") {
                text(value).clone_into(&mut request.host);
            } else {
                request = request.header(name, text(value));
            }
        }
        request
    }

    fn first(&self, client: Option<&str>, to: &str, port: u16, row: &Value, request: Request) -> Result<Call> {
        let https = row["scheme"] == "https" || row["protocol"] == "HTTPS";
        let (address, source) = match client {
            Some(name) => (SocketAddr::new(self.service(to), port), self.pod(name)),
            None => {
                let wanted = if https { "https" } else { "http" };
                let found = GATEWAY_PORTS.iter().find(|(name, ..)| *name == wanted);
                let (_, _, target) = found.context("a port of the gateway")?;
                (
                    SocketAddr::new(self.pod(GATEWAY), *target),
                    Ipv4Addr::new(10, 3, 0, 1).into(),
                )
            }
        };
        let mut call = Call {
            source: SocketAddr::new(source, 40_000),
            ..Call::new(address)
        };
        if row["scheme"] != "tcp" {
            call = call.http(request.clone());
            if row["http2"] == true || row["scheme"] == "grpc" {
                call.protocol = Protocol::Http2;
            }
        }
        if https {
            call = call.tls(Tls {
                sni: request.host,
                alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
                ..Tls::default()
            });
        }
        Ok(if client.is_some() { call.outbound() } else { call })
    }

    /// The ends of a call that arrives at a party's proxy, on its way out or in.
    fn follow(&self, at: &str, call: &Call, captured: bool) -> Result<Vec<Arrival>> {
        let (config, clusters) = self.sent(at)?;
        let trace = follow(&config, call);
        let mut arrivals = Vec::new();
        for hop in trace.ends() {
            if hop.outcome != End::Forwarded {
                let hop = hop.clone();
                arrivals.push(Arrival {
                    share: 1.0,
                    backend: None,
                    hop,
                });
                continue;
            }
            for destination in &hop.destinations {
                let upstream = destination.upstream.as_ref();
                let endpoints = upstream
                    .map(|upstream| upstream.endpoints.as_slice())
                    .unwrap_or_default();
                let first = endpoints
                    .first()
                    .with_context(|| format!("{} has no endpoint", destination.cluster))?;
                let protocol = protocol_of(hop, named(&clusters, destination))?;
                arrivals.push(self.arrive(at, captured, hop, destination, first, protocol)?);
            }
        }
        Ok(arrivals)
    }

    fn arrive(
        &self,
        at: &str,
        captured: bool,
        hop: &Hop,
        destination: &Destination,
        endpoint: &EndpointShare,
        protocol: Protocol,
    ) -> Result<Arrival> {
        let namespace = if at == GATEWAY && !captured {
            SYSTEM
        } else {
            &*self.namespace
        };
        let certificate = Certificate {
            uris: vec![format!("spiffe://cluster.local/ns/{namespace}/sa/{at}")],
            dns: Vec::new(),
        };
        let mut arriving =
            onward(hop, destination, endpoint, Some(certificate)).context("the endpoint has no address")?;
        if hop.http.is_some() {
            arriving.protocol = protocol;
        }
        let is_there = |name: &&String| self.pod(name) == arriving.destination.ip();
        let server = self
            .names
            .iter()
            .find(is_there)
            .context("nobody has the endpoint's address")?;
        let (config, clusters) = self.sent(server)?;
        let trace = follow(&config, &arriving);
        let mut hop = trace.ends().next().context("the call goes nowhere")?.clone();
        // What the server itself sees is what its sidecar sends on.
        if let Some(last) = hop.destinations.first().cloned() {
            let protocol = protocol_of(&hop, named(&clusters, &last))?;
            if hop.http.is_some() {
                hop.call.protocol = protocol;
                hop.call.request = last.request.or(hop.call.request);
            }
        }
        Ok(Arrival {
            share: destination.share,
            backend: Some(server.clone()),
            hop,
        })
    }
}

fn named<'a>(clusters: &'a [Cluster], destination: &Destination) -> Option<&'a Cluster> {
    clusters.iter().find(|cluster| cluster.name == destination.cluster)
}

/// What is spoken to a cluster; none: the proxy does not have it.
pub(super) fn protocol_of(hop: &Hop, cluster: Option<&Cluster>) -> Result<Protocol> {
    let came = hop.call.protocol;
    let Some(cluster) = cluster else {
        return Ok(came);
    };
    let shown = message_to_json(cluster)?;
    let options = &shown["typedExtensionProtocolOptions"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    Ok(if options["explicitHttpConfig"]["http2ProtocolOptions"].is_object() {
        Protocol::Http2
    } else if options["useDownstreamProtocolConfig"].is_object() {
        came
    } else {
        Protocol::Http1
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
