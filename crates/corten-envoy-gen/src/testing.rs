//! What tests share: a world from YAML, a proxy in it, and files of what comes of them.

use std::path::{Path, PathBuf};

use corten_api::{decode, istio::mesh_config::MeshConfig, validate::mesh_config::over_defaults};
use corten_envoy::message_to_json;
use corten_model::Settings;
use corten_routing::{Proxy, ProxyKind, Scope, Snapshot, World};
use serde_json::{Value, json};

use crate::{
    Context, cluster, endpoint,
    gateway::{self, Merged},
    listener, route,
};

/// A case: a file of objects after a head that says who asks, and for what.
pub(crate) struct Case {
    pub(crate) snapshot: Snapshot,
    pub(crate) proxy: Proxy,
    head: Value,
}

impl Case {
    /// From a text.
    pub(crate) fn read(file: &str, text: &str) -> Case {
        let (documents, problems) = decode::documents(file, text);
        assert!(problems.is_empty(), "{problems:?}");
        let mut documents: Vec<Value> = documents.iter().map(decode::Node::to_value).collect();
        let head = documents.remove(0);
        let mut world = World::new(Settings::default(), mesh(&head["mesh"]));
        let problems = world.put(&documents);
        assert!(problems.is_empty(), "{file}: {problems:?}");
        Case {
            snapshot: world.snapshot(),
            proxy: proxy(&head["proxy"]),
            head,
        }
    }

    /// What comes of it: the tables that the head names under `routes`; the clusters that it names under `clusters`, or the names of
    /// all if it says `clusters: names`; the endpoints of the clusters that it names under `endpoints`; and the listeners that it names
    /// under `listeners`, or all of them if it says `listeners: true`.
    pub(crate) fn answer(&self) -> Value {
        let scope = Scope::of(&self.snapshot.catalog, &self.proxy);
        let cx = Context {
            snapshot: &self.snapshot,
            proxy: &self.proxy,
            scope: &scope,
        };
        let mut answer = json!({});
        for name in self.head["routes"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("the names of tables are texts");
            let table = route::route_configuration(&cx, name);
            answer["routes"][name] = table.map_or(Value::Null, |table| message_to_json(&table).expect("JSON"));
        }
        let names = |key: &str| {
            self.head[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
        };
        let clusters = cluster::clusters(&cx);
        if self.head["clusters"] == "names" {
            answer["clusters"] = clusters.iter().map(|cluster| json!(cluster.name)).collect();
        }
        for name in names("clusters") {
            let found = clusters.iter().find(|cluster| cluster.name == name);
            answer["clusters"][name] = found.map_or(Value::Null, |cluster| message_to_json(cluster).expect("JSON"));
        }
        for name in names("endpoints") {
            let found = endpoint::load_assignment(&cx, name);
            answer["endpoints"][name] = message_to_json(&found).expect("JSON");
        }
        let wanted = &self.head["listeners"];
        if !wanted.is_null() {
            let listeners = listener::listeners(&cx);
            let named = |name: &str| wanted.as_array().is_none_or(|names| names.contains(&json!(name)));
            let shown = listeners
                .iter()
                .filter(|listener| named(&listener.name))
                .map(|listener| message_to_json(listener).expect("JSON"));
            answer["listeners"] = shown.collect();
        }
        if self.proxy.kind == ProxyKind::Router {
            let merged = Merged::of(&cx);
            let shown = merged.conflicts.iter().map(|conflict| {
                json!(format!(
                    "{} spec.servers[{}].{}: {}",
                    conflict.gateway, conflict.server, conflict.field, conflict.reason
                ))
            });
            answer["conflicts"] = shown.collect();
            answer["credentials"] = json!(gateway::credentials(&merged));
        }
        shorten(&mut answer);
        answer
    }
}

fn mesh(value: &Value) -> MeshConfig {
    let nothing = json!({});
    let value = if value.is_null() { &nothing } else { value };
    let (config, problems) = over_defaults(&decode::Node::from_value(value));
    assert!(problems.is_empty(), "{problems:?}");
    config
}

fn proxy(head: &Value) -> Proxy {
    let text = |key: &str, otherwise: &'static str| head[key].as_str().unwrap_or(otherwise).to_owned();
    let namespace = text("namespace", "default");
    let id = format!(
        "{}~{}~app.{namespace}~{namespace}.svc.cluster.local",
        text("type", "sidecar"),
        text("address", "10.0.0.1"),
    );
    let mut metadata = json!({"NAMESPACE": namespace, "LABELS": head["labels"]});
    for (key, value) in head["metadata"].as_object().into_iter().flatten() {
        metadata[key] = value.clone();
    }
    let extensions = head["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    Proxy::of_node(&id, &metadata)
        .expect("a node")
        .with_extensions(extensions)
}

/// The cases of all folders below a folder, with their files' names.
pub(crate) fn all(root: &Path) -> Vec<(String, Case)> {
    let entries = std::fs::read_dir(root).expect("the folder is there");
    let folders = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir());
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| files(&folder)).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).expect("a text");
        let case = Case::read(&name, &text);
        (name, case)
    };
    files.into_iter().map(read).collect()
}

/// The cases of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .filter(|path| !path.to_string_lossy().ends_with(".expected.yaml"))
        .collect();
    files.sort();
    files
}

/// Writes the retries that every route has unless somebody says otherwise as one word: there are many.
fn shorten(value: &mut Value) {
    let usual = json!({
        "hostSelectionRetryMaxAttempts": "5",
        "numRetries": 2,
        "retryHostPredicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "retryOn": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    });
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "retryPolicy" && *value == usual {
                    *value = json!("usual");
                }
                shorten(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        _ => {}
    }
}

/// Compares what comes of each file of a folder below `testdata` with the file of the same name that ends in `.expected.yaml`;
/// how many there are.
pub(crate) fn compare(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let files = files(&folder);
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a text");
        let answer = Case::read(&file.display().to_string(), &text).answer();
        let expected = file.with_extension("expected.yaml");
        expect_test::expect_file![expected].assert_eq(&corten_api::yaml::document(&answer));
    }
    files.len()
}

/// The cases of a folder below `testdata`, with their files.
pub(crate) fn cases(folder: &str) -> Vec<(PathBuf, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a text");
        let case = Case::read(&file.display().to_string(), &text);
        (file, case)
    };
    files(&folder).into_iter().map(read).collect()
}
