//! The workloads of gateways: applied by one of several replicas, again when something else is wanted, or when somebody changed or removed
//! the Deployment.
//!
//! What a workload consists of is decided in `corten-gateway-api`. Nothing is deleted here: workloads belong to their Gateway and go with it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_core::NamespacedName;
use corten_gateway_api::deploy::{CONTROLLER_VERSION, VERSION, over};
use corten_gateway_api::reference::Key;
use corten_rt::Drain;
use corten_store_kube::apply_object;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The workloads that there should be, and what is known of those that there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Workloads {
    /// By Gateway.
    pub(crate) wanted: BTreeMap<Key, Arc<Workload>>,
    /// The generations of Deployments that were applied once.
    pub(crate) there: BTreeMap<NamespacedName, i64>,
}

/// The workload of a Gateway.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Workload {
    /// The name under which fields are owned.
    pub(crate) controller: &'static str,
    /// That it is ours is to be said on the Gateway.
    pub(crate) claim: bool,
    /// The objects.
    pub(crate) objects: Vec<Value>,
}

/// What was applied, and what was known of its Deployments then.
type Applied = HashMap<Key, (Arc<Workload>, Vec<Option<i64>>)>;

/// Applies while we lead, until told to stop.
pub(crate) async fn run(
    client: Client,
    mut workloads: watch::Receiver<Arc<Workloads>>,
    mut leads: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let apply = async {
        let mut applied = Applied::new();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now = workloads.borrow_and_update().clone();
            let failed = apply_all(&client, &now, &mut applied).await;
            tokio::select! {
                changed = workloads.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = apply => {}
    }
}

/// Applies what is to be applied. Returns whether some of it failed.
async fn apply_all(client: &Client, now: &Workloads, applied: &mut Applied) -> bool {
    applied.retain(|gateway, _| now.wanted.contains_key(gateway));
    let mut failed = false;
    for (gateway, workload) in &now.wanted {
        let deployments = workload.objects.iter().filter(|object| object["kind"] == "Deployment");
        let there: Vec<Option<i64>> = deployments
            .map(|object| now.there.get(&name(object)).copied())
            .collect();
        if applied
            .get(gateway)
            .is_some_and(|(before, then)| before == workload && *then == there)
        {
            continue;
        }
        match apply(client, gateway, workload).await {
            Ok(()) => {
                applied.insert(gateway.clone(), (Arc::clone(workload), there));
            }
            Err(error) => {
                tracing::warn!(%gateway, %error, "cannot apply the workload of a Gateway");
                failed = true;
            }
        }
    }
    failed
}

async fn apply(client: &Client, gateway: &Key, workload: &Workload) -> Result<(), kube::Error> {
    if workload.claim {
        let claim = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {
                "name": gateway.name,
                "namespace": gateway.namespace,
                "annotations": {CONTROLLER_VERSION: VERSION.to_string()},
            },
        });
        apply_object(client, &claim, Some("status"), workload.controller, |object, _| {
            Some(object)
        })
        .await?;
    }
    for object in &workload.objects {
        let written = apply_object(client, object, None, workload.controller, |object, existing| {
            over(object, existing)
        })
        .await?;
        if !written {
            tracing::warn!(
                %gateway,
                kind = object["kind"].as_str().unwrap_or_default(),
                object = %name(object),
                "an object of that name is not the gateway's and is left alone; give the Gateway another name, or that object",
            );
        }
    }
    Ok(())
}

fn name(object: &Value) -> NamespacedName {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    NamespacedName::new(text("namespace"), text("name"))
}
