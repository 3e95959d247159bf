//! Which rule is followed, what rules of one host come to, and what they say for a port and subset.

use corten_api::{codec::encode_message, istio::destination_rule::ClientTLSSettingsTLSmode as Mode};
use corten_core::{Host, LabelMap};
use serde_json::{Value, json};

use super::{policy_for, tls_mode};
use crate::testing::snapshot;

/// Rules, each a line: `NAMESPACE/NAME SPEC`; made in this order.
fn rules(lines: &[&str]) -> String {
    let mut text = String::new();
    for (second, line) in lines.iter().enumerate() {
        let (place, spec) = line.split_once(' ').expect("a place and a spec");
        let (namespace, name) = place.split_once('/').expect("a namespace and a name");
        let (name, parents) = match name.strip_suffix('!') {
            Some(name) => (name, ", annotations: {internal.istio.io/parents: a}"),
            None => (name, ""),
        };
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}, \
             creationTimestamp: \"2024-01-01T00:00:{second:02}Z\"{parents}}}\nspec: {spec}\n"
        );
    }
    text
}

/// The rule that a client follows towards `web.shop.svc.cluster.local`, as the names of those it was merged from.
fn followed(lines: &[&str], client: &str, labels: &[(&str, &str)]) -> String {
    let snapshot = snapshot(&rules(lines));
    let labels: LabelMap = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let host = Host::from("web.shop.svc.cluster.local");
    let found = snapshot.catalog.destination_rules.find(client, &labels, "shop", &host);
    found.map_or_else(String::new, |rule| {
        format!("{}/{}", rule.namespace, rule.from.join("+"))
    })
}

#[test]
fn the_clients_namespace_comes_first_then_the_services_then_the_meshs() {
    const MESH: &str = "istio-system/m {host: web.shop.svc.cluster.local}";
    const SHOP: &str = "shop/s {host: web}";
    for (lines, client, expected) in [
        (
            &[MESH, SHOP, "a/own {host: web.shop.svc.cluster.local}"][..],
            "a",
            "a/own",
        ),
        // A wildcard hides what others say of the host itself.
        (&[MESH, SHOP, "a/own {host: '*.local'}"], "a", "a/own"),
        (&[MESH, SHOP], "a", "shop/s"),
        (&[MESH], "a", "istio-system/m"),
        (&[MESH, "shop/s {host: web, exportTo: [.]}"], "a", "istio-system/m"),
        (&[MESH, "shop/s {host: web, exportTo: [.]}"], "shop", "shop/s"),
        (&["shop/s {host: web, exportTo: [b]}"], "a", ""),
        (&["shop/s {host: web, exportTo: [b]}"], "b", "shop/s"),
        // Of those of the mesh's own namespace, its clients follow what is theirs alone before the service's.
        (&[MESH, SHOP], "istio-system", "shop/s"),
        (
            &["istio-system/m {host: web.shop.svc.cluster.local, exportTo: [.]}", SHOP],
            "istio-system",
            "istio-system/m",
        ),
        (&["shop/other {host: other}"], "a", ""),
    ] {
        assert_eq!(followed(lines, client, &[]), expected, "{lines:?} for {client}");
    }
}

#[test]
fn a_host_comes_before_wildcards_and_long_ones_before_short_ones() {
    for (lines, expected) in [
        (
            &[
                "a/w {host: '*.shop.svc.cluster.local'}",
                "a/x {host: web.shop.svc.cluster.local}",
            ][..],
            "a/x",
        ),
        (
            &["a/short {host: '*.local'}", "a/long {host: '*.shop.svc.cluster.local'}"],
            "a/long",
        ),
        (&["a/all {host: '*'}"], "a/all"),
    ] {
        assert_eq!(followed(lines, "a", &[]), expected, "{lines:?}");
    }
}

#[test]
fn rules_that_select_clients_are_theirs_alone() {
    let lines = [
        "shop/some {host: web, workloadSelector: {matchLabels: {app: x}}, trafficPolicy: {tls: {mode: DISABLE}}}",
        "shop/all {host: web}",
    ];
    assert_eq!(followed(&lines, "shop", &[("app", "x")]), "shop/some");
    assert_eq!(followed(&lines, "shop", &[("app", "y")]), "shop/all");
    assert_eq!(followed(&lines, "other", &[("app", "x")]), "shop/all");
    // One with the same visibility adds to it, and stays for the others.
    let lines = [lines[0], "shop/all {host: web, exportTo: [.]}"];
    assert_eq!(followed(&lines, "shop", &[("app", "x")]), "shop/some+all");
    assert_eq!(followed(&lines, "shop", &[]), "shop/all");
}

/// The merged spec of the rules for `web` in `shop`.
fn merged(lines: &[&str]) -> Value {
    let snapshot = snapshot(&rules(lines));
    let host = Host::from("web.shop.svc.cluster.local");
    let rules = &snapshot.catalog.destination_rules;
    let found = rules.find("shop", &LabelMap::new(), "shop", &host).expect("a rule");
    encode_message(&found.spec)
}

