//! Taking an installation out of a cluster.
//!
//! Connections through node proxies live in these, and pods have to be out of the mesh before what carries it goes. So it goes in this
//! order: the webhooks; the agents are told to end, and with that take all pods of their nodes out of the mesh, and the plugin off
//! the node; when no pod is in the mesh any more, the proxies are told to end, and serve what they have until that ends, or the time
//! for it is over; the agents take the last rules away, and end; then the rest.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterError, Dependents, title};
use crate::render::{Rendered, rank};

/// ConfigMaps that the control plane puts into every namespace.
const DISTRIBUTED: [&str; 2] = ["istio-ca-root-cert", "istio-ca-crl"];

/// What the control plane makes in its own namespace.
const OWN_SECRETS: [&str; 1] = ["istio-ca-secret"];

/// Who makes the classes of gateways.
const MAKES_CLASSES: &str = "istio-gateway-classes";

/// The DaemonSet of the agents, and the labels of its pods and the proxies'.
const AGENTS: &str = "istio-cni-node";
const AGENT_LABELS: &str = "k8s-app=istio-cni-node";
const PROXY_LABELS: &str = "app=ztunnel";

/// What says of a pod that it is in the mesh.
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// How long agents may take until all pods have left, and how much longer than the proxies they get to clean up.
const LEFT_WITHIN: Duration = Duration::from_secs(20);
const AGENTS_LONGER: Duration = Duration::from_secs(20);

/// What is told to end has ended so long after its time, or its node does not answer.
const KUBELET: Duration = Duration::from_secs(20);

/// The control plane ends within moments; while it runs it makes again what is removed.
const CONTROL_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Objects with finalizers take a moment to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);

const ASK_EVERY: Duration = Duration::from_millis(200);

/// What to remove.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The objects of the installation.
    pub objects: Vec<Value>,
    /// The control plane's namespace.
    pub namespace: String,
    /// Also what users and the control plane made: definitions with their objects, the authority's keys, the namespace.
    pub purge: bool,
    /// How long connections through node proxies may take to end; what is left then is cut.
    pub drain: Duration,
}

/// What happens, as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An object was removed.
    Removed(String),
    /// Pods of the mesh have left it: so many agents took them out.
    Left(usize),
    /// These pods (`namespace/name`) are still marked as in the mesh: the agents of their nodes do not answer.
    Stranded(Vec<String>),
    /// These proxies (`node`) still have connections, and get so much longer.
    Draining(Vec<String>, Duration),
}

/// The objects that a plan's removal is about.
pub fn objects(rendered: &[Rendered]) -> Vec<Value> {
    rendered.iter().map(|rendered| rendered.object.clone()).collect()
}

