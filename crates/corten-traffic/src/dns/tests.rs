//! Questions of a pod in namespace `ns`.

use super::{Answer, Family, answer};
use crate::{Settings, testing::mesh};

const MESH: &str = "
    workload client ip=10.0.0.1
    workload e1 ip=10.0.0.2,fd00::2 of=ns/db.ns.svc.cluster.local,ns/one.ns.svc.cluster.local
    workload e2 ip=10.0.0.3 of=ns/db.ns.svc.cluster.local
    workload e3 ip=10.0.0.4 of=ns/db.ns.svc.cluster.local unhealthy
    service ns/web.ns.svc.cluster.local vip=10.1.0.1,fd01::1,n2|10.2.0.1
    service far/web.far.svc.cluster.local vip=10.1.0.2
    service ns/db.ns.svc.cluster.local
    service ns/one.ns.svc.cluster.local families=1
    service ns/api.example.com vip=240.240.0.1
    service ns/*.wild.example.com vip=240.240.0.2
    service ns/*.example.org vip=240.240.0.3
    service ns/novip.example.com
    service ns/range.example.com range=10.5.0.0/16
    service far/hidden.example.com vip=240.240.0.4 private
    service far/both.example.com vip=240.240.0.5
    service near/both.example.com vip=240.240.0.6
    service near/best.example.com vip=240.240.0.7 canonical
    service far/best.example.com vip=240.240.0.8
";

#[track_caller]
fn check_with(settings: &Settings, name: &str, family: Family, expected: &str) {
    let tables = mesh(MESH);
    let client = tables.local("ns", "client", "default").unwrap();
    let got = match answer(&tables, settings, client, name, family, 7) {
        Answer::NotOurs => "not ours".to_owned(),
        Answer::Ours(mut found) => {
            found.addresses.sort();
            let addresses: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
            match found.alias_of {
                Some(alias) => format!("{alias}: {}", addresses.join(" ")),
                None => addresses.join(" "),
            }
        }
    };
    assert_eq!(got, expected, "{name}");
}

#[track_caller]
fn check(name: &str, expected: &str) {
    check_with(&Settings::default(), name, Family::V4, expected);
}

#[test]
fn services_of_kubernetes() {
    for name in [
        "web",
        "web.ns",
        "web.ns.svc",
        "web.ns.svc.cluster.local",
        "web.ns.svc.cluster.local.",
        "WEB.ns",
    ] {
        check(name, "10.1.0.1");
    }
    check("web.far", "10.1.0.2");
    check("web.far.svc.cluster.local", "10.1.0.2");
    // As a resolver asks that goes through its search list.
    check("web.far.ns.svc.cluster.local", "web.far: 10.1.0.2");
    check("web.svc.cluster.local", "web: 10.1.0.1");
    check("web.ns.svc.svc.cluster.local", "web.ns.svc: 10.1.0.1");
    check(
        "web.ns.svc.cluster.local.ns.svc.cluster.local",
        "web.ns.svc.cluster.local: 10.1.0.1",
    );
    check("none", "not ours");
    check("none.ns.svc.cluster.local", "not ours");
    check("e1.db.ns.svc.cluster.local", "not ours");
    check("", "not ours");
    check(".", "not ours");
    check("..", "not ours");
    check(&"a.".repeat(200), "not ours");
}

#[test]
fn headless() {
    check("db", "10.0.0.2 10.0.0.3");
    check_with(&Settings::default(), "db", Family::V6, "fd00::2");
    check("one", "10.0.0.2");
    check_with(&Settings::default(), "one", Family::V6, "");
}

#[test]
fn families() {
    check_with(&Settings::default(), "web", Family::V6, "fd01::1");
    check_with(&Settings::default(), "web.far", Family::V6, "");
    let without = Settings {
        ipv6: false,
        ..Settings::default()
    };
    check_with(&without, "web", Family::V6, "");
    check_with(&without, "web", Family::V4, "10.1.0.1");
    check_with(&without, "none", Family::V6, "not ours");
}

#[test]
fn hosts_of_service_entries() {
    check("api.example.com", "240.240.0.1");
    check("api.example.com.ns.svc.cluster.local", "api.example.com: 240.240.0.1");
    check("novip.example.com", "not ours");
    check("range.example.com", "not ours");
    check("hidden.example.com", "not ours");
    check("a.wild.example.com", "240.240.0.2");
    check("a.b.wild.example.com", "240.240.0.2");
    check("wild.example.com", "not ours");
    check("*.wild.example.com", "240.240.0.2");
    check("x.example.org", "240.240.0.3");
    // What was found by wildcard is no alias.
    check("a.wild.example.com.ns.svc.cluster.local", "240.240.0.2");
}

#[test]
fn which_of_several() {
    check("both.example.com", "240.240.0.5");
    check("best.example.com", "240.240.0.7");
    let preferring = |namespace: &str| Settings {
        preferred_service_namespace: Some(namespace.into()),
        ..Settings::default()
    };
    check_with(&preferring("near"), "both.example.com", Family::V4, "240.240.0.6");
    check_with(&preferring("far"), "best.example.com", Family::V4, "240.240.0.7");
}

#[test]
fn another_domain() {
    let settings = Settings {
        cluster_domain: "other.test".into(),
        ..Settings::default()
    };
    check_with(&settings, "web", Family::V4, "not ours");
    check_with(&settings, "web.ns.svc.cluster.local", Family::V4, "10.1.0.1");
    check_with(&settings, "db.ns.svc.cluster.local", Family::V4, "not ours");
}
