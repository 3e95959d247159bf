//! From objects to resources: what clients decode is what was meant, and equal things are equal bytes.

use std::sync::Arc;

use corten_model::{AddressKey, Change, Mesh, Reader, Settings, Snapshot};
use corten_proto::{
    security::{Authorization, string_match::MatchType},
    workload::{Address, Workload, address::Type},
};
use corten_xds_gen::{address, authorization};
use prost::Message;
use serde_json::{Value, json};

fn snapshot(objects: &[Value]) -> Snapshot {
    let mut reader = Reader::default();
    let mut mesh = Mesh::new(Settings::default());
    mesh.apply(
        objects
            .iter()
            .filter_map(|object| reader.read(object).object)
            .map(Change::Put),
    );
    mesh.snapshot()
}

fn pod(ready: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-1", "namespace": "shop", "labels": { "app": "web" } },
        "spec": { "serviceAccountName": "web", "nodeName": "n1" },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

fn services() -> Vec<Value> {
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "clusterIP": "10.1.0.1", "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080, "name": "http" }] },
        })
    };
    ["b", "a", "c"].map(service).to_vec()
}

fn workload(snapshot: &Snapshot) -> (Workload, String) {
    let key = AddressKey::Workload(Arc::from("Kubernetes//Pod/shop/web-1"));
    let resource = address(snapshot, &key).expect("the pod's workload");
    assert_eq!(resource.name.as_ref(), "Kubernetes//Pod/shop/web-1");
    match Address::decode(resource.body).expect("an address").r#type {
        Some(Type::Workload(workload)) => (workload, resource.version),
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_follow_what_is_said() {
    let with = |pod: Value| {
        let mut objects = services();
        objects.push(pod);
        objects
    };
    let (first, version) = workload(&snapshot(&with(pod("True"))));
    assert_eq!(
        first.services.keys().next().map(String::as_str),
        Some("shop/a.shop.svc.cluster.local")
    );
    let mut reversed = with(pod("True"));
    reversed.reverse();
    assert_eq!(
        workload(&snapshot(&reversed)).1,
        version,
        "the order of objects is not said"
    );
    assert_ne!(workload(&snapshot(&with(pod("False")))).1, version, "health is");
}

#[test]
fn what_is_gone_has_no_resource() {
    let empty = snapshot(&[]);
    assert_eq!(address(&empty, &AddressKey::Workload(Arc::from("x"))), None);
    assert_eq!(address(&empty, &AddressKey::Service(Arc::from("x/y"))), None);
    assert_eq!(authorization(&empty, "x/y"), None);
}

#[test]
fn a_policy_as_node_proxies_get_it() {
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "p", "namespace": "shop" },
        "spec": { "rules": [{
            "from": [{ "source": { "principals": ["*/sa/web"], "ipBlocks": ["10.0.0.5/24"] } }],
            "to": [{ "operation": { "ports": ["8080"] } }],
            "when": [{ "key": "source.namespace", "notValues": ["bank*"] }],
        }] },
    });
    let resource = authorization(&snapshot(&[policy]), "shop/p").expect("the policy");
    let policy = Authorization::decode(resource.body).expect("a policy");
    let [to, from, when] = policy.rules[0].clauses.as_slice() else {
        panic!("{:?}", policy.rules);
    };
    assert_eq!(to.matches[0].destination_ports, [8080]);
    let source = &from.matches[0];
    assert_eq!(
        source.principals[0].match_type,
        Some(MatchType::Suffix("/sa/web".to_owned()))
    );
    assert_eq!(
        (source.source_ips[0].address.as_slice(), source.source_ips[0].length),
        (&[10, 0, 0, 5][..], 24)
    );
    assert_eq!(
        when.matches[0].not_namespaces[0].match_type,
        Some(MatchType::Prefix("bank".to_owned()))
    );
}
