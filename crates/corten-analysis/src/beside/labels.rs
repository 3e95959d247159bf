//! Kubernetes' label selectors over labels as they are in objects.

use serde_json::Value;

/// Whether a selector selects these labels. An empty one selects all; what is not understood selects nothing.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels[key.as_str()] == *value;
    let all_equal = selector["matchLabels"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(equal));
    let requirements = selector["matchExpressions"].as_array().into_iter().flatten();
    all_equal && requirements.into_iter().all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &Value, labels: &Value) -> bool {
    let label = &labels[requirement["key"].as_str().unwrap_or_default()];
    let listed = requirement["values"]
        .as_array()
        .is_some_and(|values| values.contains(label));
    match requirement["operator"].as_str() {
        Some("In") => listed,
        Some("NotIn") => !listed,
        Some("Exists") => !label.is_null(),
        Some("DoesNotExist") => label.is_null(),
        _ => false,
    }
}
