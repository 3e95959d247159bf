//! The mesh on the local runtime: its resource definitions and its parts as ordinary objects, as an installation on Kubernetes makes them.
//!
//! Knows manifests only. What the parts do is theirs; that they run is the kubelets'.

mod stock;

use std::time::Duration;

use corten_api::crds::{Channel, definitions};
use corten_apiserver::{Client, DeleteOptions, Patch, ResourceId, Status, resources};
use serde_json::{Value, json};

use crate::controllers::hash;

pub use stock::Stock;

/// The namespace of the mesh's parts.
pub const NAMESPACE: &str = "istio-system";

/// The field manager of what is put there.
pub const MANAGER: &str = "corten-up";

/// What stands for a revision of the definitions on each of them, so that a start does not write what is there already.
const REVISION: &str = "corten.dev/definition";

/// Between two looks whether pods get their proxies.
const INJECTS_RETRY: Duration = Duration::from_millis(50);

const MANIFESTS: &str = include_str!("manifests.yaml");

/// The parts, in the order in which they are to be made.
fn manifests() -> Vec<Value> {
    parse("manifests.yaml", MANIFESTS)
}

/// The objects of a manifest of ours.
fn parse(name: &str, text: &str) -> Vec<Value> {
    let (objects, problems) = corten_api::decode::objects(name, text);
    debug_assert!(problems.is_empty(), "{problems:?}");
    objects
        .iter()
        .map(corten_api::decode::SpannedObject::to_value)
        .collect()
}

/// Where objects of a manifest's kind are; the manifests name no others.
fn resource(object: &Value) -> Option<ResourceId> {
    Some(match object["kind"].as_str()? {
        "Namespace" => resources::NAMESPACES,
        "ServiceAccount" => resources::SERVICE_ACCOUNTS,
        "Service" => resources::SERVICES,
        "Deployment" => resources::DEPLOYMENTS,
        "DaemonSet" => resources::DAEMON_SETS,
        "ValidatingWebhookConfiguration" => resources::VALIDATING_WEBHOOK_CONFIGURATIONS,
        "MutatingWebhookConfiguration" => resources::MUTATING_WEBHOOK_CONFIGURATIONS,
        _ => return None,
    })
}

/// Puts the definitions and the parts there, or brings them up to date. What users changed beside our fields stays.
pub async fn install(client: &Client, stock: &Stock) -> Result<(), Status> {
    for definition in definitions(Channel::Experimental) {
        define(client, definition).await?;
    }
    let mut manifests = manifests();
    stock.substitute(&mut manifests);
    for object in manifests {
        if let Some(resource) = resource(&object) {
            apply(client, &resource, object).await?;
        }
    }
    Ok(())
}

/// Waits until pods can be made that are to get a proxy: until then the webhook that gives it to them refuses them.
pub async fn injects(client: &Client) {
    let pod = json!({
        "metadata": {"name": "corten-up", "namespace": "default", "labels": {"sidecar.istio.io/inject": "true"}},
        "spec": {"containers": [{"name": "none", "image": "corten.dev/echo"}]},
    });
    let client = client.dry_run();
    while let Err(status) = client.create(&resources::PODS, pod.clone()).await {
        tracing::debug!(%status, "pods that are to get a proxy cannot be made yet");
        tokio::time::sleep(INJECTS_RETRY).await;
    }
}

/// Takes the parts away that an earlier start put there; definitions and what users made of them stay.
pub async fn uninstall(client: &Client) -> Result<(), Status> {
    for object in manifests().into_iter().rev() {
        // What runs, and what would go on asking for it.
        let parts = [
            resources::DEPLOYMENTS,
            resources::DAEMON_SETS,
            resources::VALIDATING_WEBHOOK_CONFIGURATIONS,
            resources::MUTATING_WEBHOOK_CONFIGURATIONS,
        ];
        let Some(resource) = resource(&object).filter(|of| parts.contains(of)) else {
            continue;
        };
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let options = DeleteOptions::default();
        match client.delete(&resource, text("namespace"), text("name"), options).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

async fn define(client: &Client, mut definition: Value) -> Result<(), Status> {
    let revision = hash::template(&definition, None);
    let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let resource = &resources::CUSTOM_RESOURCE_DEFINITIONS;
    if let Ok(present) = client.get(resource, "", &name).await
        && present["metadata"]["annotations"][REVISION] == revision.as_str()
    {
        return Ok(());
    }
    definition["metadata"]["annotations"][REVISION] = json!(revision);
    apply(client, resource, definition).await
}

async fn apply(client: &Client, resource: &ResourceId, object: Value) -> Result<(), Status> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    let patch = Patch::Apply { object, force: true };
    client.patch(resource, &namespace, &name, None, patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apiserver::Api;

    #[tokio::test]
    async fn the_parts_are_accepted_twice_and_can_be_taken_away() {
        let client = Client::new(Api::in_memory(), MANAGER);
        for _ in 0..2 {
            install(&client, &Stock::default()).await.unwrap();
        }
        let list = async |resource: &ResourceId| {
            let objects = client.list(resource, None, None, None).await.unwrap();
            let name = |object: &corten_apiserver::Object| object["metadata"]["name"].as_str().unwrap().to_owned();
            objects.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(list(&resources::DEPLOYMENTS).await, "istiod");
        assert_eq!(list(&resources::DAEMON_SETS).await, "istio-cni-node ztunnel");
        let webhooks = &resources::VALIDATING_WEBHOOK_CONFIGURATIONS;
        assert_eq!(
            list(webhooks).await,
            "istio-validator-istio-system istiod-default-validator"
        );
        let injection = &resources::MUTATING_WEBHOOK_CONFIGURATIONS;
        assert_eq!(list(injection).await, "istio-sidecar-injector");
        let definitions = list(&resources::CUSTOM_RESOURCE_DEFINITIONS).await;
        assert!(
            definitions.contains("authorizationpolicies.security.istio.io"),
            "{definitions}"
        );
        uninstall(&client).await.unwrap();
        assert_eq!(list(&resources::DAEMON_SETS).await, "");
        assert_eq!(list(webhooks).await, "");
        assert_eq!(list(injection).await, "");
        uninstall(&client).await.unwrap();
    }
}
