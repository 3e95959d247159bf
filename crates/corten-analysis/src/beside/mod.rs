//! What objects beside the mesh mean for it: questions about many objects at once, answered as diagnostics. Pure.
//!
//! For commands that look before something is installed or changed, and for whoever explains what goes on; nothing here is part of the
//! snapshot.

mod labels;
mod network_policy;

use std::collections::BTreeMap;

use corten_api::diagnostic::{Code, Diagnostic, ObjectRef, Severity};
use serde_json::Value;

use self::labels::selects;
pub use self::network_policy::{PROBES, TUNNEL_PORT};

/// Objects as an API server lists them; those of a list need not repeat their kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    /// `v1` Namespaces.
    pub namespaces: &'a [Value],
    /// `v1` Pods, with their spec.
    pub pods: &'a [Value],
    /// `networking.k8s.io/v1` NetworkPolicies.
    pub network_policies: &'a [Value],
}

/// A namespace asks for sidecars and for ambient mode at once.
pub const TWO_MODES: Code = Code("CRT0106");

const MODE: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";
const SIDECAR: &str = "sidecar.istio.io/status";

/// Everything that is to be said about these objects.
pub fn analyze(objects: Objects<'_>) -> Vec<Diagnostic> {
    let mut found = two_modes(objects.namespaces);
    found.extend(network_policies(objects));
    found
}

/// NetworkPolicies that restrict pods of the mesh by port, and do not know that traffic of the mesh travels on port 15008; and those that
/// keep the node's probes out, which come to pods of the mesh from an address of their own.
pub fn network_policies(objects: Objects<'_>) -> Vec<Diagnostic> {
    network_policy::check(&Cluster::new(objects), objects.network_policies)
}

/// Namespaces with the labels of both modes: their pods get a sidecar, and are then not taken into ambient mode.
pub fn two_modes(namespaces: &[Value]) -> Vec<Diagnostic> {
    let both = |namespace: &&Value| {
        let label = |key: &str| namespace["metadata"]["labels"][key].as_str();
        let injected = label("istio-injection") == Some("enabled")
            || (label("istio-injection").is_none() && label("istio.io/rev").is_some_and(|rev| !rev.is_empty()));
        label(MODE) == Some("ambient") && injected
    };
    let says = |namespace: &Value| {
        let labels = &namespace["metadata"]["labels"];
        let other = if labels["istio-injection"] == "enabled" {
            "istio-injection"
        } else {
            "istio.io/rev"
        };
        Diagnostic {
            code: TWO_MODES,
            severity: Severity::Warning,
            object: Some(reference("v1", "Namespace", namespace)),
            path: format!("metadata.labels[{other}]"),
            location: None,
            message: format!(
                "the namespace is labelled for sidecars and for ambient mode ({MODE}=ambient) at once: pods that get a sidecar are left out \
                 of ambient mode; remove one of the two labels"
            ),
        }
    };
    namespaces.iter().filter(both).map(says).collect()
}

fn reference(api_version: &str, kind: &str, object: &Value) -> ObjectRef {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: text("namespace"),
        name: text("name"),
    }
}

/// A pod, with what decides about it.
struct Pod<'a> {
    object: &'a Value,
    namespace: &'a str,
    labels: &'a Value,
    /// It is in the mesh, or would be once an agent sees it.
    in_mesh: bool,
}

/// Pods and namespaces by what policies ask of them.
struct Cluster<'a> {
    namespaces: BTreeMap<&'a str, &'a Value>,
    pods: Vec<Pod<'a>>,
}

impl<'a> Cluster<'a> {
    fn new(objects: Objects<'a>) -> Cluster<'a> {
        let name = |object: &'a Value| object["metadata"]["name"].as_str().unwrap_or_default();
        let namespaces: BTreeMap<&str, &Value> = objects
            .namespaces
            .iter()
            .map(|namespace| (name(namespace), &namespace["metadata"]["labels"]))
            .collect();
        let pod = |object: &'a Value| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            let labels = &object["metadata"]["labels"];
            Pod {
                object,
                namespace,
                labels,
                in_mesh: is_in_mesh(object, namespaces.get(namespace).copied().unwrap_or(&Value::Null)),
            }
        };
        let pods = objects.pods.iter().filter(|pod| !has_ended(pod)).map(pod).collect();
        Cluster { namespaces, pods }
    }

    /// The labels of a namespace, its name included, as API servers add it.
    fn namespace_matches(&self, selector: &Value, name: &str) -> bool {
        let mut labels = self
            .namespaces
            .get(name)
            .map_or(Value::Null, |labels| (*labels).clone());
        if labels.is_null() {
            labels = Value::Object(serde_json::Map::new());
        }
        labels["kubernetes.io/metadata.name"] = name.into();
        selects(selector, &labels)
    }
}

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_in_mesh(pod: &Value, namespace: &Value) -> bool {
    let annotations = &pod["metadata"]["annotations"];
    if annotations[REDIRECTION] == "enabled" {
        return true;
    }
    if pod["spec"]["hostNetwork"] == true || !annotations[SIDECAR].is_null() {
        return false;
    }
    if pod["metadata"]["namespace"] == "kube-system" {
        return false;
    }
    match pod["metadata"]["labels"][MODE].as_str() {
        Some("ambient") => true,
        Some("none") => false,
        _ => namespace[MODE] == "ambient",
    }
}

#[cfg(test)]
mod tests;
