use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

/// The files of a volume as `path mode content`.
fn check(volume: Value) -> Result<Vec<String>, String> {
    let mut volume = volume;
    volume["name"] = "v".into();
    let volume: Volume = serde_json::from_value(volume).expect("a volume");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "n", "labels": { "a": "1", "b": "2" } },
        "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": "2" } } }] },
    }))
    .expect("a pod");
    let config = json!({ "data": { "x": "1", "y": "2" } });
    let secret = json!({ "data": { "key": "cHJpdmF0ZQ==" } });
    let sources: HashMap<(SourceKind, String), Arc<Value>> = HashMap::from([
        ((SourceKind::ConfigMap, "conf".to_owned()), Arc::new(config)),
        ((SourceKind::Secret, "sec".to_owned()), Arc::new(secret)),
    ]);
    let context = Context {
        pod: &pod,
        node: "node1",
        pod_ips: &[],
        host_ips: &[],
        services: BTreeMap::new(),
    };
    let files = payload(&volume, &context, &sources, &|path| Some(format!("token at {path}")))
        .map_err(|error| error.to_string())?;
    let line = |(path, file): (String, File)| format!("{path} {:o} {}", file.mode, String::from_utf8_lossy(&file.data));
    Ok(files.into_iter().map(line).collect())
}

fn ok(volume: Value) -> String {
    check(volume).expect("files").join(", ")
}

fn error(volume: Value) -> String {
    check(volume).expect_err("no files")
}

#[test]
fn config_maps_and_secrets() {
    assert_eq!(ok(json!({ "configMap": { "name": "conf" } })), "x 644 1, y 644 2");
    assert_eq!(
        ok(
            json!({ "configMap": { "name": "conf", "defaultMode": 0o400, "items": [{ "key": "x", "path": "d/f", "mode": 0o755 }, { "key": "y", "path": "g" }] } })
        ),
        "d/f 755 1, g 400 2"
    );
    assert_eq!(
        ok(json!({ "secret": { "secretName": "sec", "defaultMode": 0o600 } })),
        "key 600 private"
    );
}

#[test]
fn what_is_missing_is_an_error_unless_it_is_optional() {
    assert_eq!(
        error(json!({ "configMap": { "name": "none" } })),
        "configmap \"none\" not found"
    );
    assert_eq!(
        error(json!({ "secret": { "secretName": "none" } })),
        "secret \"none\" not found"
    );
    let item = json!([{ "key": "z", "path": "z" }]);
    assert_eq!(
        error(json!({ "configMap": { "name": "conf", "items": item } })),
        "configmap references non-existent config key: z"
    );
    assert_eq!(
        error(json!({ "secret": { "secretName": "sec", "items": item } })),
        "references non-existent secret key: z"
    );
    assert_eq!(ok(json!({ "configMap": { "name": "none", "optional": true } })), "");
    assert_eq!(
        ok(json!({ "secret": { "secretName": "sec", "items": item, "optional": true } })),
        ""
    );
}

#[test]
fn projected_sources_share_a_directory() {
    let sources = json!([
        { "configMap": { "name": "conf", "items": [{ "key": "x", "path": "x" }] } },
        { "secret": { "name": "sec" } },
        { "downwardAPI": { "items": [
            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
            { "path": "cpu", "resourceFieldRef": { "containerName": "c", "resource": "limits.cpu" } },
        ] } },
        { "serviceAccountToken": { "path": "token" } },
    ]);
    assert_eq!(
        ok(json!({ "projected": { "sources": sources } })),
        "cpu 644 2, key 644 private, labels 644 a=\"1\"\nb=\"2\", token 644 token at token, x 644 1"
    );
    let bundle = json!([{ "clusterTrustBundle": { "path": "ca", "name": "b" } }]);
    assert_eq!(
        error(json!({ "projected": { "sources": bundle } })),
        "a projected clusterTrustBundle is not served here"
    );
}
