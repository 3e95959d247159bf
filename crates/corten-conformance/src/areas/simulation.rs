//! Area `istio-traffic-simulation`: calls through what a proxy is sent, followed without sockets.
//!
//! What a row says of a call is what became of it: an error, or the listener, the filter chain, the virtual host, the route and the cluster.
//! Whether the cluster has endpoints is none of its business.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use corten_api::{decode::document, validate::mesh_config::over_defaults};
use corten_explain::{Call, Certificate, Config, Entry, Hop, Protocol, Refusal, Request, Tls, follow};
use corten_gateway_api::{ingress, offline as gateways};
use corten_model::Settings;
use corten_routing::{Proxy, World};
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// The address of the proxy, unless the row has others.
const PROXY_ADDRESS: &str = "1.1.1.1";
/// An address that no listener is for.
const NOWHERE: &str = "1.3.3.7";
/// The port where outgoing connections are redirected to.
const OUTBOUND_PORT: u16 = 15001;
/// The port where incoming connections are redirected to.
const INBOUND_PORT: u16 = 15006;
/// The secret with the certificate of the mesh.
const MESH_SECRET: &str = "default";
/// Cluster names in the data lack the end of the names of services that were written in short.
const SERVICE_SUFFIX: &str = ".svc.cluster.local";

/// Annotations that the data has under the names of the constants that hold them.
const ANNOTATIONS: [(&str, &str); 2] = [
    ("constants.InternalParentNames", "internal.istio.io/parents"),
    ("constants.InternalRouteSemantics", "internal.istio.io/route-semantics"),
];
/// What becomes of a call at a listener that Envoy refuses, because it has two chains for the same.
const REFUSED_BY_ENVOY: &str = "multiple-filter-chains";

/// Runs every call of every configuration, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        for (row, case) in data::rows(&table) {
            let name = format!("{relative}: {row}");
            let mut push = |call: &str, outcome: Outcome| {
                let case = if call.is_empty() {
                    name.clone()
                } else {
                    format!("{name}: {call}")
                };
                cases.push(Case {
                    area: area.name.clone(),
                    case,
                    outcome,
                });
            };
            let missing = missing(case);
            if let Some(reason) = &missing {
                let names: Vec<String> = calls(case).into_iter().map(|(call, _)| call).collect();
                for call in if names.is_empty() { vec![String::new()] } else { names } {
                    push(&call, Outcome::Skipped(reason.clone()));
                }
                continue;
            }
            let config = compile(case).with_context(|| name.clone())?;
            if case["expectedVirtualHosts"].is_object() {
                push("", outcome(virtual_hosts(&config, case)));
            }
            for (call, row) in calls(case) {
                let judged = judge(&config, row).with_context(|| format!("{name}: {call}"))?;
                let is_refused = text(&row["expect"]["error"]) == REFUSED_BY_ENVOY;
                let judged = match judged {
                    Some(_) if is_refused => Outcome::Skipped("what Envoy refuses is not made".to_owned()),
                    judged => outcome(judged),
                };
                push(&call, judged);
            }
        }
    }
    Ok(cases)
}

fn outcome(difference: Option<String>) -> Outcome {
    difference.map_or(Outcome::Passed, Outcome::Failed)
}

/// The calls of a row with names of their own.
fn calls(case: &Value) -> Vec<(String, &Value)> {
    let mut seen = BTreeMap::<&str, usize>::new();
    let calls = case["calls"].as_array().into_iter().flatten();
    calls
        .map(|call| {
            let name = text(&call["name"]);
            let times = seen.entry(name).or_default();
            *times += 1;
            (
                if *times == 1 {
                    name.to_owned()
                } else {
                    format!("{name} #{times}")
                },
                call,
            )
        })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What the row needs that the product does not have.
fn missing(case: &Value) -> Option<String> {
    let (flag, _) = case["features"].as_object()?.iter().next()?;
    Some(format!(
        "Istio's flag {flag}, which is off by default, is not supported"
    ))
}

/// The row's objects; those without a namespace are in `default`.
fn objects(case: &Value) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for key in ["kubernetes", "config"] {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(text(&case[key])).with_context(|| format!("parsing {key}"))?;
        all.extend(objects.into_iter().filter(|object| !object.is_null()));
    }
    for object in &mut all {
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!("default");
        }
        for (name, key) in ANNOTATIONS {
            let annotations = object["metadata"]["annotations"].as_object_mut();
            if let Some((annotations, value)) = annotations.and_then(|all| all.remove(name).map(|value| (all, value))) {
                annotations.insert(key.to_owned(), value);
            }
        }
    }
    Ok(all)
}

