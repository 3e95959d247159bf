use serde_json::{Value, json};

use super::*;
use crate::{Call, Request};

fn filter(kind: &str, mut config: Value) -> HttpFilter {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"));
    corten_envoy::message_from_json(&json!({ "name": "f", "typedConfig": config })).unwrap()
}

/// What the filter says of the request, with settings for its route if there are some, and whether it ends there.
#[track_caller]
fn check(filter: &HttpFilter, per_route: Option<Value>, request: Request, verdict: Verdict, why: &str, ends: bool) {
    let route: Option<Route> = per_route
        .map(|config| corten_envoy::message_from_json(&json!({ "typedPerFilterConfig": { "f": config } })).unwrap());
    let mut facts = Facts::new(&Call::new("10.0.0.1:80".parse().unwrap()));
    facts.request = Some(request);
    facts.metadata.insert(
        "envoy.filters.http.rbac".to_owned(),
        json!({ "effective": "istio-ext-authz-mine-x" }),
    );
    let scope = Scope {
        route: route.as_ref(),
        ..Scope::default()
    };
    let (said, left) = run(filter, scope, None, &mut facts).unwrap();
    assert_eq!((said.verdict, &*said.why), (verdict, why));
    assert_eq!(matches!(left, Left::Answered(_) | Left::Ended(..)), ends);
}

#[test]
fn faults_are_by_lot_unless_all_are_meant() {
    let none = filter("fault.v3.HTTPFault", json!({}));
    let kind = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let abort = |numerator: u32| json!({ "@type": kind, "abort": { "httpStatus": 418, "percentage": { "numerator": numerator } } });
    check(&none, None, Request::default(), Verdict::Passed, "", false);
    check(&none, Some(abort(0)), Request::default(), Verdict::Passed, "", false);
    check(
        &none,
        Some(abort(25)),
        Request::default(),
        Verdict::Depends,
        "aborts 25 % of them with HTTP 418",
        false,
    );
    check(
        &none,
        Some(abort(100)),
        Request::default(),
        Verdict::Denied,
        "aborts all of them with HTTP 418",
        true,
    );
    let delay = json!({ "@type": kind, "delay": { "fixedDelay": "7s", "percentage": { "numerator": 5000, "denominator": "MILLION" } } });
    check(
        &none,
        Some(delay),
        Request::default(),
        Verdict::Depends,
        "delays 0.5 % of them by 7s",
        false,
    );
    let only = json!({ "@type": kind, "abort": { "httpStatus": 500, "percentage": { "numerator": 100 } }, "headers": [{ "name": "x", "presentMatch": true }] });
    check(
        &none,
        Some(only),
        Request::default(),
        Verdict::Passed,
        r#"header "x" is missing"#,
        false,
    );
}

#[test]
fn who_is_asked_is_named() {
    let matched = |prefix: &str| {
        json!({
            "filterEnabledMetadata": { "filter": "envoy.filters.http.rbac", "path": [{ "key": "effective" }], "value": { "stringMatch": { "prefix": prefix } } },
            "grpcService": { "envoyGrpc": { "clusterName": "outbound|9000||authz" } },
        })
    };
    let asks = "asks outbound|9000||authz; denies if it does not answer";
    check(
        &filter("ext_authz.v3.ExtAuthz", matched("istio-ext-authz-mine")),
        None,
        Request::default(),
        Verdict::Depends,
        asks,
        false,
    );
    let other = "no policy sends this request to it";
    check(
        &filter("ext_authz.v3.ExtAuthz", matched("istio-ext-authz-other")),
        None,
        Request::default(),
        Verdict::Passed,
        other,
        false,
    );
    let http = json!({ "failureModeAllow": true, "httpService": { "serverUri": { "uri": "http://a", "cluster": "c", "timeout": "1s" }, "pathPrefix": "/check" } });
    let asks = "asks c at http://a/check; lets the call pass if it does not answer";
    check(
        &filter("ext_authz.v3.ExtAuthz", http),
        None,
        Request::default(),
        Verdict::Depends,
        asks,
        false,
    );
}

#[test]
fn preflights_of_known_origins_are_answered() {
    let cors = filter("cors.v3.Cors", json!({}));
    let policy = |forwards: bool| {
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allowOriginStringMatch": [{ "exact": "https://a" }], "forwardNotMatchingPreflights": forwards,
        })
    };
    let from = |origin: &str| Request::default().header("origin", origin);
    let preflight = |origin: &str| Request {
        method: "OPTIONS".to_owned(),
        ..from(origin).header("access-control-request-method", "GET")
    };
    let known = "the origin https://a is one of those that are allowed";
    let other = "the origin https://b is not one of those that are allowed";
    check(&cors, None, from("https://a"), Verdict::Passed, "", false);
    check(
        &cors,
        Some(policy(true)),
        Request::default(),
        Verdict::Passed,
        "the request has no origin",
        false,
    );
    check(
        &cors,
        Some(policy(true)),
        from("https://a"),
        Verdict::Allowed,
        known,
        false,
    );
    check(
        &cors,
        Some(policy(true)),
        from("https://b"),
        Verdict::Passed,
        other,
        false,
    );
    check(
        &cors,
        Some(policy(true)),
        preflight("https://a"),
        Verdict::Allowed,
        &format!("{known}; the preflight is answered here"),
        true,
    );
    check(
        &cors,
        Some(policy(true)),
        preflight("https://b"),
        Verdict::Passed,
        other,
        false,
    );
    check(
        &cors,
        Some(policy(false)),
        preflight("https://b"),
        Verdict::Allowed,
        &format!("{other}; the preflight is answered here"),
        true,
    );
}

#[test]
fn what_is_switched_off_passes() {
    let all = filter("rbac.v3.RBAC", json!({ "rules": {} }));
    check(
        &all,
        None,
        Request::default(),
        Verdict::Denied,
        "nothing is allowed",
        true,
    );
    let off = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true });
    check(
        &all,
        Some(off),
        Request::default(),
        Verdict::Passed,
        "switched off here",
        false,
    );
    let open = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute" });
    check(
        &all,
        Some(open),
        Request::default(),
        Verdict::Passed,
        "it enforces nothing",
        false,
    );
}
