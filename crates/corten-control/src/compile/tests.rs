//! Incremental equals from scratch: whatever happens to the objects, in whatever batches, each proxy's store holds what would be
//! generated for it anew, and clients of both variants come to hold it; and work follows the change.

mod clients;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use corten_api::istio::mesh_config::MeshConfig;
use corten_envoy_gen::{dangling, generate};
use corten_model::{Change, Mesh, ObjectKey, Reader, Settings};
use corten_routing::{ConfigKey, ConfigKind, Configs, KeySets, Proxy, World};
use corten_xds::server::{Shared, Variant};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::clients::Client;
use super::{Compiler, Inputs, as_it_is};
use crate::resources::{encode, types};
use crate::trust_bundle;

/// The objects are drawn from a small world, so that they refer to each other all the time.
const NAMESPACES: [&str; 3] = ["istio-system", "shop", "bank"];
const APPS: [&str; 3] = ["web", "db", "edge"];
const HOSTS: [&str; 6] = [
    "web.shop.svc.cluster.local",
    "db.shop.svc.cluster.local",
    "web.bank.svc.cluster.local",
    "api.example.com",
    "*.example.com",
    "nobody.example.org",
];

fn pick<'a>(choices: &[&'a str], by: u8) -> &'a str {
    choices[usize::from(by) % choices.len()]
}

/// The object that some bytes stand for.
#[derive(Debug, Clone, Copy)]
struct Seed {
    kind: u8,
    namespace: u8,
    name: u8,
    a: u8,
    b: u8,
    c: u8,
}

impl Seed {
    fn metadata(self, name: &str) -> Value {
        json!({
            "name": name, "namespace": pick(&NAMESPACES, self.namespace),
            "labels": { "app": pick(&APPS, self.a), "version": pick(&["v1", "v2"], self.b) },
            "creationTimestamp": format!("2026-01-0{}T00:00:00Z", 1 + self.c % 3),
        })
    }

