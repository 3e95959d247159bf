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
        number: 7,
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
    let rights = |right: Option<bool>| -> BTreeMap<NamespacedName, Right> {
        right
            .map(|allowed| (NamespacedName::new("own", "edge"), Right { allowed, number: 7 }))
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

#[test]
fn a_right_that_was_known_before_a_proxy_came_says_nothing_of_it() {
    let verdict = |number: u64, allowed: bool| {
        let may_list = BTreeMap::from([(NamespacedName::new("own", "edge"), Right { allowed, number })]);
        let asked = Asked::parse("kubernetes://a", "own").expect("a name");
        asker(true).verdict("kubernetes://a", &asked, &may_list)
    };
    assert_eq!(verdict(6, true), Verdict::Open);
    assert_eq!(verdict(6, false), Verdict::Open);
    assert_eq!(verdict(7, true), Verdict::Given);
    assert_eq!(verdict(8, true), Verdict::Given);
}

#[test]
fn an_answer_holds_for_those_who_come_while_nobody_can_be_asked_but_not_for_long() {
    let at = Instant::now();
    let right = |asking: Asking| {
        let (right, _) = asking.answer.expect("an answer");
        (right.allowed, right.number)
    };
    let first = asked(None, 3, Some(true), at);
    assert_eq!((right(first), first.again), ((true, 3), at + ASK_AGAIN));
    let soon = asked(Some(first), 4, None, at + ASK_AGAIN);
    assert_eq!((right(soon), soon.again), ((true, 4), at + ASK_AGAIN + RETRY));
    let late = asked(Some(soon), 5, None, at + HOLDS_MAX);
    assert_eq!((right(late), late.number), ((true, 4), 5), "it is not for the fifth");
    let answered = asked(Some(late), 5, Some(false), at + HOLDS_MAX);
    assert_eq!(right(answered), (false, 5));
    assert!(asked(None, 1, None, at).answer.is_none());
}

/// An account with the token of a proxy.
fn identity() -> Identity {
    "spiffe://cluster.local/ns/own/sa/edge".parse().expect("an identity")
}

#[test]
fn who_comes_back_is_asked_for_anew() {
    let (references, _references) = watch::channel(Arc::default());
    let (accounts, wanted) = watch::channel(Arc::<Accounts>::default());
    let credentials = Credentials::new(references, accounts);
    let edge = NamespacedName::new("own", "edge");
    let connect = |number: u64| {
        let asker = asker(true);
        credentials.add(number, asker.shared, asker.proxy, &[identity()]);
        credentials.ask(number, &["kubernetes://a".into()], || None);
    };
    let given = || {
        credentials
            .references
            .borrow()
            .iter()
            .any(|one| matches!(one, Referred::Secret(_)))
    };
    let allow = |number| credentials.judged(&[(edge.clone(), Right { allowed: true, number })]);
    connect(1);
    assert_eq!(wanted.borrow().get(&edge), Some(&1));
    assert!(!given());
    allow(1);
    assert!(given());
    // It goes and comes back before anybody looks: what is wanted is another thing than before.
    credentials.remove(1);
    connect(2);
    assert_eq!(wanted.borrow().get(&edge), Some(&2));
    assert!(!given(), "by a right of before");
    allow(1);
    assert!(!given(), "by an answer to a question of before");
    allow(2);
    assert!(given());
    // A second one of the account does not cost the first what it has.
    connect(3);
    assert!(given());
    credentials.remove(2);
    assert!(!given());
}

#[test]
fn who_asks_no_more_and_then_again_is_given_it_by_the_answer_that_holds() {
    let (references, _references) = watch::channel(Arc::default());
    let (accounts, wanted) = watch::channel(Arc::<Accounts>::default());
    let credentials = Credentials::new(references, accounts);
    let one = asker(true);
    credentials.add(1, one.shared, one.proxy, &[identity()]);
    let ask = |names: &[Arc<str>]| credentials.ask(1, names, || None);
    let given = || !credentials.references.borrow().is_empty();
    ask(&["kubernetes://a".into()]);
    let before = Arc::clone(&wanted.borrow());
    // As `judge` keeps it; it does not ask again for a while.
    let edge = NamespacedName::new("own", "edge");
    let known = BTreeMap::from([(edge, asked(None, 1, Some(true), Instant::now()))]);
    credentials.judged(&rights(&known));
    assert!(given());
    ask(&[]);
    assert!(!given());
    ask(&["kubernetes://a".into()]);
    assert!(wanted.has_changed().expect("a sender") && *wanted.borrow() == before);
    credentials.judged(&rights(&known));
    assert!(given());
}
