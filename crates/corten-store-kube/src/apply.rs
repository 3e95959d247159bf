//! Objects that are made for others, written by server-side apply.

use kube::Client;
use serde_json::Value;

/// Kinds that are applied, and their names in URLs.
const PLURALS: [(&str, &str); 6] = [
    ("Gateway", "gateways"),
    ("ServiceAccount", "serviceaccounts"),
    ("Deployment", "deployments"),
    ("Service", "services"),
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
];

/// Applies an object or one of its subresources as `decide` makes it of what is wanted and what is there. Returns whether it was written:
/// it is not when `decide` yields none, and when the kind is none of those that are applied.
pub async fn apply_object(
    client: &Client,
    object: &Value,
    subresource: Option<&str>,
    manager: &str,
    decide: impl FnOnce(Value, Option<&Value>) -> Option<Value>,
) -> Result<bool, kube::Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some((_, plural)) = PLURALS.iter().find(|(kind, _)| object["kind"] == *kind) else {
        return Ok(false);
    };
    let api_version = text(&object["apiVersion"]);
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let (namespace, name) = (
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"]),
    );
    let path = format!("/{root}/{api_version}/namespaces/{namespace}/{plural}/{name}");
    let get = http::Request::get(&path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let existing: Option<Value> = match client.request(get).await {
        Ok(existing) => Some(existing),
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => return Err(error),
    };
    let Some(wanted) = decide(object.clone(), existing.as_ref()) else {
        return Ok(false);
    };
    let suffix = subresource.map(|name| format!("/{name}")).unwrap_or_default();
    let manager = manager.replace('/', "%2F");
    let patch = http::Request::patch(format!("{path}{suffix}?fieldManager={manager}&force=true"))
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(wanted.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<Value>(patch).await.map(|_| true)
}
