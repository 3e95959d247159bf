//! What of another Istio's installation is kept when it is taken over.

use corten_api::decode;
use serde_json::{Value, json};

use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError};
use crate::found::Found;
use crate::operator::Plan;
use crate::verify::named;

/// What users say of a mesh's configuration is kept: an IstioOperator with it, and the names of its fields.
///
/// Identities have the trust domain in them, so that it must not change under those who hold certificates.
pub async fn mesh_config(
    cluster: &Cluster,
    plan: &Plan,
    adopted: &[Found],
) -> Result<Option<(String, Vec<String>)>, ClusterError> {
    if !adopted.iter().any(|found| found.component == Component::Pilot) {
        return Ok(None);
    }
    let map = json!({"kind": "ConfigMap", "metadata": {"name": named("istio", plan), "namespace": plan.namespace}});
    let live = cluster.live(&map).await?.unwrap_or_default();
    Ok(live["data"]["mesh"].as_str().and_then(operator))
}

fn operator(mesh: &str) -> Option<(String, Vec<String>)> {
    let (documents, _) = decode::documents("the ConfigMap istio", mesh);
    let mut mesh = documents.first().map(decode::Node::to_value)?;
    let fields = mesh.as_object_mut()?;
    // What Istio's installer fills in itself, and what names its own control plane.
    fields.remove("defaultConfig");
    fields.remove("defaultProviders");
    fields.remove("rootNamespace");
    let names: Vec<String> = fields.keys().cloned().collect();
    let file: Value = json!({
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": {"meshConfig": mesh},
    });
    (!names.is_empty()).then(|| (file.to_string(), names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_said_is_kept() {
        let mesh = "trustDomain: example.org\ndefaultConfig: {discoveryAddress: 'istiod:15012'}\nrootNamespace: istio-system\n";
        let (file, names) = operator(mesh).unwrap();
        assert_eq!(names, ["trustDomain"]);
        assert!(file.contains(r#""meshConfig":{"trustDomain":"example.org"}"#), "{file}");
        assert_eq!(operator("rootNamespace: x\n"), None);
        assert_eq!(operator(""), None);
    }
}
