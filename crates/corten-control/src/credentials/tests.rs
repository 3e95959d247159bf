//! Names of certificates, and who is given them.

use corten_xds::server::Store;
use serde_json::json;

use super::*;

#[track_caller]
fn check(resource: &str, expect: Option<(&str, &str, bool)>) {
    let asked = Asked::parse(resource, "own");
    let found = asked
        .as_ref()
        .map(|asked| (asked.namespace.as_str(), asked.name.as_str(), asked.authorities));
    assert_eq!(found, expect, "{resource}");
}

#[test]
fn names_say_where_a_certificate_is() {
    check("kubernetes://a", Some(("own", "a", false)));
    check("kubernetes://other/a", Some(("other", "a", false)));
    check("kubernetes://a-cacert", Some(("own", "a", true)));
    check("kubernetes-gateway://n/a-cacert", Some(("n", "a", true)));
    check("configmap://n/a", Some(("n", "a", true)));
    check("configmap://n/a-cacert", Some(("n", "a", true)));
    check("kubernetes-gateway://a", None);
    check("kubernetes://", None);
    check("kubernetes://a/b/c", None);
    check("kubernetes:///b", None);
    check("file-root:/etc/x", None);
    check("invalid://", None);
    check("default", None);
}

/// A proxy of the account `own/edge`, or of nobody.
fn asker(proven: bool) -> Asker {
    let proxy = Proxy::of_node("router~10.0.0.1~edge.own~own.svc.cluster.local", &json!({})).expect("a proxy");
    Asker {
        shared: Shared::new(Store::new([]), Instant::now()),
        proxy,
        account: proven.then(|| NamespacedName::new("own", "edge")),
        asked: BTreeSet::new(),
        verified: BTreeSet::from(["kubernetes-gateway://own/a".to_owned()]),
        refused: BTreeSet::new(),
    }
}

#[test]
fn refusals() {
    let rights = |right: Option<bool>| -> BTreeMap<NamespacedName, bool> {
        right
            .map(|right| (NamespacedName::new("own", "edge"), right))
            .into_iter()
            .collect()
    };
    let verdict = |proven: bool, resource: &str, right: Option<bool>| {
        let asked = Asked::parse(resource, "own").expect("a name");
        match asker(proven).verdict(resource, &asked, &rights(right)) {
            Verdict::Given => "given",
            Verdict::Open => "open",
            Verdict::Refused(_) => "refused",
        }
    };
    // Of its own namespace, by its rights.
    assert_eq!(verdict(true, "kubernetes://a", None), "open");
    assert_eq!(verdict(true, "kubernetes://a", Some(true)), "given");
    assert_eq!(verdict(true, "kubernetes://a", Some(false)), "refused");
    assert_eq!(verdict(true, "kubernetes://a-cacert", Some(false)), "given");
    // Of another, never.
    assert_eq!(verdict(true, "kubernetes://other/a", Some(true)), "refused");
    assert_eq!(verdict(true, "kubernetes://other/a-cacert", Some(true)), "refused");
    // Named by its Gateways, and nothing else.
    assert_eq!(verdict(true, "kubernetes-gateway://own/a", None), "given");
    assert_eq!(
        verdict(true, "kubernetes-gateway://own/a-cacert", Some(true)),
        "refused"
    );
    assert_eq!(verdict(true, "kubernetes-gateway://own/b", Some(true)), "refused");
    assert_eq!(verdict(true, "kubernetes-gateway://other/a", Some(true)), "refused");
    assert_eq!(verdict(true, "configmap://other/a", None), "given");
    // Nobody gets nothing.
    for resource in [
        "kubernetes://a",
        "kubernetes://a-cacert",
        "kubernetes-gateway://own/a",
        "configmap://own/a",
    ] {
        assert_eq!(verdict(false, resource, Some(true)), "refused", "{resource}");
    }
}
