//! Which custom kinds are served now.

use std::collections::HashMap;
use std::sync::Arc;

use corten_core::NamespacedName;
use serde_json::Value;
use tokio::sync::watch;

/// The versions served of each definition, by its name; `None`: not known yet.
pub(crate) type Served = Option<Arc<HashMap<String, Vec<String>>>>;

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
