use serde_json::{Value, json};

use super::*;
use crate::{Call, Certificate, Request, Tls};

#[track_caller]
fn check(demand: &Value, request: &Request, expected: bool) {
    let demand: RouteMatch = corten_envoy::message_from_json(demand).unwrap();
    let mut facts = Facts::new(&Call::new("10.0.0.1:80".parse().unwrap()));
    facts.request = Some(request.clone());
    let judged = judge(&demand, &facts);
    assert_eq!(judged.yes, expected, "{}", judged.why);
}

#[track_caller]
fn path(demand: &Value, path: &str, expected: bool) {
    let request = Request {
        path: path.to_owned(),
        ..Request::default()
    };
    check(demand, &request, expected);
}

#[test]
fn paths_of_every_kind() {
    path(&json!({ "prefix": "/a" }), "/ab?x", true);
    path(&json!({ "prefix": "/a" }), "/A", false);
    path(&json!({ "prefix": "/a", "caseSensitive": false }), "/Ab", true);
    path(&json!({ "path": "/a" }), "/a?x=1", true);
    path(&json!({ "path": "/a" }), "/a/", false);
    path(&json!({ "path": "/a", "caseSensitive": false }), "/A", true);
    path(&json!({ "pathSeparatedPrefix": "/a" }), "/a", true);
    path(&json!({ "pathSeparatedPrefix": "/a" }), "/a/b", true);
    path(&json!({ "pathSeparatedPrefix": "/a" }), "/a?b", true);
    path(&json!({ "pathSeparatedPrefix": "/a" }), "/ab", false);
    path(
        &json!({ "pathSeparatedPrefix": "/A", "caseSensitive": false }),
        "/a/b",
        true,
    );
    path(&json!({ "safeRegex": { "regex": "/a[0-9]+" } }), "/a12?x", true);
    path(&json!({ "safeRegex": { "regex": "/a[0-9]+" } }), "/a12b", false);
    path(&json!({ "safeRegex": { "regex": "(" } }), "/", false);
    path(&json!({ "connectMatcher": {} }), "/", false);
    let template = json!({ "pathMatchPolicy": { "name": "t", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", "pathTemplate": "/a/{b}/c",
    }}});
    path(&template, "/a/x/c", true);
    path(&template, "/a/x/y/c", false);
    let connect = Request {
        method: "CONNECT".to_owned(),
        path: String::new(),
        ..Request::default()
    };
    check(&json!({ "connectMatcher": {} }), &connect, true);
    check(&json!({ "prefix": "" }), &connect, false);
}

#[test]
fn everything_that_is_asked_for_must_hold() {
    let with = |extra: Value| {
        let mut demand = json!({ "prefix": "/" });
        demand
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        demand
    };
    let request = Request {
        path: "/a?v=1".to_owned(),
        ..Request::default()
    }
    .header("cookie", "user=me; x=y")
    .header("end-user", "jason");
    let exact = |name: &str, value: &str| json!({ "name": name, "stringMatch": { "exact": value } });
    check(
        &with(json!({ "headers": [exact("end-user", "jason")] })),
        &request,
        true,
    );
    check(
        &with(json!({ "headers": [exact("end-user", "jason"), exact("other", "x")] })),
        &request,
        false,
    );
    check(&with(json!({ "queryParameters": [exact("v", "1")] })), &request, true);
    check(&with(json!({ "queryParameters": [exact("v", "2")] })), &request, false);
    check(
        &with(json!({ "queryParameters": [{ "name": "w", "presentMatch": true }] })),
        &request,
        false,
    );
    check(&with(json!({ "cookies": [exact("user", "me")] })), &request, true);
    check(&with(json!({ "cookies": [exact("user", "you")] })), &request, false);
    check(&with(json!({ "grpc": {} })), &request, false);
    check(
        &with(json!({ "grpc": {} })),
        &request.clone().header("content-type", "application/grpc+proto"),
        true,
    );
    check(
        &with(json!({ "grpc": {} })),
        &request.clone().header("content-type", "application/grpc-web"),
        false,
    );
    check(&with(json!({ "tlsContext": { "presented": true } })), &request, false);
    check(&with(json!({ "tlsContext": { "presented": false } })), &request, true);
    let claim = json!({ "dynamicMetadata": [{
        "filter": "f", "path": [{ "key": "k" }], "value": { "stringMatch": { "exact": "v" } },
    }]});
    check(&with(claim.clone()), &request, false);
    let demand: RouteMatch = corten_envoy::message_from_json(&with(claim)).unwrap();
    let mut facts = Facts::new(&Call::new("10.0.0.1:80".parse().unwrap()));
    facts.request = Some(request);
    facts.metadata.insert("f".to_owned(), json!({ "k": "v" }));
    assert!(judge(&demand, &facts).yes);
    let presented: RouteMatch =
        corten_envoy::message_from_json(&with(json!({ "tlsContext": { "presented": true } }))).unwrap();
    facts.tls = Some(Tls {
        certificate: Some(Certificate::default()),
        ..Tls::default()
    });
    assert!(judge(&presented, &facts).yes);
}

#[test]
fn a_route_for_a_share_leaves_the_rest_to_the_next() {
    let route = |name: &str, percent: u32| json!({ "name": name, "match": { "prefix": "/", "runtimeFraction": { "defaultValue": { "numerator": percent } } } });
    let host: VirtualHost = corten_envoy::message_from_json(&json!({ "name": "h", "routes": [
        { "name": "no", "match": { "path": "/x" } }, route("a", 25), route("never", 0), route("b", 50), { "name": "c", "match": { "prefix": "/" } },
        { "name": "late", "match": { "prefix": "/" } },
    ]})).unwrap();
    let mut facts = Facts::new(&Call::new("10.0.0.1:80".parse().unwrap()));
    facts.request = Some(Request::default());
    let (taken, passed_over) = find(&host, &facts);
    let shares: Vec<(&str, f64)> = taken.iter().map(|taken| (&*taken.route.name, taken.share)).collect();
    assert_eq!(shares, [("a", 0.25), ("b", 0.375), ("c", 0.375)]);
    assert_eq!(
        passed_over,
        [PassedOver {
            name: "no".to_owned(),
            because: r#"path "/" is not "/x""#.to_owned()
        }]
    );
}
