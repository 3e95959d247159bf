use std::net::SocketAddr;

use corten_rt::TaskGroup;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::resources::{
    CONFIG_MAPS, MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES, ResourceId, VALIDATING_WEBHOOK_CONFIGURATIONS,
};
use crate::{Client, DeleteOptions};

/// A webhook server: what it answers depends on the path.
async fn answer(request: hyper::Request<hyper::body::Incoming>) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes()).unwrap_or_default();
    let uid = &review["request"]["uid"];
    let patch = STANDARD.encode(r#"[{"op":"add","path":"/data","value":{"by":"webhook"}}]"#);
    let response = match path.as_str() {
        "/mutate" => {
            json!({ "uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch, "warnings": ["changed"] })
        }
        "/deny" => json!({ "uid": uid, "allowed": false, "status": { "message": "not today", "code": 403 } }),
        "/stranger" => json!({ "uid": "other", "allowed": true }),
        _ => json!({ "uid": uid, "allowed": true }),
    };
    let review = json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response });
    Ok(hyper::Response::new(Full::new(Bytes::from(review.to_string()))))
}

/// Serves webhooks; returns where, and the certificate to trust.
async fn serve_webhooks(tasks: &TaskGroup) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they match");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let connections = tasks.clone();
    tasks.spawn("webhooks", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn("webhook", async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let service = service_fn(answer);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                }
            });
        }
    });
    (address, STANDARD.encode(made.cert.pem()))
}

fn configuration(url: String, bundle: &str, more: Value) -> Value {
    let mut hook = json!({
        "name": "hook.example.com",
        "clientConfig": { "url": url, "caBundle": bundle },
        "rules": [{ "operations": ["CREATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        hook[key] = value.clone();
    }
    json!({ "metadata": { "name": "hooks" }, "webhooks": [hook] })
}

/// Creates a config map under one webhook: its data, or why not.
async fn created(kind: &ResourceId, path: &str, more: Value) -> Result<Value, String> {
    let tasks = TaskGroup::new("test");
    let (address, bundle) = serve_webhooks(&tasks).await;
    let client = Client::new(Api::in_memory(), "test");
    let namespace = json!({ "metadata": { "name": "n" } });
    client.create(&NAMESPACES, namespace).await.expect("created");
    let url = format!("https://localhost:{}{path}", address.port());
    let configured = client.create(kind, configuration(url, &bundle, more)).await;
    configured.expect("the webhook is configured");
    let object = json!({ "metadata": { "name": "c", "namespace": "n", "labels": { "a": "b" } } });
    let created = client.create(&CONFIG_MAPS, object).await;
    // Whatever a webhook does, its configuration can be removed.
    let none = DeleteOptions::default();
    client.delete(kind, "", "hooks", none).await.expect("removed");
    created
        .map(|object| object["data"].clone())
        .map_err(|status| status.message)
}

#[tokio::test]
async fn a_mutating_webhook_changes_what_it_concerns() {
    let mutating = &MUTATING_WEBHOOK_CONFIGURATIONS;
    let changed = Ok(json!({ "by": "webhook" }));
    assert_eq!(created(mutating, "/mutate", json!({})).await, changed);
    let here = json!({ "objectSelector": { "matchLabels": { "a": "b" } }, "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "n" } } });
    assert_eq!(created(mutating, "/mutate", here).await, changed);
    for elsewhere in [
        json!({ "objectSelector": { "matchLabels": { "a": "c" } } }),
        json!({ "namespaceSelector": { "matchExpressions": [{ "key": "x", "operator": "Exists" }] } }),
        json!({ "rules": [{ "operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"] }] }),
    ] {
        assert_eq!(created(mutating, "/mutate", elsewhere).await, Ok(Value::Null));
    }
}

#[tokio::test]
async fn a_validating_webhook_denies() {
    let validating = &VALIDATING_WEBHOOK_CONFIGURATIONS;
    let denied = created(validating, "/deny", json!({})).await;
    assert_eq!(
        denied,
        Err("admission webhook \"hook.example.com\" denied the request: not today".to_owned())
    );
    assert_eq!(created(validating, "/allow", json!({})).await, Ok(Value::Null));
}

#[tokio::test]
async fn a_webhook_that_fails_does_what_its_policy_says() {
    let validating = &VALIDATING_WEBHOOK_CONFIGURATIONS;
    let failed = created(validating, "/stranger", json!({})).await.expect_err("it fails");
    assert!(
        failed.contains("failed calling webhook \"hook.example.com\""),
        "{failed}"
    );
    assert_eq!(
        created(validating, "/stranger", json!({ "failurePolicy": "Ignore" })).await,
        Ok(Value::Null)
    );
    let service = json!({ "clientConfig": { "service": { "namespace": "n", "name": "s" }, "caBundle": "" } });
    let failed = created(validating, "/", service)
        .await
        .expect_err("nobody can be reached");
    assert!(failed.contains("Internal error occurred"), "{failed}");
}
