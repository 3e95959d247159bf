//! What the agent writes to the Kubernetes API: one annotation on pods, and Events.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::pod::{Pod, REDIRECTION, Redirection};

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
        match patched {
            Err(error) if !WriteError::is_moot(&error) => Err(WriteError {
                action: format!("annotate pod {}/{}", pod.namespace, pod.name),
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

    /// Whether the DaemonSet that this agent belongs to is to stay: then another agent follows this one.
    pub async fn has_successor(&self, namespace: &str, name: &str) -> bool {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("apps", "DaemonSet"));
        match api.get_opt(name).await {
            Ok(Some(set)) => set.metadata.deletion_timestamp.is_none(),
            Ok(None) => false,
            // What cannot be known is taken to stay: a plugin too many keeps pods from starting, one too few lets them out unseen.
            Err(error) => {
                tracing::warn!(%error, "cannot ask whether the agent's DaemonSet stays");
                true
            }
        }
    }
}
