use expect_test::expect;

use super::*;
use crate::mesh::explain::tests::with_policies;

#[test]
fn a_pod_in_the_mesh() {
    let mesh = with_policies(&[]);
    expect![[r#"
        Pod: ledger-1.payments
           Pod Ports: 8080 (main)
           Identity: cluster.local/ns/payments/sa/ledger
           Node: node-2
           Mesh: in the mesh, through the ztunnel of its node
           Waypoint: none
        --------------------
        Service: ledger.payments
           Port: http 80/HTTP targets pod port 8080
           Port: metrics 9090/TCP targets pod port 9090
           Waypoint: none
        --------------------
        Effective PeerAuthentication:
           Workload mTLS mode: STRICT
        Applied PeerAuthentication:
           strict.payments
        Authorization policies:
           ALLOW deny-all.payments (no rule, which allows nobody)
           ALLOW ledger-callers.payments (1 rule)
    "#]]
    .assert_eq(&described_pod(&mesh, "payments", "ledger-1", false).expect("a pod"));
}

#[test]
fn pods_outside_say_why() {
    let mesh = with_policies(&[]);
    expect![[r#"
        Pod: mainframe-1.legacy
           Pod Ports: 80 (main)
           Identity: cluster.local/ns/legacy/sa/default
           Node: node-1
           Mesh: not in the mesh
           Waypoint: none
        WARNING: Pod mainframe-1.legacy Container main NOT READY
        WARNING: mainframe-1.legacy is not part of mesh: neither it nor its namespace has the label istio.io/dataplane-mode=ambient (`corten label namespace legacy istio.io/dataplane-mode=ambient`)
        --------------------
        Service: mainframe.legacy
           Port: 80/TCP targets pod port 80
           Waypoint: none
        --------------------
        Effective PeerAuthentication:
           Workload mTLS mode: PERMISSIVE
        Authorization policies: none, so whoever passes the above may call it
        WARNING: it is not in the mesh, so nothing of this is enforced
    "#]].assert_eq(&described_pod(&mesh, "legacy", "mainframe-1", false).expect("a pod"));
    expect![[r#"
        Pod: waiting.orders
           Pod does not expose ports
           Mesh: not yet in the mesh
        WARNING: waiting.orders should be in the mesh and is not: it does not run yet
        WARNING: pod orders/waiting has no address yet (its phase is Pending)
    "#]]
    .assert_eq(&described_pod(&mesh, "orders", "waiting", true).expect("a pod"));
}

#[test]
fn a_service_shows_its_pods() {
    let ports =
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: ports, namespace: payments},
        spec: {selector: {matchLabels: {app: ledger}}, portLevelMtls: {9090: {mode: PERMISSIVE}}}}";
    let mesh = with_policies(&[ports]);
    expect![[r#"
        Service: ledger.payments
           Port: http 80/HTTP targets pod port 8080
           Port: metrics 9090/TCP targets pod port 9090
           Waypoint: none
        --------------------
        Pod: ledger-1.payments
           Pod Ports: 8080 (main)
           Identity: cluster.local/ns/payments/sa/ledger
           Node: node-2
           Mesh: in the mesh, through the ztunnel of its node
           Waypoint: none
        --------------------
        Pod: ledger-2.payments
           Pod Ports: 8080 (main)
           Identity: cluster.local/ns/payments/sa/ledger
           Node: node-1
           Mesh: in the mesh, through the ztunnel of its node
           Waypoint: none
        --------------------
        Effective PeerAuthentication:
           Workload mTLS mode: STRICT
           Port Level mTLS mode:
              9090: PERMISSIVE
        Applied PeerAuthentication:
           strict.payments, ports.payments
        Authorization policies:
           ALLOW deny-all.payments (no rule, which allows nobody)
           ALLOW ledger-callers.payments (1 rule)
    "#]]
    .assert_eq(&described_service(&mesh, "ledger", "payments", false).expect("a service"));
    expect![[r#"
        Service: empty.payments
           Port: 80/TCP targets pod port 80
           Waypoint: none
        WARNING: no pod is behind it, so calls to it fail
    "#]]
    .assert_eq(&described_service(&mesh, "empty", "payments", false).expect("a service"));
}

#[test]
fn protocols_are_declared_or_named() {
    let check = |port: Value, expected: &str| assert_eq!(protocol(&port), expected);
    check(serde_json::json!({"name": "http-web"}), "HTTP");
    check(
        serde_json::json!({"name": "web", "appProtocol": "kubernetes.io/h2c"}),
        "HTTP2",
    );
    check(serde_json::json!({"name": "dns", "protocol": "UDP"}), "UDP");
    check(serde_json::json!({}), "TCP");
}
