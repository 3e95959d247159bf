//! The Envoy of a pod, and what its administration answers.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::{Cluster, pods_behind, split_name};

/// The Envoy of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envoy {
    pub(crate) namespace: String,
    pub(crate) name: String,
    port: u16,
}

impl Envoy {
    /// The Envoy of the pod that `[TYPE/]NAME[.NAMESPACE]` means.
    pub(crate) async fn find(cluster: &Cluster, word: &str, port: u16) -> Result<Envoy> {
        Envoy::of(&pod_meant(cluster, word).await?, port)
    }

    /// The Envoy of a pod, as far as the pod itself tells.
    pub(crate) fn of(pod: &Value, port: u16) -> Result<Envoy> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        ensure!(
            pod["metadata"]["labels"]["app"] != "ztunnel",
            "pod {namespace}/{name} is a node proxy, no Envoy: `corten ztunnel-config all {name}.{namespace}` shows what it knows"
        );
        let phase = text("/status/phase");
        ensure!(
            phase == "Running",
            "pod {namespace}/{name} does not run (its phase is {phase}), so there is nothing to ask"
        );
        Ok(Envoy { namespace, name, port })
    }

    /// What it answers; anything but success is an error.
    pub(crate) async fn ask(&self, cluster: &Cluster, method: Method, path: &str) -> Result<Bytes> {
        let Envoy { namespace, name, port } = self;
        let answer = cluster.ask_pod(namespace, name, *port, method, path).await;
        let answer = answer.with_context(|| {
            format!(
                "no Envoy answers on port {port} of pod {namespace}/{name}: has the pod one (`corten x describe pod {name}.{namespace}`), \
                 or does its administration listen elsewhere (--proxy-admin-port)?"
            )
        })?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            bail!(
                "the Envoy of pod {namespace}/{name} answers {} to {path}: {}",
                answer.status,
                said.trim()
            );
        }
        Ok(answer.body)
    }
}

/// The pod that `[TYPE/]NAME[.NAMESPACE]` means, with what to do if there is none.
async fn pod_meant(cluster: &Cluster, word: &str) -> Result<Value> {
    let (name, given) = split_name(word);
    let namespace = given.unwrap_or(&cluster.namespace);
    let within = cluster.in_namespace(namespace);
    if name.contains('/') {
        let mut pods = pods_behind(&within, name).await?;
        ensure!(!pods.is_empty(), "{name} has no pods in namespace {namespace}");
        return Ok(pods.swap_remove(0));
    }
    match within.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await {
        Ok(pod) => Ok(pod),
        Err(refusal) if refusal.is_not_found() => {
            // A dot may be part of the pod's name.
            if given.is_some()
                && let Ok(pod) = cluster
                    .get(&format!("/api/v1/namespaces/{}/pods/{word}", cluster.namespace))
                    .await
            {
                return Ok(pod);
            }
            bail!(
                "there is no pod {name} in namespace {namespace}{}; pods of other namespaces are written NAME.NAMESPACE, those of a workload deploy/NAME",
                elsewhere(cluster, name, namespace).await
            )
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Where a pod of this name is, or pods whose names begin so.
async fn elsewhere(cluster: &Cluster, name: &str, namespace: &str) -> String {
    let Ok(pods) = cluster.get("/api/v1/pods").await else {
        return String::new();
    };
    let place = |pod: &Value| {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        (text("namespace"), text("name"))
    };
    let near = |(_, found): &(String, String)| found == name || found.starts_with(&format!("{name}-"));
    let pods = pods["items"].as_array().into_iter().flatten().map(place).filter(near);
    let (here, there): (Vec<_>, Vec<_>) = pods.partition(|(of, _)| of == namespace);
    let named = here
        .iter()
        .chain(&there)
        .take(3)
        .map(|(namespace, name)| format!("{name}.{namespace}"));
    match named.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => names,
        names => format!(" (but {names})"),
    }
}
