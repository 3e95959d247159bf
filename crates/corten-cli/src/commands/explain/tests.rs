use clap::Parser as _;
use corten_explain::{Hop, Refusal};

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    explain: Explain,
}

/// Follows a call through the shop, by the words of a command line.
fn trace(words: &str) -> Result<Trace> {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/explain/shop.yaml");
    trace_in(shop, words)
}

fn trace_in(file: &str, words: &str) -> Result<Trace> {
    let line = Line::try_parse_from(["explain", "-f", file].into_iter().chain(words.split_whitespace()))?;
    line.explain.trace(&line.explain.objects.read()?)
}

/// Which proxies the call passes, and how it ends at each.
#[track_caller]
fn check(words: &str, expected: &[(&str, Option<Refusal>)]) -> Trace {
    judged(trace(words).unwrap(), expected)
}

#[track_caller]
fn judged(trace: Trace, expected: &[(&str, Option<Refusal>)]) -> Trace {
    let passed: Vec<(&str, Option<Refusal>)> = trace.hops.iter().map(|hop| (&*hop.proxy, hop.refusal())).collect();
    assert_eq!(passed, expected, "{trace}");
    trace
}

fn clusters(hop: &Hop) -> Vec<(&str, f64)> {
    hop.destinations
        .iter()
        .map(|destination| (&*destination.cluster, destination.share))
        .collect()
}

#[test]
fn a_split_is_followed_to_both_sides() {
    let to = "--from web.shop --to payments.bank:8080 --method post --path /v1/x";
    let trace = check(
        to,
        &[
            ("web.shop", None),
            ("payments-v1.bank", None),
            ("payments-v2.bank", None),
        ],
    );
    let service = "payments.bank.svc.cluster.local";
    let (one, two) = (
        format!("outbound|8080|v1|{service}"),
        format!("outbound|8080|v2|{service}"),
    );
    assert_eq!(clusters(&trace.hops[0]), [(&*one, 0.9), (&*two, 0.1)]);
    assert_eq!(
        trace.hops[2].via.as_ref().map(|via| (via.hop, &*via.cluster)),
        Some((0, &*two))
    );
    let server = &trace.hops[1];
    assert_eq!(
        server.call.request.as_ref().map(|request| &*request.path),
        Some("/payments/x")
    );
    assert_eq!(
        server.tls.as_ref().map(|tls| tls.peer.join(",")).as_deref(),
        Some("spiffe://cluster.local/ns/shop/sa/web")
    );
    assert_eq!(
        server.destinations[0]
            .upstream
            .as_ref()
            .map(|upstream| &*upstream.endpoints[0].address),
        Some("198.19.0.1:9090")
    );
}

#[test]
fn what_the_servers_policy_does_not_allow_is_denied_there() {
    let denied = Some(Refusal::Denied);
    let passed = [
        ("web.shop", None),
        ("payments-v1.bank", denied),
        ("payments-v2.bank", denied),
    ];
    check("--from web.shop --to payments.bank:8080 --path /v1/x", &passed);
    let other = [
        ("payments-v1.bank", None),
        ("payments-v1.bank", denied),
        ("payments-v2.bank", denied),
    ];
    check(
        "--from payments-v1.bank --to payments:8080 --method POST --path /v1/x",
        &other,
    );
}

#[test]
fn what_the_client_answers_goes_nowhere() {
    let trace = check(
        "--from web.shop --to payments.bank.svc.cluster.local:8080 --path /admin -H end-user=root",
        &[("web.shop", None)],
    );
    assert!(matches!(&trace.hops[0].outcome, Outcome::Answered(answer) if answer.status == 403));
    check(
        "--from web.shop --to payments.bank:8080 --path /other",
        &[("web.shop", Some(Refusal::NoRoute))],
    );
}

#[test]
fn what_the_mesh_does_not_know_passes_through() {
    let trace = check(
        "--from web.shop --to example.com --address 203.0.113.7",
        &[("web.shop", None)],
    );
    assert_eq!(clusters(&trace.hops[0]), [("PassthroughCluster", 1.0)]);
    let trace = check(
        "--from web.shop --to 203.0.113.7:5432 --protocol tcp",
        &[("web.shop", None)],
    );
    assert_eq!(clusters(&trace.hops[0]), [("PassthroughCluster", 1.0)]);
}

#[test]
fn a_client_without_a_sidecar_is_refused_by_who_wants_mutual_tls() {
    let refused = Some(Refusal::NoFilterChain);
    check(
        "--from outside.plain --to payments.bank:8080",
        &[("payments-v1.bank", refused), ("payments-v2.bank", refused)],
    );
    let denied = Some(Refusal::Denied);
    let passed = [
        ("outside.plain", None),
        ("payments-v1.bank", denied),
        ("payments-v2.bank", denied),
    ];
    check(
        "--from outside.plain --to payments.bank:8080 --path /v1/x --all-sidecars",
        &passed,
    );
}

