//! The words of the vocabulary, as data.

use std::collections::BTreeSet;

use corten_core::{
    Host, Identity, LabelMap, Labels, Locality, NamespacedHost, Percentage, Protocol, expand_trust_domains,
};

#[test]
fn hosts_cover_each_other() {
    for (a, b, matches, subset) in [
        ("a.b", "a.b", true, true),
        ("a.b", "*.b", true, true),
        ("*.b", "a.b", true, false),
        ("*.a.b", "*.b", true, true),
        ("*.b", "*.a.b", true, false),
        ("*", "", true, false),
        ("", "*", true, true),
        ("a.b", "A.b", false, false),
        ("b", "*.b", false, false),
    ] {
        let (left, right) = (Host::from(a), Host::from(b));
        assert_eq!(left.matches(&right), matches, "{a} {b}");
        assert_eq!(right.matches(&left), matches, "{b} {a}");
        assert_eq!(left.is_subset_of(&right), subset, "{a} {b}");
    }
    let mut hosts = ["*", "b", "*.a.b", "a", "a.b", "*.b"].map(Host::from);
    hosts.sort_by(Host::specificity);
    assert_eq!(
        hosts.each_ref().map(Host::as_str),
        ["a.b", "a", "b", "*.a.b", "*.b", "*"]
    );
    assert_eq!(
        NamespacedHost::parse("ns/a/b"),
        NamespacedHost {
            namespace: Some("ns"),
            host: "a/b"
        }
    );
}

fn labels(pairs: &[(&str, &str)]) -> LabelMap {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn labels_select_and_are_checked() {
    let (none, app, both) = (labels(&[]), labels(&[("app", "a")]), labels(&[("app", "a"), ("b", "")]));
    assert!(Labels(&none).is_subset_of(&app) && !Labels(&none).selects(&app));
    assert!(Labels(&app).selects(&both) && !Labels(&both).selects(&app));
    let long = "x".repeat(64);
    for (key, value, good) in [
        ("a.b/c_d", "E.f-1", true),
        ("a", "", true),
        ("", "", false),
        ("a/", "b", false),
        ("-a", "b", false),
        ("a", "-b", false),
        (long.as_str(), "b", false),
    ] {
        assert_eq!(Labels(&labels(&[(key, value)])).check().is_ok(), good, "{key} {value}");
    }
}

#[test]
fn protocols_are_declared_in_three_ways() {
    for (port, name, transport, app_protocol, expected) in [
        (80, "http2-x", "TCP", None, "HTTP2"),
        (80, "http2-x", "TCP", Some("kubernetes.io/ws"), "HTTP"),
        (80, "GRPC-WEB-x", "TCP", None, "GRPC-Web"),
        (3306, "", "TCP", None, "TCP"),
        (3306, "http", "TCP", None, "HTTP"),
        (80, "http", "UDP", None, "UDP"),
        (80, "gibberish", "TCP", None, "UnsupportedProtocol"),
    ] {
        assert_eq!(
            Protocol::of_port(port, name, transport, app_protocol).to_string(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn identities_have_one_form() {
    let text = "spiffe://td/ns/a/sa/b";
    assert_eq!(text.parse::<Identity>().map(|id| id.to_string()).as_deref(), Ok(text));
    for bad in [
        "",
        "spiffe://td/ns/a/sa",
        "spiffe://td/ns/a/sa/b/c",
        "http://td/ns/a/sa/b",
        "spiffe://td/xx/a/sa/b",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad}");
    }
    assert_eq!(
        Identity::new("a@b", "n", "s").map(|id| id.to_string()).as_deref(),
        Ok("spiffe://a.b/ns/n/sa/s")
    );
    let expanded = expand_trust_domains(
        &BTreeSet::from([text.to_owned(), "x".to_owned()]),
        &["other".to_owned()],
    );
    assert_eq!(
        expanded.into_iter().collect::<Vec<_>>(),
        ["spiffe://other/ns/a/sa/b", text, "x"]
    );
}

#[test]
fn places_and_parts() {
    let place = Locality::from("r/z/s/t");
    assert_eq!((place.to_string().as_str(), place.subzone.as_str()), ("r/z/s/t", "s/t"));
    for (rule, within) in [
        ("r", true),
        ("r/*", true),
        ("*/z", true),
        ("r/z/s/t", true),
        ("r/y", false),
        ("", false),
    ] {
        assert_eq!(place.matches(&Locality::from(rule)), within, "{rule}");
    }
    assert_eq!(Percentage::new(50.0).map(Percentage::fraction), Some(0.5));
    assert_eq!(Percentage::new(100.1), None);
}
