//! Which custom kinds are served now.

use std::collections::HashMap;
use std::sync::Arc;

use corten_core::NamespacedName;
use serde_json::Value;
use tokio::sync::watch;

use crate::kinds::Kind;

/// The versions served of each definition, by its name; `None`: not known yet.
pub(crate) type Served = Option<Arc<HashMap<String, Vec<String>>>>;

/// Which custom kinds are served, for those who do more than watch them.
#[derive(Debug, Clone)]
pub struct ServedKinds(pub(crate) watch::Receiver<Served>);

impl ServedKinds {
    /// The version of a kind to use: its usual one where that is served. `None`: it is not served, or not known yet.
    pub fn version(&self, kind: &Kind) -> Option<String> {
        if !kind.custom {
            return Some(kind.version.to_owned());
        }
        let served = self.0.borrow();
        let versions = served.as_deref()?.get(&kind.definition())?;
        let usual = versions.iter().find(|version| *version == kind.version);
        usual.or_else(|| versions.first()).cloned()
    }

    /// Resolves when something is served that was not, or the other way round. Never again once definitions are no longer followed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the definitions and publishes which are served.
#[derive(Debug)]
pub(crate) struct Definitions {
    served: HashMap<String, Vec<String>>,
    publish: watch::Sender<Served>,
}

impl Definitions {
    pub(crate) fn new() -> (Definitions, watch::Receiver<Served>) {
        let (publish, served) = watch::channel(None);
        let definitions = Definitions {
            served: HashMap::new(),
            publish,
        };
        (definitions, served)
    }

    pub(crate) fn put(&mut self, value: &Value) {
        let Some(name) = value["metadata"]["name"].as_str() else {
            return;
        };
        let versions = served_versions(value);
        if versions.is_empty() {
            self.served.remove(name);
        } else {
            self.served.insert(name.to_owned(), versions);
        }
    }

    pub(crate) fn remove(&mut self, key: &NamespacedName) {
        self.served.remove(&key.name);
    }

    /// Tells those who wait.
    pub(crate) fn publish(&self) {
        self.publish.send_if_modified(|published| {
            let changed = published.as_deref() != Some(&self.served);
            if changed {
                *published = Some(Arc::new(self.served.clone()));
            }
            changed
        });
    }
}

/// The versions that an API server serves, once it says that it does.
fn served_versions(definition: &Value) -> Vec<String> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let established = items(&definition["status"]["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    if !established {
        return Vec::new();
    }
    let versions = items(&definition["spec"]["versions"]);
    let served = versions.iter().filter(|version| version["served"] == true);
    served
        .filter_map(|version| version["name"].as_str().map(str::to_owned))
        .collect()
}
