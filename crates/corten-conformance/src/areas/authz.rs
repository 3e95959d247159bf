//! Area `istio-authz-rbac`: AuthorizationPolicies and the filters that enforce them, compared as messages.

use anyhow::{Context, Result};
use corten_api::{decode::document, validate::mesh_config::over_defaults};
use corten_core::{Host, LabelMap};
use corten_envoy::{
    envoy::{config::listener::v3::Filter, extensions::filters::network::http_connection_manager::v3::HttpFilter},
    message_from_json, message_to_json,
    prost::{Message, Name},
};
use corten_envoy_gen::security::{
    attach::Place,
    authz::{self, Options, Peer, Providers, matcher},
};
use corten_routing::{ConfigKind, Configs};
use regex::Regex;
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs every case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let index = data::document(&area.dir.join("cases.yaml"))?;
    let mut cases = Vec::new();
    for (name, case) in data::rows(&index) {
        let outcome = match judge(area, &index, case).with_context(|| name.clone())? {
            None => Outcome::Passed,
            Some(difference) => Outcome::Failed(difference),
        };
        cases.push(Case {
            area: area.name.clone(),
            case: name,
            outcome,
        });
    }
    Ok(cases)
}

/// `None`: as expected.
fn judge(area: &Area, index: &Value, case: &Value) -> Result<Option<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut configs = Configs::default();
    for policy in data::documents(&area.dir.join(text(&case["input"])))? {
        configs.put(ConfigKind::AuthorizationPolicy, &policy);
    }
    let labels: LabelMap = serde_json::from_value(index["proxy"]["labels"].clone())?;
    let place = Place {
        namespace: index["proxy"]["namespace"].as_str().unwrap_or_default(),
        labels: &labels,
        waypoint: false,
        root_namespace: "istio-system",
        service: None,
    };
    let policies = place.select(&configs.authorization_policies);
    let (root, _) = document("mesh", &case["meshConfig"].to_string());
    let mesh = root.map_or_else(Default::default, |root| over_defaults(&root).0);
    let services: Vec<(String, String)> = index["services"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|service| (text(&service["namespace"]), text(&service["hostname"])))
        .collect();
    let find = |wanted: &str| {
        let (namespace, host) = wanted.split_once('/').map_or((None, wanted), |(n, h)| (Some(n), h));
        let mut named = services
            .iter()
            .filter(|(of, name)| namespace.is_none_or(|n| n == of) && name == host);
        let found = named.next().ok_or_else(|| format!("there is no service '{wanted}'"))?;
        Ok(Host::from(found.1.as_str()))
    };
    let mut trust_domains = vec!["cluster.local".to_owned()];
    trust_domains.extend(case["trustDomainAliases"].as_array().into_iter().flatten().map(text));
    let options = Options {
        trust_domains: &trust_domains,
        peer: Peer::Certificate,
        providers: &Providers::new(&mesh, &find),
        several_providers: false,
    };
    let policies = policies.iter().map(AsRef::as_ref);
    let custom = case["customBuilder"] == true;
    let expected = case["expected"].as_array().into_iter().flatten();
    let expected = expected.map(|file| data::document(&area.dir.join(text(file))));
    let expected = expected.collect::<Result<Vec<Value>>>()?;
    if case["protocol"] == "tcp" {
        let made = authz::tcp(policies, &options);
        compare::<Filter>(if custom { &made.custom } else { &made.others }, &expected)
    } else {
        let made = authz::http(policies, &options);
        compare::<HttpFilter>(if custom { &made.custom } else { &made.others }, &expected)
    }
}

fn compare<M: Message + Name + Default>(made: &[M], expected: &[Value]) -> Result<Option<String>> {
    let ours = made.iter().map(message_to_json).collect::<Result<Vec<_>, _>>()?;
    // Through the message and back, so that both say the same thing in the same way.
    let theirs = expected
        .iter()
        .map(|filter| message_to_json(&message_from_json::<M>(filter)?))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((ours != theirs).then(|| format!("{}, expected {}", Value::from(ours), Value::from(theirs))))
}

