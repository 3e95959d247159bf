//! Which pods belong to the mesh.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::pod::{Map, Pod, SIDECAR};

const MODE: &str = "istio.io/dataplane-mode";

/// A label selector of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with these values.
    #[serde(default)]
    pub match_labels: Map,
    /// Conditions on labels.
    #[serde(default)]
    pub match_expressions: Vec<Requirement>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Which label.
    pub key: String,
    /// How.
    pub operator: Operator,
    /// Its values.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a label is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of them, or absent.
    NotIn,
    /// There.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl LabelSelector {
    fn matches(&self, labels: &Map) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                let listed = value.is_some_and(|value| requirement.values.contains(value));
                match requirement.operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// Pods with these labels in namespaces with those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// The pods.
    #[serde(default)]
    pub pod_selector: LabelSelector,
    /// Their namespaces.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
}

/// Who belongs to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligibility {
    /// Any of these suffices.
    pub selectors: Vec<Selector>,
    /// Namespaces that never take part.
    pub excluded: BTreeSet<String>,
    /// The mesh's own namespace.
    pub system_namespace: String,
}

/// Why a pod does not belong to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It uses the node's network.
    HostNetwork,
    /// It has a proxy of its own.
    Sidecar,
    /// Its namespace never takes part.
    ExcludedNamespace,
    /// It is a node proxy.
    NodeProxy,
    /// Nothing says that it does.
    NotSelected,
}

impl Default for Eligibility {
    fn default() -> Self {
        let is = |value: &str| LabelSelector {
            match_labels: [(MODE.to_owned(), value.to_owned())].into(),
            ..LabelSelector::default()
        };
        let is_not_none = LabelSelector {
            match_expressions: vec![Requirement {
                key: MODE.into(),
                operator: Operator::NotIn,
                values: vec!["none".into()],
            }],
            ..LabelSelector::default()
        };
        Eligibility {
            selectors: vec![
                Selector {
                    pod_selector: is("ambient"),
                    ..Selector::default()
                },
                Selector {
                    pod_selector: is_not_none,
                    namespace_selector: is("ambient"),
                },
            ],
            excluded: ["kube-system".to_owned()].into(),
            system_namespace: "istio-system".into(),
        }
    }
}

impl Eligibility {
    /// Whether a pod belongs to the mesh, in a namespace with these labels.
    pub fn check(&self, pod: &Pod, namespace: &Map) -> Result<(), Outside> {
        if pod.host_network {
            return Err(Outside::HostNetwork);
        }
        if pod.annotations.contains_key(SIDECAR) {
            return Err(Outside::Sidecar);
        }
        if self.excluded.contains(&pod.namespace) {
            return Err(Outside::ExcludedNamespace);
        }
        // A proxy behind itself would wait for itself.
        if pod.namespace == self.system_namespace && pod.labels.get("app").is_some_and(|app| app == "ztunnel") {
            return Err(Outside::NodeProxy);
        }
        let selected = |selector: &Selector| {
            selector.pod_selector.matches(&pod.labels) && selector.namespace_selector.matches(namespace)
        };
        if self.selectors.iter().any(selected) {
            Ok(())
        } else {
            Err(Outside::NotSelected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Map {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[track_caller]
    fn check(eligibility: &Eligibility, pod: Pod, namespace: &str, expect: Result<(), Outside>) {
        assert_eq!(
            eligibility.check(&pod, &labels(namespace)),
            expect,
            "{pod:?} in {namespace:?}"
        );
    }

    fn pod(text: &str) -> Pod {
        Pod {
            namespace: "shop".into(),
            labels: labels(text),
            ..Pod::default()
        }
    }

    const ON: &str = "istio.io/dataplane-mode=ambient";
    const OFF: &str = "istio.io/dataplane-mode=none";

    #[test]
    fn labels_decide() {
        let usual = Eligibility::default();
        check(&usual, pod(""), "", Err(Outside::NotSelected));
        check(&usual, pod(""), ON, Ok(()));
        check(&usual, pod(ON), "", Ok(()));
        check(&usual, pod(ON), OFF, Ok(()));
        check(&usual, pod(OFF), ON, Err(Outside::NotSelected));
        check(&usual, pod("istio.io/dataplane-mode=other"), ON, Ok(()));
        check(
            &usual,
            pod("istio.io/dataplane-mode=other"),
            "",
            Err(Outside::NotSelected),
        );
    }

    #[test]
    fn some_never_belong() {
        let usual = Eligibility::default();
        let with = |change: fn(&mut Pod)| {
            let mut pod = pod(ON);
            change(&mut pod);
            pod
        };
        check(
            &usual,
            with(|pod| pod.host_network = true),
            ON,
            Err(Outside::HostNetwork),
        );
        let sidecar = |pod: &mut Pod| drop(pod.annotations.insert(SIDECAR.into(), String::new()));
        check(&usual, with(sidecar), ON, Err(Outside::Sidecar));
        check(
            &usual,
            with(|pod| pod.namespace = "kube-system".into()),
            ON,
            Err(Outside::ExcludedNamespace),
        );
        let proxy = |pod: &mut Pod| {
            pod.namespace = "istio-system".into();
            pod.labels.insert("app".into(), "ztunnel".into());
        };
        check(&usual, with(proxy), ON, Err(Outside::NodeProxy));
    }

    #[test]
    fn other_selectors_take_the_place_of_the_usual_ones() {
        let selectors: Vec<Selector> = serde_json::from_str(
            r#"[{"podSelector": {"matchExpressions": [
                {"key": "team", "operator": "In", "values": ["a", "b"]},
                {"key": "legacy", "operator": "DoesNotExist"}
            ]}, "namespaceSelector": {"matchExpressions": [{"key": "mesh", "operator": "Exists"}]}}]"#,
        )
        .unwrap();
        let custom = Eligibility {
            selectors,
            ..Eligibility::default()
        };
        check(&custom, pod("team=a"), "mesh=", Ok(()));
        check(&custom, pod("team=c"), "mesh=", Err(Outside::NotSelected));
        check(&custom, pod("team=a,legacy=1"), "mesh=", Err(Outside::NotSelected));
        check(&custom, pod("team=a"), "", Err(Outside::NotSelected));
        check(&custom, pod(ON), ON, Err(Outside::NotSelected));
    }
}
