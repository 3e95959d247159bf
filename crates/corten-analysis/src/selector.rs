//! Label selectors: Kubernetes' over labels, and plain sets of labels as Istio's kinds have them.

use corten_api::kubernetes::meta::LabelSelector;
use corten_core::Labels as LabelSet;

use crate::objects::Labels;

/// Whether labels have all that are wanted; no wish is fulfilled by all.
pub(crate) fn matches(wanted: &Labels, labels: &Labels) -> bool {
    LabelSet(wanted).is_subset_of(labels)
}

/// A set of labels as Kubernetes writes selectors: `a=1,b=2`.
pub(crate) fn text(wanted: &Labels) -> String {
    let pairs: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// The field of the first label of a set below a path, where messages about a selector point.
pub(crate) fn path(field: &str, wanted: &Labels) -> String {
    match wanted.keys().next() {
        Some(key) => format!("{field}[{key}]"),
        None => field.to_owned(),
    }
}

/// Whether a selector selects labels; an absent one selects all, one that is not understood nothing.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return true };
    let equal = selector
        .match_labels
        .as_ref()
        .is_none_or(|wanted| matches(wanted, labels));
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    equal
        && expressions.iter().all(|wanted| {
            let label = labels.get(&wanted.key);
            let values = wanted.values.as_deref().unwrap_or_default();
            match wanted.operator.as_str() {
                "In" => label.is_some_and(|label| values.contains(label)),
                "NotIn" => label.is_none_or(|label| !values.contains(label)),
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                _ => false,
            }
        })
}
