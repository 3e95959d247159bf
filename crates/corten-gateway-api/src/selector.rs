//! Label selectors over namespaces, and which namespaces a listener is for.

use corten_api::gateway_api::{
    Gateway,
    gateway::{AllowedRoutes, FromNamespaces},
    shared::LabelSelector,
};

use crate::{index::Index, input::Namespace};

/// The label that every namespace has with its own name.
const NAME: &str = "kubernetes.io/metadata.name";

/// Whether a namespace is selected; a selector that cannot be understood selects nothing.
pub(crate) fn selects(selector: &LabelSelector, namespace: &Namespace) -> bool {
    let label = |key: &str| {
        if key == NAME {
            return Some(namespace.name.as_str());
        }
        namespace.labels.get(key).map(String::as_str)
    };
    let labels = &selector.match_labels;
    labels.iter().all(|(key, value)| label(key) == Some(value.as_str()))
        && selector.match_expressions.iter().all(|expression| {
            let found = label(&expression.key);
            let listed = |value: &str| expression.values.iter().any(|v| v == value);
            match expression.operator.as_str() {
                "In" => !expression.values.is_empty() && found.is_some_and(listed),
                "NotIn" => !expression.values.is_empty() && !found.is_some_and(listed),
                "Exists" => expression.values.is_empty() && found.is_some(),
                "DoesNotExist" => expression.values.is_empty() && found.is_none(),
                _ => false,
            }
        })
}

/// The namespaces whose routes a listener takes, `*` for all; the listener's own when it says nothing.
pub(crate) fn route_namespaces(index: &Index<'_>, own: &str, allowed: Option<&AllowedRoutes>) -> Vec<String> {
    let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    match namespaces.and_then(|n| n.from) {
        None | Some(FromNamespaces::Same) => vec![own.to_owned()],
        Some(FromNamespaces::All) => vec!["*".to_owned()],
        Some(FromNamespaces::None) => Vec::new(),
        Some(FromNamespaces::Selector) => match namespaces.and_then(|n| n.selector.as_ref()) {
            Some(selector) => index
                .namespaces()
                .filter(|namespace| selects(selector, namespace))
                .map(|namespace| namespace.name.clone())
                .collect(),
            None => vec!["*".to_owned()],
        },
    }
}

/// Whether a gateway takes listeners from a namespace; from none when it says nothing.
pub(crate) fn takes_listeners_of(index: &Index<'_>, gateway: &Gateway, namespace: &str) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let Some(namespaces) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        return false;
    };
    match namespaces.from {
        Some(FromNamespaces::All) => true,
        Some(FromNamespaces::Same) => namespace == gateway.metadata.namespace,
        Some(FromNamespaces::None) => false,
        Some(FromNamespaces::Selector) | None => match (&namespaces.selector, index.namespace(namespace)) {
            (Some(selector), Some(namespace)) => selects(selector, namespace),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corten_api::gateway_api::shared::LabelSelectorMatchExpression;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn check(operator: &str, values: &[&str], expect: bool) {
        let namespace = Namespace {
            name: "shop".to_owned(),
            labels: labels(&[("team", "a")]),
        };
        let selector = LabelSelector {
            match_expressions: vec![LabelSelectorMatchExpression {
                key: "team".to_owned(),
                operator: operator.to_owned(),
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }],
            match_labels: BTreeMap::new(),
        };
        assert_eq!(selects(&selector, &namespace), expect, "{operator} {values:?}");
    }

    #[test]
    fn expressions_are_kubernetes_own() {
        check("In", &["a", "b"], true);
        check("In", &["b"], false);
        check("In", &[], false);
        check("NotIn", &["b"], true);
        check("NotIn", &["a"], false);
        check("Exists", &[], true);
        check("Exists", &["a"], false);
        check("DoesNotExist", &[], false);
        check("Near", &[], false);
    }

    #[test]
    fn a_namespace_has_its_name_as_label() {
        let namespace = Namespace {
            name: "shop".to_owned(),
            labels: BTreeMap::new(),
        };
        let selector = LabelSelector {
            match_expressions: Vec::new(),
            match_labels: labels(&[(NAME, "shop")]),
        };
        assert!(selects(&selector, &namespace));
        assert!(selects(&LabelSelector::default(), &namespace));
    }
}