    fn object(self) -> Value {
        let Seed { a, b, c, .. } = self;
        let of = |api: &str, kind: &str, name: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": self.metadata(name), "spec": spec });
        let name = pick(&["one", "two"], self.name);
        let networking = "networking.istio.io/v1";
        let selector = || json!({ "matchLabels": { "app": pick(&APPS, a) } });
        match self.kind % 25 {
            0..=2 => {
                let (app, version) = (pick(&APPS, self.name), pick(&["v1", "v2"], b));
                let number = self.namespace % 3 * 3 + self.name % 3;
                let address = format!("10.0.0.{number}");
                let mut pod = of(
                    "v1",
                    "Pod",
                    app,
                    json!({
                        "serviceAccountName": pick(&["alice", "bob"], c), "nodeName": pick(&["n1", "n2"], a),
                        "containers": [{ "name": "app" }],
                    }),
                );
                pod["metadata"]["labels"] =
                    json!({ "app": app, "version": version, "security.istio.io/tlsMode": pick(&["istio", "none"], c) });
                if a.wrapping_add(b).is_multiple_of(2) {
                    pod["metadata"]["annotations"] = json!({ "ambient.istio.io/redirection": "enabled" });
                }
                pod["status"] = json!({
                    "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                    "conditions": [{ "type": "Ready", "status": pick(&["True", "True", "False"], a) }],
                });
                pod
            }
            3 | 4 => {
                let app = pick(&APPS, self.name);
                let mut spec = json!({
                    "clusterIP": format!("10.1.{}.{}", self.namespace % 3, self.name % 3), "selector": { "app": app },
                    "ports": [
                        { "port": 80, "name": pick(&["http", "tcp", "grpc-x"], a), "targetPort": 8080, "protocol": "TCP" },
                        { "port": 9000, "name": pick(&["tcp", "x"], b), "protocol": "TCP" },
                    ],
                });
                match c % 5 {
                    0 => spec["clusterIP"] = json!("None"),
                    1 => spec["trafficDistribution"] = json!(pick(&["PreferClose", "PreferSameNode"], a)),
                    2 => spec["internalTrafficPolicy"] = json!("Local"),
                    _ => {}
                }
                of("v1", "Service", app, spec)
            }
            5 => {
                let mut spec = json!({
                    "hosts": [pick(&HOSTS[3..5], a)], "ports": [{ "number": 80 + u16::from(b % 2), "name": "http", "protocol": pick(&["HTTP", "TCP"], c) }],
                    "resolution": pick(&["STATIC", "DNS", "NONE"], b), "location": pick(&["MESH_EXTERNAL", "MESH_INTERNAL"], c),
                    "exportTo": [pick(&["*", "."], c)],
                });
                match (b % 3, a % 2) {
                    (0, 0) => spec["endpoints"] = json!([{ "address": "1.2.3.4" }]),
                    (0, _) => spec["workloadSelector"] = json!({ "labels": { "app": "web" } }),
                    _ => {}
                }
                of(networking, "ServiceEntry", name, spec)
            }
            6 => of(
                networking,
                "WorkloadEntry",
                name,
                json!({ "address": format!("10.8.0.{}", self.name % 2), "labels": { "app": pick(&APPS, a) }, "serviceAccount": "vm" }),
            ),
            7 | 8 => {
                let destination = |by: u8| {
                    let mut to = json!({ "host": pick(&HOSTS, by), "port": { "number": 80 } });
                    if by.is_multiple_of(3) {
                        to["subset"] = json!("v1");
                    }
                    json!({ "destination": to, "weight": 50 })
                };
                let mut route =
                    json!({ "route": [destination(b), destination(c)], "timeout": format!("{}s", 1 + a % 3) });
                if a.is_multiple_of(2) {
                    route["match"] = json!([{ "uri": { "prefix": "/a" }, "sourceLabels": { "app": pick(&APPS, c) } }]);
                }
                let gateways = json!([pick(&["mesh", "istio-system/one"], c)]);
                of(
                    networking,
                    "VirtualService",
                    name,
                    json!({
                        "hosts": [pick(&HOSTS, a)], "http": [route, { "route": [destination(a)] }], "gateways": gateways,
                        "tcp": [{ "route": [{ "destination": { "host": pick(&HOSTS, b) } }] }],
                    }),
                )
            }
            9 | 10 => {
                let mut policy = json!({ "tls": { "mode": pick(&["ISTIO_MUTUAL", "DISABLE", "SIMPLE"], b) } });
                match c % 4 {
                    0 => policy["outlierDetection"] = json!({ "consecutive5xxErrors": 3 }),
                    1 => {
                        policy["loadBalancer"] = json!({ "localityLbSetting": { "failoverPriority": ["topology.kubernetes.io/region", "version"] } })
                    }
                    2 => policy["loadBalancer"] = json!({ "consistentHash": { "httpHeaderName": "x-user" } }),
                    _ => {}
                }
                let mut spec = json!({
                    "host": pick(&HOSTS, a), "trafficPolicy": policy, "subsets": [{ "name": "v1", "labels": { "version": "v1" } }],
                    "exportTo": [pick(&["*", "."], b)],
                });
                if c.is_multiple_of(5) {
                    spec["workloadSelector"] = selector();
                }
                of(networking, "DestinationRule", name, spec)
            }
            11 => {
                let mut spec = json!({ "egress": [{ "hosts": [pick(&["./*", "shop/*", "*/*"], a)] }] });
                if b.is_multiple_of(2) {
                    spec["workloadSelector"] = json!({ "labels": { "app": pick(&APPS, c) } });
                }
                of(networking, "Sidecar", name, spec)
            }
            12 => {
                let mut spec = json!({ "action": pick(&["ALLOW", "DENY"], b), "rules": [{ "to": [{ "operation": { "methods": [pick(&["GET", "POST"], c)] } }] }] });
                if a.is_multiple_of(2) {
                    spec["selector"] = selector();
                }
                of("security.istio.io/v1", "AuthorizationPolicy", name, spec)
            }
            13 => {
                let mut spec = json!({ "mtls": { "mode": pick(&["STRICT", "PERMISSIVE", "DISABLE"], b) } });
                if a.is_multiple_of(2) {
                    spec["selector"] = selector();
                }
                of("security.istio.io/v1", "PeerAuthentication", name, spec)
            }
            14 => of(
                "security.istio.io/v1",
                "RequestAuthentication",
                name,
                json!({
                    "selector": selector(), "jwtRules": [{ "issuer": pick(&["i", "j"], b), "jwks": "{\"keys\":[]}" }],
                }),
            ),
            15 => {
                let mut spec = json!({
                    "accessLogging": [{ "providers": [{ "name": "envoy" }], "disabled": a.is_multiple_of(3) }],
                    "tracing": [{ "providers": [{ "name": pick(&["zipkin", "otel"], b) }], "match": { "mode": pick(&["CLIENT", "SERVER"], c) } }],
                });
                if a.is_multiple_of(2) {
                    spec["selector"] = selector();
                }
                of("telemetry.istio.io/v1", "Telemetry", name, spec)
            }
            16 => {
                let patch = match b % 4 {
                    0 => json!({
                        "applyTo": "CLUSTER", "match": { "cluster": { "service": pick(&HOSTS, a) } },
                        "patch": { "operation": "MERGE", "value": { "connect_timeout": format!("{}s", 1 + c % 3) } },
                    }),
                    1 => json!({
                        "applyTo": "CLUSTER",
                        "patch": { "operation": "ADD", "value": { "name": "more", "connect_timeout": format!("{}s", 1 + c % 3) } },
                    }),
                    2 => json!({
                        "applyTo": "CLUSTER", "match": { "cluster": { "service": pick(&HOSTS, a) } }, "patch": { "operation": "REMOVE" },
                    }),
                    _ => json!({
                        "applyTo": "LISTENER", "match": { "context": pick(&["SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "ANY"], c) },
                        "patch": { "operation": "MERGE", "value": { "per_connection_buffer_limit_bytes": 1024 + u16::from(a) } },
                    }),
                };
                let mut spec = json!({ "configPatches": [patch] });
                if a.is_multiple_of(3) {
                    spec["workloadSelector"] = json!({ "labels": { "app": pick(&APPS, c) } });
                }
                of("networking.istio.io/v1alpha3", "EnvoyFilter", name, spec)
            }
            17 => of(
                "extensions.istio.io/v1alpha1",
                "WasmPlugin",
                name,
                json!({
                    "url": format!("file:///plugin-{}.wasm", b % 2), "phase": pick(&["AUTHN", "STATS"], c), "selector": selector(),
                }),
            ),
            18 => {
                let spec = json!({ "lua": { "inlineCode": format!("-- {}", b % 3) }, "selector": selector() });
                of("extensions.istio.io/v1alpha1", "TrafficExtension", name, spec)
            }
            19 => {
                let mut labels = json!({});
                if !a.is_multiple_of(3) {
                    labels["istio.io/use-waypoint"] = json!("waypoint");
                }
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": pick(&NAMESPACES, self.namespace), "labels": labels } })
            }
            20 => {
                let address = json!({ "type": "Hostname", "value": pick(&HOSTS, b) });
                let mut gateway = of(
                    "gateway.networking.k8s.io/v1",
                    "Gateway",
                    "waypoint",
                    json!({ "gatewayClassName": "istio-waypoint", "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] }),
                );
                gateway["metadata"]["labels"]["istio.io/waypoint-for"] =
                    json!(pick(&["service", "workload", "all"], c));
                gateway["status"] = json!({ "addresses": [address] });
                gateway
            }
            21 => of(
                "security.istio.io/v1",
                "AuthorizationPolicy",
                "of-waypoint",
                json!({
                    "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint" }],
                    "action": pick(&["ALLOW", "DENY"], b), "rules": [{ "to": [{ "operation": { "paths": [pick(&["/a", "/b"], c)] } }] }],
                }),
            ),
            22 => of(
                "networking.istio.io/v1beta1",
                "ProxyConfig",
                name,
                json!({ "selector": selector(), "concurrency": b % 4 }),
            ),
            23 => {
                let labels = json!({ "topology.kubernetes.io/region": pick(&["r1", "r2"], b) });
                json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": pick(&["n1", "n2"], a), "labels": labels } })
            }
            _ => of(
                networking,
                "Gateway",
                "one",
                json!({
                    "selector": { "app": "edge" },
                    "servers": [
                        { "port": { "number": 80 + u16::from(a % 2), "name": "http", "protocol": "HTTP" }, "hosts": [pick(&["*", "*.example.com"], b)] },
                        { "port": { "number": 15443, "name": "tls", "protocol": "TLS" }, "hosts": ["*.local"], "tls": { "mode": pick(&["AUTO_PASSTHROUGH", "PASSTHROUGH"], c) } },
                    ],
                }),
            ),
        }
    }
}

/// What happens to the objects.
#[derive(Debug, Clone)]
enum Step {
    Put(Seed),
    /// Removes one of those there are.
    Remove(u8),
    /// Changes the mesh's configuration.
    Configure(u8),
    /// Changes the authority's roots.
    Trust(u8),
}

/// The mesh's configuration that a byte stands for: with somebody to tell about requests.
fn mesh_config(by: u8) -> MeshConfig {
    let conventions = pick(&["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"], by);
    let mut text = json!({
        "protocolDetectionTimeout": format!("{}s", by % 2), "enableAutoMtls": !by.is_multiple_of(3),
        "extensionProviders": [
            { "name": "zipkin", "zipkin": { "service": "web.shop.svc.cluster.local", "port": 80 } },
            { "name": "otel", "opentelemetry": { "service": "bank/db.bank.svc.cluster.local", "port": 9000, "serviceAttributeEnrichment": conventions } },
        ],
    });
    if by.is_multiple_of(5) {
        text["defaultProviders"] = json!({ "tracing": ["zipkin"] });
    }
    if by.is_multiple_of(4) {
        text["caCertificates"] = json!([{ "pem": *FURTHER }]);
    }
    crate::statuses::mesh_config(&text.to_string()).0
}

/// A root besides the authority's.
static FURTHER: LazyLock<String> = LazyLock::new(|| trust_bundle::tests::root("further"));

fn proxies() -> Vec<Proxy> {
    let proxy = |kind: &str, address: &str, place: &str, labels: Value| {
        let (name, namespace) = place.split_once('.').expect("name.namespace");
        let id = format!("{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local");
        let mut metadata = json!({ "NAMESPACE": namespace, "LABELS": labels, "NODE_NAME": "n1", "MESH_ID": "m", "WORKLOAD_NAME": name });
        // Others of the same kind know no tunnels, and tell their pods no names.
        if ["elsewhere.bank", "edge.istio-system"].contains(&place) {
            metadata["ENABLE_HBONE"] = json!("true");
        }
        if ["elsewhere.bank", "edge.istio-system"].contains(&place) {
            metadata["DNS_CAPTURE"] = json!("true");
        }
        Proxy::of_node(&id, &metadata).expect("a proxy")
    };
    vec![
        proxy(
            "sidecar",
            "10.0.0.3",
            "web.shop",
            json!({ "app": "web", "topology.kubernetes.io/region": "r1" }),
        ),
        proxy(
            "sidecar",
            "10.0.0.4",
            "db.shop",
            json!({ "app": "db", "topology.kubernetes.io/region": "r2" }),
        ),
        proxy("sidecar", "10.0.0.6", "web.bank", json!({ "app": "web" })),
        proxy(
            "sidecar",
            "10.0.7.7",
            "elsewhere.bank",
            json!({ "app": "web", "version": "v2" }),
        ),
        proxy("router", "10.0.0.2", "edge.istio-system", json!({ "app": "edge" })),
        proxy(
            "waypoint",
            "10.0.0.9",
            "waypoint.shop",
            json!({ "gateway.networking.k8s.io/gateway-name": "waypoint" }),
        ),
    ]
}

/// The control plane's side: the model, the configuration, and the compiler.
struct Control {
    mesh: Mesh,
    reader: Reader,
    configs: Arc<Configs>,
    config: Arc<MeshConfig>,
    keys: Arc<KeySets>,
    objects: BTreeMap<(String, String, String), Value>,
    compiler: Compiler,
    /// The authority's roots.
    roots: Vec<String>,
    stores: Vec<(Proxy, Arc<Shared>)>,
    clients: Vec<[Client; 2]>,
}

impl Control {
    fn new() -> Control {
        Control {
            mesh: Mesh::new(Settings::default().with_mesh_config(&MeshConfig::default())),
            reader: Reader::default(),
            configs: Arc::default(),
            config: Arc::default(),
            keys: Arc::default(),
            objects: BTreeMap::new(),
            compiler: Compiler::default(),
            roots: Vec::new(),
            stores: Vec::new(),
            clients: Vec::new(),
        }
    }

    fn connect(&mut self, proxy: Proxy) {
        let number = self.stores.len() as u64;
        let shared = self.compiler.add(number, proxy.clone());
        self.stores.push((proxy, shared));
        self.clients.push([Variant::Delta, Variant::State].map(Client::new));
    }

    fn put(&mut self, object: &Value, changes: &mut Vec<Change>) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let kind = object["kind"].as_str().unwrap_or_default();
        let key = (kind.to_owned(), text("namespace"), text("name"));
        self.objects.insert(key, object.clone());
        let api = object["apiVersion"].as_str().unwrap_or_default();
        let group = api.split_once('/').map_or("", |(group, _)| group);
        let routing = ConfigKind::of(group, kind);
        if let Some(read) = self.reader.read(object).object {
            if routing.is_some() {
                Arc::make_mut(&mut self.configs).put_input(&read);
            }
            changes.push(Change::Put(read));
        }
        if let Some(kind) = routing {
            Arc::make_mut(&mut self.configs).put(kind, object);
        }
    }

    fn remove(&mut self, by: u8, changes: &mut Vec<Change>) {
        let at = usize::from(by) % self.objects.len().max(1);
        let Some(key) = self.objects.keys().nth(at).cloned() else {
            return;
        };
        let Some(object) = self.objects.remove(&key) else {
            return;
        };
        let (kind, namespace, name) = key;
        let api = object["apiVersion"].as_str().unwrap_or_default();
        let group = api.split_once('/').map_or("", |(group, _)| group);
        if let Some(kind) = ConfigKind::of(group, &kind) {
            Arc::make_mut(&mut self.configs).remove(&ConfigKey {
                kind,
                namespace: namespace.as_str().into(),
                name: name.as_str().into(),
            });
        }
        if let Some(kind) = corten_model::ObjectKind::of(group, &kind) {
            changes.push(Change::Remove(ObjectKey::new(kind, &namespace, &name)));
        }
    }

    fn put_all(&mut self, objects: &[Value]) {
        let mut changes = Vec::new();
        for object in objects {
            self.put(object, &mut changes);
        }
        self.deliver(changes);
    }

    fn apply(&mut self, steps: &[Step]) {
        let mut changes = Vec::new();
        for step in steps {
            match step {
                Step::Put(seed) => self.put(&seed.object(), &mut changes),
                Step::Remove(by) => self.remove(*by, &mut changes),
                Step::Configure(by) => {
                    self.config = Arc::new(mesh_config(*by));
                    let settings = Settings::default().with_mesh_config(&self.config);
                    changes.push(Change::Settings(Arc::new(settings)));
                }
                Step::Trust(by) => {
                    self.roots = (0..by % 3).map(|at| format!("root {at} of {by}")).collect();
                    self.compiler.trust(self.roots.clone(), Instant::now());
                }
            }
        }
        self.deliver(changes);
    }

    fn deliver(&mut self, changes: Vec<Change>) {
        let delta = self.mesh.apply(changes);
        let inputs = Inputs {
            model: self.mesh.snapshot(),
            mesh: Arc::clone(&self.config),
            configs: Arc::clone(&self.configs),
            keys: Arc::clone(&self.keys),
        };
        self.compiler.update(inputs, &delta, Instant::now());
    }

    /// Compares every store with what is generated anew, and what clients come to hold with the stores.
    fn check(&mut self) {
        for ((proxy, shared), clients) in self.stores.iter().zip(&mut self.clients) {
            for client in clients {
                client.follow(shared, &proxy.name);
            }
        }
        let mut world = World::new(Settings::default(), MeshConfig::clone(&self.config));
        world.put(self.objects.values());
        let snapshot = world.snapshot();
        let removing = |object: &Value| object["spec"]["configPatches"][0]["patch"]["operation"] == "REMOVE";
        let removes = self.objects.values().any(removing);
        for (proxy, shared) in &self.stores {
            let proxy = as_it_is(proxy, &snapshot);
            let made = generate(&snapshot, &proxy);
            let mut wrong = dangling(&made);
            // A patch that removes a cluster to the workload itself takes it from under its listener: somebody wrote that.
            wrong.retain(|one| !(removes && one.contains(" leads to cluster inbound|")));
            assert_eq!(wrong, Vec::<String>::new(), "{}.{}", proxy.name, proxy.namespace);
            let mut wanted = BTreeMap::new();
            encode(&made, |type_url, resource| {
                wanted.insert((type_url, resource.name().to_string()), resource);
            });
            if let Some(trust) = trust_bundle::bundle(&self.roots, &self.config) {
                wanted.insert((corten_proto::PROXY_CONFIG_TYPE, trust.name().to_string()), trust);
            }
            let mut held = BTreeMap::new();
            shared.read(|look| {
                for config in types() {
                    for resource in look.resources(config.type_url) {
                        held.insert((config.type_url, resource.name().to_string()), Arc::clone(resource));
                    }
                }
            });
            let names = |keys: &mut dyn Iterator<Item = &(&'static str, String)>| -> BTreeSet<(&str, String)> {
                keys.cloned().collect()
            };
            assert_eq!(
                names(&mut held.keys()),
                names(&mut wanted.keys()),
                "{}.{}",
                proxy.name,
                proxy.namespace
            );
            for (key, resource) in &wanted {
                assert!(
                    held[key].same(resource),
                    "{key:?} of {}.{}:\n{}\n{}",
                    proxy.name,
                    proxy.namespace,
                    shown(key.0, &held[key].body()),
                    shown(key.0, &resource.body()),
                );
            }
        }
    }
}

fn shown(type_url: &str, body: &[u8]) -> String {
    let name = corten_envoy::type_name(type_url);
    corten_envoy::to_json(name, body).map_or_else(|error| error.to_string(), |value| value.to_string())
}

fn seed() -> impl Strategy<Value = Seed> {
    any::<[u8; 6]>().prop_map(|[kind, namespace, name, a, b, c]| Seed {
        kind,
        namespace,
        name,
        a,
        b,
        c,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => seed().prop_map(Step::Put),
        3 => any::<u8>().prop_map(Step::Remove),
        2 => any::<u8>().prop_map(Step::Configure),
        1 => any::<u8>().prop_map(Step::Trust),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_from_scratch(
        first in prop::collection::vec(seed().prop_map(Step::Put), 0..24),
        batches in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..12),
        late in 0usize..6,
    ) {
        let mut control = Control::new();
        control.apply(&first);
        let proxies = proxies();
        for proxy in &proxies[..late] {
            control.connect(proxy.clone());
        }
        control.check();
        for (at, batch) in batches.iter().enumerate() {
            control.apply(batch);
            if at == 1 {
                for proxy in &proxies[late..] {
                    control.connect(proxy.clone());
                }
            }
            control.check();
        }
    }
}

/// What a change costs: how many services, outward parts and own parts are generated.
#[test]
fn work_follows_the_change() {
    let seed = |kind, namespace, name, [a, b, c]: [u8; 3]| Seed {
        kind,
        namespace,
        name,
        a,
        b,
        c,
    };
    let (service, pod, route, rule, policy) = (3, 0, 7, 9, 12);
    let mut control = Control::new();
    let mut first = Vec::new();
    for namespace in [1, 2] {
        for app in [0, 1] {
            first.push(Step::Put(seed(service, namespace, app, [0, 0, 3])));
            first.push(Step::Put(seed(pod, namespace, app, [0, 0, 0])));
        }
    }
    control.apply(&first);
    // Two in one namespace, and one in the other.
    for proxy in &proxies()[..3] {
        control.connect(proxy.clone());
    }
    let mut before = control.compiler.work();
    // Four services that all see alike, two namespaces, three proxies.
    assert_eq!(before, (4, 2, 3));
    let mut check = |what: &str, step: Step, expected: (u64, u64, u64)| {
        control.apply(&[step]);
        control.check();
        let now = control.compiler.work();
        assert_eq!(
            (now.0 - before.0, now.1 - before.1, now.2 - before.2),
            expected,
            "{what}"
        );
        before = now;
    };
    // The pod of web.bank ends its readiness: its service for everybody, and its own proxy.
    check("an endpoint", Step::Put(seed(pod, 2, 0, [2, 0, 0])), (1, 0, 1));
    // Nothing is different about it.
    check("the same endpoint", Step::Put(seed(pod, 2, 0, [2, 0, 0])), (0, 0, 0));
    // A route of hosts of shop, for all.
    check("a route", Step::Put(seed(route, 1, 0, [1, 1, 0])), (0, 2, 0));
    // A rule for db.shop alone: its clusters, the routes, which know about hashing, and the limits of the proxy there.
    check("a rule", Step::Put(seed(rule, 1, 0, [1, 0, 3])), (1, 2, 1));
    // A policy of bank: the listener of the one proxy there, and what goes out of its namespace not.
    check("a policy", Step::Put(seed(policy, 2, 0, [1, 0, 0])), (0, 0, 1));
    // A service that is known already, with another port.
    check("a service", Step::Put(seed(service, 2, 1, [1, 0, 3])), (1, 2, 0));
}

/// What a change costs proxies that are made whole: a waypoint, and a sidecar that a patch is for.
#[test]
fn endpoints_are_sent_by_themselves_where_everything_is_made_at_once() {
    let seed = |kind, namespace, name, [a, b, c]: [u8; 3]| {
        Step::Put(Seed {
            kind,
            namespace,
            name,
            a,
            b,
            c,
        })
    };
    let (service, pod, filter, namespace, waypoint) = (3, 0, 16, 19, 20);
    let mut control = Control::new();
    control.apply(&[
        seed(namespace, 1, 0, [1, 0, 0]),
        seed(waypoint, 1, 0, [0, 0, 0]),
        seed(filter, 1, 0, [1, 0, 0]),
        seed(service, 1, 0, [0, 0, 3]),
        seed(service, 1, 1, [0, 0, 3]),
        seed(pod, 1, 0, [0, 0, 0]),
        seed(pod, 1, 1, [0, 0, 0]),
    ]);
    let proxies = proxies();
    for proxy in [&proxies[1], &proxies[5]] {
        control.connect(proxy.clone());
    }
    control.check();
    let endpoints = |control: &Control| -> Vec<BTreeSet<Vec<u8>>> {
        let stores = control.stores.iter();
        let all = |shared: &Arc<Shared>| {
            shared.read(|look| {
                look.resources(crate::resources::ENDPOINT)
                    .map(|one| one.body().to_vec())
                    .collect()
            })
        };
        stores.map(|(_, shared)| all(shared)).collect()
    };
    let (work, before) = (control.compiler.work(), endpoints(&control));
    // The pod of web.shop, which neither of them is, ends its readiness.
    control.apply(&[seed(pod, 1, 0, [2, 0, 0])]);
    control.check();
    assert_eq!(control.compiler.work(), work);
    for (now, before) in endpoints(&control).iter().zip(&before) {
        assert_ne!(now, before);
    }
    // A workload of another account is one whose certificate clusters believe, too.
    control.apply(&[seed(pod, 1, 0, [0, 0, 1])]);
    control.check();
    let work = (work.0, work.1, work.2 + 2);
    assert_eq!(control.compiler.work(), work);
    // A rule for it is for both.
    control.apply(&[seed(9, 1, 0, [0, 0, 0])]);
    control.check();
    assert_eq!(control.compiler.work(), (work.0, work.1, work.2 + 2));
}

/// A router may connect before it is known which services its pod belongs to, and what it listens on follows from their ports.
#[test]
fn a_router_listens_when_its_services_become_known() {
    let of = |api: &str, kind: &str, labels: Value, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": { "name": "edge", "namespace": "istio-system", "labels": labels }, "spec": spec });
    let mut pod = of(
        "v1",
        "Pod",
        json!({ "app": "edge" }),
        json!({ "nodeName": "n1", "containers": [{ "name": "istio-proxy" }] }),
    );
    pod["status"] = json!({
        "phase": "Running", "podIP": "10.0.0.2", "podIPs": [{ "ip": "10.0.0.2" }], "conditions": [{ "type": "Ready", "status": "True" }],
    });
    let mut control = Control::new();
    control.put_all(&[
        of(
            "v1",
            "Service",
            json!({}),
            json!({ "clusterIP": "10.1.0.1", "selector": { "app": "edge" }, "ports": [{ "port": 80, "name": "http", "targetPort": 8080 }] }),
        ),
        of(
            "networking.istio.io/v1",
            "Gateway",
            json!({}),
            json!({ "selector": { "app": "edge" }, "servers": [{ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] }] }),
        ),
    ]);
    control.connect(proxies()[4].clone());
    control.check();
    control.put_all(&[pod]);
    control.check();
}

/// A proxy that does not say where it is, is where its pod is, whenever that becomes known, and before that where its neighbours are.
#[test]
fn where_a_proxy_is_follows_from_what_becomes_known() {
    let node = |name: &str, region: &str| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "topology.kubernetes.io/region": region } } });
    let pod = |name: &str, node: &str, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "bank", "labels": { "app": name } },
            "spec": { "nodeName": node, "containers": [{ "name": "app" }] },
            "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] },
        })
    };
    let region = |control: &Control| control.compiler.proxies[&0].proxy.locality.region.clone();
    let web = || proxies()[2].clone();
    let mut control = Control::new();
    control.connect(web());
    assert_eq!(region(&control), "", "nothing is known");
    control.put_all(&[node("n1", "r1"), node("n2", "r2"), pod("db", "n1", "10.0.0.7")]);
    assert_eq!(region(&control), "r1", "beside another");
    control.check();
    control.put_all(&[pod("web", "n2", "10.0.0.6")]);
    assert_eq!(region(&control), "r2", "its own pod");
    control.check();
    control.put_all(&[node("n1", "r3")]);
    assert_eq!(region(&control), "r2");
    control.put_all(&[node("n2", "r4")]);
    assert_eq!(region(&control), "r4");
    control.check();

    // The first proxy of a mesh that has nothing else to say.
    let mut control = Control::new();
    control.put_all(&[node("n2", "r2"), pod("web", "n2", "10.0.0.6")]);
    control.connect(web());
    assert_eq!(region(&control), "r2");
}
