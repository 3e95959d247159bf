//! Rules for tokens, and what Envoy is told of them.

use std::sync::Arc;

use corten_envoy::message_to_json;
use corten_routing::{ConfigKind, Configs};
use serde_json::{Value, json};

use super::*;

fn made(rules: &[Value], keys: &dyn Fn(&Source) -> Keys, clear: bool) -> (Value, Vec<String>) {
    let mut configs = Configs::default();
    for (i, rules) in rules.iter().enumerate() {
        let object = json!({
            "metadata": { "name": format!("p{i}"), "namespace": "foo" },
            "spec": { "jwtRules": rules },
        });
        configs.put(ConfigKind::RequestAuthentication, &object);
    }
    let policies = configs.request_authentications.values().map(AsRef::as_ref);
    let made = filter(policies, keys, clear);
    let json = made
        .filter
        .map_or(Value::Null, |filter| message_to_json(&filter).expect("JSON"));
    (
        json["typedConfig"].clone(),
        made.diagnostics.iter().map(ToString::to_string).collect(),
    )
}

fn none(_: &Source) -> Keys {
    Keys::Unreachable
}

#[test]
fn one_rule_with_everything() {
    let rule = json!({
        "issuer": "https://issuer",
        "audiences": ["a", "b"],
        "jwks": "{\"keys\":[{\"k\":\"AA\",\"kty\":\"oct\"}]}",
        "fromHeaders": [{ "name": "x-token", "prefix": "Token " }],
        "fromParams": ["token"],
        "fromCookies": ["session"],
        "outputPayloadToHeader": "x-payload",
        "forwardOriginalToken": true,
        "outputClaimToHeaders": [{ "header": "x-sub", "claim": "sub" }],
        "spaceDelimitedClaims": ["roles", "scope"],
    });
    let (config, said) = made(&[json!([rule])], &none, true);
    assert_eq!(
        config,
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "bypassCorsPreflight": true,
            "providers": { "origins-0": {
                "issuer": "https://issuer",
                "audiences": ["a", "b"],
                "forward": true,
                "fromHeaders": [{ "name": "x-token", "valuePrefix": "Token " }],
                "fromParams": ["token"],
                "fromCookies": ["session"],
                "forwardPayloadHeader": "x-payload",
                "payloadInMetadata": "payload",
                "normalizePayloadInMetadata": { "spaceDelimitedClaims": ["permission", "roles", "scope"] },
                "claimToHeaders": [{ "headerName": "x-sub", "claimName": "sub" }],
                "clearRouteCache": true,
                "localJwks": { "inlineString": "{\"keys\":[{\"k\":\"AA\",\"kty\":\"oct\"}]}" },
            } },
            "rules": [{
                "match": { "prefix": "/" },
                "requires": { "requiresAny": { "requirements": [{ "providerName": "origins-0" }, { "allowMissing": {} }] } },
            }],
        })
    );
    assert_eq!(said, Vec::<String>::new());
}

/// A requirement as text.
fn shown(requirement: &Value) -> String {
    let list = |key: &str, word: &str| {
        let all = requirement[key]["requirements"].as_array()?;
        Some(format!(
            "{word}({})",
            all.iter().map(shown).collect::<Vec<_>>().join(", ")
        ))
    };
    if let Some(name) = requirement["providerName"].as_str() {
        return name.trim_start_matches("origins-").to_owned();
    }
    list("requiresAny", "any")
        .or_else(|| list("requiresAll", "all"))
        .unwrap_or_else(|| {
            let kinds = requirement.as_object().into_iter().flatten();
            kinds.map(|(key, _)| key.as_str()).collect()
        })
}

