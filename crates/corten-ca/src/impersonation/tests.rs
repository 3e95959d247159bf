//! Who may have whose identity, case by case.

use super::*;
use crate::caller::PodBinding;

fn place(uid: &str, node: &str, service_account: &str) -> PodPlace {
    PodPlace {
        uid: uid.to_owned(),
        node: node.to_owned(),
        service_account: service_account.to_owned(),
        failed: false,
    }
}

fn pods() -> Pods {
    let pods = Pods::default();
    let put = |namespace, name, place| pods.put(NamespacedName::new(namespace, name), place);
    put("istio-system", "ztunnel-1", place("z1", "node-1", "ztunnel"));
    put("istio-system", "ztunnel-2", place("z2", "node-2", "ztunnel"));
    put("istio-system", "ztunnel-3", place("z3", "", "ztunnel"));
    put("orders", "api-1", place("a1", "node-1", "api"));
    put("orders", "worker", place("w", "node-2", "worker"));
    let failed = PodPlace {
        failed: true,
        ..place("j", "node-1", "job")
    };
    put("orders", "job", failed);
    pods
}

fn caller(service_account: &str, pod: Option<(&str, &str)>) -> Caller {
    Caller {
        identities: vec![Identity::new("cluster.local", "istio-system", service_account).expect("an identity")],
        pod: pod.map(|(name, uid)| PodBinding {
            name: name.to_owned(),
            uid: uid.to_owned(),
        }),
    }
}

#[track_caller]
fn check(caller: &Caller, wanted: &str, expected: Result<(), &str>) {
    let trusted = [NamespacedName::new("istio-system", "ztunnel")].into();
    let wanted = wanted.parse().expect("an identity");
    let found = may_impersonate(caller, &wanted, &trusted, &["cluster.local".to_owned()], &pods());
    assert_eq!(
        found.map_err(|error| error.to_string()),
        expected.map_err(str::to_owned)
    );
}

#[test]
fn a_node_proxy_may_be_the_pods_of_its_own_node_and_nobody_else() {
    let node_1 = caller("ztunnel", Some(("ztunnel-1", "z1")));
    check(&node_1, "spiffe://cluster.local/ns/orders/sa/api", Ok(()));
    check(
        &node_1,
        "spiffe://cluster.local/ns/orders/sa/worker",
        Err("no pod with the service account orders/worker runs on the caller's node node-1"),
    );
    check(
        &node_1,
        "spiffe://cluster.local/ns/payments/sa/api",
        Err("no pod with the service account payments/api runs on the caller's node node-1"),
    );
    check(
        &node_1,
        "spiffe://cluster.local/ns/orders/sa/job",
        Err("no pod with the service account orders/job runs on the caller's node node-1"),
    );
    check(
        &node_1,
        "spiffe://elsewhere/ns/orders/sa/api",
        Err("the trust domain of spiffe://elsewhere/ns/orders/sa/api is not one of this mesh"),
    );
    let node_2 = caller("ztunnel", Some(("ztunnel-2", "z2")));
    check(&node_2, "spiffe://cluster.local/ns/orders/sa/worker", Ok(()));
}

#[test]
fn others_may_be_nobody_but_themselves() {
    let api = "spiffe://cluster.local/ns/orders/sa/api";
    check(
        &caller("gateway", Some(("ztunnel-1", "z1"))),
        api,
        Err("istio-system/gateway is not a trusted node account, and may ask only for its own identity"),
    );
    check(
        &Caller {
            identities: Vec::new(),
            pod: None,
        },
        api,
        Err(" is not a trusted node account, and may ask only for its own identity"),
    );
    check(
        &caller("ztunnel", None),
        api,
        Err("the token of istio-system/ztunnel is not bound to a pod; is it a projected token?"),
    );
    check(
        &caller("ztunnel", Some(("ztunnel-9", "z9"))),
        api,
        Err("the pod istio-system/ztunnel-9 of the token does not exist (any more)"),
    );
    check(
        &caller("ztunnel", Some(("ztunnel-1", "z0"))),
        api,
        Err("the token does not belong to the pod istio-system/ztunnel-1 as it is now"),
    );
    check(
        &caller("ztunnel", Some(("ztunnel-3", "z3"))),
        api,
        Err("the pod istio-system/ztunnel-3 is not on a node"),
    );
}

#[test]
fn the_index_follows_pods_that_move_fail_and_go() {
    let pods = Pods::default();
    let (one, two) = (NamespacedName::new("n", "one"), NamespacedName::new("n", "two"));
    pods.put(one.clone(), place("1", "", "a"));
    assert!(!pods.runs_on("", "n", "a"), "on no node yet");
    pods.put(one.clone(), place("1", "x", "a"));
    pods.put(two.clone(), place("2", "x", "a"));
    pods.put(two.clone(), place("2", "x", "a"));
    pods.remove(&one);
    assert!(pods.runs_on("x", "n", "a"));
    pods.put(
        two.clone(),
        PodPlace {
            failed: true,
            ..place("2", "x", "a")
        },
    );
    assert!(!pods.runs_on("x", "n", "a"));
    pods.remove(&two);
    pods.remove(&two);
    assert_eq!(pods.pod(&two), None);
}
