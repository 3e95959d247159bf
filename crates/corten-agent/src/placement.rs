//! Whether a DaemonSet still wants a pod on a node, as far as its template says so. Pure.
//!
//! An agent that ends because its node was taken out of the DaemonSet has no successor, though the DaemonSet is there.

use serde_json::Value;

/// Whether pods of the DaemonSet go to the node: by its node selector and its required affinity. Taints are the node's affair, and temporary.
pub(crate) fn goes_to(daemon_set: &Value, node: &Value) -> bool {
    let spec = &daemon_set["spec"]["template"]["spec"];
    let labels = &node["metadata"]["labels"];
    let selected = spec["nodeSelector"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key.as_str()] == *value));
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selected
        && required["nodeSelectorTerms"]
            .as_array()
            .is_none_or(|terms| terms.iter().any(|term| holds(term, node)))
}

/// Whether a term holds; an empty one never does.
fn holds(term: &Value, node: &Value) -> bool {
    let list = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice);
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    let label = |requirement: &Value| &node["metadata"]["labels"][text(&requirement["key"])];
    let field = |requirement: &Value| match text(&requirement["key"]) {
        "metadata.name" => &node["metadata"]["name"],
        _ => &Value::Null,
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|requirement| is_met(requirement, label(requirement)))
        && fields.iter().all(|requirement| is_met(requirement, field(requirement)))
}

fn is_met(requirement: &Value, found: &Value) -> bool {
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
    let bound = values.first().and_then(number);
    match text(&requirement["operator"]) {
        "In" => values.contains(found),
        "NotIn" => !values.contains(found),
        "Exists" => !found.is_null(),
        "DoesNotExist" => found.is_null(),
        "Gt" => number(found).zip(bound).is_some_and(|(found, bound)| found > bound),
        "Lt" => number(found).zip(bound).is_some_and(|(found, bound)| found < bound),
        // What is not understood is no reason to take the node for one that was left.
        _ => true,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_and_affinity_decide() {
        let node =
            json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux", "zone": "a", "size": "5"}}});
        let check = |spec: Value, expect: bool| {
            let set = json!({"spec": {"template": {"spec": spec}}});
            assert_eq!(goes_to(&set, &node), expect, "{set}");
        };
        check(json!({}), true);
        check(json!({"nodeSelector": {"kubernetes.io/os": "linux"}}), true);
        check(
            json!({"nodeSelector": {"kubernetes.io/os": "linux", "mesh": "on"}}),
            false,
        );
        let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let one = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (term, expect) in [
            (one("zone", "In", &["a", "b"]), true),
            (one("zone", "NotIn", &["a"]), false),
            (one("zone", "Exists", &[]), true),
            (one("mesh", "DoesNotExist", &[]), true),
            (one("size", "Gt", &["4"]), true),
            (one("size", "Lt", &["5"]), false),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
                false,
            ),
            (json!({}), false),
        ] {
            check(affinity(json!([term])), expect);
        }
        check(
            affinity(json!([one("zone", "In", &["b"]), one("zone", "In", &["a"])])),
            true,
        );
    }
}
