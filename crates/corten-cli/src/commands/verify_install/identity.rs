//! A test identity: a certificate asked of the control plane as a workload asks for it, by way of the API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use corten_core::Identity;
use corten_grpc::{Channel, Target};
use corten_identity::{CaClient, CaSettings, RootSource, ServerAuthority, Sign as _, SigningRequest, Token};
use corten_install::cluster::Cluster as Place;
use corten_install::operator::Plan;
use corten_install::values::at;
use corten_install::verify::{Check, named};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cluster::Cluster;

/// Where certificates are asked for.
const PORT: u16 = 15012;

/// As long as the certificate is asked to be valid; nobody uses it.
const VALID: Duration = Duration::from_secs(600);

/// Asks the control plane's pod for a certificate of its own account, and looks at what comes.
pub(super) async fn issued(cluster: &Cluster, place: &Place, plan: &Plan, pod: &Value) -> Check {
    let found = issue(cluster, place, plan, pod).await;
    Check {
        what: "identity".to_owned(),
        found: found.map_err(|error| format!("no certificate was issued: {error:#}")),
    }
}

async fn issue(cluster: &Cluster, place: &Place, plan: &Plan, pod: &Value) -> Result<String> {
    let (namespace, account) = (plan.namespace.as_str(), named("istiod", plan));
    let text = |path: &[&str]| at(&plan.values, path).as_str().filter(|text| !text.is_empty());
    let audience = text(&["global", "sds", "token", "aud"]).unwrap_or("istio-ca");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": VALID.as_secs()},
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let action = format!("make a token of the account {account}");
    let body = Some(("application/json", &request));
    let answer = place.request(&action, Method::POST, &path, body).await?;
    let token = answer
        .as_ref()
        .and_then(|answer| answer["status"]["token"].as_str())
        .with_context(|| format!("there is no account {account} to make a token of"))?;
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": namespace}});
    let map = place.live(&map).await?.unwrap_or_default();
    let roots = map["data"]["root-cert.pem"]
        .as_str()
        .context("there is no root certificate")?;
    let authority = Arc::new(ServerAuthority::new(RootSource::Pem(roots.to_owned())));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = Target {
        address: Some(listener.local_addr()?),
        ..Target::new(format!("{account}.{namespace}.svc"), PORT)
    };
    let channel = Channel::new(target, Arc::new(move || authority.config().map_err(Into::into)));
    let settings = CaSettings {
        token: Token::Literal(token.to_owned()),
        cluster: text(&["global", "multiCluster", "clusterName"])
            .unwrap_or("Kubernetes")
            .to_owned(),
        validity: VALID,
        impersonate: false,
        ..CaSettings::default()
    };
    let client = CaClient::new(channel, settings);
    let domain = text(&["meshConfig", "trustDomain"]).unwrap_or("cluster.local");
    let identity: Identity = format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse()?;
    let request = SigningRequest::new(&identity)?;
    let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
    let answer = tokio::select! {
        answer = client.sign(&identity, request.pem()) => answer?,
        ended = forward(cluster, namespace, name, listener) => return Err(match ended {
            Ok(()) => anyhow!("pod {name} ended the connection"),
            Err(error) => error,
        }),
    };
    let certificate = request.finish(&answer)?;
    let end = jiff::Timestamp::try_from(certificate.not_after)?;
    Ok(format!("{} was issued, valid until {end}", certificate.identity))
}

/// Leads the one connection that is made here to the pod.
async fn forward(cluster: &Cluster, namespace: &str, pod: &str, listener: TcpListener) -> Result<()> {
    let (mut near, _) = listener.accept().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let mut forward = pods
        .portforward(pod, &[PORT])
        .await
        .map_err(|error| cluster.refusal(error))?;
    let mut far = forward.take_stream(PORT).context("a forwarded port has a stream")?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
