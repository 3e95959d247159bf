//! Incremental equals from scratch: whatever happens to the objects of a mesh, in whatever batches, its snapshot is the
//! one that a new mesh with the same objects has, the delta names exactly what differs, and what a server keeps by
//! following deltas is what it would generate anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use corten_api::{decode::document, istio::mesh_config::MeshConfig};
use corten_model::{AddressKey, Change, Delta, Mesh, ObjectKey, Reader, Settings, Snapshot};
use corten_xds_gen::{Resource, address, authorization};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The objects are drawn from a small world, so that they refer to each other all the time.
const NAMESPACES: [&str; 3] = ["istio-system", "shop", "bank"];
const APPS: [&str; 3] = ["web", "db", "job"];
const WAYPOINTS: [&str; 3] = ["wp", "other", "none"];
const MODES: [&str; 4] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];

/// One of few.
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
    fn labels(self) -> Value {
        let mut labels = json!({ "app": pick(&APPS, self.a) });
        if self.b.is_multiple_of(3) {
            labels["version"] = json!("v1");
        }
        if self.c.is_multiple_of(4) {
            labels["istio.io/use-waypoint"] = json!(pick(&WAYPOINTS, self.b));
        }
        if self.c.is_multiple_of(8) {
            labels["istio.io/use-waypoint-namespace"] = json!(pick(&NAMESPACES, self.a));
            labels["istio.io/use-waypoint-canary"] = json!(pick(&WAYPOINTS, self.a));
        }
        labels
    }

    fn metadata(self, name: &str) -> Value {
        json!({
            "name": name, "namespace": pick(&NAMESPACES, self.namespace), "labels": self.labels(),
            "creationTimestamp": format!("2026-01-0{}T00:00:00Z", 1 + self.c % 3),
            "annotations": { "istio.io/use-waypoint-canary-weight": pick(&["10", "x", "100"], self.a) },
        })
    }

    fn object(self) -> Value {
        let name = pick(&["one", "two"], self.name);
        let Seed { a, b, c, .. } = self;
        match self.kind % 14 {
            0 => {
                let mut metadata = self.metadata(pick(&NAMESPACES, self.namespace));
                metadata["namespace"] = Value::Null;
                if a.is_multiple_of(4) {
                    metadata["labels"]["topology.istio.io/network"] = json!(pick(&["n1", "n2"], b));
                }
                if b.is_multiple_of(3) {
                    metadata["annotations"]["networking.istio.io/traffic-distribution"] = json!("PreferClose");
                }
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
            }
            1 => json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "labels": { "topology.kubernetes.io/region": pick(&["r1", "r2"], a) } },
                "status": { "conditions": [{ "type": "Ready", "status": pick(&["Unknown", "True", "False"], b) }] },
            }),
            2 => json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
                "metadata": { "name": "waypoint", "labels": { "istio.io/waypoint-for": pick(&["all", "workload"], a) } },
                "spec": { "controllerName": pick(&["istio.io/mesh-controller", "x"], b) },
            }),
            3 => {
                let mut metadata = self.metadata(pick(&WAYPOINTS[..2], self.name));
                if a.is_multiple_of(3) {
                    metadata["labels"]["istio.io/waypoint-for"] = json!(pick(&["all", "service", "none"], b));
                }
                if b.is_multiple_of(5) {
                    metadata["labels"]["topology.istio.io/network"] = json!("n2");
                }
                let addresses = if c.is_multiple_of(3) {
                    json!([])
                } else {
                    json!([{ "type": "IPAddress", "value": format!("10.9.0.{}", c % 4) }])
                };
                json!({
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata,
                    "spec": {
                        "gatewayClassName": pick(&["waypoint", "istio-remote"], b),
                        "listeners": [{
                            "name": "mesh", "port": 15008, "protocol": "HBONE",
                            "allowedRoutes": { "namespaces": { "from": pick(&["All", "Same", "Selector"], a), "selector": { "matchLabels": { "version": "v1" } } } },
                        }],
                    },
                    "status": { "addresses": addresses },
                })
            }
            4 | 5 => {
                let mut spec = json!({
                    "clusterIP": format!("10.1.0.{}", self.name % 4), "trafficDistribution": pick(&["PreferClose", "x"], a),
                    "ports": [{ "port": 80, "name": "http", "targetPort": pick(&["web", "db"], b), "protocol": "TCP" }],
                    "type": if c.is_multiple_of(7) { "ExternalName" } else { "ClusterIP" },
                });
                if !c.is_multiple_of(5) {
                    spec["selector"] = json!({ "app": pick(&APPS, a) });
                }
                json!({ "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(name), "spec": spec })
            }
            6 | 7 => {
                let hosts = [
                    json!(["a.example"]),
                    json!(["a.example", "*.b.example"]),
                    json!([format!("{name}.shop.svc.cluster.local")]),
                ];
                let mut spec = json!({
                    "hosts": hosts[usize::from(a) % 3], "resolution": pick(&["DNS", "STATIC", "NONE"], b),
                    "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
                });
                match c % 4 {
                    0 => spec["workloadSelector"] = json!({ "labels": { "app": pick(&APPS, b) } }),
                    1 => {
                        spec["endpoints"] = json!([{ "address": "10.8.0.1", "network": pick(&["", "n2"], a) }, { "address": "e.example" }])
                    }
                    2 => spec["addresses"] = json!(["10.7.0.1", "10.6.0.0/16"]),
                    _ => {}
                }
                json!({ "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": self.metadata(name), "spec": spec })
            }
            8 => json!({
                "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": self.metadata(name),
                "spec": { "address": format!("10.5.0.{}", a % 3), "network": pick(&["", "n2"], b) },
            }),
            9 => json!({
                "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": self.metadata(name),
                "spec": if a.is_multiple_of(2) {
                    json!({ "mtls": { "mode": pick(&MODES, b) } })
                } else {
                    json!({
                        "selector": { "matchLabels": { "app": pick(&APPS, a) } }, "mtls": { "mode": pick(&MODES, b) },
                        "portLevelMtls": { "80": { "mode": pick(&MODES, c) } },
                    })
                },
            }),
            10 => {
                let mut spec = json!({
                    "action": pick(&["ALLOW", "DENY", "AUDIT"], a),
                    "rules": [{ "from": [{ "source": { "principals": ["*"] } }], "to": [{ "operation": { "paths": if b.is_multiple_of(2) { json!(["/x"]) } else { json!([]) } } }] }],
                });
                match c % 3 {
                    0 => spec["selector"] = json!({ "matchLabels": { "app": pick(&APPS, b) } }),
                    1 => {
                        spec["targetRefs"] = json!([
                            { "kind": pick(&["Service", "ServiceEntry"], a), "group": "", "name": name },
                            { "kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "wp" },
                            { "kind": "GatewayClass", "group": "gateway.networking.k8s.io", "name": "waypoint" },
                        ]);
                    }
                    _ => {}
                }
                json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": self.metadata(name), "spec": spec })
            }
            11 => {
                let mut metadata = self.metadata(name);
                metadata["labels"]["kubernetes.io/service-name"] = json!(pick(&["one", "two"], a));
                json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": metadata,
                    "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                    "endpoints": [
                        { "addresses": ["10.4.0.1"] },
                        { "addresses": ["10.2.0.1"], "targetRef": { "kind": "Pod", "namespace": pick(&NAMESPACES, self.namespace), "name": pick(&["one", "two"], b), "uid": "1" } },
                    ],
                })
            }
            _ => {
                let mut metadata = self.metadata(name);
                metadata["uid"] = json!(pick(&["1", "2"], c / 4));
                if b.is_multiple_of(5) {
                    metadata["labels"]["gateway.networking.k8s.io/gateway-name"] = json!("wp");
                }
                json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                    "spec": {
                        "nodeName": pick(&["one", "two"], a), "serviceAccountName": pick(&APPS, b), "hostNetwork": c.is_multiple_of(9),
                        "containers": [{ "ports": [{ "name": pick(&["web", "db"], c), "containerPort": 8000, "protocol": "TCP" }] }],
                    },
                    "status": {
                        "phase": pick(&["Running", "Running", "Succeeded"], c), "podIP": format!("10.2.0.{}", a % 5),
                        "conditions": [
                            { "type": "Ready", "status": pick(&["True", "False"], c) },
                            { "type": "ContainersReady", "status": pick(&["True", "False", "True"], b) },
                        ],
                    },
                })
            }
        }
    }
}

