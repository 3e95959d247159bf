//! What accounts may do, as the API server says.

use kube::Client;
use serde_json::{Value, json};

/// Whether a service account may list the Secrets of its namespace: who may is no less trusted than who holds all of them.
pub async fn may_list_secrets(client: &Client, namespace: &str, account: &str) -> Result<bool, kube::Error> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{account}"),
            "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "secrets"},
        },
    });
    let review = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Value = client.request(review).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// Whether this program itself may do something with objects of a kind everywhere: `verb` is `list`, `watch`, ...
pub async fn may(client: &Client, verb: &str, kind: crate::Kind) -> Result<bool, kube::Error> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": kind.group, "resource": kind.plural}},
    });
    let review = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Value = client.request(review).await?;
    Ok(answer["status"]["allowed"] == true)
}