/// What a policy of one rule becomes: a field with a value, in the policy's form and Envoy's. The tables of
/// `istio-semantics` about single fields ask so.
pub(crate) fn answer(table: &str, case: &Value) -> Option<Value> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let string = |matcher: &Value| matcher["stringMatch"].clone();
    Some(match table {
        "authz-header-matcher" => {
            let key = format!("request.headers[{}]", text("header"));
            string(&principal(&json!({ "when": [{ "key": key, "values": [text("pattern")] }] }))["header"])
        }
        "authz-host-matcher" => string(&permission(&operation("hosts", text("pattern")))["header"]),
        "authz-path-matcher" => permission(&operation("paths", text("pattern")))["urlPath"]["path"].clone(),
        "authz-path-template" => {
            permission(&operation("paths", text("istioTemplate")))["uriTemplate"]["typedConfig"]["pathTemplate"].clone()
        }
        "authz-string-matcher" => {
            // What is put before the text of a pattern is the row's, where the product has the beginning of identities.
            let mut made = message_to_json(&matcher::text_after(text("prefix"), text("pattern"))).ok()?;
            if let Some(regex) = made.get_mut("safeRegex").map(Value::take) {
                made = regex;
            }
            made
        }
        "authz-service-account-match" => {
            let rule = source("serviceAccounts", text("serviceAccounts"));
            let made = principal(&rule)["filterState"]["stringMatch"]["safeRegex"]["regex"].clone();
            let regex = Regex::new(&format!("^(?:{})$", made.as_str()?)).ok()?;
            json!(regex.is_match(text("identity")))
        }
        "authz-rbac-generators" => generated(case, text("generator"), text("value"))?,
        _ => return None,
    })
}

fn generated(case: &Value, generator: &str, value: &str) -> Option<Value> {
    let when = |key: &str| json!({ "when": [{ "key": key, "values": [value] }] });
    let (side, rule) = match generator {
        "connSNIGenerator" => ("permission", when("connection.sni")),
        "envoyFilterGenerator" => ("permission", when(case["key"].as_str()?)),
        "pathGenerator" => ("permission", operation("paths", value)),
        "srcNamespaceGenerator" => ("principal", source("namespaces", value)),
        "srcTrustDomainGenerator" => ("principal", source("trustDomains", value)),
        "srcPrincipalGenerator" => ("principal", source("principals", value)),
        _ => return None,
    };
    let mut made = if side == "principal" {
        principal(&rule)
    } else {
        permission(&rule)
    };
    // The rows have the names of the message's fields here, as it is written.
    if let Some(state) = made.get_mut("filterState").map(Value::take) {
        made = json!({ "filter_state": { "key": state["key"], "string_match": state["stringMatch"] } });
    }
    Some(if made.is_null() { made } else { json!({ side: made }) })
}

fn source(field: &str, value: &str) -> Value {
    json!({ "from": [{ "source": { field: [value] } }] })
}

fn operation(field: &str, value: &str) -> Value {
    json!({ "to": [{ "operation": { field: [value] } }] })
}

fn permission(rule: &Value) -> Value {
    let all = &policy(rule)["permissions"][0]["andRules"]["rules"];
    match &all[0]["orRules"]["rules"][0] {
        Value::Null => all[0].clone(),
        only => only.clone(),
    }
}

fn principal(rule: &Value) -> Value {
    let all = &policy(rule)["principals"][0]["andIds"]["ids"];
    match &all[0]["orIds"]["ids"][0] {
        Value::Null => all[0].clone(),
        only => only.clone(),
    }
}

/// What a rule becomes at a waypoint; null: it is left out.
fn policy(rule: &Value) -> Value {
    let mut configs = Configs::default();
    let object = json!({ "metadata": { "name": "p", "namespace": "my-ns" }, "spec": { "rules": [rule] } });
    configs.put(ConfigKind::AuthorizationPolicy, &object);
    let options = Options {
        trust_domains: &["cluster.local".to_owned()],
        peer: Peer::Tunnel,
        providers: &Providers::default(),
        several_providers: false,
    };
    let made = authz::http(configs.authorization_policies.values().map(AsRef::as_ref), &options);
    let filter = made.others.first().and_then(|filter| message_to_json(filter).ok());
    filter.map_or(Value::Null, |mut filter| {
        filter["typedConfig"]["rules"]["policies"]["ns[my-ns]-policy[p]-rule[0]"].take()
    })
}
