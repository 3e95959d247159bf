//! What policies become where they cannot be had as they are written, and which are for whom. That they mean what they
//! say is in the property test beside this.

use corten_api::istio::mesh_config::MeshConfig;
use corten_core::{Host, LabelMap};
use corten_envoy::message_to_json;
use corten_routing::{ConfigKind, Configs};
use serde_json::{Value, json};

use super::*;
use crate::security::attach::Place;

fn configs(policies: &[Value]) -> Configs {
    let mut configs = Configs::default();
    for (i, policy) in policies.iter().enumerate() {
        let mut policy = policy.clone();
        if policy["metadata"].get("name").is_none() {
            policy["metadata"]["name"] = json!(format!("p{i}"));
        }
        if policy["metadata"].get("namespace").is_none() {
            policy["metadata"]["namespace"] = json!("foo");
        }
        configs.put(ConfigKind::AuthorizationPolicy, &policy);
    }
    configs
}

/// The filters of policies, in a line each, and what is said about them.
fn shown(policies: &[Value], mesh: &MeshConfig, tcp_chain: bool, several: bool) -> (Vec<String>, Vec<String>) {
    let configs = configs(policies);
    let find = |service: &str| match service {
        "authz.foo" => Ok(Host::from("authz.foo")),
        other => Err(format!("there is no service '{other}'")),
    };
    let options = Options {
        trust_domains: &["td".to_owned(), "old".to_owned()],
        peer: Peer::Certificate,
        providers: &Providers::new(mesh, &find),
        several_providers: several,
    };
    let policies = configs.authorization_policies.values().map(AsRef::as_ref);
    let (filters, diagnostics): (Vec<Value>, _) = if tcp_chain {
        let made = tcp(policies, &options);
        (
            made.custom.iter().chain(&made.others).map(json_of).collect(),
            made.diagnostics,
        )
    } else {
        let made = http(policies, &options);
        (
            made.custom.iter().chain(&made.others).map(json_of).collect(),
            made.diagnostics,
        )
    };
    let lines = filters.iter().map(line).collect();
    (lines, diagnostics.iter().map(ToString::to_string).collect())
}

fn json_of<M: corten_envoy::prost::Message + corten_envoy::prost::Name>(message: &M) -> Value {
    message_to_json(message).expect("JSON")
}

fn line(filter: &Value) -> String {
    let config = &filter["typedConfig"];
    if !config["filterEnabledMetadata"].is_null() {
        let prefix = &config["filterEnabledMetadata"]["value"]["stringMatch"]["prefix"];
        return format!("ask {}", prefix.as_str().unwrap_or("?"));
    }
    let rules = |kind: &str| {
        let rules = config.get(kind)?;
        let action = rules["action"].as_str().unwrap_or("ALLOW");
        let mut policies: Vec<String> = rules["policies"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, policy)| format!("{name} {} by {}", policy["permissions"], policy["principals"]))
            .collect();
        policies.sort();
        Some(format!("{kind} {action} {}", policies.join("; ")))
    };
    [rules("rules"), rules("shadowRules")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" + ")
}

fn policy(action: &str, rules: &Value) -> Value {
    json!({ "spec": { "action": action, "rules": rules } })
}

const ANY: &str = r#"[{"andRules":{"rules":[{"any":true}]}}] by [{"andIds":{"ids":[{"any":true}]}}]"#;

#[track_caller]
fn check(policies: &[Value], tcp_chain: bool, filters: &[&str], diagnostics: &[&str]) {
    let (made, said) = shown(policies, &MeshConfig::default(), tcp_chain, false);
    assert_eq!(made, filters);
    assert_eq!(said, diagnostics);
}

#[test]
fn an_allow_loses_the_rule_that_cannot_be_had() {
    let rules = json!([
        { "from": [{ "source": { "ipBlocks": ["10.0.0.0/8", "ten"] } }] },
        { "when": [{ "key": "source.colour", "values": ["red"] }] },
        { "when": [{ "key": "request.auth.claims[a][]", "values": ["red"] }] },
        { "to": [{ "operation": { "paths": ["/{**}/{*}"] } }] },
        { "to": [{ "operation": {} }] },
        { "from": [{}] },
    ]);
    check(
        &[policy("ALLOW", &rules)],
        false,
        &["rules ALLOW "],
        &[
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[0].from[0].source.ipBlocks[1]: 'ten' is neither an address nor a range such as 10.0.0.0/8; the rule allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[1].when[0].key: 'source.colour' is not an attribute that conditions can be about; the rule allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[2].when[0].key: 'request.auth.claims[a][]' is not of the form request.auth.claims[name][name]; the rule allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[3].to[0].operation.paths[0]: in '/{**}/{*}' nothing but names may follow {**}; the rule allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[4].to[0].operation: nothing is asked here; the rule allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[5].from[0].source: nothing is asked here; the rule allows nothing",
        ],
    );
}

