//! Tables of `istio-semantics` about VirtualServices and Sidecars.

use std::sync::Arc;

use corten_api::{
    codec::{Field, Message, decode, encode_message},
    decode::Node,
    istio::{
        mesh_config::MeshConfig,
        virtual_service::{HTTPMatchRequest, HTTPRoute, L4MatchAttributes, TLSMatchAttributes, VirtualServiceSpec},
    },
    validate::mesh_config::over_defaults,
};
use corten_core::LabelMap;
use corten_envoy_gen::route::{routing_claim, tcp_matches, tls_matches};
use corten_gateway_api::route::order;
use corten_model::Settings;
use corten_routing::{Proxy, Scope, World, conflicts, merge_matches, merge_route};
use serde_json::{Value, json};

/// What the product answers; `None`: it does not know the question.
pub(super) fn answer(table: &str, case: &Value) -> Option<Value> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    // Matches of connections are asked for a sidecar without labels and for any port.
    let (labels, port) = (LabelMap::new(), 8080);
    Some(match table {
        "vs-delegate-match-conflict" => {
            let side = |key: &str| read::<HTTPMatchRequest>(&case[key]);
            json!(conflicts(&side("root"), &side("leaf")))
        }
        "vs-delegate-merge-matches" => {
            let side = |key: &str| read_all::<HTTPMatchRequest>(&case[key]);
            let merged = merge_matches(&side("root"), &side("delegate"));
            merged.map_or(Value::Null, |merged| shown(&merged))
        }
        "vs-delegate-merge-routes" => {
            let root = read::<HTTPRoute>(&case["root"]);
            let details = read_all::<HTTPRoute>(&case["delegate"]);
            let merged: Vec<HTTPRoute> = details.into_iter().filter_map(|one| merge_route(&root, one)).collect();
            shown(&merged)
        }
        "vs-delegation" => {
            let (mesh, _) = over_defaults(&Node::from_value(&json!({
                "defaultVirtualServiceExportTo": case["defaultExportTo"],
            })));
            let mut world = World::new(Settings::default(), mesh);
            world.put(case["virtualServices"].as_array().into_iter().flatten());
            let snapshot = world.snapshot();
            let made = snapshot.catalog.virtual_services.iter();
            merged(made.map(|one| &one.spec))
        }
        "tcp-l4-match" => {
            let wanted = read::<L4MatchAttributes>(&case["match"]);
            json!(tcp_matches(&wanted, &labels, text("namespace"), "mesh", port))
        }
        "tls-match" => {
            let wanted = read::<TLSMatchAttributes>(&case["match"]);
            json!(tls_matches(&wanted, &labels, text("namespace"), "mesh", port))
        }
        "jwt-claim-routing" => match routing_claim(text("header")) {
            Some(claims) => {
                let dotted = text("header").contains("claims.");
                json!({ "match": true, "separator": if dotted { "Dot" } else { "Square" }, "claims": claims })
            }
            None => json!({}),
        },
        "sidecar-egress-dependencies" => dependencies(case),
        "gateway-api-route-sort" => {
            let mut routes = read_all::<HTTPRoute>(&case["in"]);
            order::sort(&mut routes);
            shown(&routes)
        }
        _ => return None,
    })
}

/// What a row expects, where it is an object that can be written in several ways; `None`: it is written in one way.
pub(super) fn expected(table: &str, case: &Value) -> Option<Value> {
    Some(match table {
        "vs-delegate-match-conflict" => case["expectedConflict"].clone(),
        "vs-delegate-merge-matches" if case["expected"].is_null() => Value::Null,
        "vs-delegate-merge-matches" => shown(&read_all::<HTTPMatchRequest>(&case["expected"])),
        "vs-delegate-merge-routes" | "gateway-api-route-sort" => shown(&read_all::<HTTPRoute>(&case["expected"])),
        "vs-delegation" => {
            let all = case["expected"].as_array().into_iter().flatten();
            let specs: Vec<VirtualServiceSpec> = all.map(|one| read(&one["spec"])).collect();
            merged(specs.iter())
        }
        "sidecar-egress-dependencies" => {
            let listed = case["contains"].as_array().into_iter().flatten();
            listed.map(|one| one["expected"].clone()).collect()
        }
        _ => return None,
    })
}

fn read<T: Field + Default>(value: &Value) -> T {
    decode::<T>(&Node::from_value(value)).0.unwrap_or_default()
}

fn read_all<T: Field + Default>(value: &Value) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

fn shown<T: Message>(all: &[T]) -> Value {
    all.iter().map(encode_message).collect()
}

/// Hosts and HTTP routes; one row expects name and gateways of another object than it puts, so those are not compared.
fn merged<'a>(all: impl Iterator<Item = &'a VirtualServiceSpec>) -> Value {
    all.map(|spec| json!({ "hosts": spec.hosts, "http": shown(&spec.http) }))
        .collect()
}

/// Which of the listed objects a sidecar of the namespace `default` sees, through a Sidecar with the row's hosts.
fn dependencies(case: &Value) -> Value {
    let object = |version: &str, kind: &str, name: &str, namespace: &str, spec: Value| {
        json!({
            "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        })
    };
    let networking = "networking.istio.io/v1";
    let host = "svc1.com";
    let mut objects = vec![
        object(
            networking,
            "ServiceEntry",
            host,
            "ns",
            json!({ "hosts": [host], "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }], "resolution": "DNS" }),
        ),
        object(
            networking,
            "VirtualService",
            "vs1",
            "ns",
            json!({ "hosts": [host], "http": [{ "route": [{ "destination": { "host": host } }] }] }),
        ),
        object(networking, "DestinationRule", "dr1", "ns", json!({ "host": host })),
    ];
    if case["egressHosts"].is_array() {
        let spec = json!({ "egress": [{ "hosts": case["egressHosts"] }] });
        objects.push(object(networking, "Sidecar", "sidecar", "default", spec));
    }
    let mut world = World::new(Settings::default(), MeshConfig::default());
    world.put(&objects);
    let id = "sidecar~10.0.0.1~app.default~default.svc.cluster.local";
    let Ok(proxy) = Proxy::of_node(id, &json!({})) else {
        return Value::Null;
    };
    let scope = Scope::of(&world.snapshot().catalog, &proxy);
    let is = |namespace: &str, name: &str, one: &Value| one["namespace"] == namespace && one["name"] == name;
    let sees = |one: &Value| match one["kind"].as_str() {
        Some("ServiceEntry") => scope
            .services
            .iter()
            .any(|service| is(&service.namespace, service.host.as_str(), one)),
        Some("VirtualService") => {
            let mut all = scope.egress.iter().flat_map(|egress| &egress.virtual_services);
            all.any(|service| is(&service.namespace, &service.name, one))
        }
        _ => {
            let mut rules = scope
                .services
                .iter()
                .filter_map(|service| scope.destination_rule(service))
                .map(Arc::as_ref);
            rules.any(|rule| is(&rule.namespace, &rule.name, one))
        }
    };
    let listed = case["contains"].as_array().into_iter().flatten();
    listed.map(|one| json!(sees(one))).collect()
}
