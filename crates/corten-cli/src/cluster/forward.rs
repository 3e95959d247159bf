//! Questions to programs in pods: HTTP through the API server's port-forward, which reaches what listens on a pod's loopback only.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use corten_admin::client::{self, Answer};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::Cluster;

/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the reason of a failure may come after the failure.
const REASON_WITHIN: Duration = Duration::from_millis(500);

impl Cluster {
    /// Asks a port of a pod for a path.
    pub(crate) async fn ask_pod(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        method: Method,
        path: &str,
    ) -> Result<Answer> {
        let question = format!("asking port {port} of pod {namespace}/{pod} for {path}");
        match tokio::time::timeout(PATIENCE, self.forward(namespace, pod, port, method, path)).await {
            Ok(answer) => answer.context(question),
            Err(_) => bail!("{question}: there is no answer after {} s", PATIENCE.as_secs()),
        }
    }

    async fn forward(&self, namespace: &str, pod: &str, port: u16, method: Method, path: &str) -> Result<Answer> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let forward = pods.portforward(pod, &[port]).await;
        let mut forward = forward.map_err(|error| self.refusal(error))?;
        let stream = forward.take_stream(port).context("a forwarded port has a stream")?;
        let reason = forward.take_error(port);
        let answer = client::ask(stream, method, path).await;
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // Why the port was not reached comes on a channel of its own.
        if let Some(reason) = reason
            && let Ok(Some(reason)) = tokio::time::timeout(REASON_WITHIN, reason).await
        {
            bail!("{}", reason.trim());
        }
        Err(error.into())
    }
}
