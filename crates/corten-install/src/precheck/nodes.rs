//! What the nodes and their network plugin ask of an installation, as far as objects of the cluster tell.

use serde_json::Value;

use super::{Level, Message};
use crate::operator::Plan;
use crate::values::at;

/// The code of what is said here.
const CODE: &str = "CRT0107";

fn warning(origin: &str, text: String) -> Message {
    Message {
        level: Level::Warning,
        code: CODE,
        origin: origin.to_owned(),
        text,
    }
}

/// A platform that keeps its plugins elsewhere than others, told by its nodes, and that the installation does not know of.
pub fn platform(nodes: &[Value], plan: &Plan) -> Option<Message> {
    let asked = at(&plan.values, &["global", "platform"]).as_str();
    let own = ["cniBinDir", "cniConfDir"].map(|key| at(&plan.values, &["cni", key]));
    if asked.is_some_and(|name| !name.is_empty()) || own.iter().any(|dir| dir.is_string()) {
        return None;
    }
    let (node, platform) = nodes.iter().find_map(|node| Some((node, platform_of(node)?)))?;
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    Some(warning(
        &format!("Node {name}"),
        format!(
            "the cluster is {platform}, which has directories of its own for network plugins; without \
             --set values.global.platform={platform} the agents do not find them"
        ),
    ))
}

fn platform_of(node: &Value) -> Option<&'static str> {
    let version = node["status"]["nodeInfo"]["kubeletVersion"]
        .as_str()
        .unwrap_or_default();
    let labelled = |key: &str| !node["metadata"]["labels"][key].is_null();
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    if version.contains("+k3s") {
        Some(if name.starts_with("k3d-") { "k3d" } else { "k3s" })
    } else if version.contains("-gke.") {
        Some("gke")
    } else if labelled("microk8s.io/cluster") {
        Some("microk8s")
    } else if labelled("minikube.k8s.io/name") {
        Some("minikube")
    } else if labelled("node.openshift.io/os_id") {
        Some("openshift")
    } else {
        None
    }
}

/// Settings of Cilium that keep the mesh's plugin out of its chain, or hide services and probes from the mesh.
pub fn cilium(config: &Value) -> Vec<Message> {
    let is = |key: &str| config["data"][key] == "true";
    let mut found = Vec::new();
    if is("cni-exclusive") {
        found.push("cni-exclusive is true: Cilium takes every other plugin out of the nodes' CNI configuration, and pods start outside of the mesh; set cni.exclusive=false in its Helm values");
    }
    let socket = is("bpf-lb-sock") || is("kube-proxy-replacement");
    if socket && !is("bpf-lb-sock-hostns-only") {
        found.push("bpf-lb-sock-hostns-only is not true: Cilium replaces the address of a service inside of pods, before the mesh sees it; set socketLB.hostNamespaceOnly=true in its Helm values");
    }
    if is("enable-bpf-masquerade") {
        found.push("enable-bpf-masquerade is true: the link-local address that the kubelet's probes come from in pods of the mesh is replaced, and probes fail; set bpf.masquerade=false in Cilium's Helm values");
    }
    let origin = "ConfigMap kube-system/cilium-config";
    found.into_iter().map(|text| warning(origin, text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Request, plan};
    use serde_json::json;

    fn asked(sets: &[&str]) -> Plan {
        let sets = [&["profile=ambient"], sets].concat();
        plan(&Request {
            sets: sets.iter().map(|set| ((*set).to_owned(), false)).collect(),
            ..Request::default()
        })
        .unwrap()
    }

    #[test]
    fn platforms_are_told_by_their_nodes() {
        let version = |name: &str, version: &str| json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}});
        let label = |key: &str| json!({"metadata": {"name": "n", "labels": {key: "x"}}});
        for (node, expected) in [
            (version("n", "v1.34.1"), None),
            (version("n", "v1.34.1+k3s1"), Some("platform=k3s ")),
            (version("k3d-x-0", "v1.34.1+k3s1"), Some("platform=k3d ")),
            (version("n", "v1.34.1-gke.100"), Some("platform=gke ")),
            (label("microk8s.io/cluster"), Some("platform=microk8s ")),
            (label("minikube.k8s.io/name"), Some("platform=minikube ")),
        ] {
            let said = platform(std::slice::from_ref(&node), &asked(&[])).map(|it| it.text);
            assert_eq!(said.is_some(), expected.is_some(), "{node}");
            assert!(
                said.unwrap_or_default().contains(expected.unwrap_or_default()),
                "{node}"
            );
        }
        let k3s = [version("n", "v1.34.1+k3s1")];
        assert_eq!(platform(&k3s, &asked(&["values.global.platform=k3s"])), None);
        assert_eq!(platform(&k3s, &asked(&["values.cni.cniConfDir=/x"])), None);
    }

    #[test]
    fn cilium_is_asked_to_let_others_in() {
        let fit = json!({"data": {"cni-exclusive": "false", "kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true"}});
        assert_eq!(cilium(&fit), []);
        assert_eq!(cilium(&Value::Null), []);
        let unfit = json!({"data": {"cni-exclusive": "true", "bpf-lb-sock": "true", "enable-bpf-masquerade": "true"}});
        let said: Vec<String> = cilium(&unfit).into_iter().map(|message| message.text).collect();
        for (text, part) in said.iter().zip([
            "cni.exclusive=false",
            "socketLB.hostNamespaceOnly=true",
            "bpf.masquerade=false",
        ]) {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(said.len(), 3);
    }
}
