//! Validation as users meet it: through the API server, before, while and after the control plane is there.

use std::net::SocketAddr;
use std::sync::Arc;

use corten_apiserver::{Dialer, Duplex};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::ground::Ground;

/// Every service leads to one address.
struct To(SocketAddr);

impl Dialer for To {
    fn service(&self, _: &str, _: &str, _: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Duplex>>> {
        Box::pin(async {
            let stream = tokio::net::TcpStream::connect(self.0).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

/// The registration as installations make it: one entry for the mesh, one for the control plane's own namespace.
fn registration() -> Value {
    let entry = |name: &str, operator: &str| {
        json!({
            "name": name,
            "clientConfig": { "service": { "name": "istiod", "namespace": "istio-system", "path": "/validate" } },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": ["security.istio.io", "networking.istio.io", "gateway.networking.k8s.io"],
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
            "namespaceSelector": { "matchExpressions": [
                { "key": "kubernetes.io/metadata.name", "operator": operator, "values": ["istio-system"] },
            ] },
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "istio-validator-istio-system", "labels": { "istio.io/rev": "default" } },
        "webhooks": [
            entry("rev.validation.istio.io", "NotIn"),
            entry("system.rev.validation.istio.io", "In"),
        ],
    })
}

/// A policy that lets addresses through.
fn policy(namespace: &str, name: &str, block: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "rules": [{ "from": [{ "source": { "ipBlocks": [block] } }] }] },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_objects_are_refused() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "istiod", "namespace": "istio-system" },
        "spec": { "clusterIP": "10.96.0.11", "selector": { "app": "istiod" }, "ports": [{ "port": 443 }] },
    });
    ground.create_object(service).await;
    let control = ground.control(&[]).await;
    let address = control.addresses.https.expect("it listens");
    ground.set_dialer(Arc::new(To(address)));
    ground.create_object(registration()).await;
    let policies = async || {
        let path = "admissionregistration.k8s.io/v1";
        let found = ground
            .get(
                path,
                "ValidatingWebhookConfiguration",
                "",
                "istio-validator-istio-system",
            )
            .await;
        let of = |index: usize| {
            found["webhooks"][index]["failurePolicy"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        [of(0), of(1)]
    };
    ground
        .eventually("the closed gate", async || policies().await == ["Fail", "Ignore"])
        .await;

    // The definition takes any text for an address; the validator does not.
    let invalid = policy("orders", "odd", "everywhere");
    let refusal = ground.try_create(&invalid).await.expect_err("it is invalid");
    assert!(
        refusal.contains("admission webhook \"rev.validation.istio.io\" denied the request")
            && refusal.contains("spec.rules[0].from[0].source.ipBlocks"),
        "{refusal}"
    );
    ground
        .try_create(&policy("orders", "plain", "10.0.0.0/8"))
        .await
        .expect("it is valid");

    // Nobody judges any more: closed, but for the control plane's own namespace.
    control.stop().await;
    let refusal = ground.try_create(&policy("orders", "later", "10.0.0.0/8")).await;
    let refusal = refusal.expect_err("nobody can judge it");
    assert!(
        refusal.contains("failed calling webhook \"rev.validation.istio.io\""),
        "{refusal}"
    );
    let own = policy("istio-system", "default", "10.0.0.0/8");
    ground
        .try_create(&own)
        .await
        .expect("our own namespace is never blocked");
    ground.stop().await;
}
