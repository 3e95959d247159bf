//! Label selectors: the structured form of workloads (`matchLabels`, `matchExpressions`) and the plain map of services.

use serde_json::{Map, Value};

use super::object::{items, map, text};

/// Whether labels satisfy a structured label selector. An empty selector matches everything; an absent one nothing.
pub(crate) fn matches(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    if !selector.is_object() {
        return false;
    }
    map(selector, "/matchLabels").is_none_or(|wanted| matches_map(wanted, labels))
        && items(selector, "/matchExpressions")
            .iter()
            .all(|requirement| matches_requirement(requirement, labels))
}

/// Whether a structured selector selects by nothing at all, and so everything.
pub(crate) fn is_empty(selector: &Value) -> bool {
    map(selector, "/matchLabels").is_none_or(Map::is_empty) && items(selector, "/matchExpressions").is_empty()
}

/// Whether labels contain every pair of a map.
pub(crate) fn matches_map(wanted: &Map<String, Value>, labels: Option<&Map<String, Value>>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.and_then(|l| l.get(name)) == Some(value))
}

/// Whether labels satisfy one requirement of a label selector or of a node selector term (which adds `Gt` and `Lt`).
pub(crate) fn matches_requirement(requirement: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let value = labels
        .and_then(|l| l.get(text(requirement, "/key")))
        .and_then(Value::as_str);
    let values = items(requirement, "/values");
    let listed = value.is_some_and(|v| values.iter().any(|wanted| wanted == v));
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(Value::as_str).and_then(|v| v.parse().ok());
        match (value.and_then(|v| v.parse().ok()), bound) {
            (Some(value), Some(bound)) => holds(value, bound),
            _ => false,
        }
    };
    match text(requirement, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(selector: Value, labels: Value, expect: bool) {
        assert_eq!(matches(&selector, labels.as_object()), expect, "{selector} on {labels}");
    }

    #[test]
    fn selectors_match() {
        check(json!({}), json!({}), true);
        check(Value::Null, json!({}), false);
        check(json!({"matchLabels": {"a": "1"}}), json!({"a": "1", "b": "2"}), true);
        check(json!({"matchLabels": {"a": "1"}}), json!({"a": "2"}), false);
        let not_in = json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]});
        check(not_in.clone(), json!({}), true);
        check(not_in, json!({"a": "1"}), false);
        let greater = json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["5"]}]});
        check(greater.clone(), json!({"a": "7"}), true);
        check(greater, json!({"a": "x"}), false);
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
            json!({"b": "1"}),
            false,
        );
    }
}
