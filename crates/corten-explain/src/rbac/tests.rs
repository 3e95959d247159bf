use serde_json::{Value, json};

use super::*;
use crate::{Call, Certificate, Request, Tls};

/// A POST to /payments/1 by the payroll's client, with a token.
fn facts() -> Facts {
    let mut call = Call::new("10.0.0.5:8080".parse().unwrap());
    call.source = "10.1.2.3:40000".parse().unwrap();
    let mut facts = Facts::new(&call);
    facts.remote = "192.168.7.8".parse().unwrap();
    facts.server_name = "outbound_.8080_._.payments".to_owned();
    facts.tls = Some(Tls {
        certificate: Some(Certificate {
            uris: vec!["spiffe://cluster.local/ns/hr/sa/payroll".to_owned()],
            dns: Vec::new(),
        }),
        ..Tls::default()
    });
    let request = Request {
        method: "POST".to_owned(),
        host: "payments:8080".to_owned(),
        path: "/payments/1?q=2".to_owned(),
        headers: Vec::new(),
    };
    facts.request = Some(request.header("X-Team", "a"));
    let claims =
        json!({ "payload": { "iss": "issuer", "sub": "me", "groups": ["x", "y"], "realm": { "roles": ["admin"] } } });
    facts.metadata.insert("envoy.filters.http.jwt_authn".to_owned(), claims);
    facts
}

fn rules(action: &str, policies: Value) -> Rbac {
    corten_envoy::message_from_json(&json!({ "action": action, "policies": policies })).unwrap()
}

fn policy(permission: Value, principal: Value) -> Value {
    json!({ "permissions": [permission], "principals": [principal] })
}

#[track_caller]
fn permission(demand: Value, expected: bool) {
    let rules = rules("ALLOW", json!({ "p": policy(demand, json!({ "any": true })) }));
    let (_, decider, verdicts) = judge_all(&rules, &facts(), false);
    assert_eq!(decider.is_some(), expected, "{verdicts:?}");
}

#[track_caller]
fn principal(demand: Value, expected: bool) {
    let rules = rules("ALLOW", json!({ "p": policy(json!({ "any": true }), demand) }));
    let (_, decider, verdicts) = judge_all(&rules, &facts(), false);
    assert_eq!(decider.is_some(), expected, "{verdicts:?}");
}

#[test]
fn permissions_of_every_kind() {
    let method = |wanted: &str| json!({ "header": { "name": ":method", "stringMatch": { "exact": wanted } } });
    permission(method("POST"), true);
    permission(method("GET"), false);
    permission(json!({ "notRule": method("GET") }), true);
    permission(
        json!({ "andRules": { "rules": [method("POST"), { "destinationPort": 8080 }] } }),
        true,
    );
    permission(
        json!({ "andRules": { "rules": [method("POST"), { "destinationPort": 8081 }] } }),
        false,
    );
    permission(
        json!({ "orRules": { "rules": [method("GET"), { "destinationPort": 8080 }] } }),
        true,
    );
    permission(json!({ "orRules": { "rules": [] } }), false);
    permission(json!({ "andRules": { "rules": [] } }), true);
    permission(json!({ "urlPath": { "path": { "exact": "/payments/1" } } }), true);
    permission(json!({ "urlPath": { "path": { "prefix": "/payments/" } } }), true);
    permission(json!({ "urlPath": { "path": { "suffix": "q=2" } } }), false);
    let template = |template: &str| {
        json!({ "uriTemplate": { "name": "uri-template", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", "pathTemplate": template,
        }}})
    };
    permission(template("/payments/*"), true);
    permission(template("/*/*/*"), false);
    permission(
        json!({ "destinationIp": { "addressPrefix": "10.0.0.0", "prefixLen": 24 } }),
        true,
    );
    permission(
        json!({ "destinationIp": { "addressPrefix": "10.0.1.0", "prefixLen": 24 } }),
        false,
    );
    permission(json!({ "destinationPortRange": { "start": 8080, "end": 8081 } }), true);
    permission(json!({ "destinationPortRange": { "start": 8000, "end": 8080 } }), false);
    permission(json!({ "requestedServerName": { "prefix": "outbound_.8080_" } }), true);
    permission(json!({ "header": { "name": "x-team", "presentMatch": true } }), true);
    permission(json!({ "header": { "name": "x-other", "presentMatch": true } }), false);
    permission(json!({ "any": true }), true);
}

