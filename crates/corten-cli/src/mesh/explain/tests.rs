use super::*;

const OBJECTS: &str = include_str!("mesh.yaml");
const POLICIES: &str = include_str!("policies.yaml");

/// A mesh of the objects above and of more.
pub(crate) fn mesh(more: &[&str]) -> Mesh {
    let mut objects = Vec::new();
    for text in [OBJECTS].iter().chain(more) {
        let (found, problems) = corten_api::decode::objects("mesh.yaml", text);
        assert!(problems.is_empty(), "{problems:?}");
        objects.extend(found.iter().map(corten_api::decode::SpannedObject::to_value));
    }
    let mesh = Mesh::of_objects(objects, "istio-system");
    assert_eq!(mesh.problems, Vec::<String>::new());
    mesh
}

/// The mesh with the policies of payments.
pub(crate) fn with_policies(more: &[&str]) -> Mesh {
    let texts: Vec<&str> = [POLICIES].iter().chain(more).copied().collect();
    mesh(&texts)
}

pub(crate) fn explanation(mesh: &Mesh, from: &str, to: &str) -> Explanation {
    let (namespace, name) = mesh.pod_named(from, "default").expect("a caller");
    let called = mesh.called(to, &namespace).expect("something to call");
    mesh.explain(mesh.workload(&namespace, &name).expect("a workload"), &called)
        .expect("an answer")
}

/// Each way in one line: verdict, wire, port, who is reached, and why.
#[track_caller]
fn check(mesh: &Mesh, from: &str, to: &str, expected: &[&str]) {
    let ways = explanation(mesh, from, to).ways;
    let line = |way: &Way| {
        let port = way.port.map(|it| format!(":{it}")).unwrap_or_default();
        format!(
            "{:?} {:?} {}{port}: {}",
            way.verdict,
            way.wire,
            way.to.names.join("+"),
            way.reason
        )
    };
    assert_eq!(ways.iter().map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn without_policies_all_is_allowed() {
    let mesh = mesh(&[]);
    let both = "payments/ledger-1+payments/ledger-2:8080: no policy forbids it, and none says who may";
    check(
        &mesh,
        "orders-api-1.orders",
        "ledger.payments:80",
        &[&format!("Allowed MutualTls {both}")],
    );
    check(
        &mesh,
        "mainframe-1.legacy",
        "ledger.payments:http",
        &[&format!("Allowed Plaintext {both}")],
    );
    check(
        &mesh,
        "orders-api-1.orders",
        "mainframe.legacy:80",
        &[
            "Allowed Plaintext legacy/mainframe-1:80: the called pod is not in the mesh, so no policy is enforced for it",
        ],
    );
    check(
        &mesh,
        "mainframe-1.legacy",
        "mainframe:80",
        &["Allowed Plaintext legacy/mainframe-1:80: neither side is in the mesh, so no policy is enforced"],
    );
    check(
        &mesh,
        "orders-api-1.orders",
        "192.0.2.1:443",
        &[
            "Allowed Plaintext 192.0.2.1:443: nothing in the mesh has this address, so the connection is passed on as it is",
        ],
    );
}

#[test]
fn the_policy_that_decides_is_named() {
    let mesh = with_policies(&[]);
    check(
        &mesh,
        "orders-api-1.orders",
        "ledger.payments:80",
        &[
            "Allowed MutualTls payments/ledger-1+payments/ledger-2:8080: AuthorizationPolicy payments/ledger-callers allows it",
        ],
    );
    check(
        &mesh,
        "orders-api-1.orders",
        "ledger.payments:9090",
        &[
            "Denied MutualTls payments/ledger-1+payments/ledger-2:9090: ALLOW policies apply to the called pod, and none of them allows this",
        ],
    );
    check(
        &mesh,
        "mainframe-1.legacy",
        "ledger.payments:80",
        &[
            "Denied Plaintext payments/ledger-1+payments/ledger-2:8080: PeerAuthentication payments/strict demands mutual TLS on port 8080, and the caller is not in the mesh",
        ],
    );
    let denied = explanation(&mesh, "orders-api-1.orders", "ledger.payments:9090");
    assert_eq!(denied.verdict, Verdict::Denied);
    let advice = denied.ways[0].advice.as_deref().unwrap_or_default();
    assert!(advice.contains("cluster.local/ns/orders/sa/orders-api"), "{advice}");
    let considered: Vec<_> = denied.ways[0]
        .policies
        .iter()
        .map(|it| (it.policy.as_str(), it.matches))
        .collect();
    assert_eq!(
        considered,
        [
            ("PeerAuthentication payments/strict", false),
            ("AuthorizationPolicy payments/deny-all", false),
            ("AuthorizationPolicy payments/ledger-callers", false),
        ]
    );
}

#[test]
fn ports_may_be_open_to_plaintext() {
    let open = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: open, namespace: payments},
        spec: {selector: {matchLabels: {app: ledger}}, mtls: {mode: STRICT}, portLevelMtls: {9090: {mode: PERMISSIVE}}}}";
    let mesh = mesh(&[open]);
    let both = "payments/ledger-1+payments/ledger-2";
    check(
        &mesh,
        "mainframe-1.legacy",
        "ledger.payments:9090",
        &[&format!(
            "Allowed Plaintext {both}:9090: no policy forbids it, and none says who may"
        )],
    );
    check(
        &mesh,
        "mainframe-1.legacy",
        "ledger.payments:80",
        &[&format!(
            "Denied Plaintext {both}:8080: PeerAuthentication payments/open demands mutual TLS on port 8080, and the caller is not in the mesh"
        )],
    );
}

