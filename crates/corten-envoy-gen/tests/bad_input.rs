//! Bad input costs itself: the service beside it is sent as before, a stock Envoy takes all of it, what comes of it is no larger
//! than what went in, and a diagnostic names the object.

use std::collections::BTreeSet;

use corten_api::{
    decode,
    validate::{self, mesh_config::default_mesh_config},
};
use corten_envoy::{message_to_json, prost};
use corten_envoy_gen::{Resources, diagnostics, generate};
use corten_model::Settings;
use corten_routing::{Proxy, Snapshot, World};
use corten_stock_envoy::{Sent, bootstrap, program, validate as accepts};
use serde_json::{Value, json};

/// What is there beside: a service with routes of its own, and policies.
const GOOD: &str = include_str!("bad_input/good.yaml");
/// What is wrong, each object in another way; of the kind `List` those that are wrong together.
const BAD: &str = include_str!("bad_input/bad.yaml");

fn objects(text: &str) -> Vec<Value> {
    let (documents, problems) = decode::documents("test", text);
    assert!(problems.is_empty(), "{problems:?}");
    documents.iter().map(decode::Node::to_value).collect()
}

fn json_of<M: prost::Message + prost::Name>(message: &M) -> Value {
    message_to_json(message).expect("JSON")
}

fn sent(resources: &Resources) -> Sent {
    let endpoints = resources.endpoints.iter();
    let routes = resources.routes.iter();
    Sent {
        clusters: resources.clusters.iter().map(json_of).collect(),
        listeners: resources.listeners.iter().map(json_of).collect(),
        endpoints: endpoints.map(|(name, of)| (name.clone(), json_of(of))).collect(),
        routes: routes.map(|(name, table)| (name.clone(), json_of(table))).collect(),
        ..Sent::default()
    }
}

/// The good objects with others beside, and what was said when these were read.
fn world(others: &[Value]) -> (Snapshot, Vec<String>) {
    let mut world = World::new(Settings::default(), default_mesh_config());
    let problems = world.put(objects(GOOD).iter());
    assert!(problems.is_empty(), "{problems:?}");
    let said = world.put(others.iter()).into_iter().filter_map(|said| said.object);
    let said = said.map(|of| of.name).collect();
    (world.snapshot(), said)
}

fn of(snapshot: &Snapshot, kind: &str) -> Resources {
    let metadata = json!({ "NAMESPACE": "shop", "LABELS": { "app": "web" } });
    let id = format!("{kind}~10.0.0.1~web.shop~shop.svc.cluster.local");
    generate(snapshot, &Proxy::of_node(&id, &metadata).expect("a proxy"))
}

/// What is sent about the good service.
fn good(resources: &Resources) -> Value {
    let is_good = |name: &str| name.contains("good.shop.svc");
    let clusters = resources.clusters.iter().filter(|cluster| is_good(&cluster.name));
    let hosts = resources.routes.values().flat_map(|table| &table.virtual_hosts);
    let hosts: Vec<Value> = hosts.filter(|host| is_good(&host.name)).map(json_of).collect();
    assert!(!hosts.is_empty());
    let inbound = resources
        .listeners
        .iter()
        .filter(|listener| listener.name == "virtualInbound");
    json!({
        "clusters": clusters.map(json_of).collect::<Vec<_>>(),
        "hosts": hosts,
        "inbound": inbound.map(json_of).collect::<Vec<_>>(),
    })
}

/// Everything that is said about objects, by their names.
fn said(snapshot: &Snapshot, others: &[Value], when_read: Vec<String>) -> BTreeSet<String> {
    let generated = diagnostics(&snapshot.catalog)
        .into_iter()
        .filter_map(|said| said.object);
    let mut all: BTreeSet<String> = generated.map(|object| object.name).chain(when_read).collect();
    for value in others {
        let spanned = decode::SpannedObject::from_value(value);
        let found = validate::object(&spanned);
        all.extend(
            found
                .into_iter()
                .filter_map(|said| said.object)
                .map(|object| object.name),
        );
    }
    all
}

