//! What injection knows of the cluster: the settings, namespaces, how new the nodes are, and how proxies are to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use corten_core::NamespacedName;
use corten_inject::{Config, Injector, ProxyConfigOf, proxy_config_of, runs_native_sidecars};
use corten_rt::{Drain, TaskGroup};
use corten_store_kube::{Change, Event, Kind, Selection, Source, kinds};
use serde_json::{Value, json};

use crate::revision;

/// The kind that says how proxies of some pods run.
const PROXY_CONFIGS: Kind = Kind::custom("networking.istio.io", "v1beta1", "ProxyConfig", "proxyconfigs");

/// What is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) injector: Injector,
    /// The namespace of what holds for all.
    pub(crate) root: String,
    /// Annotations of namespaces.
    pub(crate) namespaces: BTreeMap<String, Value>,
    /// Versions of nodes' kubelets.
    nodes: BTreeMap<String, String>,
    /// ProxyConfigs.
    proxy_configs: BTreeMap<NamespacedName, ProxyConfigOf>,
    /// Whether proxies are init containers; none: where nodes are new enough.
    native: Option<bool>,
}

impl Known {
    /// Whether a pod's proxy is an init container that goes on running, unless the pod says otherwise.
    pub(crate) fn native_sidecars(&self, node: Option<&str>) -> bool {
        if let Some(native) = self.native {
            return native;
        }
        match node.and_then(|node| self.nodes.get(node)) {
            Some(version) => runs_native_sidecars(version),
            None => !self.nodes.is_empty() && self.nodes.values().all(|version| runs_native_sidecars(version)),
        }
    }

    /// How the proxy of a pod runs, its own annotation aside, which stands between what holds for its namespace and what names its labels.
    pub(crate) fn proxy_config(&self, namespace: &str, labels: &Value) -> (Value, Value) {
        let mesh = self.injector.mesh_proxy_config();
        proxy_config_of(&mesh, self.proxy_configs.values(), &self.root, (namespace, labels))
    }
}

/// Reads the cluster, and what changes.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    /// The namespace of the settings.
    pub(crate) namespace: String,
    /// The revision whose settings they are.
    pub(crate) revision: String,
    /// Whether proxies are init containers; none: where nodes are new enough.
    pub(crate) native: Option<bool>,
    /// The policy that proxies keep to.
    pub(crate) compliance_policy: Option<String>,
}

impl Watcher {
    /// Keeps `known` up to date until told to stop.
    pub(crate) async fn run(self, client: kube::Client, known: Arc<ArcSwapOption<Known>>, mut drain: Drain) {
        let tasks = TaskGroup::new("injection");
        let here = Selection {
            namespace: Some(self.namespace.clone()),
            ..Selection::default()
        };
        let source = Source::new()
            .select(kinds::CONFIG_MAPS, here)
            .optional(kinds::NODES, Selection::default())
            .watch(kinds::NAMESPACES)
            .optional(PROXY_CONFIGS, Selection::default());
        let mut events = source.start(&client, &tasks);
        let (mut now, mut texts) = (self.nothing(), BTreeMap::new());
        let mut synced = false;
        loop {
            let event = tokio::select! {
                () = drain.wait() => break,
                event = events.recv() => event,
            };
            match event {
                None => break,
                Some(Event::Synced) => synced = true,
                Some(Event::Changes(changes)) => {
                    for change in changes {
                        self.see(&mut now, &mut texts, change);
                    }
                }
            }
            if synced {
                known.store(Some(Arc::new(now.clone())));
            }
        }
        tasks.shutdown(std::time::Duration::from_secs(1)).await;
    }

    fn nothing(&self) -> Known {
        Known {
            injector: self.injector(&BTreeMap::new()),
            root: self.namespace.clone(),
            namespaces: BTreeMap::new(),
            nodes: BTreeMap::new(),
            proxy_configs: BTreeMap::new(),
            native: self.native,
        }
    }

    fn suffix(&self) -> String {
        match self.revision.as_str() {
            "" | "default" => String::new(),
            revision => format!("-{revision}"),
        }
    }

    /// From the texts of the ConfigMaps.
    fn injector(&self, texts: &BTreeMap<String, Value>) -> Injector {
        let read = |map: &str, entry: &str| {
            let name = format!("{map}{}", self.suffix());
            let text = texts
                .get(&name)
                .and_then(|data| data[entry].as_str())
                .unwrap_or_default();
            let (root, problems) = corten_api::decode::document(entry, text);
            for problem in problems.iter().filter(|problem| problem.is_error()) {
                tracing::warn!(name, %problem, "the settings of injection cannot be read");
            }
            root.map_or_else(|| json!({}), |root| root.to_value())
        };
        let mut values = read("istio-sidecar-injector", "values");
        let suffix = self.suffix();
        if values["revision"].is_null() {
            values["revision"] = json!(suffix.trim_start_matches('-'));
        }
        if values["global"]["istioNamespace"].is_null() {
            values["global"]["istioNamespace"] = json!(self.namespace);
        }
        Injector {
            config: Config::new(&values, &read("istio-sidecar-injector", "config")),
            mesh: read("istio", "mesh"),
            revision: suffix.trim_start_matches('-').to_owned(),
            compliance_policy: self.compliance_policy.clone(),
        }
    }

