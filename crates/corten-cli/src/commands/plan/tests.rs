use clap::Parser as _;
use expect_test::{Expect, expect};

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    plan: Plan,
}

const SHOP: &str = include_str!("../explain/shop.yaml");

/// What changes when documents are put into the shop, or taken from it.
#[track_caller]
fn check(name: &str, change: impl Fn(&str) -> String, flags: &str, expected: Expect) {
    let dir = std::env::temp_dir().join(format!("corten-plan-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let (before, after) = (dir.join("before.yaml"), dir.join("after.yaml"));
    std::fs::write(&before, SHOP).expect("a file");
    std::fs::write(&after, change(SHOP)).expect("a file");
    let words = [
        "plan".to_owned(),
        "-f".to_owned(),
        before.display().to_string(),
        "-f".to_owned(),
        after.display().to_string(),
    ];
    let flags = flags.split_whitespace().map(str::to_owned);
    let line = Line::try_parse_from(words.into_iter().chain(flags)).expect("a command line");
    let (one, other) = line.plan.worlds().expect("both sides");
    let planned = line.plan.plan(&one, &other).expect("a plan");
    std::fs::remove_dir_all(&dir).expect("it is there");
    assert_eq!(planned.tried, planned.calls);
    expected.assert_eq(&show::text(&planned));
}

#[test]
fn the_same_twice_changes_nothing() {
    check(
        "same",
        str::to_owned,
        "",
        expect![[r#"
        The configurations are the same.
    "#]],
    );
}

#[test]
fn shares_and_timeouts_of_a_route_are_its_own_doing() {
    let change = |shop: &str| {
        shop.replace("weight: 90", "weight: 50")
            .replace("weight: 10}", "weight: 50}")
            .replace("timeout: 10s", "timeout: 3s")
    };
    check(
        "shares",
        change,
        "",
        expect![[r#"
        Objects that differ:
          ~ VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     all of namespace bank, web.shop
          requests    GET /v1/x
          before      90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          no longer   timeout 10s
          now         timeout 3s
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     all of namespace bank
          requests    POST /v1/x
          before      90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          no longer   timeout 10s
          now         timeout 3s
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /v1/x
          before      90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          after       50% reaches payments-v1.bank; 50% reaches payments-v2.bank
          no longer   timeout 10s
          now         timeout 3s
          because of  VirtualService bank/payments

        6 of 52 calls end otherwise.
    "#]],
    );
}

#[test]
fn a_policy_changes_what_its_callers_may() {
    let change = |shop: &str| {
        let deny = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-jason, namespace: bank}
spec:
  action: DENY
  rules: [{when: [{key: 'request.headers[end-user]', values: [jason]}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: nobody, namespace: shop}
spec: {host: nobody.example.com}
";
        format!("{shop}{deny}").replace("methods: [POST]", "methods: [PUT]")
    };
    check(
        "policy",
        change,
        "--from web.shop",
        expect![[r#"
        Objects that differ:
          + AuthorizationPolicy bank/no-jason
          ~ AuthorizationPolicy bank/payments
          + DestinationRule shop/nobody

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    PUT /v1/x
          before      90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          after       90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          because of  AuthorizationPolicy bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /v1/x
          before      90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          after       90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          because of  AuthorizationPolicy bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /v1/x with end-user: jason
          before      90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          after       90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          because of  AuthorizationPolicy bank/no-jason, AuthorizationPolicy bank/payments

        3 of 29 calls end otherwise.
        Without effect on any call that was tried:
          + DestinationRule shop/nobody
    "#]],
    );
}

#[test]
fn what_takes_two_is_told_of_both() {
    let change = |shop: &str| {
        shop.replace("subset: v2}, weight: 10", "subset: v3}, weight: 10")
            .replace(
                "- {name: v2, labels: {version: v2}}",
                "- {name: v3, labels: {version: v1}}",
            )
    };
    check(
        "two",
        change,
        "--from web.shop",
        expect![[r#"
        Objects that differ:
          ~ DestinationRule bank/payments
          ~ VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    GET /v1/x
          before      90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          after       100% is refused by payments-v1.bank: denied, 403
          because of  DestinationRule bank/payments and VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /v1/x
          before      90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          after       100% reaches payments-v1.bank
          because of  DestinationRule bank/payments and VirtualService bank/payments

        2 of 13 calls end otherwise.
    "#]],
    );
}

#[test]
fn callers_without_a_proxy_are_met_by_what_servers_ask_of_them() {
    let change = |shop: &str| shop.replace("mode: STRICT", "mode: PERMISSIVE");
    check(
        "plain",
        change,
        "--from outside.plain",
        expect![[r#"
        Objects that differ:
          ~ PeerAuthentication bank/default

        payments.bank.svc.cluster.local:8080
          callers     outside.plain
          requests    GET /
                      GET /admin with end-user: corten-plan-other
                      GET /admin with end-user: root
                      GET /corten-plan/other
                      GET /corten-plan/other with end-user: root
                      GET /payments/x
                      and 7 more
          before      50% is refused by payments-v1.bank: no-filter-chain, the connection is closed; 50% is refused by payments-v2.bank: no-filter-chain, the connection is closed
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          because of  PeerAuthentication bank/default

        13 of 13 calls end otherwise.
    "#]],
    );
}

#[test]
fn a_route_that_is_taken_away_is_missed() {
    let change = |shop: &str| {
        let documents = shop.split("---\n").filter(|it| !it.contains("kind: VirtualService"));
        documents.collect::<Vec<_>>().join("---\n")
    };
    check(
        "gone",
        change,
        "--from web.shop",
        expect![[r#"
        Objects that differ:
          - VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    GET /admin with end-user: root
                      POST /admin with end-user: root
          before      100% is answered by web.shop with 403
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    GET /
                      GET /admin with end-user: corten-plan-other
                      GET /corten-plan/other
                      GET /corten-plan/other with end-user: root
                      GET /payments/x
                      POST /admin with end-user: corten-plan-other
                      and 2 more
          before      100% is refused by web.shop: no-route, 404
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /payments/x
          before      100% is refused by web.shop: no-route, 404
          after       50% reaches payments-v1.bank; 50% reaches payments-v2.bank
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    GET /v1/x
          before      90% is refused by payments-v1.bank: denied, 403; 10% is refused by payments-v2.bank: denied, 403
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          no longer   retries 3 on 5xx,connect-failure,reset, each up to 3s; rewrite path /payments/; timeout 10s
          now         retries 2 on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes; timeout none
          because of  VirtualService bank/payments

        payments.bank.svc.cluster.local:8080
          callers     web.shop
          requests    POST /v1/x
          before      90% reaches payments-v1.bank; 10% reaches payments-v2.bank
          after       50% is refused by payments-v1.bank: denied, 403; 50% is refused by payments-v2.bank: denied, 403
          no longer   retries 3 on 5xx,connect-failure,reset, each up to 3s; rewrite path /payments/; timeout 10s
          now         retries 2 on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes; timeout none
          because of  VirtualService bank/payments

        13 of 13 calls end otherwise.
    "#]],
    );
}

#[test]
fn wrong_words_are_told() {
    let worlds = |words: &str| {
        let line = Line::try_parse_from(["plan"].into_iter().chain(words.split_whitespace())).expect("a command line");
        line.plan.worlds().expect_err("they are wrong").to_string()
    };
    assert!(worlds("").starts_with("say what is after with -f AFTER"));
    assert!(worlds("-f a -f b -f c").starts_with("there are 3 -f, and two configurations are compared"));
    assert_eq!(worlds("-f - -f -"), "only one side can come from standard input");
    assert!(worlds("-f /no/such/file -f b").contains("/no/such/file"));
}
