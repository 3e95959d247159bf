//! The workloads of gateways: applied by one of several replicas, again when something else is wanted, or when somebody changed or removed
//! one of their objects.
//!
//! What a workload consists of is decided in `corten-gateway-api`. Nothing is deleted here: workloads belong to their Gateway and go with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// Objects of workloads, by kind and name.
    seen: BTreeMap<Place, Seen>,
    /// How often one of them was another than before.
    sightings: u64,
}

/// The kind and the name of an object of a workload.
type Place = (String, NamespacedName);

/// Which object it is, and in which version, as far as what we write is concerned; `None`: it is gone.
pub(crate) type Version = Option<(String, String)>;

/// The version of an object: what people change of it changes its generation. Kinds that have none are versioned as a whole.
pub(crate) fn version(object: &Value) -> Version {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let generation = metadata["generation"].as_i64().filter(|generation| *generation > 0);
    let changed = generation.map_or_else(|| text("resourceVersion"), |generation| generation.to_string());
    Some((text("uid"), changed))
}

/// An object of a workload, as it was seen last.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    version: Version,
    /// Which sighting this was. What comes and goes between two looks is told from what never came by it.
    number: u64,
}

impl Workloads {
    /// Takes what became of an object: its version, or that it is gone. Returns whether that is news.
    pub(crate) fn see(&mut self, kind: &str, name: NamespacedName, version: Version) -> bool {
        let name = (kind.to_owned(), name);
        let before = self.seen.get(&name);
        if before.and_then(|seen| seen.version.as_ref()) == version.as_ref() {
            return false;
        }
        self.sightings += 1;
        let number = self.sightings;
        self.seen.insert(name, Seen { version, number });
        true
    }

    /// Takes what is wanted from now on.
    pub(crate) fn want(&mut self, wanted: BTreeMap<Key, Arc<Workload>>) {
        self.wanted = wanted;
        // Of what is gone and not wanted nothing needs to be remembered.
        let objects = self.wanted.values().flat_map(|workload| &workload.objects);
        let names: BTreeSet<Place> = objects.map(place).collect();
        self.seen
            .retain(|name, seen| seen.version.is_some() || names.contains(name));
    }
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

/// What was applied, and the sightings of its objects by then.
type Applied = HashMap<Key, (Arc<Workload>, Vec<Option<u64>>)>;

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
        let objects = workload.objects.iter();
        let there: Vec<Option<u64>> = objects
            .map(|object| now.seen.get(&place(object)).map(|seen| seen.number))
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

fn place(object: &Value) -> Place {
    (object["kind"].as_str().unwrap_or_default().to_owned(), name(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_between_two_looks_is_noticed() {
        let name = || NamespacedName::new("infra", "front-istio");
        let version = |uid: &str| version(&json!({"metadata": {"uid": uid, "generation": 1}}));
        let mut workloads = Workloads::default();
        let place = || ("Deployment".to_owned(), name());
        let number = |workloads: &Workloads| workloads.seen.get(&place()).map(|seen| seen.number);
        assert!(!workloads.see("Deployment", name(), None), "it was never there");
        assert_eq!(number(&workloads), None);
        let see = |workloads: &mut Workloads, version: Version| workloads.see("Deployment", name(), version);
        assert!(see(&mut workloads, version("a")) && !see(&mut workloads, version("a")));
        assert_eq!(number(&workloads), Some(1));
        assert!(see(&mut workloads, None) && see(&mut workloads, version("b")));
        assert_eq!(number(&workloads), Some(3), "somebody else's of the same generation");
        assert!(see(&mut workloads, None));
        assert!(
            workloads.see("ServiceAccount", name(), version("c")),
            "what has the name of another kind is another object"
        );
        workloads.want(BTreeMap::new());
        assert_eq!(number(&workloads), None, "nobody asks for it any more");
    }
}