fn seeds() -> impl Strategy<Value = Seed> {
    (0u8..14, 0u8..3, 0u8..2, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(kind, namespace, name, a, b, c)| Seed {
        kind,
        namespace,
        name,
        a,
        b,
        c,
    })
}

/// What happens: something is there or different, or gone; or the settings are others.
#[derive(Debug, Clone)]
enum Event {
    Put(Seed),
    Remove(Seed),
    Settings(u8),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => seeds().prop_map(Event::Put),
        3 => seeds().prop_map(Event::Remove),
        1 => any::<u8>().prop_map(Event::Settings),
    ]
}

fn settings(by: u8) -> Settings {
    let config = match by % 4 {
        0 => json!({ "trustDomain": "td.example", "rootNamespace": "shop" }),
        1 => json!({ "serviceEntryVisibility": { "defaultVisibility": "NAMESPACE" } }),
        2 => {
            json!({ "serviceScopeConfigs": [{ "scope": "GLOBAL", "servicesSelector": { "matchLabels": { "app": "web" } } }] })
        }
        _ => json!({}),
    };
    let (node, _) = document("mesh", &config.to_string());
    let config: MeshConfig = node
        .and_then(|node| corten_api::codec::decode(&node).0)
        .unwrap_or_default();
    Settings {
        allow_waypoints: by.is_multiple_of(2),
        ..Settings::default().with_mesh_config(&config)
    }
}

