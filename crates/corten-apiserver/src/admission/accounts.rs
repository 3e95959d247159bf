//! Service accounts of pods: the default one, and the volume with its token, the cluster's certificate and the namespace.

use serde_json::{Value, json};

use crate::api::Api;
use crate::object;
use crate::status::Status;

/// Where containers find the volume.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Gives a pod its service account, as the real API server's admission plugin does.
pub(super) fn admit(api: &Api, pod: &mut Value) -> Result<(), Status> {
    let (namespace, pod_name) = (object::namespace(pod).to_owned(), object::name(pod).to_owned());
    // Mirror pods have none.
    if !object::at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_null() {
        return Ok(());
    }
    let spec = object::child(pod, "spec");
    let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        None | Some("") => "default".to_owned(),
        Some(name) => name.to_owned(),
    };
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
    let account = match api.store.get("/serviceaccounts", &namespace, &name) {
        Some(account) => account,
        // It is made a moment after its namespace; the real server makes clients try again until then.
        None if name == "default" => Default::default(),
        None => {
            let why =
                format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
            return Err(Status::forbidden("", "pods", &pod_name, &why));
        }
    };
    let spec = object::child(pod, "spec");
    let wanted = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount(spec);
    }
    if spec.get("imagePullSecrets").is_none_or(|s| object::items(s).is_empty())
        && !object::items(&account["imagePullSecrets"]).is_empty()
    {
        spec.insert("imagePullSecrets".to_owned(), account["imagePullSecrets"].clone());
    }
    Ok(())
}

/// Adds the volume, and its mount to each container that has nothing at that path.
fn mount(spec: &mut serde_json::Map<String, Value>) {
    let volumes = spec.get("volumes").cloned().unwrap_or_default();
    let present = object::items(&volumes)
        .iter()
        .filter_map(|v| v["name"].as_str())
        .find(|n| n.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let volume = present
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", object::random_suffix(5)));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = object::as_map(container).entry("volumeMounts").or_insert(json!([]));
            if object::items(mounts).iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
                used = true;
            }
        }
    }
    if !used || present.is_some() {
        return;
    }
    let volumes = spec.entry("volumes").or_insert(json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                    { "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                    }},
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }]}},
                ],
            },
        }));
    }
}