#[test]
fn rules_of_a_host_are_one_rule() {
    let both = merged(&[
        "shop/a {host: web, subsets: [{name: v1, labels: {v: '1'}}]}",
        "shop/b {host: web.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1}, {name: v2}]}",
        "shop/c {host: web, trafficPolicy: {tls: {mode: SIMPLE}}}",
    ]);
    assert_eq!(
        both,
        json!({
            "host": "web.shop.svc.cluster.local",
            "trafficPolicy": { "tls": {} },
            "subsets": [{ "name": "v1", "labels": { "v": "1" } }, { "name": "v2" }],
        })
    );
    assert_eq!(
        followed(
            &["shop/a {host: web}", "shop/b {host: web, exportTo: [.]}"],
            "shop",
            &[]
        ),
        "shop/b",
        "what is seen by others stays beside, and the last one counts"
    );
}

#[test]
fn what_users_write_counts_before_what_was_made_of_policies() {
    const USER: &str = "shop/user {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 80}, \
                        tls: {mode: SIMPLE}}]}}";
    const MADE: &str = "shop/made! {host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, retryBudget: {percent: 3}, \
                        portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL}, loadBalancer: {simple: RANDOM}}, {port: \
                        {number: 81}}]}}";
    let expected = json!({
        "host": "web.shop.svc.cluster.local",
        "trafficPolicy": {
            "loadBalancer": { "simple": "RANDOM" },
            "retryBudget": { "percent": 3 },
            "portLevelSettings": [
                { "port": { "number": 80 }, "tls": { "mode": "SIMPLE" }, "loadBalancer": { "simple": "RANDOM" } },
                { "port": { "number": 81 } },
            ],
        },
    });
    assert_eq!(merged(&[USER, MADE]), expected);
    assert_eq!(merged(&[MADE, USER]), expected);
}

/// The policy of a rule for a port and subset.
fn policy(spec: &str, port: u16, subset: Option<&str>) -> Value {
    let snapshot = snapshot(&rules(&[&format!("shop/r {spec}")]));
    let rule = snapshot
        .catalog
        .destination_rules
        .iter()
        .next()
        .expect("a rule")
        .clone();
    policy_for(&rule.spec, port, subset).map_or(Value::Null, |policy| encode_message(&policy))
}

#[test]
fn ports_replace_and_subsets_go_on_top() {
    const RULE: &str = "{host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE}, proxyProtocol: {version: V2}, \
                        portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 1}}}]}, subsets: [{name: \
                        plain}, {name: own, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, retryBudget: {percent: 5}, \
                        portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 2}}}]}}]}";
    let top = json!({ "loadBalancer": { "simple": "RANDOM" }, "tls": { "mode": "SIMPLE" }, "proxyProtocol": { "version": "V2" } });
    let port = json!({ "connectionPool": { "tcp": { "maxConnections": 1 } } });
    assert_eq!(policy(RULE, 90, None), top);
    assert_eq!(policy(RULE, 80, None), port);
    assert_eq!(policy(RULE, 80, Some("plain")), port);
    assert_eq!(policy(RULE, 90, Some("nobody")), top);
    assert_eq!(
        policy(RULE, 80, Some("own")),
        json!({
            "connectionPool": { "tcp": { "maxConnections": 1 } }, "loadBalancer": { "simple": "ROUND_ROBIN" },
            "retryBudget": { "percent": 5 },
        })
    );
    // What the subset says of the port alone replaces both what it says and what the rule says, but for what ports cannot say.
    assert_eq!(
        policy(RULE, 81, Some("own")),
        json!({ "connectionPool": { "tcp": { "maxConnections": 2 } }, "proxyProtocol": { "version": "V2" } })
    );
    assert_eq!(policy("{host: web}", 80, None), Value::Null);
}

#[test]
fn the_tls_of_a_port_or_subset_is_the_nearest_that_says_any() {
    const RULE: &str = "shop/r {host: web, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: \
                        ISTIO_MUTUAL}}]}, subsets: [{name: plain}, {name: own, trafficPolicy: {tls: {mode: DISABLE}}}]}";
    let snapshot = snapshot(&rules(&[RULE]));
    let rule = snapshot
        .catalog
        .destination_rules
        .iter()
        .next()
        .expect("a rule")
        .clone();
    for (port, subset, expected) in [
        (80, None, Some(Mode::IstioMutual)),
        (81, None, Some(Mode::Simple)),
        (80, Some("plain"), Some(Mode::IstioMutual)),
        (80, Some("own"), Some(Mode::Disable)),
    ] {
        assert_eq!(tls_mode(&rule.spec, port, subset), expected, "{port} {subset:?}");
    }
}
