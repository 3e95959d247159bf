//! Where the gateway for Ingresses is reached from outside if it has no Service: at the nodes that its pods run on.

use std::collections::{BTreeMap, BTreeSet};

use corten_gateway_api::reference::Key;
use serde_json::Value;

use crate::revision::replaced;

/// The label that tells gateways' pods from others.
const LABEL: &str = "istio";

/// Pods with the label that tells gateways, and the addresses of nodes.
#[derive(Debug, Default)]
pub(crate) struct IngressNodes {
    /// Of each running pod the value of its label, and its node.
    pods: BTreeMap<Key, (String, String)>,
    /// The addresses of nodes that have any outside of the cluster.
    nodes: BTreeMap<String, Vec<String>>,
}

impl IngressNodes {
    /// Takes a pod; `None`: it is gone. Returns whether that matters.
    pub(crate) fn put_pod(&mut self, key: Key, pod: Option<&Value>) -> bool {
        let text = |pod: &Value, path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let runs = pod.filter(|pod| pod["status"]["phase"] == "Running");
        let said = runs.and_then(|pod| {
            let label = pod["metadata"]["labels"][LABEL].as_str()?;
            Some((label.to_owned(), text(pod, "/spec/nodeName")))
        });
        replaced(&mut self.pods, key, said.filter(|(_, node)| !node.is_empty()))
    }

    /// Takes a node; `None`: it is gone. Returns whether that matters.
    pub(crate) fn put_node(&mut self, name: &str, node: Option<&Value>) -> bool {
        let all = node.and_then(|node| node["status"]["addresses"].as_array());
        let outside = all
            .into_iter()
            .flatten()
            .filter(|address| address["type"] == "ExternalIP");
        let found: Vec<String> = outside
            .filter_map(|address| address["address"].as_str())
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect();
        replaced(
            &mut self.nodes,
            name.to_owned(),
            Some(found).filter(|found| !found.is_empty()),
        )
    }

    /// The addresses of the nodes that pods of a namespace with this label run on, each once.
    pub(crate) fn addresses(&self, namespace: &str, label: &str) -> Vec<String> {
        let pods = self
            .pods
            .iter()
            .filter(|(key, (of, _))| key.namespace == namespace && of == label);
        let nodes: BTreeSet<&String> = pods.map(|(_, (_, node))| node).collect();
        let found = nodes.into_iter().filter_map(|node| self.nodes.get(node)).flatten();
        found.cloned().collect::<BTreeSet<String>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_without_a_service_is_reached_at_its_nodes() {
        let mut found = IngressNodes::default();
        let pod = |label: &str, node: &str, phase: &str| json!({ "metadata": { "labels": { "istio": label } }, "spec": { "nodeName": node }, "status": { "phase": phase } });
        let node = |address: &str| {
            json!({ "status": { "addresses": [
                { "type": "InternalIP", "address": "10.0.0.1" }, { "type": "ExternalIP", "address": address },
            ] } })
        };
        let key = |name: &str| Key::new("istio-system", name);
        assert!(found.put_node("a", Some(&node("203.0.113.1"))) && found.put_node("b", Some(&node("203.0.113.2"))));
        assert!(!found.put_node("a", Some(&node("203.0.113.1"))), "nothing new");
        assert!(found.put_pod(key("one"), Some(&pod("ingressgateway", "b", "Running"))));
        assert!(found.put_pod(key("two"), Some(&pod("ingressgateway", "a", "Running"))));
        assert!(found.put_pod(key("other"), Some(&pod("egressgateway", "a", "Running"))));
        assert!(!found.put_pod(key("late"), Some(&pod("ingressgateway", "a", "Pending"))));
        let addresses = |found: &IngressNodes| found.addresses("istio-system", "ingressgateway");
        assert_eq!(addresses(&found), ["203.0.113.1", "203.0.113.2"]);
        assert_eq!(found.addresses("default", "ingressgateway"), Vec::<String>::new());
        assert!(found.put_pod(key("two"), None));
        assert_eq!(addresses(&found), ["203.0.113.2"]);
    }
}