#[test]
fn principals_of_every_kind() {
    let client = |matcher: Value| json!({ "authenticated": { "principalName": matcher } });
    principal(
        client(json!({ "exact": "spiffe://cluster.local/ns/hr/sa/payroll" })),
        true,
    );
    principal(client(json!({ "prefix": "spiffe://cluster.local/ns/it/" })), false);
    principal(client(json!({ "safeRegex": { "regex": ".*/ns/hr/.*" } })), true);
    principal(json!({ "authenticated": {} }), true);
    principal(json!({ "notId": client(json!({ "suffix": "/sa/payroll" })) }), false);
    principal(
        json!({ "directRemoteIp": { "addressPrefix": "10.1.0.0", "prefixLen": 16 } }),
        true,
    );
    principal(
        json!({ "remoteIp": { "addressPrefix": "10.1.0.0", "prefixLen": 16 } }),
        false,
    );
    principal(
        json!({ "remoteIp": { "addressPrefix": "192.168.7.8", "prefixLen": 32 } }),
        true,
    );
    principal(
        json!({ "sourceIp": { "addressPrefix": "10.1.2.3", "prefixLen": 32 } }),
        true,
    );
    let claim = |path: &[&str], value: Value| {
        let path: Vec<Value> = path.iter().map(|key| json!({ "key": key })).collect();
        json!({ "metadata": { "filter": "envoy.filters.http.jwt_authn", "path": path, "value": value } })
    };
    let text = json!({ "stringMatch": { "exact": "y" } });
    principal(
        claim(&["payload", "groups"], json!({ "listMatch": { "oneOf": text } })),
        true,
    );
    principal(
        claim(
            &["payload", "realm", "roles"],
            json!({ "listMatch": { "oneOf": text } }),
        ),
        false,
    );
    let either = json!({ "orMatch": { "valueMatchers": [text, { "listMatch": { "oneOf": text } }] } });
    principal(claim(&["payload", "groups"], either), true);
    let sourced = json!({ "sourcedMetadata": { "metadataMatcher": {
        "filter": "envoy.filters.http.jwt_authn", "path": [{ "key": "payload" }, { "key": "iss" }],
        "value": { "stringMatch": { "exact": "issuer" } },
    }}});
    principal(sourced, true);
    let noted =
        json!({ "filterState": { "key": "io.istio.peer_principal", "stringMatch": { "prefix": "spiffe://" } } });
    principal(noted, false);
    principal(
        json!({ "andIds": { "ids": [{ "any": true }, { "urlPath": { "path": { "prefix": "/payments" } } }] } }),
        true,
    );
    principal(json!({ "orIds": { "ids": [] } }), false);
}

#[test]
fn without_tls_nobody_is_authenticated() {
    let rules = rules(
        "ALLOW",
        json!({ "p": policy(json!({ "any": true }), json!({ "authenticated": {} })) }),
    );
    let facts = Facts { tls: None, ..facts() };
    let (allowed, _, verdicts) = judge_all(&rules, &facts, false);
    assert!(!allowed);
    assert_eq!(verdicts[0].why, "the client is not authenticated");
}

#[test]
fn actions_and_what_is_tried_out() {
    let all = policy(json!({ "any": true }), json!({ "any": true }));
    let none = policy(json!({ "destinationPort": 1 }), json!({ "any": true }));
    for (action, policies, verdict, why) in [
        ("ALLOW", json!({ "b": all, "a": all }), Verdict::Allowed, "a allows it"),
        ("ALLOW", json!({ "a": none }), Verdict::Denied, "no policy allows it"),
        ("ALLOW", json!({}), Verdict::Denied, "nothing is allowed"),
        ("DENY", json!({ "a": none, "b": all }), Verdict::Denied, "b denies it"),
        ("DENY", json!({ "a": none }), Verdict::Allowed, "no policy denies it"),
        ("LOG", json!({ "a": all }), Verdict::Passed, "a has it logged"),
    ] {
        let (rules, mut facts) = (rules(action, policies), facts());
        let filter = Rules {
            name: "rbac",
            enforced: Some(&rules),
            shadow: None,
            shadow_prefix: "",
            metadata_name: "rbac",
        };
        let said = enforce(&filter, &mut facts);
        assert_eq!((said.verdict, &*said.why), (verdict, why));
        let filter = Rules {
            name: "rbac",
            enforced: None,
            shadow: Some(&rules),
            shadow_prefix: "dry_",
            metadata_name: "rbac",
        };
        assert_eq!(enforce(&filter, &mut facts).verdict, Verdict::Passed);
        let result = if verdict == Verdict::Denied {
            "denied"
        } else {
            "allowed"
        };
        assert_eq!(facts.metadata["rbac"]["dry_shadow_engine_result"], result);
    }
}
