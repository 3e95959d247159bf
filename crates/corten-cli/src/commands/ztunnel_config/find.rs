//! Which ztunnel is meant, and what it says.

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::Value;

use super::{Common, Place};
use crate::cluster::{Cluster, pods_behind, query, ready_first, selected_by, split_name};

/// Whether any ztunnel will do, or the answer depends on which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Any,
    Exact,
}

/// A pod by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The ztunnel, and the pod for whose sake it was chosen.
pub(super) struct Found {
    pub(super) ztunnel: Workload,
    pub(super) workload: Option<Workload>,
}

impl Common {
    /// The ztunnel that the arguments mean.
    pub(super) async fn find(&self, cluster: &Cluster, choice: Choice) -> Result<Found> {
        let system = self.place.system(cluster);
        if let Some(node) = &self.node {
            let ztunnel = on_node(&system, node).await?;
            return Ok(Found {
                ztunnel,
                workload: None,
            });
        }
        let Some(word) = &self.pod else {
            let pods = ztunnels(&system).await?;
            ensure!(
                choice == Choice::Any || pods.len() == 1,
                "the answer differs between the {} nodes: name a node with --node, or a pod",
                pods.len()
            );
            let first = pods.first().context("ztunnel has no pods")?;
            return Ok(Found {
                ztunnel: named(first),
                workload: None,
            });
        };
        let pod = self.pod(cluster, &system, word).await?;
        if is_ztunnel(&pod) {
            return Ok(Found {
                ztunnel: named(&pod),
                workload: None,
            });
        }
        let workload = named(&pod);
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        ensure!(
            !node.is_empty(),
            "pod {}/{} is on no node yet, so no ztunnel serves it",
            workload.namespace,
            workload.name
        );
        let ztunnel = on_node(&system, node).await?;
        Ok(Found {
            ztunnel,
            workload: Some(workload),
        })
    }

    /// The pod of an argument: in the namespace it names, else the one given with -n, else the mesh's own, else the kubeconfig's.
    async fn pod(&self, cluster: &Cluster, system: &Cluster, word: &str) -> Result<Value> {
        let given = self.connection.named_namespace();
        if let (_, Some(_)) = split_name(word) {
            return pod_named(cluster, word).await;
        }
        if given.is_some() {
            return pod_named(cluster, word).await;
        }
        match pod_named(system, word).await {
            Ok(pod) => Ok(pod),
            Err(error) if cluster.namespace == system.namespace => Err(error),
            Err(_) => pod_named(cluster, word).await.with_context(|| {
                format!(
                    "{word} is neither in {} nor in {}; name its namespace as {word}.NAMESPACE or with -n",
                    system.namespace, cluster.namespace
                )
            }),
        }
    }
}

impl Place {
    /// The cluster, as seen from the mesh's namespace.
    pub(super) fn system(&self, cluster: &Cluster) -> Cluster {
        cluster.in_namespace(&self.istio_namespace)
    }

    pub(super) fn port(&self) -> u16 {
        self.proxy_admin_port
    }
}

/// The pod that `[TYPE/]NAME[.NAMESPACE]` means.
pub(super) async fn pod_named(cluster: &Cluster, word: &str) -> Result<Value> {
    let (word, namespace) = split_name(word);
    let cluster = cluster.in_namespace(namespace.unwrap_or(&cluster.namespace));
    if word.contains('/') {
        let mut pods = pods_behind(&cluster, word).await?;
        ensure!(!pods.is_empty(), "{word} has no pods");
        return Ok(pods.swap_remove(0));
    }
    Ok(cluster
        .get(&format!("/api/v1/namespaces/{}/pods/{word}", cluster.namespace))
        .await?)
}

/// All ztunnels, those that are ready first.
pub(super) async fn ztunnels(system: &Cluster) -> Result<Vec<Value>> {
    let namespace = &system.namespace;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/ztunnel");
    let daemon_set = match system.get(&path).await {
        Err(refusal) if refusal.is_not_found() => {
            bail!(
                "there is no DaemonSet ztunnel in namespace {namespace}: is the mesh in another one (-i), or not installed?"
            )
        }
        other => other?,
    };
    let pods = selected_by(system, &daemon_set).await?;
    pods.context("DaemonSet ztunnel has no selector")
}

/// The ztunnel of a node.
async fn on_node(system: &Cluster, node: &str) -> Result<Workload> {
    let mut pods = ztunnels(system).await?;
    pods.retain(|pod| pod["spec"]["nodeName"] == node);
    let nodes = query(&[("fieldSelector", Some(format!("metadata.name={node}")))]);
    match ready_first(pods).first() {
        Some(pod) => Ok(named(pod)),
        None => {
            let found = system.get(&format!("/api/v1/nodes{nodes}")).await?;
            if found["items"].as_array().is_none_or(Vec::is_empty) {
                bail!("there is no node {node:?}");
            }
            bail!("no ztunnel runs on node {node}")
        }
    }
}

/// What a ztunnel answers to `/config_dump`.
pub(super) async fn dump(cluster: &Cluster, ztunnel: &Workload, port: u16) -> Result<Vec<u8>> {
    let answer = cluster
        .ask_pod(&ztunnel.namespace, &ztunnel.name, port, Method::GET, "/config_dump")
        .await?;
    ensure!(
        answer.status.is_success(),
        "ztunnel {}/{} answers {} when asked for its dump",
        ztunnel.namespace,
        ztunnel.name,
        answer.status
    );
    Ok(answer.body.to_vec())
}

/// Whether a pod is a ztunnel, as istioctl tells it.
pub(super) fn is_ztunnel(pod: &Value) -> bool {
    match pod["metadata"]["labels"]["app"].as_str() {
        Some(app) => app == "ztunnel",
        None => pod["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("ztunnel")),
    }
}

pub(super) fn named(pod: &Value) -> Workload {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    Workload {
        namespace: text("namespace"),
        name: text("name"),
    }
}
