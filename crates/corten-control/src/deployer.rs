//! The workloads of gateways: applied by one of several replicas, again when something else is wanted, or when somebody changed or removed
//! one of their objects.
//!
//! What a workload consists of is decided in `corten-gateway-api`. Nothing is deleted here: workloads belong to their Gateway and go with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_core::NamespacedName;
use corten_gateway_api::deploy::{CONTROLLER_VERSION, VERSION, over};
use corten_gateway_api::reference::Key;
use corten_rt::Drain;
use corten_store_kube::apply_object;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::feed::sleep_until;

/// So long after a gateway's objects were applied, or could not be, they are applied again at the earliest while the same is wanted: another
/// controller that writes what is ours as often as it sees it otherwise would not be outdone by writing faster.
const APART: Duration = Duration::from_secs(5);

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

/// The version of an object: what people change of it changes its generation. Kinds that have none are versioned as a whole, but for
/// autoscalers, whose statuses are written every few seconds: of these only that they come and go is noticed.
pub(crate) fn version(kind: &str, object: &Value) -> Version {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let generation = metadata["generation"].as_i64().filter(|generation| *generation > 0);
    let changed = match generation {
        Some(generation) => generation.to_string(),
        None if kind == "HorizontalPodAutoscaler" => String::new(),
        None => text("resourceVersion"),
    };
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

/// What was applied last of each Gateway.
type Applied = HashMap<Key, Attempt>;

/// An attempt to apply a workload.
#[derive(Debug)]
struct Attempt {
    workload: Arc<Workload>,
    /// The sightings of its objects by then.
    seen: Vec<Option<u64>>,
    /// When it ended.
    at: Instant,
    /// Whether all of it is there now.
    done: bool,
}

/// When a workload whose objects have been seen so is to be applied; `None`: it is as it should be.
fn due(last: Option<&Attempt>, workload: &Workload, seen: &[Option<u64>], now: Instant) -> Option<Instant> {
    match last.filter(|last| *last.workload == *workload) {
        None => Some(now),
        Some(last) if last.done && last.seen == seen => None,
        Some(last) => Some(now.max(last.at + APART)),
    }
}

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
            let next = apply_all(&client, &now, &mut applied).await;
            tokio::select! {
                changed = workloads.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
                () = sleep_until(next), if next.is_some() => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = apply => {}
    }
}

/// Applies what is to be applied now. Returns when to look again.
async fn apply_all(client: &Client, now: &Workloads, applied: &mut Applied) -> Option<Instant> {
    applied.retain(|gateway, _| now.wanted.contains_key(gateway));
    let mut next: Option<Instant> = None;
    for (gateway, workload) in &now.wanted {
        let objects = workload.objects.iter();
        let seen: Vec<Option<u64>> = objects
            .map(|object| now.seen.get(&place(object)).map(|seen| seen.number))
            .collect();
        let time = Instant::now();
        let Some(due) = due(applied.get(gateway), workload, &seen, time) else {
            continue;
        };
        let again = if due > time {
            due
        } else {
            let result = apply(client, gateway, workload).await;
            let attempt = Attempt {
                workload: Arc::clone(workload),
                seen,
                at: Instant::now(),
                done: result.is_ok(),
            };
            let again = attempt.at + APART;
            applied.insert(gateway.clone(), attempt);
            match result {
                Ok(()) => continue,
                Err(error) => tracing::warn!(%gateway, %error, "cannot apply the workload of a Gateway"),
            }
            again
        };
        next = Some(next.map_or(again, |next| next.min(again)));
    }
    next
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
        let version = |uid: &str| version("Deployment", &json!({"metadata": {"uid": uid, "generation": 1}}));
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
    #[test]
    fn statuses_are_no_reason_to_apply_again() {
        let at = |kind: &str, generation: Option<u64>, resource_version: &str| {
            let metadata = json!({"uid": "a", "generation": generation, "resourceVersion": resource_version});
            version(kind, &json!({"metadata": metadata}))
        };
        assert_eq!(at("Deployment", Some(1), "1"), at("Deployment", Some(1), "2"));
        assert_ne!(at("Deployment", Some(1), "1"), at("Deployment", Some(2), "2"));
        let autoscaler = |resource_version| at("HorizontalPodAutoscaler", None, resource_version);
        assert_eq!(autoscaler("1"), autoscaler("2"));
        assert_ne!(at("Service", None, "1"), at("Service", None, "2"));
    }

    #[test]
    fn what_others_keep_changing_is_put_back_now_and_then_and_what_is_wanted_at_once() {
        let workload = |name: &str| {
            Arc::new(Workload {
                controller: "c",
                claim: false,
                objects: vec![json!({"kind": "Service", "metadata": {"name": name}})],
            })
        };
        let (one, other) = (workload("one"), workload("other"));
        let start = Instant::now();
        let after = |millis: u64| start + Duration::from_millis(millis);
        let applied = |done: bool| Attempt {
            workload: Arc::clone(&one),
            seen: vec![Some(1)],
            at: start,
            done,
        };
        let due = |last: Option<&Attempt>, workload: &Workload, seen: u64, millis: u64| {
            due(last, workload, &[Some(seen)], after(millis))
        };
        assert_eq!(due(None, &one, 1, 0), Some(start));
        let last = applied(true);
        assert_eq!(due(Some(&last), &one, 1, 60_000), None);
        assert_eq!(due(Some(&last), &other, 1, 100), Some(after(100)));
        assert_eq!(due(Some(&last), &one, 2, 100), Some(start + APART));
        assert_eq!(due(Some(&last), &one, 2, 60_000), Some(after(60_000)));
        // What could not be applied is tried again.
        assert_eq!(due(Some(&applied(false)), &one, 1, 100), Some(start + APART));
    }
}
