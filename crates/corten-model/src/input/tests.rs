//! What of an object is kept.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Object, Pod, Reader};
use crate::workload::Tunnel;

fn read(value: &Value) -> Object {
    Reader::default().read(value).object.expect("an object")
}

fn pod(mut metadata: Value, rest: &Value) -> Arc<Pod> {
    metadata["namespace"] = json!("ns");
    let mut value = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
    for (key, part) in rest.as_object().into_iter().flatten() {
        value[key] = part.clone();
    }
    match read(&value) {
        Object::Pod(pod) => pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_pod_belongs_to() {
    for (labels, kind, owner, generated, expected) in [
        (
            json!({ "pod-template-hash": "abc" }),
            "ReplicaSet",
            "web-abc",
            true,
            "web",
        ),
        (
            json!({ "rollouts-pod-template-hash": "abc" }),
            "ReplicaSet",
            "web-abc",
            true,
            "web",
        ),
        (
            json!({ "pod-template-hash": "abc" }),
            "ReplicaSet",
            "web-xyz",
            true,
            "web-xyz",
        ),
        (json!({}), "Job", "backup-27345678", true, "backup"),
        (json!({}), "Job", "backup-1234", true, "backup-1234"),
        (json!({}), "Job", "backup", true, "backup"),
        (
            json!({ "deploymentconfig": "dc" }),
            "ReplicationController",
            "dc-1",
            true,
            "dc",
        ),
        (json!({}), "StatefulSet", "db", true, "db"),
        (json!({}), "Node", "node-1", false, "web-abc-1"),
        (
            json!({ "service.istio.io/workload-name": "said" }),
            "ReplicaSet",
            "web-abc",
            true,
            "said",
        ),
    ] {
        let mut metadata = json!({
            "name": "web-abc-1", "labels": labels,
            "ownerReferences": [{ "kind": "X", "name": "other" }, { "kind": kind, "name": owner, "controller": true }],
        });
        if generated {
            metadata["generateName"] = json!("web-abc-");
        }
        assert_eq!(
            pod(metadata, &json!({})).workload_name.as_ref(),
            expected,
            "{kind} {owner}"
        );
    }
}

#[test]
fn how_a_pod_is() {
    let metadata = || json!({ "name": "a" });
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let one = pod(
        metadata(),
        &json!({ "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }], "conditions": ready } }),
    );
    assert!(one.healthy && !one.terminal);
    assert_eq!(one.addresses.len(), 2);
    let broken = json!({ "status": { "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "nonsense" }] } });
    assert!(
        pod(metadata(), &broken).addresses.is_empty(),
        "one that is none spoils all"
    );
    let gone = json!({ "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" });
    assert!(!pod(gone, &json!({ "status": { "conditions": ready } })).healthy);
    assert!(pod(metadata(), &json!({ "status": { "phase": "Failed" } })).terminal);
}

#[test]
fn what_a_pod_speaks() {
    for (label, annotation, expected) in [
        ("", "", Tunnel::None),
        ("", "pending", Tunnel::None),
        ("", "enabled", Tunnel::Hbone),
        ("http", "", Tunnel::NativeHbone),
        ("x,http", "enabled", Tunnel::NativeHbone),
        ("https", "", Tunnel::None),
    ] {
        let metadata = json!({
            "name": "a", "labels": { "networking.istio.io/tunnel": label },
            "annotations": { "ambient.istio.io/redirection": annotation },
        });
        assert_eq!(pod(metadata, &json!({})).tunnel, expected, "{label} {annotation}");
    }
}

#[test]
fn ports_of_containers_that_stay() {
    let port = |name: &str, number: u16, protocol: &str| json!({ "name": name, "containerPort": number, "protocol": protocol });
    let spec = json!({ "spec": {
        "initContainers": [
            { "ports": [port("gone", 1, "TCP")] },
            { "restartPolicy": "Always", "ports": [port("web", 2, "TCP"), port("side", 3, "TCP")] },
        ],
        "containers": [{ "ports": [port("web", 4, "TCP"), port("dns", 5, "UDP"), port("", 6, "TCP")] }],
    } });
    let found: Vec<(String, u16)> = pod(json!({ "name": "a" }), &spec)
        .ports
        .iter()
        .map(|(name, number)| (name.to_string(), *number))
        .collect();
    assert_eq!(
        found,
        [("web".to_owned(), 4), ("web".to_owned(), 2), ("side".to_owned(), 3)]
    );
}

#[test]
fn other_kinds_and_nameless_objects_are_nothing() {
    for value in [
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a" } }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {} }),
        json!({ "apiVersion": "other/v1", "kind": "Pod", "metadata": { "name": "a" } }),
        json!(null),
        json!([1]),
    ] {
        assert!(Reader::default().read(&value).object.is_none(), "{value}");
    }
}