#[test]
fn a_deny_loses_only_the_condition_that_cannot_be_had() {
    // Of values that are wanted, one that is missing would narrow the rule; of those that are not, it widens it.
    let rules = json!([{
        "from": [{ "source": { "ipBlocks": ["10.0.0.1", "ten"] } }],
        "to": [{ "operation": { "ports": ["80"], "notPorts": ["many", "81"] } }],
    }]);
    check(
        &[policy("DENY", &rules)],
        false,
        &[
            r#"rules DENY ns[foo]-policy[p0]-rule[0] [{"andRules":{"rules":[{"orRules":{"rules":[{"destinationPort":80}]}},{"notRule":{"orRules":{"rules":[{"destinationPort":81}]}}}]}}] by [{"andIds":{"ids":[{"any":true}]}}]"#,
        ],
        &[
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[0].from[0].source.ipBlocks[1]: 'ten' is neither an address nor a range such as 10.0.0.0/8; the rule is applied without it, to more than is written",
            "error CRT0301: AuthorizationPolicy foo/p0: spec.rules[0].to[0].operation.notPorts[0]: 'many' is not a port; the rule is applied without it, to more than is written",
        ],
    );
}

#[test]
fn connections_have_no_requests() {
    let rules = json!([{ "to": [{ "operation": { "methods": ["GET"], "ports": ["80"] } }] }]);
    check(
        &[policy("ALLOW", &rules)],
        true,
        &["rules ALLOW "],
        &[
            "info CRT0302: AuthorizationPolicy foo/p0: spec.rules[0].to[0].operation.methods: connections without requests do not have this; there the rule allows nothing",
        ],
    );
    check(
        &[policy("DENY", &rules)],
        true,
        &[
            r#"rules DENY ns[foo]-policy[p0]-rule[0] [{"andRules":{"rules":[{"orRules":{"rules":[{"destinationPort":80}]}}]}}] by [{"andIds":{"ids":[{"any":true}]}}]"#,
        ],
        &[
            "info CRT0302: AuthorizationPolicy foo/p0: spec.rules[0].to[0].operation.methods: connections without requests do not have this; there the rule is applied without it, to more than is written",
        ],
    );
}

#[test]
fn what_cannot_be_read_is_refused_as_a_whole() {
    let rules = json!([{ "from": [{ "source": { "principals": "td/ns/a/sa/b" } }] }]);
    let misspelt = json!([{ "from": [{ "source": { "ipBlocks": ["10.0.0.1"], "princpals": ["a"] } }] }]);
    check(
        &[policy("ALLOW", &rules), policy("DENY", &misspelt)],
        false,
        &[
            r#"rules DENY ns[foo]-policy[p1]-rule[0] [{"any":true}] by [{"any":true}]"#,
            r#"rules ALLOW ns[foo]-policy[p0]-rule[0] [{"notRule":{"any":true}}] by [{"notId":{"any":true}}]"#,
        ],
        &[
            "error CRT0301: AuthorizationPolicy foo/p0: spec: it cannot be read as it is written; it allows nothing",
            "error CRT0301: AuthorizationPolicy foo/p1: spec: it cannot be read as it is written; it applies to everything",
        ],
    );
}

