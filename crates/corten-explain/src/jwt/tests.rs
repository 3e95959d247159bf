use serde_json::json;

use super::*;
use crate::{Call, Request};

fn token(header: Value, claims: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(header), part(claims))
}

fn of(issuer: &str) -> String {
    token(
        json!({ "alg": "RS256" }),
        json!({ "iss": issuer, "sub": "me", "aud": ["a"], "exp": 2000, "scope": "read write" }),
    )
}

fn provider(issuer: &str, extra: Value) -> Value {
    let mut provider = json!({ "issuer": issuer, "payloadInMetadata": "payload" });
    provider
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    provider
}

/// Two issuers, as Istio asks for them: a token of either, or none.
fn two() -> Value {
    let lenient =
        |name: &str| json!({ "requiresAny": { "requirements": [{ "providerName": name }, { "allowMissing": {} }] } });
    json!({
        "providers": { "p1": provider("one", json!({})), "p2": provider("two", json!({ "fromHeaders": [{ "name": "x-token" }] })) },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "requiresAny": { "requirements": [
            { "providerName": "p1" }, { "providerName": "p2" }, { "requiresAll": { "requirements": [lenient("p1"), lenient("p2")] } },
        ]}}}],
    })
}

fn one(extra: Value) -> Value {
    json!({
        "providers": { "p1": provider("one", extra) },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "requiresAny": { "requirements": [{ "providerName": "p1" }, { "allowMissing": {} }] } } }],
    })
}

fn bearer(token: &str) -> Request {
    Request::default().header("authorization", &format!("Bearer {token}"))
}

#[track_caller]
fn check(config: &Value, request: Request, expected: Option<u16>) -> (FilterVerdict, Facts) {
    let config: JwtAuthentication = corten_envoy::message_from_json(config).unwrap();
    let mut facts = Facts::new(&Call::new("10.0.0.1:80".parse().unwrap()));
    facts.request = Some(request);
    let (verdict, status, _) = authenticate("jwt", &config, None, Some(1000), &mut facts);
    assert_eq!(status, expected, "{}", verdict.why);
    (verdict, facts)
}

#[test]
fn a_token_is_not_needed_but_must_be_good() {
    let config = one(json!({}));
    check(&config, Request::default(), None);
    let (_, facts) = check(&config, bearer(&of("one")), None);
    assert_eq!(facts.metadata[METADATA]["payload"]["sub"], "me");
    let (verdict, facts) = check(&config, bearer(&of("other")), Some(401));
    assert_eq!(verdict.why, "Jwt issuer is not configured");
    assert!(facts.metadata.is_empty());
    check(&config, bearer("no token"), Some(401));
    check(
        &config,
        Request {
            path: format!("/?access_token={}", of("one")),
            ..Request::default()
        },
        None,
    );
}

#[test]
fn either_issuer_will_do_where_each_is_looked_for() {
    check(&two(), Request::default(), None);
    check(&two(), bearer(&of("one")), None);
    check(&two(), Request::default().header("x-token", &of("two")), None);
    check(&two(), bearer(&of("other")), Some(401));
    // Both have to be good if both are there.
    check(&two(), bearer(&of("one")).header("x-token", &of("two")), None);
}

#[test]
fn audiences_times_and_keys() {
    let (verdict, _) = check(&one(json!({ "audiences": ["b"] })), bearer(&of("one")), Some(403));
    assert_eq!(verdict.why, "Audiences in Jwt are not allowed");
    check(&one(json!({ "audiences": ["b", "a"] })), bearer(&of("one")), None);
    let timed = |claims: Value| bearer(&token(json!({}), claims));
    check(&one(json!({})), timed(json!({ "iss": "one", "exp": 950 })), None);
    check(&one(json!({})), timed(json!({ "iss": "one", "exp": 900 })), Some(401));
    check(&one(json!({})), timed(json!({ "iss": "one", "nbf": 1100 })), Some(401));
    let keys = json!({ "localJwks": { "inlineString": r#"{"keys":[{"kid":"k"}]}"# } });
    let named = |kid: &str| bearer(&token(json!({ "kid": kid }), json!({ "iss": "one" })));
    check(&one(keys.clone()), named("k"), None);
    check(&one(keys), named("other"), Some(401));
}

#[test]
fn places_are_those_of_the_provider() {
    let elsewhere = one(
        json!({ "fromHeaders": [{ "name": "X-Jwt", "valuePrefix": "Token " }], "fromParams": ["t"], "fromCookies": ["c"] }),
    );
    let required = json!({ "providers": elsewhere["providers"], "rules": [{ "match": { "prefix": "/" }, "requires": { "providerName": "p1" } }] });
    let (verdict, _) = check(&required, bearer(&of("one")), Some(401));
    assert_eq!(verdict.why, "Jwt is missing");
    check(
        &required,
        Request::default().header("x-jwt", &format!("Token {}", of("one"))),
        None,
    );
    check(
        &required,
        Request {
            path: format!("/?t={}", of("one")),
            ..Request::default()
        },
        None,
    );
    check(
        &required,
        Request::default().header("cookie", &format!("a=b; c={}", of("one"))),
        None,
    );
}

#[test]
fn words_of_a_scope_become_a_list() {
    let normalizing = one(json!({ "normalizePayloadInMetadata": { "spaceDelimitedClaims": ["scope"] } }));
    let (_, facts) = check(&normalizing, bearer(&of("one")), None);
    assert_eq!(facts.metadata[METADATA]["payload"]["scope"], json!(["read", "write"]));
}

#[test]
fn rules_are_for_paths_and_preflights_pass() {
    let config = json!({
        "providers": { "p1": provider("one", json!({})) },
        "rules": [{ "match": { "prefix": "/open" } }, { "match": { "prefix": "/" }, "requires": { "providerName": "p1" } }],
        "bypassCorsPreflight": true,
    });
    check(
        &config,
        Request {
            path: "/open/x".to_owned(),
            ..Request::default()
        },
        None,
    );
    check(&config, Request::default(), Some(401));
    let preflight = Request {
        method: "OPTIONS".to_owned(),
        ..Request::default()
    };
    check(&config, preflight.clone(), Some(401));
    check(
        &config,
        preflight
            .header("origin", "a")
            .header("access-control-request-method", "GET"),
        None,
    );
}

#[test]
fn what_tokens_say_goes_on_in_headers_that_clients_cannot_set() {
    let config = one(json!({
        "claimToHeaders": [{ "headerName": "x-sub", "claimName": "sub" }, { "headerName": "x-exp", "claimName": "exp" }, { "headerName": "x-no", "claimName": "no" }],
        "forwardPayloadHeader": "x-payload",
    }));
    let told = |facts: &Facts| ["x-sub", "x-exp", "x-no", "authorization"].map(|name| facts.header(name));
    let claimed = |request: Request| request.header("X-Sub", "somebody").header("x-no", "somebody");
    let (_, facts) = check(&config, claimed(bearer(&of("one"))), None);
    assert_eq!(
        told(&facts),
        [Some("me".to_owned()), Some("2000".to_owned()), None, None]
    );
    assert_eq!(facts.header("x-payload").as_deref(), of("one").split('.').nth(1));
    let (_, facts) = check(&config, claimed(Request::default()), None);
    assert_eq!(told(&facts), [None, None, None, None]);
    let (_, facts) = check(&one(json!({ "forward": true })), bearer(&of("one")), None);
    assert!(facts.header("authorization").is_some());
}
