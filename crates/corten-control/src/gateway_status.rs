//! Statuses of gateways, routes and policies, written by one of several replicas; and the classes of gateways that are ours, made where
//! they are missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_api::kubernetes::networking::Ingress;
use corten_core::NamespacedName;
use corten_gateway_api::class::{GATEWAY_CONTROLLER, MESH_CONTROLLER, REMOTE_CONTROLLER};
use corten_gateway_api::reference::Key;
use corten_gateway_api::{ObjectStatus, StatusValue};
use corten_rt::Drain;
use corten_store_kube::{Kind, ServedKinds, Written, kinds, write_status};
use futures_util::StreamExt;
use kube::Client;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::gateways::encode;
use crate::revision::Revision;

/// Writes under way at most.
const IN_FLIGHT_MAX: usize = 8;
/// Pause before what failed is tried again, and before what was written is written once more.
const RETRY: Duration = Duration::from_secs(5);

/// The statuses that objects should have and do not.
pub(crate) type Wanted = Arc<Vec<Write>>;

/// A status to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    kind: Kind,
    object: NamespacedName,
    /// The version of the object that the status is for.
    version: String,
    /// As a merge patch.
    status: Value,
}

impl Write {
    /// What makes the status of an object the wanted one; `None`: its kind is none of those whose status is written.
    pub(crate) fn of(wanted: &ObjectStatus, live: Option<&StatusValue>, version: String) -> Option<Write> {
        let known = kinds::CONVERTED
            .into_iter()
            .chain([kinds::GATEWAYS, kinds::GATEWAY_CLASSES]);
        let kind = known.into_iter().find(|kind| kind.kind == wanted.status.kind())?;
        Some(Write {
            kind,
            object: NamespacedName::new(&*wanted.key.namespace, &*wanted.key.name),
            version,
            status: patch(&encode(live), wanted.status.encode()),
        })
    }

    /// Whether it is for this revision to write it.
    pub(crate) fn is_of(&self, revision: &Revision) -> bool {
        revision.owns(self.kind, &Key::new(&self.object.namespace, &self.object.name))
    }

    /// What makes the status of an Ingress the wanted one; `None`: it is.
    pub(crate) fn of_ingress(key: &Key, live: &Ingress, wanted: Value) -> Option<Write> {
        let status = serde_json::to_value(&live.status).unwrap_or_default();
        let ingress = |status: &Value| {
            status["loadBalancer"]["ingress"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        (ingress(&status) != ingress(&wanted)).then(|| Write {
            kind: kinds::INGRESSES,
            object: NamespacedName::new(&*key.namespace, &*key.name),
            version: live.metadata.resource_version.clone().unwrap_or_default(),
            status: wanted,
        })
    }
}

/// The wanted status as a merge patch: what is there and not wanted is removed.
fn patch(live: &Value, wanted: Value) -> Value {
    let mut patch = match wanted {
        Value::Object(wanted) => wanted,
        _ => Map::new(),
    };
    for (field, _) in live.as_object().into_iter().flatten() {
        patch.entry(field).or_insert(Value::Null);
    }
    Value::Object(patch)
}

/// What has been written, and when.
type Done = HashMap<(Kind, NamespacedName), (Write, Instant)>;

/// Writes while we lead, until told to stop.
pub(crate) async fn run(
    client: Client,
    mut wanted: watch::Receiver<Wanted>,
    mut served: ServedKinds,
    mut leads: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let write = async {
        let mut done = Done::new();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now = wanted.borrow_and_update().clone();
            let again = write_all(&client, &served, &now, &mut done).await;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
                // Which version a kind is served in may be known only after its objects have been read.
                () = served.changed() => {}
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = write => {}
    }
}

/// Writes what is to be written. Returns whether some of it is still to be.
async fn write_all(client: &Client, served: &ServedKinds, wanted: &[Write], done: &mut Done) -> bool {
    done.retain(|_, (_, at)| at.elapsed() < RETRY);
    let mut again = false;
    let mut due = Vec::new();
    for write in wanted {
        let key = (write.kind, write.object.clone());
        match done.get(&key) {
            // Just written, for this version of the object: the answer is on its way.
            Some((before, _)) if before == write => {}
            // The same words again for another version: whatever undid them, this is no race to be won by speed.
            Some((before, _)) if before.status == write.status => again = true,
            _ => due.push(write.clone()),
        }
    }
    let mut writes = Vec::with_capacity(due.len());
    for write in due {
        writes.push(write_one(client, served, write));
    }
    let mut writes = futures_util::stream::iter(writes).buffer_unordered(IN_FLIGHT_MAX);
    while let Some((write, result)) = writes.next().await {
        match result {
            // An object that is another by now is converted again, and comes back.
            Ok(Written::Yes) => {
                done.insert((write.kind, write.object.clone()), (write, Instant::now()));
            }
            Ok(Written::Gone | Written::Outdated) => {}
            Err(error) => {
                tracing::warn!(kind = write.kind.kind, object = %write.object, %error, "cannot write a status");
                again = true;
            }
        }
    }
    again
}

async fn write_one(client: &Client, served: &ServedKinds, write: Write) -> (Write, Result<Written, kube::Error>) {
    let Some(version) = served.version(&write.kind) else {
        return (write, Ok(Written::Gone));
    };
    let written = write_status(
        client,
        &write.kind,
        &version,
        &write.object,
        &write.version,
        &write.status,
    )
    .await;
    (write, written)
}

/// The classes that are ours: name, controller, and in at most 64 characters what they are for.
const CLASSES: [(&str, &str, &str); 3] = [
    (
        "istio",
        GATEWAY_CONTROLLER,
        "The default GatewayClass of the mesh's gateways",
    ),
    (
        "istio-remote",
        REMOTE_CONTROLLER,
        "Gateways elsewhere: known by their address, not deployed",
    ),
    ("istio-waypoint", MESH_CONTROLLER, "Waypoints of an ambient mesh"),
];

/// Makes the classes that are missing, while we lead and the kind is served. One that is there is never changed.
pub(crate) async fn classes(
    client: Client,
    mut known: watch::Receiver<Arc<BTreeSet<String>>>,
    mut served: ServedKinds,
    mut leads: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let make = async {
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now = known.borrow_and_update().clone();
            let mut failed = false;
            if served.version(&kinds::GATEWAY_CLASSES).is_some() {
                for (name, controller, description) in CLASSES.iter().filter(|(name, ..)| !now.contains(*name)) {
                    if let Err(error) = make_class(&client, name, controller, description).await {
                        tracing::warn!(class = name, %error, "cannot make a GatewayClass");
                        failed = true;
                    }
                }
            }
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
                () = served.changed() => {}
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = make => {}
    }
}

async fn make_class(client: &Client, name: &str, controller: &str, description: &str) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller, "description": description},
    });
    let create =
        http::Request::post("/apis/gateway.networking.k8s.io/v1/gatewayclasses?fieldManager=istio-gateway-classes")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
    match client.request::<Value>(create).await {
        // Another was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        result => result.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_any_more_is_removed() {
        let live = json!({"addresses": [{"value": "1.2.3.4"}], "conditions": [1]});
        let wanted = json!({"conditions": [2]});
        assert_eq!(patch(&live, wanted), json!({"addresses": null, "conditions": [2]}));
        assert_eq!(patch(&Value::Null, json!({"parents": []})), json!({"parents": []}));
    }
}