/// What the row's proxy is sent.
fn compile(case: &Value) -> Result<Config> {
    let (root, _) = document("mesh", &case["meshConfig"].to_string());
    let mesh = root.map_or_else(Default::default, |root| over_defaults(&root).0);
    let mut world = World::new(Settings::default(), mesh);
    let objects = objects(case)?;
    world.put(&objects);
    let (made, _) = gateways::generated(&objects, &corten_gateway_api::Settings::default());
    world.put(&made);
    let (made, _) = gateways::of_ingresses(&objects, ingress::Settings::default());
    world.put(&made);
    let snapshot = world.snapshot();
    let made = crate::accepted::generate(&snapshot, &proxy(&case["proxy"])?);
    Ok(Config::new(
        made.listeners,
        made.routes.into_values(),
        made.clusters,
        made.endpoints.into_values(),
    ))
}

fn proxy(row: &Value) -> Result<Proxy> {
    let namespace = text(&row["namespace"]);
    let addresses: Vec<&str> = row["ipAddresses"].as_array().into_iter().flatten().map(text).collect();
    let first = addresses.first().copied().unwrap_or(PROXY_ADDRESS);
    let id = format!(
        "{}~{first}~app.{namespace}~{namespace}.svc.cluster.local",
        text(&row["type"])
    );
    let metadata = json!({
        "NAMESPACE": namespace,
        "LABELS": row["labels"],
        "INSTANCE_IPS": addresses.join(","),
        "CLUSTER_ID": row["clusterId"].as_str().unwrap_or("Kubernetes"),
        "ISTIO_VERSION": "1.23.0",
    });
    Proxy::of_node(&id, &metadata).with_context(|| format!("the proxy {id}"))
}

/// What is different about the route configuration of the row.
fn virtual_hosts(config: &Config, case: &Value) -> Option<String> {
    let name = text(&case["routeConfiguration"]);
    let none = Vec::new();
    let hosts = config.routes.get(name).map_or(&none, |routes| &routes.virtual_hosts);
    for (wanted, clusters) in case["expectedVirtualHosts"].as_object().into_iter().flatten() {
        let clusters: Vec<&str> = clusters.as_array().into_iter().flatten().map(text).collect();
        let found = hosts.iter().find(|host| host.domains.contains(wanted));
        let Some(found) = found else {
            if clusters.is_empty() {
                continue;
            }
            return Some(format!("{name} has no virtual host for {wanted}"));
        };
        let ours: Vec<&str> = found.routes.iter().map(cluster_of).collect();
        if ours.len() != clusters.len()
            || !ours
                .iter()
                .zip(&clusters)
                .all(|(ours, theirs)| same_cluster(ours, theirs))
        {
            return Some(format!("{wanted} in {name} leads to {ours:?}, expected {clusters:?}"));
        }
    }
    None
}

fn cluster_of(route: &corten_envoy::envoy::config::route::v3::Route) -> &str {
    use corten_envoy::envoy::config::route::v3::{route::Action, route_action::ClusterSpecifier};
    match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name,
            _ => "",
        },
        _ => "",
    }
}

fn same_cluster(ours: &str, theirs: &str) -> bool {
    ours == theirs || ours.strip_suffix(SERVICE_SUFFIX) == Some(theirs)
}

/// What is different about a call.
fn judge(config: &Config, row: &Value) -> Result<Option<String>> {
    let trace = follow(config, &call(config, &row["call"])?);
    let Some(hop) = trace.hops.first() else {
        bail!("the trace is empty")
    };
    let expected = &row["expect"];
    let strict = expected["strictMatch"] == true;
    for (key, ours) in found(hop) {
        let theirs = text(&expected[key]);
        // An error that is not expected is one, whatever else is compared.
        let counts = strict || key == "error" || !theirs.is_empty();
        let same = if key == "clusterMatched" {
            same_cluster(&ours, theirs)
        } else {
            ours == theirs
        };
        if counts && !same {
            return Ok(Some(format!("{key} is {ours:?}, expected {theirs:?}\n{trace}")));
        }
    }
    Ok(None)
}

