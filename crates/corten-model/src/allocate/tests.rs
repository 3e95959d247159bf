//! Entries in, what is written out: as host and address, or nothing where all is as it should be.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Allocator, Ranges};
use crate::{
    Object, Reader,
    input::{self, ObjectKind},
};

fn entry(name: &str, created: u8, spec: Value, addresses: &[(&str, &str)]) -> Arc<input::ServiceEntry> {
    let listed: Vec<Value> = addresses
        .iter()
        .map(|(host, value)| json!({ "host": host, "value": value }))
        .collect();
    let value = json!({
        "metadata": { "name": name, "namespace": "ns", "creationTimestamp": format!("2026-01-0{created}T00:00:00Z") },
        "spec": spec, "status": { "addresses": listed },
    });
    match Reader::default().read_kind(ObjectKind::ServiceEntry, &value).object {
        Some(Object::ServiceEntry(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

fn dns(hosts: &[&str]) -> Value {
    json!({ "hosts": hosts, "resolution": "DNS" })
}

#[track_caller]
fn check(entries: &[Arc<input::ServiceEntry>], expected: &[(&str, &[&str])]) {
    let written = Allocator::new(Ranges::default()).assign(entries);
    let shown: Vec<(String, Vec<String>)> = written
        .iter()
        .map(|((_, name), assigned)| {
            let pairs = assigned.iter().map(|(host, address)| format!("{host} {address}"));
            (name.to_string(), pairs.collect())
        })
        .collect();
    let expected: Vec<(String, Vec<String>)> = expected
        .iter()
        .map(|(name, pairs)| {
            (
                (*name).to_owned(),
                pairs.iter().map(|pair| (*pair).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn each_host_gets_one_of_each_family() {
    let entries = [entry("a", 1, dns(&["x.example", "*.wild.example", "y.example"]), &[])];
    check(
        &entries,
        &[(
            "a",
            &[
                "x.example 240.240.0.1",
                "x.example 2001:2::1",
                "y.example 240.240.0.2",
                "y.example 2001:2::2",
            ],
        )],
    );
}

#[test]
fn what_is_assigned_is_kept() {
    let given = [("x.example", "240.240.0.1"), ("x.example", "2001:2::1")];
    check(&[entry("a", 1, dns(&["x.example"]), &given)], &[]);
    // A host that is gone gives its addresses back; what is left is written again.
    check(
        &[entry("a", 1, dns(&["y.example"]), &given)],
        &[("a", &["y.example 240.240.0.1", "y.example 2001:2::1"])],
    );
}

#[test]
fn of_two_with_one_address_the_older_keeps_it() {
    let given = [("x.example", "240.240.0.1"), ("x.example", "2001:2::1")];
    let entries = [
        entry("younger", 2, dns(&["x.example"]), &given),
        entry("older", 1, dns(&["x.example"]), &given),
    ];
    check(
        &entries,
        &[("younger", &["x.example 240.240.0.2", "x.example 2001:2::2"])],
    );
}

#[test]
fn what_a_user_wrote_is_not_given_away() {
    let entries = [
        entry("a", 2, dns(&["x.example"]), &[]),
        entry(
            "b",
            1,
            json!({ "hosts": ["y.example"], "resolution": "DNS", "addresses": ["240.240.0.1"] }),
            &[],
        ),
    ];
    check(&entries, &[("a", &["x.example 240.240.0.2", "x.example 2001:2::1"])]);
}

#[test]
fn nothing_for_those_that_cannot_use_it() {
    let mut opted_out = (*entry("a", 1, dns(&["x.example"]), &[])).clone();
    opted_out.may_assign = false;
    check(
        &[
            Arc::new(opted_out),
            entry("b", 1, json!({ "hosts": ["y.example"], "resolution": "NONE" }), &[]),
        ],
        &[],
    );
}

#[test]
fn a_range_can_be_used_up() {
    let ranges = Ranges {
        v4: "10.0.0.0/30".parse().expect("a range"),
        v6: "2001:db8::/126".parse().expect("a range"),
    };
    let entries = [entry("a", 1, dns(&["a.example", "b.example", "c.example"]), &[])];
    let written = Allocator::new(ranges).assign(&entries);
    let hosts: Vec<&str> = written[0].1.iter().map(|(host, _)| host.as_ref()).collect();
    assert_eq!(hosts, ["a.example", "a.example", "b.example", "b.example"]);
}

#[test]
fn what_was_given_is_given_again_until_it_is_seen() {
    let mut allocator = Allocator::new(Ranges::default());
    let first = [entry("a", 1, dns(&["x.example"]), &[])];
    let given = allocator.assign(&first);
    let mut both = first.to_vec();
    both.push(entry("b", 2, dns(&["y.example"]), &[]));
    let again = allocator.assign(&both);
    assert_eq!(again.len(), 2);
    assert_eq!(again[0], given[0], "nothing was written or seen in between");
    let seen: Vec<(&str, String)> = given[0]
        .1
        .iter()
        .map(|(_, address)| ("x.example", address.to_string()))
        .collect();
    let seen: Vec<(&str, &str)> = seen.iter().map(|(host, address)| (*host, address.as_str())).collect();
    both[0] = entry("a", 1, dns(&["x.example"]), &seen);
    assert_eq!(allocator.assign(&both), again[1..]);
}
