//! What the nodes are before their kubelets speak: the zones they lie in, and the objects that an earlier life of the instance left,
//! which are told to be unknown until their kubelets report, or removed.

use corten_apiserver::{Client, DeleteOptions, Patch, Status, resources};
use serde_json::{Value, json};

/// The zone of the node at this place in the list, each in one of its own: `local-a`, ..., `local-z`, `local-aa`, ...
pub(super) fn zone(index: usize) -> String {
    let letter = |number: usize| char::from(b"abcdefghijklmnopqrstuvwxyz"[number % 26]);
    match index / 26 {
        0 => format!("local-{}", letter(index)),
        rounds => format!("local-{}{}", letter(rounds - 1), letter(index)),
    }
}

/// Keeps the objects of the nodes that will run and removes the others.
pub(super) async fn settle(client: &Client, wanted: &[String]) -> Result<(), Status> {
    for node in client.list(&resources::NODES, None, None, None).await? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let gone = if wanted.iter().any(|it| it == name) {
            let patch = Patch::Merge(json!({"status": {"conditions": unknown(&node)}}));
            client.patch(&resources::NODES, "", name, Some("status"), patch).await
        } else {
            client
                .delete(&resources::NODES, "", name, DeleteOptions::default())
                .await
        };
        gone?;
    }
    Ok(())
}

/// The conditions, with readiness unknown: a merge patch replaces the whole list.
fn unknown(node: &Value) -> Value {
    let mut conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &mut conditions {
        if condition["type"] == "Ready" {
            condition["status"] = "Unknown".into();
            condition["reason"] = "NodeStatusUnknown".into();
            condition["message"] = "Kubelet stopped posting node status.".into();
        }
    }
    conditions.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apiserver::Api;

    #[test]
    fn each_node_has_a_zone_of_its_own() {
        assert_eq!(
            [0, 1, 25, 26, 99].map(zone),
            ["local-a", "local-b", "local-z", "local-aa", "local-cv"]
        );
        let all: std::collections::BTreeSet<_> = (0..100).map(zone).collect();
        assert_eq!(all.len(), 100);
    }

    #[tokio::test]
    async fn nodes_of_an_earlier_life_are_unknown_or_gone() {
        let client = Client::new(Api::in_memory(), "test");
        let fields = [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
        ];
        let more = [
            "kubeletVersion",
            "machineID",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ];
        let info: serde_json::Map<_, _> = fields
            .iter()
            .chain(&more)
            .map(|it| ((*it).to_owned(), json!("")))
            .collect();
        for name in ["node1", "node2"] {
            let status = json!({"nodeInfo": info, "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status});
            client.create(&resources::NODES, node).await.unwrap();
            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            client
                .patch(&resources::NODES, "", name, Some("status"), Patch::Merge(ready))
                .await
                .unwrap();
        }
        settle(&client, &["node1".to_owned()]).await.unwrap();
        let left = client.list(&resources::NODES, None, None, None).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["status"]["conditions"][0]["status"], "Unknown");
    }
}
