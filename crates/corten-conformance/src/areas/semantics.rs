//! Area `istio-semantics`: small functions as rows of input and expected output. Tables that no runner
//! knows are listed and skipped.

use std::collections::BTreeSet;

use anyhow::Result;
use corten_api::{
    codec::Field,
    decode::{Node, SpannedObject, document},
    gateway_api::ReferenceGrant,
    istio::{
        VirtualService, mesh_config::MeshConfig, peer_authentication::MutualTLSMode, proxy_config::ProxyConfig,
        virtual_service::HTTPRoute,
    },
    validate::mesh_config::{default_proxy_config, over},
};
use corten_ca::TrustedGateways;
use corten_core::{
    Host, Identity, LabelMap, Labels, Locality, Protocol, expand_trust_domains, hosts_for_namespace, intersection,
};
use corten_gateway_api::{
    reference::{Grants, Kind},
    route::order,
};
use corten_model::{Object, ObjectKind, Reader, input::TrafficDistribution, policy::Pattern, rules, trust_domain};
use corten_routing::{ConfigKind, Configs, proxy_config};
use serde_json::{Value, json};

use super::{authz, cluster_rows, injection_rows, route_rows, secret_rows};
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs the tables.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        let name = table["table"].as_str().unwrap_or_default();
        for (row, case) in data::rows(&table) {
            let outcome = match (answer(name, case), expected(name, case)) {
                (None, _) => Outcome::Skipped(format!("no runner knows tables of the kind {name:?}")),
                (Some(ours), theirs) if ours == theirs => Outcome::Passed,
                (Some(ours), theirs) => Outcome::Failed(format!("{ours}, expected {theirs}")),
            };
            cases.push(Case {
                area: area.name.clone(),
                case: format!("{relative}: {row}"),
                outcome,
            });
        }
    }
    Ok(cases)
}

/// What the product answers; `None`: it does not know the question.
fn answer(table: &str, case: &Value) -> Option<Value> {
    let host = |key: &str| Host::from(text(&case[key]));
    Some(match table {
        "host-matches" => json!(host("a").matches(&host("b"))),
        "host-subset-of" => json!(host("a").is_subset_of(&host("b"))),
        "host-more-specific" => {
            // Upstream calls two empty names more specific than each other, so that sorting leaves them alone.
            let (a, b) = (host("host1"), host("host2"));
            json!(a.is_more_specific_than(&b) || (a.as_str().is_empty() && b.as_str().is_empty()))
        }
        "host-intersection" => json!(shown(&intersection(&hosts(&case["a"]), &hosts(&case["b"])))),
        "hosts-sort-order" => {
            let mut sorted = hosts(&case["in"]);
            sorted.sort_by(Host::specificity);
            json!(shown(&sorted))
        }
        "hosts-for-namespace" => {
            let all = strings(&case["hosts"]);
            json!(shown(&hosts_for_namespace(
                all.iter().map(String::as_str),
                text(&case["namespace"])
            )))
        }
        "mesh-config-merge" => merged_mesh_config(case),
        "xfcc-trusted-address" => json!(trusted_gateway(text(&case["cidr"]), text(&case["peer"]))),
        "protocol-parse" => json!(Protocol::parse(text(&case["in"])).to_string()),
        "protocol-of-port" | "protocol-of-service-port" => {
            let port = case["port"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or_default();
            let app_protocol = case["appProtocol"].as_str();
            json!(Protocol::of_port(port, text(&case["portName"]), text(&case["protocol"]), app_protocol).to_string())
        }
        "spiffe-parse" => match text(&case["in"]).parse::<Identity>() {
            Ok(id) => json!({
                "trustDomain": id.trust_domain, "namespace": id.namespace, "serviceAccount": id.service_account,
            }),
            Err(_) => Value::Null,
        },
        "spiffe-generate" => {
            match Identity::new(
                text(&case["trustDomain"]),
                text(&case["namespace"]),
                text(&case["serviceAccount"]),
            ) {
                Ok(identity) => json!(identity.to_string()),
                Err(_) => json!("an error"),
            }
        }
        "spiffe-expand-trust-domains" => {
            let identities: BTreeSet<String> = strings(&case["identities"]).into_iter().collect();
            json!(expand_trust_domains(&identities, &strings(&case["trustDomains"])))
        }
        "labels-validate" => json!(Labels(&labels(&case["labels"])).check().is_ok()),
        "labels-subset" => {
            let (left, right) = (labels(&case["left"]), labels(&case["right"]));
            json!({ "subsetOf": Labels(&left).is_subset_of(&right), "selected": Labels(&left).selects(&right) })
        }
        "locality-match" => {
            let place = &case["locality"];
            let place = Locality {
                region: text(&place["region"]).to_owned(),
                zone: text(&place["zone"]).to_owned(),
                subzone: text(&place["subZone"]).to_owned(),
            };
            json!(place.matches(&Locality::from(text(&case["rule"]))))
        }
        "proxy-config-effective" => effective_proxy_config(case),
        "proxy-config-merge" => merged_proxy_config(case),
        "traffic-distribution" => json!(traffic_distribution(case)),
        "peerauthentication-compose" | "peerauthentication-for-port" => peer_modes(table, case),
        "trust-domain-aliases" => {
            let aliases = strings(&case["aliases"]);
            let trust_domains: Vec<String> = std::iter::once(text(&case["trustDomain"]).to_owned())
                .chain(aliases)
                .collect();
            json!(trust_domain::expand(&strings(&case["principals"]), &trust_domains))
        }
        "trust-domain-enforced" => json!(trust_domain::is_asked_for(text(&case["principal"]))),
        "trust-domain-list-match" => json!(trust_domain::is_listed(text(&case["element"]), &strings(&case["list"]))),
        "trust-domain-of-principal" => json!(trust_domain::of_principal(text(&case["principal"])).unwrap_or_default()),
        "gateway-api-route-sort" => {
            let mut routes: Vec<HTTPRoute> = routes(&case["in"]);
            order::sort(&mut routes);
            routes.iter().map(Field::encode).collect()
        }
        "gateway-api-reference-grant" => granted(case),
        "authz-string-match" => {
            let pattern = Pattern::parse(text(&case["pattern"]));
            let fits = |key: &str| {
                let rest = text(&case[key]).strip_prefix(text(&case["prefix"]));
                rest.is_some_and(|rest| pattern.matches(rest))
            };
            json!([fits("matches"), fits("doesNotMatch")])
        }
        _ => {
            return authz::answer(table, case)
                .or_else(|| injection_rows::answer(table, case))
                .or_else(|| secret_rows::answer(table, case))
                .or_else(|| cluster_rows::answer(table, case))
                .or_else(|| route_rows::answer(table, case));
        }
    })
}

/// What a service wants of near endpoints, read from objects that say what the row says.
fn traffic_distribution(case: &Value) -> &'static str {
    let mut reader = Reader::default();
    let object = |kind: &str, annotations: &Value, spec: Value| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "x", "annotations": annotations }, "spec": spec });
    let spec = json!({ "trafficDistribution": case["spec"] });
    let service = reader
        .read(&object("Service", &case["serviceAnnotations"], spec))
        .object;
    let namespace = reader
        .read(&object("Namespace", &case["namespaceAnnotations"], json!({})))
        .object;
    let (Some(Object::Service(service)), Some(Object::Namespace(namespace))) = (service, namespace) else {
        return "not an object";
    };
    match rules::effective_distribution(service.traffic_distribution, namespace.traffic_distribution) {
        TrafficDistribution::Any => "Any",
        TrafficDistribution::SameZone => "PreferSameZone",
        TrafficDistribution::SameNode => "PreferSameNode",
    }
}