fn check(what: &str, others: &[Value], accepted: bool) {
    let (without, _) = world(&[]);
    let (with, when_read) = world(others);
    let sidecar = of(&with, "sidecar");
    assert_eq!(
        good(&sidecar),
        good(&of(&without, "sidecar")),
        "{what}: the good service is something else"
    );
    let router = of(&with, "router");
    let unsaid: Vec<&str> = {
        let said = said(&with, others, when_read);
        let names = others.iter().filter_map(|value| value["metadata"]["name"].as_str());
        names
            .filter(|name| name.starts_with("bad") && !said.contains(*name))
            .collect()
    };
    assert!(unsaid.is_empty(), "{what}: nothing is said about {unsaid:?}");
    let went_in: usize = others.iter().map(|value| value.to_string().len()).sum();
    for resources in [&sidecar, &router] {
        let routes = resources.routes.values().map(prost::Message::encoded_len);
        let came_out: usize = routes.sum();
        assert!(
            came_out < 100_000 + 8 * went_in,
            "{what}: {came_out} bytes of {went_in}"
        );
    }
    if !accepted {
        return;
    }
    let envoy = match program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    for resources in [&sidecar, &router] {
        if let Err(said) = accepts(&envoy, &bootstrap(&sent(resources))) {
            panic!("{what}: {said}");
        }
    }
}

#[test]
fn each_bad_object_costs_itself() {
    let all = objects(BAD);
    for value in &all {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        check(name, std::slice::from_ref(value), false);
    }
    check("all of them together", &all, true);
}

fn service(name: &str, http: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "hosts": ["bulk.example.com"], "http": http },
    })
}

#[test]
fn ten_thousand_conflicting_routes() {
    let route = json!({ "match": [{ "uri": { "prefix": "/a" } }], "route": [{ "destination": { "host": "good" } }] });
    // In one object, and in as many objects for the same host.
    check(
        "one object",
        &[service("large", &json!(vec![route.clone(); 10_000]))],
        true,
    );
    let many: Vec<Value> = (0..10_000)
        .map(|i| service(&format!("v{i}"), &json!([route])))
        .collect();
    check("many objects", &many, true);
}

#[test]
fn delegates_in_a_circle() {
    let delegate = |name: &str, to: &str| {
        let mut made = service(name, &json!([{ "delegate": { "name": to, "namespace": "shop" } }]));
        made["spec"]["hosts"] = json!([]);
        made
    };
    let root = service(
        "root",
        &json!([{ "delegate": { "name": "bad-a", "namespace": "shop" } }]),
    );
    check(
        "a circle",
        &[root, delegate("bad-a", "bad-b"), delegate("bad-b", "bad-a")],
        true,
    );
    check(
        "itself",
        &[service(
            "bad-self",
            &json!([{ "delegate": { "name": "bad-self", "namespace": "shop" } }]),
        )],
        true,
    );
}

#[test]
fn five_megabytes() {
    let long = "x".repeat(5_000_000);
    let to = json!([{ "destination": { "host": "good" } }]);
    let path = json!([{ "match": [{ "uri": { "regex": long } }], "route": to }]);
    check("an expression", &[service("bad-regex", &path)], true);
    let header = json!([{ "headers": { "request": { "set": { "x": "y".repeat(5_000_000) } } }, "route": to }]);
    check("a header", &[service("header", &header)], false);
}

#[test]
fn expressions_that_never_end() {
    let to = json!([{ "destination": { "host": "good" } }]);
    for regex in ["(a+)+$", "(a|a)*b", "((((a*)*)*)*)*b", "(.*)(.*)(.*)(.*)(.*)(.*)x"] {
        // RE2 takes linear time for these.
        check(
            regex,
            &[service(
                "slow",
                &json!([{ "match": [{ "uri": { "regex": regex } }], "route": to }]),
            )],
            false,
        );
    }
    for regex in [
        "(a{1000}){1000}",
        "((((a{50}){50}){50}){50}){50}",
        r"(\w+)\1",
        "(?=a)a",
        "[",
        "(.{1000}){1}(.{1000})(.{1000})",
    ] {
        check(
            regex,
            &[service(
                "bad",
                &json!([{ "match": [{ "uri": { "regex": regex } }], "route": to }]),
            )],
            false,
        );
    }
    let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
    check(
        "deep",
        &[service(
            "bad",
            &json!([{ "match": [{ "uri": { "regex": deep } }], "route": to }]),
        )],
        true,
    );
}