#[test]
fn bad_arguments_are_named() {
    for (words, expected) in [
        (
            "--from nobody.shop --to payments.bank:8080",
            "there is no pod nobody in namespace shop",
        ),
        (
            "--from web.shop --to payments.bank:http",
            "\"http\" in \"payments.bank:http\" is no port",
        ),
        (
            "--from web.shop --to payments.bank:8080 --path v1",
            "the path \"v1\" does not begin with a slash",
        ),
        (
            "--from web.shop --to payments.bank:8080 -H x",
            "the header \"x\" is not NAME=VALUE",
        ),
        (
            "--from outside.plain --to example.com --address 203.0.113.7",
            "there is no proxy to follow the call through",
        ),
    ] {
        let error = trace(words).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_ambient_call_passes_both_node_proxies_and_the_waypoint() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/explain/ambient.yaml");
    let words = "--from client.shop --to reviews:9080 --path /ratings/1";
    let (leaves, arrives) = ("the node proxy of client.shop", "the node proxy of reviews.shop");
    let waypoint = ("waypoint.shop", None);
    let trace = judged(
        trace_in(file, words).unwrap(),
        &[(leaves, None), waypoint, waypoint, waypoint, (arrives, None)],
    );
    assert_eq!(clusters(&trace.hops[0]), [("waypoint shop/waypoint", 1.0)]);
    let policies = |hop: &Hop| -> Vec<(String, bool)> {
        let all = hop.filters.iter().flat_map(|filter| &filter.policies);
        all.map(|policy| (policy.name.clone(), policy.matched)).collect()
    };
    assert_eq!(
        policies(&trace.hops[2]),
        [("ns[shop]-policy[who]-rule[0]".to_owned(), true)]
    );
    // The server's node sees the waypoint, and not who called it.
    assert_eq!(policies(&trace.hops[4]), [("shop/by-waypoint".to_owned(), true)]);

    // What the waypoint does not allow goes no further.
    let denied = ("waypoint.shop", Some(Refusal::Denied));
    judged(
        trace_in(file, &format!("{words} --method POST")).unwrap(),
        &[(leaves, None), waypoint, denied],
    );
    // Who calls the workload itself goes past the waypoint, and is not who may.
    let trace = trace_in(file, "--from client.shop --to 198.19.0.2:8080").unwrap();
    judged(trace, &[(leaves, None), (arrives, Some(Refusal::Denied))]);
}

/// A call from outside, through the gateways of a file beside the shop's.
#[track_caller]
fn from_outside(words: &str, expected: &[(&str, Option<Refusal>)]) -> Trace {
    let edge = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/explain/edge.yaml");
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/explain/shop.yaml");
    let words = format!("-f {edge} --from 203.0.113.9 {words}");
    judged(trace_in(shop, &words).unwrap(), expected)
}

#[test]
fn a_call_from_outside_goes_through_the_gateway_that_has_its_host() {
    let trace = from_outside(
        "--to shop.example.com --path /cart/7",
        &[("edge-istio.shop", None), ("web.shop", None)],
    );
    let server = &trace.hops[1];
    assert_eq!(server.call.request.as_ref().map(|request| &*request.path), Some("/c/7"));
    assert_eq!(
        server.tls.as_ref().map(|tls| tls.peer.join(",")).as_deref(),
        Some("spiffe://cluster.local/ns/shop/sa/edge-istio")
    );
    from_outside(
        "--to bank.example.org",
        &[
            ("ingress.istio-system", None),
            ("payments-v1.bank", Some(Refusal::Denied)),
            ("payments-v2.bank", Some(Refusal::Denied)),
        ],
    );
}

#[test]
fn a_call_from_outside_to_an_address_is_for_the_gateway_that_has_it() {
    let refused = Some(Refusal::NoVirtualHost);
    from_outside(
        "--to 192.0.2.80 -H host=shop.example.com",
        &[("ingress.istio-system", refused)],
    );
    from_outside(
        "--to edge-istio.shop -H host=bank.example.org",
        &[("edge-istio.shop", refused)],
    );
}

#[test]
fn a_call_from_outside_needs_a_gateway_with_its_port() {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/explain/shop.yaml");
    let error = trace_in(shop, "--from 203.0.113.9 --to shop.example.com:81").unwrap_err();
    assert!(error.to_string().starts_with("no gateway has port 81"), "{error}");
}