/// What PeerAuthentications amount to, all of which apply to one workload.
fn peer_modes(table: &str, case: &Value) -> Value {
    let mut reader = Reader::default();
    let listed = case["configs"]
        .as_array()
        .or_else(|| case["peerPolicies"].as_array())
        .into_iter()
        .flatten();
    let policies: Vec<_> = listed
        .filter_map(
            |policy| match reader.read_kind(ObjectKind::PeerAuthentication, policy).object {
                Some(Object::PeerAuthentication(policy)) => Some(policy),
                _ => None,
            },
        )
        .collect();
    let modes = rules::peer_modes(&policies, "root-namespace");
    let name = |mode: MutualTLSMode| format!("{mode:?}").to_uppercase();
    if table == "peerauthentication-for-port" {
        let port = case["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default();
        return json!(name(modes.ports.get(&port).copied().unwrap_or(modes.mode)));
    }
    let ports: serde_json::Map<String, Value> = modes
        .ports
        .iter()
        .map(|(port, mode)| (port.to_string(), json!(name(*mode))))
        .collect();
    let mut amount = json!({ "mode": name(modes.mode) });
    if !ports.is_empty() {
        amount["perPort"] = Value::Object(ports);
    }
    amount
}

fn expected(table: &str, case: &Value) -> Value {
    if let Some(expected) = route_rows::expected(table, case) {
        return expected;
    }
    if let Some(expected) = injection_rows::expected(table, case).or_else(|| secret_rows::expected(table, case)) {
        return expected;
    }
    let key = match table {
        "labels-validate" => "valid",
        "labels-subset" => "leftSubsetOfRight",
        "peerauthentication-for-port" => "expectedMode",
        // The first of the two must match, the second must not.
        "authz-string-match" => return json!([true, false]),
        "spiffe-generate" if case.get("error").is_some() => return json!("an error"),
        "subset-key" => {
            let field = |key: &str| case[key].clone();
            return json!({
                "direction": field("direction"), "subset": field("subset"), "hostname": field("hostname"), "port": field("port"),
            });
        }
        _ => "expected",
    };
    match (table, &case[key]) {
        ("gateway-api-route-sort", list) => routes(list).iter().map(Field::encode).collect(),
        // A set, which the row lists in any order.
        ("spiffe-expand-trust-domains", list) => json!(strings(list).into_iter().collect::<BTreeSet<_>>()),
        (_, expected) => expected.clone(),
    }
}

/// Routes of a VirtualService.
fn routes(value: &Value) -> Vec<HTTPRoute> {
    let object = json!({ "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": { "http": value } });
    VirtualService::decode(&SpannedObject::from_value(&object)).0.spec.http
}

/// Which secrets gateways may refer to.
fn granted(case: &Value) -> Value {
    let listed = case["config"].as_array().into_iter().flatten();
    let grants: Vec<ReferenceGrant> = listed
        .map(|grant| ReferenceGrant::decode(&SpannedObject::from_value(grant)).0)
        .collect();
    let grants = Grants::new(&grants);
    let rows = case["expected"].as_array().into_iter().flatten();
    rows.map(|row| {
        let place = text(&row["secret"]).trim_start_matches("kubernetes-gateway://");
        let (namespace, name) = place.split_once('/').unwrap_or_default();
        let mut row = row.clone();
        let from = text(&row["gatewayNamespace"]).to_owned();
        row["allowed"] = json!(grants.allow(Kind::GATEWAY, &from, Kind::SECRET, namespace, name));
        row
    })
    .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| text(v).to_owned())
        .collect()
}