#[test]
fn several_rules_are_one_requirement() {
    let rule = |issuer: &str, presence: &str| json!({ "issuer": issuer, "jwks": r#"{"kty":"oct","k":"AA"}"#, "presence": presence });
    let (a, b, c) = (rule("a", "OPTIONAL"), rule("b", "OPTIONAL"), rule("c", "REQUIRED"));
    for (policies, expected) in [
        (vec![], "null"),
        (vec![json!([])], "null"),
        (vec![json!([c])], "0"),
        // Of several policies, in the order of their issuers.
        (
            vec![json!([b]), json!([a])],
            "any(0, 1, all(any(0, allowMissing), any(1, allowMissing)))",
        ),
        (vec![json!([a, b, c])], "all(2, any(0, 1, allowMissingOrFailed))"),
        (vec![json!([c, rule("d", "REQUIRED")])], "all(0, 1)"),
    ] {
        let (config, _) = made(&policies, &none, false);
        let shown = match &config["rules"][0]["requires"] {
            Value::Null => "null".to_owned(),
            requirement => shown(requirement),
        };
        assert_eq!(shown, expected);
        if policies.len() == 2 {
            assert_eq!(config["providers"]["origins-0"]["issuer"], "a");
        }
    }
}

#[test]
fn keys_are_those_that_are_known() {
    let rules = json!([
        { "issuer": "a", "jwksUri": "https://a/keys", "timeout": "2s" },
        { "issuer": "b", "jwksUri": "https://b/keys" },
        { "issuer": "c", "jwksUri": "https://c/keys", "timeout": "2s" },
    ]);
    let known = |source: &Source| match source.issuer.as_str() {
        "a" => Keys::Fetched(Arc::from("{\"keys\":[1]}")),
        "c" => Keys::Remote("outbound|443||c".to_owned()),
        _ => Keys::Unreachable,
    };
    let (config, said) = made(std::slice::from_ref(&rules), &known, false);
    let providers = &config["providers"];
    assert_eq!(providers["origins-0"]["localJwks"]["inlineString"], "{\"keys\":[1]}");
    assert_eq!(providers["origins-1"]["localJwks"]["inlineString"], NOBODYS_KEY);
    assert_eq!(
        providers["origins-2"]["remoteJwks"],
        json!({
            "httpUri": { "uri": "https://c/keys", "cluster": "outbound|443||c", "timeout": "2s" },
            "cacheDuration": "300s",
        })
    );
    assert_eq!(
        said,
        [
            "warning CRT0304: RequestAuthentication foo/p0: spec.jwtRules[1]: the keys of issuer \"b\" at https://b/keys are not known; all its tokens are refused"
        ]
    );
    let key: Value = serde_json::from_str(NOBODYS_KEY).expect("JSON");
    assert_eq!(key["keys"][0]["kty"], "RSA");

    let mut configs = Configs::default();
    let object = json!({ "metadata": { "name": "p", "namespace": "foo" }, "spec": { "jwtRules": rules } });
    configs.put(ConfigKind::RequestAuthentication, &object);
    let wanted: Vec<(String, u64)> = sources(configs.request_authentications.values().map(AsRef::as_ref))
        .map(|(source, timeout)| (source.uri, timeout.as_secs()))
        .collect();
    let expected = [("https://a/keys", 2), ("https://b/keys", 5), ("https://c/keys", 2)];
    assert_eq!(wanted, expected.map(|(uri, timeout)| (uri.to_owned(), timeout)));
}

#[test]
fn what_cannot_be_read_accepts_nothing() {
    let rules = json!([{ "issuer": "a", "audiences": 7, "jwks": "{\"keys\":[{\"k\":\"AA\",\"kty\":\"oct\"}]}" }]);
    let (config, said) = made(&[rules], &none, false);
    assert_eq!(
        config["providers"]["origins-0"]["localJwks"]["inlineString"],
        NOBODYS_KEY
    );
    assert_eq!(
        said,
        [
            "error CRT0303: RequestAuthentication foo/p0: spec: it cannot be read as it is written; all tokens of its issuers are refused"
        ]
    );
}

#[test]
fn keys_that_a_proxy_would_not_take_are_not_sent() {
    let rules = json!([
        { "issuer": "a", "jwks": r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"# },
        { "issuer": "b", "jwks": r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"oct","k":"AA"}]}"# },
    ]);
    let (config, said) = made(std::slice::from_ref(&rules), &none, false);
    assert_eq!(
        config["providers"]["origins-0"]["localJwks"]["inlineString"],
        NOBODYS_KEY
    );
    assert_eq!(
        config["providers"]["origins-1"]["localJwks"]["inlineString"],
        "{\"keys\":[{\"k\":\"AA\",\"kty\":\"oct\"}]}"
    );
    assert_eq!(
        said,
        [
            "error CRT0304: RequestAuthentication foo/p0: spec.jwtRules[0].jwks: key 0: an RSA key of 17 bits; all tokens are refused",
            "warning CRT0304: RequestAuthentication foo/p0: spec.jwtRules[1].jwks: key 0: an RSA key of 17 bits; it is left out",
        ]
    );
}