#[test]
fn trust_domains_that_count_as_the_same_are_asked_for_together() {
    let rules = json!([{ "from": [
        { "source": { "principals": ["cluster.local/ns/a/sa/b"] } },
        { "source": { "notTrustDomains": ["old", "far*"] } },
    ] }]);
    let name = |matcher: &str| format!(r#"{{"authenticated":{{"principalName":{matcher}}}}}"#);
    let (made, _) = shown(&[policy("ALLOW", &rules)], &MeshConfig::default(), false, false);
    let principals = format!(
        r#"[{{"andIds":{{"ids":[{{"orIds":{{"ids":[{},{}]}}}}]}}}},{{"andIds":{{"ids":[{{"notId":{{"orIds":{{"ids":[{},{},{}]}}}}}}]}}}}]"#,
        name(r#"{"exact":"spiffe://td/ns/a/sa/b"}"#),
        name(r#"{"exact":"spiffe://old/ns/a/sa/b"}"#),
        name(r#"{"prefix":"spiffe://td/"}"#),
        name(r#"{"prefix":"spiffe://old/"}"#),
        name(r#"{"safeRegex":{"regex":"spiffe://far[^/]*/.*"}}"#),
    );
    assert!(made[0].ends_with(&principals), "{}\n{principals}", made[0]);
}

fn mesh(providers: &Value) -> MeshConfig {
    let (root, _) = corten_api::decode::document("mesh", &json!({ "extensionProviders": providers }).to_string());
    corten_api::validate::mesh_config::over_defaults(&root.expect("a document")).0
}

fn custom_policy(provider: &str) -> Value {
    json!({ "spec": { "action": "CUSTOM", "provider": { "name": provider }, "rules": [{}] } })
}

#[test]
fn custom_policies_ask_or_deny() {
    let grpc = |name: &str| json!({ "name": name, "envoyExtAuthzGrpc": { "service": "authz.foo", "port": 9000 } });
    let http = json!({ "name": "web", "envoyExtAuthzHttp": { "service": "authz.foo", "port": 9000, "timeout": "1s" } });
    let gone = json!({ "name": "gone", "envoyExtAuthzGrpc": { "service": "nowhere", "port": 9000 } });
    let mesh = mesh(&json!([grpc("a"), grpc("a-b"), http, gone]));
    let dry =
        json!({ "metadata": { "annotations": { "istio.io/dry-run": "true" } }, "spec": custom_policy("a")["spec"] });
    let denied = |name: &str| format!("rules DENY {name}-deny-due-to-bad-CUSTOM-action {ANY}");
    let marked = |name: &str| format!("shadowRules DENY {name} {ANY}");
    for (title, policies, tcp_chain, several, filters, said) in [
        (
            "one",
            vec![custom_policy("a")],
            false,
            false,
            vec![
                marked("istio-ext-authz-a-ns[foo]-policy[p0]-rule[0]"),
                "ask istio-ext-authz-a".to_owned(),
            ],
            vec![],
        ),
        (
            "two that may be",
            vec![custom_policy("a"), custom_policy("a-b")],
            true,
            true,
            vec![
                marked("istio-ext-authz-a-ns[foo]-policy[p0]-rule[0]"),
                "ask istio-ext-authz-a-".to_owned(),
                marked("istio-ext-authz-a-b-ns[foo]-policy[p1]-rule[0]"),
                "ask istio-ext-authz-a-b-".to_owned(),
            ],
            vec![],
        ),
        (
            "two that may not be",
            vec![custom_policy("a"), custom_policy("a-b")],
            false,
            false,
            vec![
                denied("istio-ext-authz-a-ns[foo]-policy[p0]-rule[0]"),
                denied("istio-ext-authz-a-b-ns[foo]-policy[p1]-rule[0]"),
            ],
            vec![
                "error CRT0301: AuthorizationPolicy foo/p0: spec.provider: policies of several providers apply to one workload; what it applies to is denied",
                "error CRT0301: AuthorizationPolicy foo/p1: spec.provider: policies of several providers apply to one workload; what it applies to is denied",
            ],
        ),
        (
            "one whose service is not there",
            vec![custom_policy("gone")],
            true,
            false,
            vec![denied("istio-ext-authz-gone-ns[foo]-policy[p0]-rule[0]")],
            vec![
                "error CRT0301: AuthorizationPolicy foo/p0: spec.provider: extension provider 'gone' cannot be used: there is no service 'nowhere'; what it applies to is denied",
            ],
        ),
        (
            "none",
            vec![custom_policy("")],
            false,
            false,
            vec![denied("istio-ext-authz-ns[foo]-policy[p0]-rule[0]")],
            vec![
                "error CRT0301: AuthorizationPolicy foo/p0: spec.provider: there is no extension provider '' for authorization (there are: a, a-b, gone, web); what it applies to is denied",
            ],
        ),
        (
            "over HTTP about connections",
            vec![custom_policy("web")],
            true,
            false,
            vec![],
            vec![
                "info CRT0302: AuthorizationPolicy foo/p0: spec.provider: extension provider 'web' speaks HTTP, and is not asked about connections without requests",
            ],
        ),
        (
            "a dry run",
            vec![dry],
            false,
            false,
            vec![],
            vec![
                "warning CRT0301: AuthorizationPolicy foo/p0: metadata.annotations: a dry run of action CUSTOM would ask its provider in earnest, so it does nothing",
            ],
        ),
    ] {
        let (made, told) = shown(&policies, &mesh, tcp_chain, several);
        assert_eq!(made, filters, "{title}");
        assert_eq!(told, said, "{title}");
    }
}

#[test]
fn providers_that_envoy_would_refuse_are_not_used() {
    for (provider, error) in [
        (
            json!({ "service": "authz.foo", "port": 0 }),
            "port must be between 1 and 65535",
        ),
        (
            json!({ "service": "authz.foo", "port": 1, "statusOnError": "299" }),
            "statusOnError '299' is not the number of an HTTP status",
        ),
        (
            json!({ "service": "authz.foo", "port": 1, "includeRequestBodyInCheck": {} }),
            "includeRequestBodyInCheck.maxRequestBytes must be more than 0",
        ),
        (
            json!({ "service": "authz.foo", "port": 1, "pathPrefix": "x" }),
            "pathPrefix 'x' does not begin with /",
        ),
        (
            json!({ "service": "authz.foo", "port": 1, "headersToUpstreamOnAllow": ["*"] }),
            "headersToUpstreamOnAllow cannot be * alone: write a prefix or a suffix",
        ),
    ] {
        let mesh = mesh(&json!([{ "name": "p", "envoyExtAuthzHttp": provider }]));
        let providers = Providers::new(&mesh, &|service| Ok(Host::from(service)));
        assert_eq!(
            providers.errors().collect::<Vec<_>>(),
            [("p", [error.to_owned()].as_slice())]
        );
    }
    let mesh = mesh(&json!([{ "name": "P", "envoyExtAuthzGrpc": { "service": "a", "port": 1 } }]));
    let providers = Providers::new(&mesh, &|service| Ok(Host::from(service)));
    assert_eq!(providers.errors().count(), 1);
}

#[test]
fn policies_choose_their_proxies() {
    let labels = |gateway: Option<&str>| -> LabelMap {
        let named = gateway.map(|name| ("gateway.networking.k8s.io/gateway-name".to_owned(), name.to_owned()));
        named
            .into_iter()
            .chain([("app".to_owned(), "web".to_owned())])
            .collect()
    };
    let (plain, gateway) = (labels(None), labels(Some("gw")));
    let selecting = json!({ "selector": { "matchLabels": { "app": "web" } } });
    let other = json!({ "selector": { "matchLabels": { "app": "other" } } });
    let target =
        |group: &str, kind: &str, name: &str| json!({ "targetRefs": [{ "group": group, "kind": kind, "name": name }] });
    let api = "gateway.networking.k8s.io";
    for (title, spec, namespace, sidecar, gateway_takes, waypoint) in [
        ("all", json!({}), "foo", true, true, false),
        ("all of the mesh", json!({}), "istio-system", true, true, false),
        ("elsewhere", json!({}), "bar", false, false, false),
        ("by labels", selecting, "foo", true, true, false),
        ("by other labels", other, "foo", false, false, false),
        ("the gateway", target(api, "Gateway", "gw"), "foo", false, true, true),
        (
            "another gateway",
            target(api, "Gateway", "x"),
            "foo",
            false,
            false,
            false,
        ),
        (
            "a gateway elsewhere",
            target(api, "Gateway", "gw"),
            "bar",
            false,
            false,
            false,
        ),
        (
            "the class",
            target(api, "GatewayClass", "istio-waypoint"),
            "istio-system",
            false,
            false,
            true,
        ),
        (
            "the class from elsewhere",
            target(api, "GatewayClass", "istio-waypoint"),
            "foo",
            false,
            false,
            false,
        ),
        (
            "the old field",
            json!({ "targetRef": { "group": api, "kind": "Gateway", "name": "gw" } }),
            "foo",
            false,
            true,
            true,
        ),
    ] {
        let policy = json!({ "metadata": { "namespace": namespace, "name": "p" }, "spec": spec });
        let configs = configs(&[policy]);
        let takes = |labels: &LabelMap, waypoint: bool| {
            let place = Place {
                namespace: "foo",
                labels,
                waypoint,
                root_namespace: "istio-system",
                service: None,
            };
            !place.select(&configs.authorization_policies).is_empty()
        };
        assert_eq!(takes(&plain, false), sidecar, "{title}: a sidecar");
        assert_eq!(takes(&gateway, false), gateway_takes, "{title}: a gateway");
        assert_eq!(takes(&gateway, true), waypoint, "{title}: a waypoint");
    }
}