fn hosts(value: &Value) -> Vec<Host> {
    strings(value).into_iter().map(Host::from).collect()
}

fn shown(hosts: &[Host]) -> Vec<&str> {
    hosts.iter().map(Host::as_str).collect()
}

/// The configuration of a workload's proxy, as far as a row says what it should be.
fn effective_proxy_config(case: &Value) -> Value {
    let mut configs = Configs::default();
    for object in case["proxyConfigs"].as_array().into_iter().flatten() {
        configs.put(ConfigKind::ProxyConfig, object);
    }
    let mut mesh = default_proxy_config();
    if case["defaultConfig"].is_object() {
        proxy_config::merge(&mut mesh, &Node::from_value(&case["defaultConfig"]));
    }
    let annotation = case["proxy"]["annotations"][proxy_config::ANNOTATION].as_str();
    let annotation = annotation.and_then(|text| document("annotation", text).0);
    let labels = labels(&case["proxy"]["labels"]);
    let workload = proxy_config::Workload {
        namespace: text(&case["proxy"]["namespace"]),
        labels: &labels,
        annotation: annotation.as_ref(),
    };
    let (made, _) = proxy_config::effective(&mesh, &configs.proxy_configs, "istio-system", &workload);
    let made = made.encode();
    let fields = case["expected"].as_object().into_iter().flatten();
    fields.map(|(key, _)| (key.clone(), made[key].clone())).collect()
}

/// What the first says of a proxy's configuration over what the second says: the row's expectation if it means the same.
fn merged_proxy_config(case: &Value) -> Value {
    let over = |layers: &[&Value]| {
        let mut made = ProxyConfig::default();
        for layer in layers.iter().filter(|layer| layer.is_object()) {
            proxy_config::merge(&mut made, &Node::from_value(layer));
        }
        made
    };
    let made = over(&[&case["second"], &case["first"]]);
    if made == over(&[&case["expected"]]) {
        case["expected"].clone()
    } else {
        made.encode()
    }
}

/// What the row says over the defaults that it was made with: the row's expectation if it means the same.
fn merged_mesh_config(case: &Value) -> Value {
    const BELOW: &str = "
defaultProviders: {metrics: [stackdriver]}
extensionProviders: [{name: stackdriver, stackdriver: {maxNumberOfAttributes: 3}}]
trustDomainAliases: [default, both]
";
    let read = |below: MeshConfig, text: &str| match document("mesh", text).0 {
        Some(root) => over(below, &root).0,
        None => below,
    };
    let made = read(read(MeshConfig::default(), BELOW), text(&case["in"]));
    let expected = read(MeshConfig::default(), text(&case["expected"]));
    if made == expected {
        case["expected"].clone()
    } else {
        made.encode()
    }
}

/// Whether a gateway that calls from there is believed; one whose address cannot be told is not.
fn trusted_gateway(ranges: &str, peer: &str) -> bool {
    let trusted = TrustedGateways::parse(ranges).unwrap_or_default();
    let peer: Option<std::net::SocketAddr> = peer.parse().ok();
    peer.is_some_and(|peer| trusted.trusts(peer.ip()))
}

fn labels(value: &Value) -> LabelMap {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), text(value).to_owned()))
        .collect()
}