/// What became of the call, by the names of the data.
fn found(hop: &Hop) -> Vec<(&'static str, String)> {
    let error = match hop.refusal() {
        // Endpoints are not looked at.
        None | Some(Refusal::NoCluster | Refusal::NoEndpoint) => "",
        Some(error) => error.name(),
    };
    let http = hop.http.as_ref();
    let route = http.and_then(|http| http.routes.first());
    let single = if let [destination] = &hop.destinations[..] {
        &*destination.cluster
    } else {
        ""
    };
    vec![
        ("error", error.to_owned()),
        (
            "listenerMatched",
            hop.listener
                .as_ref()
                .map_or(String::new(), |listener| listener.name.clone()),
        ),
        (
            "filterChainMatched",
            // What has no name is called by its place.
            hop.filter_chain
                .as_ref()
                .filter(|chain| !chain.name.starts_with('#'))
                .map_or(String::new(), |chain| chain.name.clone()),
        ),
        (
            "routeConfigMatched",
            http.filter(|http| http.by_name)
                .map_or(String::new(), |http| http.route_config.clone()),
        ),
        (
            "virtualHostMatched",
            http.and_then(|http| http.virtual_host.clone()).unwrap_or_default(),
        ),
        (
            "routeMatched",
            route
                .filter(|route| !route.name.starts_with('#'))
                .map_or(String::new(), |route| route.name.clone()),
        ),
        ("clusterMatched", single.to_owned()),
    ]
}

fn call(config: &Config, row: &Value) -> Result<Call> {
    let address: IpAddr = row["address"]
        .as_str()
        .unwrap_or(NOWHERE)
        .parse()
        .context("the address")?;
    let port = u16::try_from(row["port"].as_u64().unwrap_or_default()).context("the port")?;
    let mut call = Call::new(SocketAddr::new(address, port));
    let host = text(&row["hostHeader"]);
    (call.protocol, call.request) = match text(&row["protocol"]) {
        "http" => (Protocol::Http1, Some(Request::default())),
        "http2" => (Protocol::Http2, Some(Request::default())),
        _ => (Protocol::Tcp, None),
    };
    if let Some(request) = &mut call.request {
        request.host = host.to_owned();
        request.path = row["path"].as_str().unwrap_or("/").to_owned();
    }
    let alpn = |usual: &str| match row["alpn"].as_str().unwrap_or(usual) {
        "" => Vec::new(),
        alpn => vec![alpn.to_owned()],
    };
    // A server's name is only asked for in TLS.
    let usual = if row["sni"].is_string() { "tls" } else { "plaintext" };
    call.tls = match row["tLS"].as_str().unwrap_or(usual) {
        "tls" => Some(Tls {
            sni: row["sni"].as_str().unwrap_or(host).to_owned(),
            alpn: alpn(match call.protocol {
                Protocol::Http2 => "h2",
                Protocol::Tcp => "",
                Protocol::Http10 | Protocol::Http1 => "http/1.1",
            }),
            ..Tls::default()
        }),
        "mtls" => Some(Tls {
            sni: text(&row["sni"]).to_owned(),
            alpn: alpn(match call.protocol {
                Protocol::Http2 => "istio-h2",
                Protocol::Tcp => "istio",
                Protocol::Http10 | Protocol::Http1 => "istio-http/1.1",
            }),
            certificate: Some(Certificate::default()),
            accepts: Some(row["mtlsSecretConfigName"].as_str().unwrap_or(MESH_SECRET).to_owned()),
            mutual_only: true,
        }),
        _ => None,
    };
    let has = |port: u16| {
        let mut probe = Call::new(SocketAddr::new(address, port));
        probe.entry = Entry::Redirected(port);
        follow(config, &probe).hops.iter().any(|hop| hop.listener.is_some())
    };
    if text(&row["callMode"]) == "inbound" {
        call.entry = Entry::Redirected(INBOUND_PORT);
    } else if has(OUTBOUND_PORT) {
        // A gateway's connections, and those of a sidecar without redirection, come to its listeners themselves.
        call.entry = Entry::Redirected(OUTBOUND_PORT);
    }
    Ok(call)
}
