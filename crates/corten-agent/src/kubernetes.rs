//! What the agent writes to the Kubernetes API: one annotation on pods, and Events.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::pod::{Pod, REDIRECTION, Redirection};

/// How long an answer about the DaemonSet is waited for, how often is asked, and the pause between: together less than the time an agent
/// has to end.
const ASK_MAX: std::time::Duration = std::time::Duration::from_secs(1);
const ASK_TRIES: u32 = 3;
const ASK_PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// The way to the API server.
#[derive(Clone)]
pub struct Kubernetes {
    client: kube::Client,
    node: String,
    instance: String,
}

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct WriteError {
    action: String,
    #[source]
    source: Box<kube::Error>,
}

impl WriteError {
    /// There is no such object, or it is another than was meant: nothing is left to be written.
    fn is_moot(error: &kube::Error) -> bool {
        matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
    }
}

fn resource(group: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}

impl Kubernetes {
    /// Writes as this agent on this node.
    pub fn new(client: kube::Client, node: String, instance: String) -> Kubernetes {
        Kubernetes { client, node, instance }
    }

    /// Writes on a pod what it is. A pod that is gone needs nothing written on it.
    pub async fn annotate(&self, pod: &Pod, redirection: Redirection) -> Result<(), WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &pod.namespace, &resource("", "Pod"));
        // The uid keeps it from a successor of the same name.
        let patch = json!({ "metadata": { "uid": pod.uid, "annotations": { REDIRECTION: redirection.value() } } });
        // Who may write pods' status need not be allowed to change pods.
        let patched = api
            .patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.written("annotate", pod, patched.map(drop))
    }

    /// Deletes a pod, if it is still this one.
    pub async fn delete(&self, pod: &Pod) -> Result<(), WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &pod.namespace, &resource("", "Pod"));
        let this = kube::api::Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        };
        let deleted = api
            .delete(&pod.name, &DeleteParams::default().preconditions(this))
            .await;
        self.written("delete", pod, deleted.map(drop))
    }

    /// Puts a label on a pod, if it is still this one.
    pub async fn label(&self, pod: &Pod, key: &str, value: &str) -> Result<(), WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &pod.namespace, &resource("", "Pod"));
        let patch = json!({ "metadata": { "uid": pod.uid, "labels": { key: value } } });
        let patched = api
            .patch(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.written("label", pod, patched.map(drop))
    }

    /// What a write came to; a pod that is gone needs nothing any more.
    fn written(&self, action: &str, pod: &Pod, outcome: Result<(), kube::Error>) -> Result<(), WriteError> {
        match outcome {
            Err(error) if !WriteError::is_moot(&error) => Err(WriteError {
                action: format!("{action} pod {}/{}", pod.namespace, pod.name),
                source: Box::new(error),
            }),
            _ => Ok(()),
        }
    }

    /// Tells the user about a pod.
    pub async fn event(&self, pod: &Pod, reason: &str, message: &str) -> Result<(), WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &pod.namespace, &resource("", "Event"));
        let now = jiff::Timestamp::now();
        let seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{}.{:x}", pod.name, now.as_nanosecond()),
                "namespace": pod.namespace,
            },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": { "component": "istio-cni-node", "host": self.node },
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
            "reportingComponent": "istio-cni-node",
            "reportingInstance": self.instance,
        });
        let failed = |source| WriteError {
            action: format!("tell about pod {}/{}", pod.namespace, pod.name),
            source: Box::new(source),
        };
        let event: DynamicObject =
            serde_json::from_value(event).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        api.create(&PostParams::default(), &event).await.map_err(failed)?;
        Ok(())
    }

    /// Whether a DaemonSet wants a pod on this node; a node that cannot be asked about is taken to be wanted.
    async fn is_wanted_here(&self, set: DynamicObject) -> bool {
        let nodes: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("", "Node"));
        let node = match tokio::time::timeout(ASK_MAX, nodes.get(&self.node)).await {
            Ok(Ok(node)) => node,
            _ => return true,
        };
        let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let wanted = crate::placement::goes_to(&value(set), &value(node));
        if !wanted {
            tracing::info!(
                node = self.node,
                "the agent's DaemonSet does not want this node any more"
            );
        }
        wanted
    }

    /// How long Kubernetes gives this agent's pod to end, from when it was told to; nothing, if it was not, or that cannot be known.
    ///
    /// Whoever deletes the pod says it, so it is not in the pod's environment.
    pub async fn time_to_end(&self, namespace: &str) -> Option<std::time::Duration> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource("", "Pod"));
        let pod = tokio::time::timeout(ASK_MAX, api.get_opt(&self.instance)).await;
        let seconds = pod.ok()?.ok()??.metadata.deletion_grace_period_seconds?;
        Some(std::time::Duration::from_secs(u64::try_from(seconds).ok()?))
    }

    /// Whether the DaemonSet that this agent belongs to is to stay: then another agent follows this one.
    pub async fn has_successor(&self, namespace: &str, name: &str) -> bool {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("apps", "DaemonSet"));
        let mut tries = 0;
        loop {
            let asked = tokio::time::timeout(ASK_MAX, api.get_opt(name)).await;
            let problem = match asked {
                Ok(Ok(Some(set))) => {
                    return set.metadata.deletion_timestamp.is_none() && self.is_wanted_here(set).await;
                }
                Ok(Ok(None)) => return false,
                // Our account, or what it may do, was taken away: whoever does that takes us away, and not all tools do it in order.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                    tracing::warn!(
                        reason = status.message,
                        "the agent may not read its DaemonSet any more: it is taken to be uninstalled"
                    );
                    return false;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            tries += 1;
            if tries == ASK_TRIES {
                // A node that goes down, most likely, or an API server that is away. What cannot be known is taken to stay: a plugin too
                // many keeps pods from starting, one too few lets them out unseen.
                tracing::warn!(problem, "cannot ask whether the agent's DaemonSet stays");
                return true;
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }
}