    fn see(&self, now: &mut Known, texts: &mut BTreeMap<String, Value>, change: Change) {
        let (kind, key, object) = match change {
            Change::Put { kind, object } => {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                let key = NamespacedName::new(text("namespace"), text("name"));
                // What is for another revision is as if it were not there.
                let ours = revision::is_read(&self.revision, kind, &object);
                (kind, key, ours.then_some(object))
            }
            Change::Removed { kind, key } => (kind, key, None),
        };
        let name = key.name.to_string();
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        match kind.kind {
            "ConfigMap" => {
                put(texts, name, object.map(|object| object["data"].clone()));
                now.injector = self.injector(texts);
                if let Some(root) = now.injector.mesh["rootNamespace"].as_str() {
                    root.clone_into(&mut now.root);
                }
            }
            "Node" => {
                let version = |object: Value| {
                    let version = object["status"]["nodeInfo"]["kubeletVersion"].as_str();
                    version.unwrap_or_default().to_owned()
                };
                put(&mut now.nodes, name, object.map(version));
            }
            "Namespace" => put(
                &mut now.namespaces,
                name,
                object.map(|object| object["metadata"]["annotations"].clone()),
            ),
            _ => {
                let written = object.map(|object| ProxyConfigOf {
                    namespace: key.namespace.to_string(),
                    name,
                    created: object["metadata"]["creationTimestamp"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                    spec: object["spec"].clone(),
                });
                put(&mut now.proxy_configs, key, written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher() -> Watcher {
        Watcher {
            namespace: "istio-system".to_owned(),
            revision: "default".to_owned(),
            native: None,
            compliance_policy: None,
        }
    }

    fn with(objects: &[(Kind, Value)]) -> Known {
        let (mut now, mut texts) = (watcher().nothing(), BTreeMap::new());
        for (kind, object) in objects {
            let change = Change::Put {
                kind: *kind,
                object: object.clone(),
            };
            watcher().see(&mut now, &mut texts, change);
        }
        now
    }

    #[test]
    fn proxies_are_init_containers_where_nodes_are_new() {
        let node = |name: &str, version: &str| {
            (
                kinds::NODES,
                json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}}),
            )
        };
        assert!(!with(&[]).native_sidecars(None));
        let known = with(&[node("a", "v1.33.0"), node("b", "v1.32.9")]);
        assert_eq!(
            (known.native_sidecars(None), known.native_sidecars(Some("a"))),
            (false, true)
        );
        assert!(with(&[node("a", "v1.33.0-eks-1"), node("b", "1.40+")]).native_sidecars(None));
    }

    #[test]
    fn what_is_nearer_to_a_pod_goes_before() {
        let config = |namespace: &str, name: &str, spec: Value| {
            (
                PROXY_CONFIGS,
                json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}),
            )
        };
        let known = with(&[
            (
                kinds::CONFIG_MAPS,
                json!({"metadata": {"namespace": "istio-system", "name": "istio"}, "data": {"mesh": "defaultConfig: {concurrency: 1}"}}),
            ),
            config(
                "istio-system",
                "all",
                json!({"environmentVariables": {"A": "root", "B": "root"}}),
            ),
            config(
                "shop",
                "here",
                json!({"concurrency": 3, "environmentVariables": {"B": "here"}}),
            ),
            (
                PROXY_CONFIGS,
                json!({
                    "metadata": {"namespace": "shop", "name": "canary", "labels": {"istio.io/rev": "canary"}},
                    "spec": {"selector": {"matchLabels": {"app": "web"}}, "concurrency": 5},
                }),
            ),
            (
                PROXY_CONFIGS,
                json!({
                    "metadata": {"namespace": "shop", "name": "a-later-one", "creationTimestamp": "2024-01-01T00:00:00Z"},
                    "spec": {"concurrency": 9},
                }),
            ),
            config(
                "shop",
                "web",
                json!({"selector": {"matchLabels": {"app": "web"}}, "concurrency": 4}),
            ),
        ]);
        let (below, above) = known.proxy_config("shop", &json!({"app": "web"}));
        assert_eq!(below["concurrency"], 3);
        assert_eq!(below["proxyMetadata"], json!({"A": "root", "B": "here"}));
        assert_eq!(above, json!({"concurrency": 4}));
        let (below, above) = known.proxy_config("bank", &json!({}));
        assert_eq!((&below["concurrency"], above), (&json!(1), json!({})));
    }
}
