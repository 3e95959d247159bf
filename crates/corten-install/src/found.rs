//! What is in a cluster already: a mesh of our own, or somebody else's Istio.

use serde_json::Value;

use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError, MANAGER, title};
use crate::render::Rendered;

/// A workload of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub component: Component,
    /// Its revision; `default` if it names none.
    pub revision: String,
    /// It is Corten's.
    pub is_ours: bool,
    /// The image that it runs.
    pub image: String,
    /// The object.
    pub object: Value,
}

impl Found {
    /// For messages.
    pub fn describe(&self) -> String {
        format!(
            "{} (revision {}, image {})",
            title(&self.object),
            self.revision,
            self.image
        )
    }
}

/// Looks for control planes, node proxies and node agents in all namespaces.
pub async fn look(cluster: &Cluster) -> Result<Vec<Found>, ClusterError> {
    let mut all = Vec::new();
    for (component, kind, labels) in [
        (Component::Pilot, "Deployment", "app=istiod"),
        (Component::Ztunnel, "DaemonSet", "app=ztunnel"),
        (Component::Ztunnel, "DaemonSet", "app.kubernetes.io/name=ztunnel"),
        (Component::Cni, "DaemonSet", "k8s-app=istio-cni-node"),
    ] {
        for object in cluster.list(kind, None, labels).await? {
            let known = |found: &Found| found.object["metadata"]["uid"] == object["metadata"]["uid"];
            if !all.iter().any(known) {
                all.push(judge(component, object));
            }
        }
    }
    Ok(all)
}

fn judge(component: Component, object: Value) -> Found {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let containers: Vec<&Value> = containers.into_iter().flatten().collect();
    // Ours are known by their program, whatever registry their image comes from.
    let program = |container: &&&Value| {
        let words = container["command"].as_array().into_iter().flatten();
        let command = words.filter_map(Value::as_str).next().unwrap_or_default();
        command.contains("/corten-")
            || container["image"]
                .as_str()
                .is_some_and(|image| image.starts_with("corten.dev/"))
    };
    // Or by who wrote them, should somebody have changed that.
    let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut managers = managers.filter_map(|fields| fields["manager"].as_str());
    let is_ours = containers.iter().any(|container| program(&container)) || managers.any(|manager| manager == MANAGER);
    let image = containers.first().and_then(|container| container["image"].as_str());
    Found {
        component,
        revision: object["metadata"]["labels"]["istio.io/rev"]
            .as_str()
            .unwrap_or("default")
            .to_owned(),
        is_ours,
        image: image.unwrap_or_default().to_owned(),
        object,
    }
}

/// What of somebody else's mesh stands in the way of installing these components as this revision: control planes of other
/// revisions do not, node agents and proxies always do, because a node has one network.
pub fn in_the_way<'a>(found: &'a [Found], components: &[Component], revision: &str) -> Vec<&'a Found> {
    let revision = if revision.is_empty() { "default" } else { revision };
    found
        .iter()
        .filter(|found| !found.is_ours && components.contains(&found.component))
        .filter(|found| found.component != Component::Pilot || found.revision == revision)
        .collect()
}

/// Pods with a proxy that another control plane configures, sidecar, gateway or waypoint: they are not taken over, because their
/// programs are another mesh's.
pub async fn served(cluster: &Cluster) -> Result<Vec<String>, ClusterError> {
    let pods = cluster.list("Pod", None, "").await?;
    Ok(pods.iter().filter(|pod| is_served(pod)).map(name_of).collect())
}

fn name_of(pod: &Value) -> String {
    let word = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", word("namespace"), word("name"))
}

fn is_served(pod: &Value) -> bool {
    // The node proxy's container has the same name.
    let is_node_proxy = ["app", "app.kubernetes.io/name"]
        .iter()
        .any(|key| pod["metadata"]["labels"][key] == "ztunnel");
    let mut containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|key| pod["spec"][key].as_array().into_iter().flatten());
    !is_node_proxy && containers.any(|container| container["name"] == "istio-proxy")
}

/// The webhooks by which a control plane that was adopted put sidecars into pods, apart from those of `objects`, which are ours now:
/// nobody answers them any more, and pods would not start.
pub async fn injectors(cluster: &Cluster, adopted: &[Found], objects: &[Rendered]) -> Result<Vec<Value>, ClusterError> {
    let Some(control) = adopted.iter().find(|found| found.component == Component::Pilot) else {
        return Ok(Vec::new());
    };
    let mut webhooks = cluster
        .list("MutatingWebhookConfiguration", None, "app=sidecar-injector")
        .await?;
    webhooks.retain(|webhook| {
        let revision = webhook["metadata"]["labels"]["istio.io/rev"]
            .as_str()
            .unwrap_or("default");
        let ours = objects.iter().any(|rendered| title(&rendered.object) == title(webhook));
        revision == control.revision && !ours
    });
    Ok(webhooks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workload(component: Component, revision: &str, image: &str, command: &str) -> Found {
        judge(
            component,
            json!({"kind": "Deployment", "metadata": {"name": "x", "namespace": "n", "labels": {"istio.io/rev": revision}},
                "spec": {"template": {"spec": {"containers": [{"image": image, "command": [command]}]}}}}),
        )
    }

    #[test]
    fn ours_are_known_by_their_program() {
        assert!(
            workload(
                Component::Pilot,
                "default",
                "registry.example/x:1",
                "/usr/local/bin/corten-control"
            )
            .is_ours
        );
        assert!(!workload(Component::Pilot, "default", "registry.istio.io/release/pilot:1.30", "").is_ours);
    }

    #[test]
    fn pods_with_proxies_of_their_own_are_found() {
        let pod = |label: &str, key: &str| json!({"metadata": {"name": "p", "namespace": "n", "labels": {"app": label}}, "spec": {key: [{"name": "istio-proxy"}]}});
        assert!(is_served(&pod("shop", "containers")));
        assert!(is_served(&pod("shop", "initContainers")));
        assert!(!is_served(&pod("ztunnel", "containers")));
        assert!(!is_served(
            &json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}})
        ));
    }

    #[test]
    fn other_revisions_of_a_control_plane_are_not_in_the_way() {
        let found = [
            workload(Component::Pilot, "default", "istio/pilot", ""),
            workload(Component::Pilot, "green", "istio/pilot", ""),
            workload(Component::Ztunnel, "green", "istio/ztunnel", ""),
            workload(Component::Cni, "default", "corten.dev/corten", ""),
        ];
        let names = |revision: &str| {
            let found = in_the_way(&found, &Component::ALL, revision);
            found
                .iter()
                .map(|found| format!("{:?} {}", found.component, found.revision))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["Pilot default", "Ztunnel green"]);
        assert_eq!(names("blue"), ["Ztunnel green"]);
        assert!(in_the_way(&found, &[Component::Base], "").is_empty());
    }
}
