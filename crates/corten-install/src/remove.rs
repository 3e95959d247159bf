//! Taking an installation out of a cluster.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterError, title};
use crate::render::{Rendered, rank};

/// ConfigMaps that the control plane puts into every namespace.
const DISTRIBUTED: [&str; 2] = ["istio-ca-root-cert", "istio-ca-crl"];

/// What the control plane makes in its own namespace.
const OWN_SECRETS: [&str; 1] = ["istio-ca-secret"];

/// A node agent cleans its node before it ends; it gets this long.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Objects with finalizers take a moment to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// What to remove.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The objects of the installation.
    pub objects: Vec<Value>,
    /// The control plane's namespace.
    pub namespace: String,
    /// Also what users and the control plane made: definitions with their objects, the authority's keys, the namespace.
    pub purge: bool,
}

/// The objects that a plan's removal is about.
pub fn objects(rendered: &[Rendered]) -> Vec<Value> {
    rendered.iter().map(|rendered| rendered.object.clone()).collect()
}

/// Removes; `tell` is told of each object that was there. Whether all is gone: what is not, is named.
pub async fn remove(
    cluster: &Cluster,
    removal: &Removal,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<String>, ClusterError> {
    let mut objects = removal.objects.clone();
    objects.sort_by_key(|object| std::cmp::Reverse(order(object)));
    let kept = |object: &Value| matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition"));
    let mut gone = Vec::new();
    for object in objects.iter().filter(|object| removal.purge || !kept(object)) {
        // What users put into a namespace that is not ours stays.
        if object["kind"] == "Namespace" && object["metadata"]["name"] != removal.namespace.as_str() {
            continue;
        }
        if object["kind"] == "Namespace" {
            leavings(cluster, removal, &mut gone, tell).await?;
        }
        if cluster.delete(object, None).await? {
            tell(&title(object));
            gone.push(object.clone());
        }
        if object["kind"] == "DaemonSet" && !cluster.is_dry_run() {
            pods_end(cluster, object).await?;
        }
    }
    if !objects.iter().any(|object| object["kind"] == "Namespace") || !removal.purge {
        leavings(cluster, removal, &mut gone, tell).await?;
    }
    if cluster.is_dry_run() {
        return Ok(Vec::new());
    }
    let begin = Instant::now();
    loop {
        let mut left = Vec::new();
        for object in &gone {
            if cluster.live(object).await?.is_some() {
                left.push(object.clone());
            }
        }
        if left.is_empty() || begin.elapsed() > GONE_WITHIN {
            return Ok(left.iter().map(title).collect());
        }
        gone = left;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// When an object goes, later ones first: what checks objects, before what it asks is gone; the agents, while there still are node
/// proxies to tell; last what others need.
fn order(object: &Value) -> usize {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match kind {
        "ValidatingWebhookConfiguration" => 102,
        "DaemonSet" if name == "istio-cni-node" => 101,
        "DaemonSet" => 100,
        kind => rank(kind),
    }
}

/// What an installation makes besides the charts' objects.
async fn leavings(
    cluster: &Cluster,
    removal: &Removal,
    gone: &mut Vec<Value>,
    tell: &mut dyn FnMut(&str),
) -> Result<(), ClusterError> {
    let namespace = Some(removal.namespace.as_str());
    let mut more = cluster
        .list("ConfigMap", namespace, "app.kubernetes.io/managed-by=corten")
        .await?;
    let records = more.len();
    if removal.purge {
        let labelled = cluster.list("ConfigMap", None, "istio.io/config=true").await?;
        let ours = |map: &Value| DISTRIBUTED.iter().any(|name| map["metadata"]["name"] == *name);
        more.extend(labelled.into_iter().filter(ours));
        for lease in cluster.list("Lease", namespace, "").await? {
            if lease["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("istio-"))
            {
                more.push(lease);
            }
        }
        for name in OWN_SECRETS {
            more.push(json!({"kind": "Secret", "metadata": {"name": name, "namespace": removal.namespace}}));
        }
    }
    // Several revisions may be remembered; only the removal of all takes all of them.
    for (number, object) in more.into_iter().enumerate() {
        if number < records && !removal.purge && !removal.objects.iter().any(|wanted| title(wanted) == title(&object)) {
            continue;
        }
        let object = json!({"kind": object["kind"], "metadata": {"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]}});
        if cluster.delete(&object, None).await? {
            tell(&title(&object));
            gone.push(object);
        }
    }
    Ok(())
}

/// Waits until a DaemonSet's pods have ended: agents clean up their nodes, and node proxies need not serve what no longer comes.
async fn pods_end(cluster: &Cluster, set: &Value) -> Result<(), ClusterError> {
    let is_agent = set["metadata"]["name"] == "istio-cni-node";
    let labels = if is_agent {
        "k8s-app=istio-cni-node"
    } else {
        "app=ztunnel"
    };
    let namespace = set["metadata"]["namespace"].as_str();
    let begin = Instant::now();
    loop {
        let pods = cluster.list("Pod", namespace, labels).await?;
        if pods.is_empty() || begin.elapsed() > AGENT_ENDS_WITHIN {
            return Ok(());
        }
        // Proxies would serve connections until they end, an hour at most.
        if !is_agent {
            for pod in &pods {
                cluster.delete(pod, Some(5)).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
