use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

fn parts(istiod: u64, agents: u64) -> Vec<Value> {
    vec![
        json!({"metadata": {"name": "istiod"}, "spec": {"replicas": 1}, "status": {"readyReplicas": istiod}}),
        json!({"metadata": {"name": "istio-cni-node"}, "status": {"desiredNumberScheduled": 2, "numberReady": agents}}),
        json!({"metadata": {"name": "ztunnel"}, "status": {"desiredNumberScheduled": 2, "numberReady": 2}}),
    ]
}

fn pod(namespace: &str, name: &str, redirection: Option<&str>) -> Value {
    let annotations = redirection.map(|value| json!({"ambient.istio.io/redirection": value}));
    json!({"metadata": {"namespace": namespace, "name": name, "annotations": annotations}, "status": {"phase": "Running"}})
}

fn dump(certificates: Value) -> Result<Dump, String> {
    Ok(Dump::parse(json!({"certificates": certificates}).to_string().as_bytes()).expect("a dump"))
}

#[track_caller]
fn check(objects: &Objects, expected: Expect) {
    expected.assert_eq(&(judge(objects, now()).lines(now()).join("\n") + "\n"));
}

#[test]
fn a_healthy_mesh_is_calm() {
    let ambient = |name: &str| json!({"metadata": {"name": name, "labels": {"istio.io/dataplane-mode": "ambient"}}});
    let certificate = |identity: &str, end: &str| json!({"identity": identity, "state": "Available", "certChain": [{"expirationTime": end}]});
    let objects = Objects {
        workloads: parts(1, 2),
        namespaces: vec![
            ambient("orders"),
            ambient("payments"),
            json!({"metadata": {"name": "legacy"}}),
        ],
        pods: vec![
            pod("orders", "a", Some("enabled")),
            pod("payments", "b", Some("enabled")),
            pod("payments", "c", Some("enabled")),
            pod("legacy", "d", None),
        ],
        policies: vec![json!({"metadata": {"namespace": "orders", "name": "p"},
            "status": {"conditions": [{"type": "ZtunnelAccepted", "status": "True"}]}})],
        dumps: vec![
            (
                "node-1".to_owned(),
                dump(json!([certificate(
                    "spiffe://cluster.local/ns/orders/sa/a",
                    "2026-11-21T12:00:00Z"
                )])),
            ),
            (
                "node-2".to_owned(),
                dump(json!([certificate(
                    "spiffe://cluster.local/ns/payments/sa/b",
                    "2026-11-21T10:00:00Z"
                )])),
            ),
        ],
        ..Objects::default()
    };
    check(
        &objects,
        expect![[r#"
        MESH            READY
        istiod          1/1
        istio-cni-node  2/2
        ztunnel         2/2

        NAMESPACE  IN THE MESH
        orders     1/1
        payments   2/2

        certificates: 2, the first to end has 22h left (cluster.local/ns/payments/sa/b)
    "#]],
    );
}

#[test]
fn a_mesh_nobody_uses_says_how_to() {
    let objects = Objects {
        workloads: parts(1, 2),
        ..Objects::default()
    };
    check(
        &objects,
        expect![[r#"
        MESH            READY
        istiod          1/1
        istio-cni-node  2/2
        ztunnel         2/2

        no pod is in the mesh; `corten label namespace NAME istio.io/dataplane-mode=ambient` takes all of a namespace's in
    "#]],
    );
}

#[test]
fn what_is_wrong_comes_with_what_to_do() {
    let ambient = json!({"metadata": {"name": "orders", "labels": {"istio.io/dataplane-mode": "ambient"}}});
    let waiting = (0..7).map(|number| pod("orders", &format!("pod-{number}"), None));
    let objects = Objects {
        workloads: parts(0, 1).into_iter().take(2).collect(),
        namespaces: vec![ambient],
        pods: waiting.chain([pod("orders", "tried", Some("pending"))]).collect(),
        policies: vec![
            json!({"metadata": {"namespace": "orders", "name": "p"}, "status": {"conditions": [
            {"type": "ZtunnelAccepted", "status": "False", "reason": "UnsupportedValue", "message": "methods need a waypoint"}]}}),
        ],
        dumps: vec![
            (
                "node-1".to_owned(),
                dump(json!([
                    {"identity": "spiffe://cluster.local/ns/orders/sa/a", "state": "Available", "certChain": [{"expirationTime": "2026-11-20T11:00:00Z"}]},
                    {"identity": "spiffe://cluster.local/ns/orders/sa/b", "state": "Unavailable: the CA refuses", "certChain": []},
                    {"identity": "spiffe://cluster.local/ns/orders/sa/c", "state": "Initializing", "certChain": []},
                ])),
            ),
            ("node-2".to_owned(), Err("it does not answer within 2 s".to_owned())),
        ],
        configuration: BTreeSet::new(),
        network_policies: vec![json!({"metadata": {"namespace": "orders", "name": "by-port"},
            "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]}})],
    };
    check(
        &objects,
        expect![[r#"
        MESH            READY
        istiod          0/1
        istio-cni-node  1/2

        NAMESPACE  IN THE MESH
        orders     0/8

        ! istiod: it is not ready: what is changed meanwhile reaches no proxy, and certificates are not renewed; `corten logs -n istio-system deploy/istiod` says more
        ! istio-cni-node: 1 of 2 are ready: pods of its node cannot join or leave the mesh; `corten logs -n istio-system ds/istio-cni-node` says more
        ! ztunnel: it is not installed; `corten down` and `corten up` put it there again
        ! orders/pod-0: it should be in the mesh and is not: istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?
        ! orders/pod-1: it should be in the mesh and is not: istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?
        ! orders/pod-2: it should be in the mesh and is not: istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?
        ! orders/pod-3: it should be in the mesh and is not: istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?
        ! orders/pod-4: it should be in the mesh and is not: istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?
        ! pods: 3 more should be in the mesh and are not
        ! certificate of cluster.local/ns/orders/sa/a on node-1: it ended 60m ago and could not be renewed; `corten logs -n istio-system deploy/istiod` says why
        ! certificate of cluster.local/ns/orders/sa/b on node-1: there is none, so its pods can neither call nor be called: the CA refuses
        ! ztunnel on node-2: its state is not known: it does not answer within 2 s
        ! AuthorizationPolicy orders/p: methods need a waypoint
        ! NetworkPolicy orders/by-port: spec.ingress[0].ports: within the mesh pod pod-0 and 7 more can be reached on TCP port 15008 only, whatever port is meant, and neither this rule nor another lets it through: connections of callers in it will fail; add {protocol: TCP, port: 15008} to the ports, and say which ports are meant by an AuthorizationPolicy, which sees into the tunnel
    "#]],
    );
}

#[test]
fn a_part_that_was_scaled_away_is_missed() {
    let mut objects = Objects {
        workloads: parts(0, 2),
        ..Objects::default()
    };
    objects.workloads[0]["spec"]["replicas"] = json!(0);
    let mesh = judge(&objects, now());
    assert_eq!(mesh.problems.len(), 1, "{mesh:?}");
    assert!(mesh.problems[0].message.starts_with("none is wanted: "), "{mesh:?}");
}

#[test]
fn what_the_control_plane_says_of_the_configuration_is_told() {
    let waits = "trustDomain: 'b' takes effect when the control plane is restarted; until then it is 'a'";
    let objects = Objects {
        workloads: parts(1, 2),
        configuration: [waits.to_owned()].into(),
        ..Objects::default()
    };
    let mesh = judge(&objects, now());
    let told = Problem {
        subject: "ConfigMap istio".to_owned(),
        message: waits.to_owned(),
    };
    assert_eq!(mesh.problems, [told]);
}

#[test]
fn a_node_proxy_that_drains_hides_none_that_serves() {
    let proxy = |node: &str, leaves: Option<&str>, ready: &str| {
        json!({
            "metadata": {"namespace": "istio-system", "name": format!("ztunnel-{node}"), "deletionTimestamp": leaves,
                "ownerReferences": [{"kind": "DaemonSet", "name": "ztunnel"}]},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    };
    let left = Some("2026-11-20T12:00:00Z");
    let mut objects = Objects {
        workloads: parts(1, 2),
        pods: vec![
            proxy("n1", left, "False"),
            proxy("n1", None, "True"),
            proxy("n2", left, "False"),
            proxy("n2", None, "True"),
        ],
        ..Objects::default()
    };
    // What Kubernetes counts while the old ones drain.
    objects.workloads[2]["status"]["numberReady"] = json!(0);
    assert!(judge(&objects, now()).problems.is_empty());
    objects.pods.remove(3);
    let mesh = judge(&objects, now());
    assert!(mesh.problems[0].message.starts_with("1 of 2 are ready: "), "{mesh:?}");
}
