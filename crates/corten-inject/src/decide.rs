//! Which pods get a proxy.

use serde_json::Value;

use crate::config::Config;
use crate::object::{annotation, label};

/// Namespaces whose pods never get one.
const NEVER: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
const INJECT: &str = "sidecar.istio.io/inject";

/// Whether a pod gets a proxy, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets one.
    Inject,
    /// It uses its node's network, where redirection would be everybody's.
    HostNetwork,
    /// Its namespace is Kubernetes' own.
    Namespace,
    /// It says so itself, or its labels are among those of pods that never get one.
    Disabled,
    /// Pods get one only if they ask for it.
    NotAsked,
}

/// Decides.
pub(crate) fn decide(config: &Config, pod: &Value, namespace: &str) -> Decision {
    if pod["spec"]["hostNetwork"] == true {
        return Decision::HostNetwork;
    }
    if NEVER.contains(&namespace) {
        return Decision::Namespace;
    }
    // The label is the newer of both, and goes before.
    match label(pod, INJECT).or_else(|| annotation(pod, INJECT)) {
        Some("true") => return Decision::Inject,
        Some("false") => return Decision::Disabled,
        _ => {}
    }
    let any = |selectors: &[Value]| selectors.iter().any(|selector| selects(selector, pod));
    if any(&config.never) {
        Decision::Disabled
    } else if any(&config.always) || config.by_default {
        Decision::Inject
    } else {
        Decision::NotAsked
    }
}

/// Whether a label selector selects a pod; an empty one selects none here.
fn selects(selector: &Value, pod: &Value) -> bool {
    let equal = selector["matchLabels"].as_object();
    let conditions = selector["matchExpressions"].as_array();
    if equal.is_none_or(serde_json::Map::is_empty) && conditions.is_none_or(Vec::is_empty) {
        return false;
    }
    let labels = &pod["metadata"]["labels"];
    let holds = |condition: &Value| {
        let value = condition["key"].as_str().map_or(&Value::Null, |key| &labels[key]);
        let values = condition["values"].as_array();
        let listed = !value.is_null() && values.is_some_and(|values| values.contains(value));
        match condition["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => !value.is_null(),
            Some("DoesNotExist") => value.is_null(),
            _ => false,
        }
    };
    equal.into_iter().flatten().all(|(key, value)| labels[key] == *value) && conditions.into_iter().flatten().all(holds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(config: &Value, pod: &Value, expect: Decision) {
        let config = Config::new(&json!({}), config);
        assert_eq!(decide(&config, pod, "shop"), expect, "{pod}");
    }

    #[test]
    fn what_the_pod_says_goes_before_what_the_mesh_says() {
        let with = |labels: Value, annotations: Value| json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": {}});
        let usual = json!({});
        check(&usual, &with(json!({}), json!({})), Decision::Inject);
        check(
            &usual,
            &with(
                json!({"sidecar.istio.io/inject": "false"}),
                json!({"sidecar.istio.io/inject": "true"}),
            ),
            Decision::Disabled,
        );
        check(
            &usual,
            &with(json!({"sidecar.istio.io/inject": "perhaps"}), json!({})),
            Decision::Inject,
        );
        let closed = json!({"policy": "disabled", "alwaysInjectSelector": [{"matchExpressions": [{"key": "mesh", "operator": "Exists"}]}]});
        check(&closed, &with(json!({}), json!({})), Decision::NotAsked);
        check(&closed, &with(json!({"mesh": ""}), json!({})), Decision::Inject);
        check(
            &closed,
            &with(json!({"sidecar.istio.io/inject": "true"}), json!({})),
            Decision::Inject,
        );
        let never = json!({"neverInjectSelector": [{}, {"matchLabels": {"job": "yes"}}]});
        check(&never, &with(json!({}), json!({})), Decision::Inject);
        check(&never, &with(json!({"job": "yes"}), json!({})), Decision::Disabled);
        check(&usual, &json!({"spec": {"hostNetwork": true}}), Decision::HostNetwork);
        assert_eq!(
            decide(&Config::default(), &json!({}), "kube-system"),
            Decision::Namespace
        );
    }
}