#[test]
fn endpoints_may_differ() {
    let one =
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: not-two, namespace: payments},
        spec: {action: DENY, rules: [{from: [{source: {namespaces: [orders]}}], to: [{operation: {ports: ['8080']}}],
            when: [{key: destination.ip, values: [10.1.0.8]}]}]}}";
    let mesh = mesh(&[one]);
    let explanation = explanation(&mesh, "orders-api-1.orders", "ledger.payments:80");
    assert_eq!(explanation.verdict, Verdict::Mixed);
    let mut ways: Vec<_> = explanation
        .ways
        .iter()
        .map(|way| (way.to.names.join("+"), way.verdict))
        .collect();
    ways.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        ways,
        [
            ("payments/ledger-1".to_owned(), Verdict::Allowed),
            ("payments/ledger-2".to_owned(), Verdict::Denied)
        ]
    );
}

#[test]
fn what_cannot_be_reached_is_denied() {
    let mesh = mesh(&[]);
    let ways = explanation(&mesh, "orders-api-1.orders", "empty.payments:80").ways;
    assert_eq!((ways[0].verdict, ways[0].wire), (Verdict::Denied, Wire::None));
    let ways = explanation(&mesh, "mainframe-1.legacy", "empty.payments:80").ways;
    assert_eq!((ways[0].verdict, ways[0].wire), (Verdict::Denied, Wire::None));
}

#[test]
fn words_that_mean_nothing_are_explained() {
    let mesh = mesh(&[]);
    let refused = |to: &str| mesh.called(to, "orders").expect_err("nothing").to_string();
    assert!(refused("ledger.payments").contains("say which port"));
    assert!(refused("ledger:80").contains("NAME.NAMESPACE:PORT"));
    assert!(refused("ledger.payments:grpc").contains("no port named \"grpc\""));
    assert!(refused("ledger.payments:0").contains("no port"));
    let waiting = mesh.workload("orders", "waiting").expect_err("no address").to_string();
    assert!(waiting.contains("no address yet"), "{waiting}");
    assert!(mesh.pod_named("gone", "orders").is_err());
}

#[test]
fn pods_and_services_have_several_names() {
    let mesh = mesh(&[]);
    for word in ["ledger-1.payments", "pod/ledger-1.payments", "po/ledger-1.payments"] {
        assert_eq!(mesh.pod_named(word, "default").expect("a pod").1, "ledger-1");
    }
    assert_eq!(
        mesh.pod_named("svc/ledger.payments", "default").expect("a pod").0,
        "payments"
    );
    for word in [
        "ledger.payments:80",
        "ledger.payments.svc:80",
        "ledger.payments.svc.cluster.local:80",
        "svc/ledger.payments:80",
    ] {
        assert_eq!(
            mesh.called(word, "orders").expect("a service").addresses[0].to_string(),
            "10.96.0.20"
        );
    }
    assert_eq!(
        mesh.called("pod/ledger-1:8080", "payments").expect("a pod").addresses[0].to_string(),
        "10.1.1.4"
    );
}