/// What a server holds that only follows deltas.
#[derive(Debug, Default, PartialEq)]
struct Server {
    addresses: BTreeMap<String, Resource>,
    policies: BTreeMap<String, Resource>,
}

impl Server {
    fn follow(&mut self, snapshot: &Snapshot, delta: &Delta) {
        for key in delta.addresses() {
            set(&mut self.addresses, key.name(), address(snapshot, &key));
        }
        for key in &delta.policies {
            set(&mut self.policies, key, authorization(snapshot, key));
        }
    }

    fn anew(snapshot: &Snapshot) -> Server {
        let named = |resource: Resource| (resource.name.to_string(), resource);
        Server {
            addresses: snapshot
                .address_keys()
                .filter_map(|key| address(snapshot, &key))
                .map(named)
                .collect(),
            policies: snapshot
                .policies()
                .filter_map(|policy| authorization(snapshot, &policy.key))
                .map(named)
                .collect(),
        }
    }
}

fn set(held: &mut BTreeMap<String, Resource>, key: &str, resource: Option<Resource>) {
    match resource {
        Some(resource) => drop(held.insert(key.to_owned(), resource)),
        None => drop(held.remove(key)),
    }
}

/// What differs between two snapshots.
fn difference(old: &Snapshot, new: &Snapshot) -> Delta {
    fn keys<K: Ord>(
        old: impl Iterator<Item = K>,
        new: impl Iterator<Item = K>,
        differs: impl Fn(&K) -> bool,
    ) -> BTreeSet<K> {
        old.chain(new).filter(differs).collect()
    }
    let workloads = |s: &Snapshot| {
        s.workloads()
            .map(|w| Arc::clone(&w.uid))
            .collect::<Vec<_>>()
            .into_iter()
    };
    let services = |s: &Snapshot| s.services().map(|s| Arc::clone(&s.key)).collect::<Vec<_>>().into_iter();
    let policies = |s: &Snapshot| s.policies().map(|p| Arc::clone(&p.key)).collect::<Vec<_>>().into_iter();
    let waypoints = |s: &Snapshot| {
        s.waypoints()
            .map(|w| Arc::clone(&w.key))
            .collect::<Vec<_>>()
            .into_iter()
    };
    let statuses = |s: &Snapshot| {
        s.statuses()
            .map(|(key, _)| key.clone())
            .collect::<Vec<ObjectKey>>()
            .into_iter()
    };
    let objects = corten_model::ObjectKind::ALL
        .into_iter()
        .flat_map(|kind| NAMESPACES.into_iter().map(move |namespace| (kind, namespace)))
        .flat_map(|(kind, namespace)| ["one", "two"].map(|name| ObjectKey::new(kind, namespace, name)));
    Delta {
        workloads: keys(workloads(old), workloads(new), |key| {
            old.workload(key) != new.workload(key)
        }),
        services: keys(services(old), services(new), |key| old.service(key) != new.service(key)),
        policies: keys(policies(old), policies(new), |key| old.policy(key) != new.policy(key)),
        waypoints: keys(waypoints(old), waypoints(new), |key| {
            old.waypoint(key) != new.waypoint(key)
        }),
        statuses: keys(statuses(old), statuses(new), |key| old.status(key) != new.status(key)),
        diagnostics: objects
            .filter(|key| old.diagnostics_of(key) != new.diagnostics_of(key))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_from_scratch(batches in prop::collection::vec(prop::collection::vec(events(), 1..12), 1..12)) {
        let mut reader = Reader::default();
        let mut mesh = Mesh::new(settings(3));
        let mut current = settings(3);
        let mut objects = BTreeMap::new();
        let mut server = Server::default();
        for batch in batches {
            let before = mesh.snapshot();
            let changes: Vec<Change> = batch.iter().map(|event| match event {
                Event::Put(seed) => {
                    let object = reader.read(&seed.object()).object.expect("every seed is an object");
                    objects.insert(object.key(), object.clone());
                    Change::Put(object)
                }
                Event::Remove(seed) => {
                    let key = reader.read(&seed.object()).object.expect("every seed is an object").key();
                    objects.remove(&key);
                    Change::Remove(key)
                }
                Event::Settings(by) => {
                    current = settings(*by);
                    Change::Settings(Arc::new(current.clone()))
                }
            }).collect();
            let delta = mesh.apply(changes);
            let snapshot = mesh.snapshot();

            let mut rebuilt = Mesh::new(current.clone());
            rebuilt.apply(objects.values().cloned().map(Change::Put));
            let rebuilt = rebuilt.snapshot();
            prop_assert_eq!(difference(&rebuilt, &snapshot), Delta::default());
            prop_assert!(rebuilt == snapshot, "the ways to find things differ");
            prop_assert_eq!(&delta, &difference(&before, &snapshot));
            server.follow(&snapshot, &delta);
            prop_assert!(server == Server::anew(&rebuilt), "a server that follows deltas holds something else");
        }
    }
}

#[test]
fn what_is_asked_for_is_found() {
    let seed = |kind, a| Seed {
        kind,
        namespace: 1,
        name: 0,
        a,
        b: 1,
        c: 1,
    };
    let mut reader = Reader::default();
    let mut mesh = Mesh::new(Settings::default());
    let objects = [seed(4, 0), seed(12, 0)].map(|seed| reader.read(&seed.object()).object.expect("an object"));
    mesh.apply(objects.map(Change::Put));
    let snapshot = mesh.snapshot();
    let service = AddressKey::Service(Arc::from("shop/one.shop.svc.cluster.local"));
    let workload = AddressKey::Workload(Arc::from("Kubernetes//Pod/shop/one"));
    for (asked, found) in [
        ("Kubernetes//Pod/shop/one", vec![&workload]),
        ("shop/one.shop.svc.cluster.local", vec![&service, &workload]),
        ("/10.1.0.0", vec![&service, &workload]),
        ("/10.2.0.0", vec![&workload]),
        ("n1/10.2.0.0", vec![]),
        ("shop/two.shop.svc.cluster.local", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(snapshot.resolve(asked).iter().collect::<Vec<_>>(), found, "{asked}");
    }
    assert!(snapshot.runs_on("one", "shop", "db"));
    assert!(!snapshot.runs_on("two", "shop", "db"));
    assert!(!snapshot.runs_on("one", "bank", "db"));
}

/// Kubernetes says that all pods of a lost node are not ready. It says so of all pods when nobody could hear their nodes.
#[test]
fn pods_of_a_lost_node_are_unhealthy_unless_all_nodes_are_lost_at_once() {
    let node = |name: &str, heard: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "status": { "conditions": [{ "type": "Ready", "status": heard }] },
        })
    };
    let pod = |name: &str, ready: &str, containers: &str, gate: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "nodeName": "one", "readinessGates": [{ "conditionType": "gate" }] },
            "status": { "podIP": "10.2.0.1", "conditions": [
                { "type": "Ready", "status": ready }, { "type": "ContainersReady", "status": containers },
                { "type": "gate", "status": gate },
            ] },
        })
    };
    let mut reader = Reader::default();
    let mut mesh = Mesh::new(Settings::default());
    let mut put = |mesh: &mut Mesh, object: &Value| {
        let object = reader.read(object).object.expect("an object");
        mesh.apply([Change::Put(object)]);
    };
    let healthy = |mesh: &Mesh, name: &str| {
        let uid = format!("Kubernetes//Pod/shop/{name}");
        mesh.snapshot().workload(&uid).expect("a workload").healthy
    };
    put(&mut mesh, &pod("well", "False", "True", "True"));
    put(&mut mesh, &pod("gated", "False", "True", "False"));
    put(&mut mesh, &pod("broken", "False", "False", "True"));
    for (one, other, expected) in [
        ("Unknown", "True", false),
        ("Unknown", "Unknown", true),
        ("True", "Unknown", true),
        ("Unknown", "False", false),
        ("True", "True", true),
    ] {
        put(&mut mesh, &node("one", one));
        put(&mut mesh, &node("two", other));
        assert_eq!(healthy(&mesh, "well"), expected, "{one} {other}");
        assert!(!healthy(&mesh, "gated") && !healthy(&mesh, "broken"), "{one} {other}");
    }
}
