//! Which webhook would inject a pod, and why the others would not.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::envoy::{items, text};
use crate::table::{columns, row};

/// What one webhook configuration does with the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// The configuration's name.
    pub webhook: String,
    /// Its revision.
    pub revision: String,
    /// Whether it injects.
    pub injected: bool,
    /// Why, or why not.
    pub reason: String,
}

/// What Istio's selectors are when they are to match nothing.
fn never() -> Value {
    json!({"matchLabels": {"istio.io/deactivated": "never-match"}})
}

/// What each of Istio's webhook configurations does with a pod of these labels, by name.
pub fn judge(webhooks: &[Value], pod: &Value, namespace: &Value) -> Vec<Judged> {
    let is_istio = |it: &&Value| items(&it["webhooks"]).any(|hook| text(&hook["name"]).ends_with("istio.io"));
    let mut judged: Vec<Judged> = webhooks
        .iter()
        .filter(is_istio)
        .map(|configuration| {
            let hooks: Vec<&Value> = items(&configuration["webhooks"]).collect();
            let decided = hooks.iter().find_map(|hook| decided(hook, pod, namespace));
            let (injected, reason) = decided.unwrap_or_else(|| (false, unmatched(&hooks)));
            Judged {
                webhook: text(&configuration["metadata"]["name"]).to_owned(),
                revision: text(&configuration["metadata"]["labels"]["istio.io/rev"]).to_owned(),
                injected,
                reason,
            }
        })
        .collect();
    judged.sort_by(|a, b| a.webhook.cmp(&b.webhook));
    judged
}

/// What one webhook decides; nothing where it is for others.
fn decided(hook: &Value, pod: &Value, namespace: &Value) -> Option<(bool, String)> {
    let (for_namespace, for_pod) = (&hook["namespaceSelector"], &hook["objectSelector"]);
    match (matches(for_namespace, namespace), matches(for_pod, pod)) {
        (true, true) => {
            let (of_namespace, of_pod) = (named(for_namespace, namespace), named(for_pod, pod));
            let reason = match (of_namespace, of_pod) {
                (Some(namespace), Some(pod)) => {
                    format!("Namespace label {namespace} matches, and pod label {pod} matches")
                }
                (Some(namespace), None) if namespace.contains("kubernetes.io/metadata.name") => {
                    format!("Namespace label {namespace} matches (Automatic injection is enabled in all namespaces).")
                }
                (Some(namespace), None) => format!("Namespace label {namespace} matches"),
                (None, Some(pod)) => format!("Pod label {pod} matches"),
                (None, None) => return None,
            };
            Some((true, reason))
        }
        (true, false) => {
            let prevents = |rule: &&Value| match text(&rule["operator"]) {
                "DoesNotExist" => value(pod, rule).is_some(),
                "NotIn" => value(pod, rule).is_some_and(|found| items(&rule["values"]).any(|it| it == found)),
                _ => false,
            };
            let rule = items(&for_pod["matchExpressions"]).find(prevents)?;
            let (key, found) = (text(&rule["key"]), value(pod, rule).unwrap_or_default());
            Some((false, format!("Pod has {key}={found} label, preventing injection")))
        }
        (false, true) => {
            let found = namespace["istio-injection"].as_str().filter(|it| *it != "enabled")?;
            Some((
                false,
                format!("Namespace has istio-injection={found} label, preventing injection"),
            ))
        }
        (false, false) => None,
    }
}

/// Why none of a configuration's webhooks is for the pod.
fn unmatched(hooks: &[&Value]) -> String {
    let never = never();
    if hooks
        .iter()
        .any(|hook| hook["namespaceSelector"] == never && hook["objectSelector"] == never)
    {
        return "The injection webhook is deactivated, and will never match labels.".to_owned();
    }
    let wanted = |selector: &str| {
        let rules = hooks.iter().flat_map(|hook| items(&hook[selector]["matchExpressions"]));
        let rules = rules.filter(|rule| rule["operator"] == "In");
        let labels =
            rules.flat_map(|rule| items(&rule["values"]).map(|it| format!("{}={}", text(&rule["key"]), text(it))));
        labels.collect::<Vec<_>>().join(", ")
    };
    format!(
        "No matching namespace labels ({}) or pod labels ({})",
        wanted("namespaceSelector"),
        wanted("objectSelector")
    )
}

/// The label that a rule is about.
fn value<'a>(labels: &'a Value, rule: &Value) -> Option<&'a str> {
    labels[text(&rule["key"])].as_str()
}

/// Whether a label selector takes these labels.
fn matches(selector: &Value, labels: &Value) -> bool {
    let exact = selector["matchLabels"].as_object().into_iter().flatten();
    let rules = items(&selector["matchExpressions"]);
    exact.into_iter().all(|(key, wanted)| labels.get(key) == Some(wanted))
        && rules.into_iter().all(|rule| {
            let found = value(labels, rule);
            let listed = || found.is_some_and(|found| items(&rule["values"]).any(|it| it == found));
            match text(&rule["operator"]) {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// The first label that a selector names and that is there.
fn named(selector: &Value, labels: &Value) -> Option<String> {
    let rules = items(&selector["matchExpressions"]).filter(|rule| ["In", "NotIn"].contains(&text(&rule["operator"])));
    rules
        .filter_map(|rule| Some(format!("{}={}", text(&rule["key"]), value(labels, rule)?)))
        .next()
}

/// The table, and what is wrong with the whole: that nobody injects, or several do.
pub fn table(judged: &[Judged]) -> (String, Option<String>) {
    let mut rows = vec![row(["WEBHOOK", "REVISION", "INJECTED", "REASON"])];
    rows.extend(judged.iter().map(|it| {
        let mark = if it.injected { "✔" } else { "✘" };
        row([&it.webhook, &it.revision, mark, &it.reason])
    }));
    let injecting: Vec<&str> = judged
        .iter()
        .filter(|it| it.injected)
        .map(|it| it.webhook.as_str())
        .collect();
    let wrong = match injecting.len() {
        _ if judged.is_empty() => Some("no Istio injection webhooks present".to_owned()),
        0 | 1 => None,
        _ => Some(format!(
            "multiple webhooks will inject, which can lead to errors: {}",
            injecting.join(", ")
        )),
    };
    (columns(&rows, 1), wrong)
}

/// The labels of an object, as [`judge`] takes them.
pub fn labels(object: &Value) -> Value {
    match &object["metadata"]["labels"] {
        Value::Null => Value::Object(Map::new()),
        labels => labels.clone(),
    }
}
