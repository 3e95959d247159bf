//! The same ConfigMap in every namespace, kept as it should be: how workloads get the mesh's root certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_core::NamespacedName;
use corten_rt::{Drain, TaskGroup};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kinds;
use crate::source::{Change, Event, Selection, Source};

/// What is distributed, under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The name of the ConfigMap.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who writes it.
    pub manager: String,
    /// Namespaces left out.
    pub except: BTreeSet<String>,
}

impl Distribution {
    /// Istio's root certificates: in all namespaces but three.
    pub fn roots() -> Distribution {
        Self::named("istio-ca-root-cert")
    }

    /// Istio's revocation lists, in the same namespaces.
    pub fn revocation_lists() -> Distribution {
        Self::named("istio-ca-crl")
    }

    fn named(name: &str) -> Distribution {
        let except = ["kube-public", "kube-node-lease", "local-path-storage"];
        Distribution {
            name: name.to_owned(),
            labels: [("istio.io/config".to_owned(), "true".to_owned())].into(),
            manager: "istio-namespace-controller".to_owned(),
            except: except.map(str::to_owned).into(),
        }
    }
}

/// The entries to distribute; `None`: none yet, and what is there is left alone.
pub type Entries = Option<BTreeMap<String, String>>;

/// Keeps the ConfigMap in every namespace until told to stop. To be run by the leader only.
pub async fn distribute(
    client: kube::Client,
    distribution: Distribution,
    mut entries: watch::Receiver<Entries>,
    mut drain: Drain,
) {
    let tasks = TaskGroup::new(format!("distribute {}", distribution.name));
    let selection = Selection {
        fields: Some(format!("metadata.name={}", distribution.name)),
        ..Selection::default()
    };
    let source = Source::new()
        .watch(kinds::NAMESPACES)
        .select(kinds::CONFIG_MAPS, selection);
    let mut events = source.start(&client, &tasks);
    let mut state = State::default();
    let mut synced = false;
    let mut retry = tokio::time::interval(Duration::from_secs(5));
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.wait() => return,
            event = events.recv() => match event {
                None => return,
                Some(Event::Synced) => synced = true,
                Some(Event::Changes(changes)) => changes.iter().for_each(|change| state.see(change, &distribution)),
            },
            changed = entries.changed() => if changed.is_err() { return },
            // What could not be written is tried again.
            _ = retry.tick() => {}
        }
        let wanted = entries.borrow_and_update().clone();
        if !synced || wanted.is_none() {
            continue;
        }
        for namespace in state.wrong(&wanted, &distribution) {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            match write(&maps, &namespace, &distribution, wanted.as_ref()).await {
                Ok(()) => state.written(&namespace, &wanted),
                Err(error) => {
                    tracing::warn!(namespace, name = distribution.name, %error, "cannot write the ConfigMap");
                }
            }
        }
    }
}

async fn write(
    maps: &Api<ConfigMap>,
    namespace: &str,
    distribution: &Distribution,
    entries: Option<&BTreeMap<String, String>>,
) -> Result<(), kube::Error> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": distribution.name, "namespace": namespace, "labels": distribution.labels},
        "data": entries,
    });
    let parameters = PatchParams::apply(&distribution.manager).force();
    let ignored = |error: kube::Error| match error {
        // The namespace is gone, or going and takes nothing new.
        kube::Error::Api(status) if status.code == 404 || status.code == 403 && status.message.contains("terminat") => {
            Ok(())
        }
        error => Err(error),
    };
    match maps
        .patch(&distribution.name, &parameters, &Patch::Apply(&object))
        .await
    {
        Ok(written) => {
            let others = written.data.unwrap_or_default();
            let strange = others
                .keys()
                .any(|key| entries.is_some_and(|entries| !entries.contains_key(key)));
            if !strange {
                return Ok(());
            }
            // An entry of somebody else's: applying leaves it, so the object is made anew.
            maps.delete(&distribution.name, &DeleteParams::default())
                .await
                .map(|_| ())
                .or_else(ignored)?;
            maps.patch(&distribution.name, &parameters, &Patch::Apply(&object))
                .await
                .map(|_| ())
                .or_else(ignored)
        }
        Err(error) => ignored(error),
    }
}

/// The namespaces, and what the ConfigMap of each holds.
#[derive(Debug, Default)]
struct State {
    namespaces: BTreeSet<String>,
    held: BTreeMap<String, BTreeMap<String, String>>,
}

impl State {
    fn see(&mut self, change: &Change, distribution: &Distribution) {
        match change {
            Change::Put { kind, object } if *kind == kinds::NAMESPACES => {
                let name = text(&object["metadata"]["name"]);
                if object["metadata"].get("deletionTimestamp").is_some() {
                    self.namespaces.remove(&name);
                } else if !distribution.except.contains(&name) {
                    self.namespaces.insert(name);
                }
            }
            Change::Put { object, .. } => {
                // An API server that cannot select by name tells all of them.
                if text(&object["metadata"]["name"]) != distribution.name {
                    return;
                }
                let data = object["data"].as_object().cloned().unwrap_or_default();
                let entries = data.into_iter().map(|(key, value)| (key, text(&value)));
                self.held
                    .insert(text(&object["metadata"]["namespace"]), entries.collect());
            }
            Change::Removed { kind, key } if *kind == kinds::NAMESPACES => {
                self.namespaces.remove(&key.name);
                self.held.remove(&key.name);
            }
            Change::Removed {
                key: NamespacedName { namespace, name },
                ..
            } => {
                if *name == distribution.name {
                    self.held.remove(namespace);
                }
            }
        }
    }

    /// The namespaces whose ConfigMap is missing or different.
    fn wrong(&self, wanted: &Entries, distribution: &Distribution) -> Vec<String> {
        let Some(wanted) = wanted else { return Vec::new() };
        let namespaces = self.namespaces.difference(&distribution.except);
        namespaces
            .filter(|namespace| self.held.get(*namespace) != Some(wanted))
            .cloned()
            .collect()
    }

    fn written(&mut self, namespace: &str, wanted: &Entries) {
        if let Some(wanted) = wanted {
            self.held.insert(namespace.to_owned(), wanted.clone());
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