/// Removes; `tell` is told of what happens. Whether all is gone: what is not, is named.
pub async fn remove(
    cluster: &Cluster,
    removal: &Removal,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<String>, ClusterError> {
    let mut objects = removal.objects.clone();
    objects.sort_by_key(|object| std::cmp::Reverse(order(object)));
    let kept = |object: &Value| matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition"));
    // What users put into a namespace that is not ours stays.
    let foreign =
        |object: &Value| object["kind"] == "Namespace" && object["metadata"]["name"] != removal.namespace.as_str();
    objects.retain(|object| (removal.purge || !kept(object)) && !foreign(object));
    let mut gone = Vec::new();
    let mut retired = false;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind == "DaemonSet" {
            if !std::mem::replace(&mut retired, true) {
                retire(cluster, removal, &objects, &mut gone, tell).await?;
            }
            continue;
        }
        if kind == "Namespace" {
            leavings(cluster, removal, &mut gone, tell).await?;
        }
        if cluster.delete(object, None).await? {
            tell(Progress::Removed(title(object)));
            gone.push(object.clone());
        }
    }
    if !objects.iter().any(|object| object["kind"] == "Namespace") {
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
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Takes the data plane out of the nodes.
///
/// The DaemonSets go without their pods, which are then told to end one by one, with the time that they have for it.
async fn retire(
    cluster: &Cluster,
    removal: &Removal,
    objects: &[Value],
    gone: &mut Vec<Value>,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), ClusterError> {
    let namespace = Some(removal.namespace.as_str());
    let (agents, proxies): (Vec<&Value>, Vec<&Value>) = objects
        .iter()
        .filter(|object| object["kind"] == "DaemonSet")
        .partition(|set| set["metadata"]["name"] == AGENTS);
    let of_agents = cluster.list("Pod", namespace, AGENT_LABELS).await?;
    delete_sets(cluster, &agents, &of_agents, gone, tell).await?;
    if !cluster.is_dry_run() && !agents.is_empty() {
        let ending = end_pods(cluster, namespace, AGENT_LABELS, removal.drain + AGENTS_LONGER).await?;
        let stranded = all_left(cluster, namespace).await?;
        unmark(cluster).await?;
        tell(if stranded.is_empty() {
            Progress::Left(ending)
        } else {
            Progress::Stranded(stranded)
        });
    }
    let of_proxies = cluster.list("Pod", namespace, PROXY_LABELS).await?;
    delete_sets(cluster, &proxies, &of_proxies, gone, tell).await?;
    if cluster.is_dry_run() {
        return Ok(());
    }
    let begin = Instant::now();
    if !proxies.is_empty() {
        end_pods(cluster, namespace, PROXY_LABELS, removal.drain).await?;
        while begin.elapsed() < removal.drain + KUBELET {
            let pods = cluster.list("Pod", namespace, PROXY_LABELS).await?;
            if pods.is_empty() {
                break;
            }
            let nodes = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str());
            let left = removal.drain.saturating_sub(begin.elapsed());
            tell(Progress::Draining(nodes.map(str::to_owned).collect(), left));
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    // What else the DaemonSets owned is Kubernetes' bookkeeping.
    for labels in [AGENT_LABELS, PROXY_LABELS] {
        for revision in cluster.list("ControllerRevision", namespace, labels).await? {
            cluster.delete(&revision, None).await?;
        }
    }
    if !agents.is_empty() {
        while begin.elapsed() < removal.drain + AGENTS_LONGER + KUBELET
            && !cluster.list("Pod", namespace, AGENT_LABELS).await?.is_empty()
        {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    Ok(())
}

/// Deletes DaemonSets, whose pods stay.
async fn delete_sets(
    cluster: &Cluster,
    sets: &[&Value],
    pods: &[Value],
    gone: &mut Vec<Value>,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), ClusterError> {
    // To let something stay takes a cluster that collects what is left over.
    let dependents = if pods.is_empty() {
        Dependents::Go
    } else {
        Dependents::Stay
    };
    for set in sets {
        if cluster.delete_only(set, dependents).await? {
            tell(Progress::Removed(title(set)));
            gone.push((*set).clone());
        }
    }
    Ok(())
}

/// Pods whose own proxies were given to them as they were made: these stay, and nobody configures them any more.
pub async fn injected(cluster: &Cluster) -> Result<usize, ClusterError> {
    let pods = cluster.list("Pod", None, "").await?;
    let is_injected = |pod: &&Value| !pod["metadata"]["annotations"]["sidecar.istio.io/status"].is_null();
    Ok(pods.iter().filter(is_injected).count())
}

/// What a pod's annotation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// There is none.
    None,
    /// It is in the mesh.
    Inside,
    /// It was, and has ended, or waits to be: there is nothing to be taken out but the annotation.
    Only,
}

fn mark(pod: &Value) -> Mark {
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    match pod["metadata"]["annotations"][REDIRECTION].as_str() {
        None => Mark::None,
        Some("pending") => Mark::Only,
        Some(_) if has_ended => Mark::Only,
        Some(_) => Mark::Inside,
    }
}

/// Takes the annotation from pods that no agent sees to: those that have ended, and those that waited to join.
async fn unmark(cluster: &Cluster) -> Result<(), ClusterError> {
    let pods = cluster.list("Pod", None, "").await?;
    for pod in pods.iter().filter(|pod| mark(pod) == Mark::Only) {
        let patch = json!({"metadata": {"annotations": {REDIRECTION: null}}});
        cluster.merge(pod, &patch).await?;
    }
    Ok(())
}

/// Tells pods to end within a time; how many there are.
async fn end_pods(
    cluster: &Cluster,
    namespace: Option<&str>,
    labels: &str,
    within: Duration,
) -> Result<usize, ClusterError> {
    let pods = cluster.list("Pod", namespace, labels).await?;
    let seconds = u32::try_from(within.as_secs()).unwrap_or(u32::MAX).max(1);
    for pod in &pods {
        cluster.delete(pod, Some(seconds)).await?;
    }
    Ok(pods.len())
}

/// Waits until no pod is in the mesh; those that still are when the time is over, or no agent is left to take them out.
async fn all_left(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<String>, ClusterError> {
    let begin = Instant::now();
    loop {
        let agents = cluster.list("Pod", namespace, AGENT_LABELS).await?;
        let pods = cluster.list("Pod", None, "").await?;
        let inside: Vec<String> = pods
            .iter()
            .filter(|pod| mark(pod) == Mark::Inside)
            .map(|pod| {
                let word = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
                format!("{}/{}", word("namespace"), word("name"))
            })
            .collect();
        if inside.is_empty() || agents.is_empty() || begin.elapsed() > LEFT_WITHIN {
            return Ok(inside);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// When an object goes, later ones first: what checks objects, before what it asks is gone; the agents, while there still are node
/// proxies to tell; last what others need.
fn order(object: &Value) -> usize {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => 102,
        "DaemonSet" if name == AGENTS => 101,
        "DaemonSet" => 100,
        kind => rank(kind),
    }
}

/// What an installation makes besides the charts' objects.
async fn leavings(
    cluster: &Cluster,
    removal: &Removal,
    gone: &mut Vec<Value>,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), ClusterError> {
    let namespace = Some(removal.namespace.as_str());
    if removal.purge && !cluster.is_dry_run() {
        let begin = Instant::now();
        while begin.elapsed() < CONTROL_ENDS_WITHIN && !cluster.list("Pod", namespace, "app=istiod").await?.is_empty() {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
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
        let made = |class: &Value| {
            let mut managers = class["metadata"]["managedFields"].as_array().into_iter().flatten();
            managers.any(|fields| fields["manager"] == MAKES_CLASSES)
        };
        let classes = cluster.list("GatewayClass", None, "").await?;
        more.extend(classes.into_iter().filter(made));
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
            tell(Progress::Removed(title(&object)));
            gone.push(object);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_run_have_to_be_taken_out() {
        let pod = |phase: &str, annotations: Value| json!({"metadata": {"annotations": annotations}, "status": {"phase": phase}});
        for (phase, annotations, expected) in [
            ("Running", json!({}), Mark::None),
            ("Running", json!({REDIRECTION: "enabled"}), Mark::Inside),
            ("Pending", json!({REDIRECTION: "enabled"}), Mark::Inside),
            ("Succeeded", json!({REDIRECTION: "enabled"}), Mark::Only),
            ("Failed", json!({REDIRECTION: "enabled"}), Mark::Only),
            ("Running", json!({REDIRECTION: "pending"}), Mark::Only),
        ] {
            assert_eq!(
                mark(&pod(phase, annotations.clone())),
                expected,
                "{phase} {annotations}"
            );
        }
    }
}
