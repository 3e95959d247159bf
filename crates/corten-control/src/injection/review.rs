//! The answer to one review: an AdmissionReview in, an AdmissionReview with a patch out. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_inject::{Decision, InjectError, Subject};
use serde_json::{Value, json};

use super::PATH;
use super::known::Known;
use crate::admission::ReviewError;

/// What became of a pod, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has a proxy.
    Injected,
    /// It is as it was.
    Skipped,
    /// It cannot be made.
    Failed,
}

/// Answers a review that was sent to a path.
pub(crate) fn answer(body: &[u8], path: &str, known: &Known) -> Result<(Value, Outcome), ReviewError> {
    let review: Value = serde_json::from_slice(body)?;
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        return Err(ReviewError::Shape);
    };
    let version = review["apiVersion"].as_str().unwrap_or_default();
    if review["kind"] != "AdmissionReview" || !version.starts_with("admission.k8s.io/") {
        return Err(ReviewError::Shape);
    }
    let (mut response, outcome) = match inject(request, path, known) {
        Ok(Some(patch)) => {
            let patch = STANDARD.encode(Value::Array(patch).to_string());
            (
                json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
                Outcome::Injected,
            )
        }
        Ok(None) => (json!({"allowed": true}), Outcome::Skipped),
        Err(error) => {
            let namespace = &request["namespace"];
            tracing::warn!(%namespace, %error, "a pod cannot be injected");
            (
                json!({"allowed": false, "status": {"message": error.to_string()}}),
                Outcome::Failed,
            )
        }
    };
    response["uid"] = json!(uid);
    Ok((
        json!({"apiVersion": version, "kind": "AdmissionReview", "response": response}),
        outcome,
    ))
}

fn inject(request: &Value, path: &str, known: &Known) -> Result<Option<Vec<Value>>, InjectError> {
    let pod = &request["object"];
    if !pod.is_object() {
        return Ok(None);
    }
    // A pod that is made of a template names no namespace itself.
    let namespace = request["namespace"]
        .as_str()
        .or_else(|| pod["metadata"]["namespace"].as_str());
    let namespace = namespace.unwrap_or_default();
    if known.injector.decide(pod, namespace) != Decision::Inject {
        return Ok(None);
    }
    let (below, above) = known.proxy_config(namespace, &pod["metadata"]["labels"]);
    let annotations = known.namespaces.get(namespace).unwrap_or(&Value::Null);
    let (proxy_user, proxy_group) = corten_inject::openshift_ids(annotations);
    let mut subject = Subject {
        namespace,
        proxy_config: below,
        proxy_config_above: above,
        native_sidecars: known.native_sidecars(pod["spec"]["nodeName"].as_str()),
        proxy_user,
        proxy_group,
        variables: corten_inject::variables_of_path(path.strip_prefix(PATH).unwrap_or_default()),
        ..Subject::default()
    };
    subject.owned_as(pod);
    let injected = known.injector.inject(pod, &subject)?;
    let mut patch = Vec::new();
    differences("", pod, &injected, &mut patch);
    Ok(Some(patch))
}

/// What makes one object of another: fields that are added, replaced, removed; a list counts as one field.
fn differences(path: &str, before: &Value, after: &Value, patch: &mut Vec<Value>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        if before != after {
            patch.push(json!({"op": "replace", "path": path, "value": after}));
        }
        return;
    };
    let place = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.push(json!({"op": "remove", "path": place(name)}));
    }
    for (name, value) in new {
        match old.get(name) {
            Some(before) => differences(&place(name), before, value, patch),
            None => patch.push(json!({"op": "add", "path": place(name), "value": value})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_leads_from_one_pod_to_the_other() {
        let before = json!({"metadata": {"labels": {"a/b": "1", "c": "2"}}, "spec": {"containers": [1]}});
        let after = json!({"metadata": {"labels": {"a/b": "2"}, "annotations": {}}, "spec": {"containers": [1, 2]}});
        let mut patch = Vec::new();
        differences("", &before, &after, &mut patch);
        let mut paths: Vec<String> = patch
            .iter()
            .map(|step| format!("{} {}", step["op"], step["path"]))
            .collect();
        paths.sort();
        assert_eq!(
            paths,
            [
                r#""add" "/metadata/annotations""#,
                r#""remove" "/metadata/labels/c""#,
                r#""replace" "/metadata/labels/a~1b""#,
                r#""replace" "/spec/containers""#,
            ]
        );
    }
}
