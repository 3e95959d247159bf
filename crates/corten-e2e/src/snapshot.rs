//! What is in a cluster and on its nodes, to be compared with what is there later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::runtime::{Runtime, node_command, run};

/// What changes by itself, or with every pod.
const VOLATILE_KINDS: [&str; 3] = ["events", "componentstatuses", "ipaddresses"];
const VOLATILE_ANNOTATIONS: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "control-plane.alpha.kubernetes.io/leader",
];

/// How long an API server may refuse to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rules and routes of the node's network and every pod's, CNI programs and configuration, what is in `/run`.
///
/// Counters and handles differ from look to look, and kube-proxy's tables are not ours. Nor are the routes to a link's own
/// link-local address: the kernel makes them a second or two after the link, once it knows that nobody else has that address.
const NODE: &str = r#"
looks() {
  "$@" nft -s list ruleset | awk -v at="$at" '/^table/ { skip = /kube-proxy/ } !skip && NF { print at, $0 }'
  for family in -4 -6; do
    "$@" ip $family rule | sed "s|^|$at rule |"
    "$@" ip $family route show table all 2>/dev/null | grep -v -e 'dev veth' -e '^local fe80:' -e '^anycast fe80:' | sed "s|^|$at route |"
  done
}
at=node; looks env
for pod in $(ls /run/netns); do at=$pod; looks nsenter --net=/run/netns/$pod; done
find /etc/cni /opt/cni/bin -type f -exec sha256sum {} +
find /etc/cni /opt/cni /run -maxdepth 2 -not -path '/run/containerd*' -not -path '/run/netns/*'
"#;

/// A look at a cluster: each thing by its name, with what is compared of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    objects: BTreeMap<String, String>,
    nodes: BTreeSet<String>,
}

impl Snapshot {
    /// Looks at all objects of a cluster, and at its nodes, if there is a way to.
    ///
    /// # Panics
    /// If it cannot be looked at.
    pub fn take(runtime: &Runtime) -> Snapshot {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let objects = tokio.block_on(objects(runtime));
        let names = objects.keys().filter_map(|name| name.strip_prefix("nodes "));
        let nodes = names.map(str::to_owned).collect::<Vec<_>>();
        Snapshot {
            nodes: nodes.iter().flat_map(|name| node(name)).collect(),
            objects,
        }
    }

    /// Whether nodes can be looked at.
    pub fn sees_nodes() -> bool {
        node_command("", "").is_some()
    }

    /// What differs: `-` was there, `+` is there.
    pub fn differences(&self, later: &Snapshot) -> Vec<String> {
        let mut all = Vec::new();
        for (name, was) in &self.objects {
            match later.objects.get(name) {
                Some(is) if is == was => {}
                Some(is) => all.push(format!("~ {name}: {was} -> {is}")),
                None => all.push(format!("- {name}")),
            }
        }
        let new = later.objects.keys().filter(|name| !self.objects.contains_key(*name));
        all.extend(new.map(|name| format!("+ {name}")));
        all.extend(self.nodes.difference(&later.nodes).map(|line| format!("- {line}")));
        all.extend(later.nodes.difference(&self.nodes).map(|line| format!("+ {line}")));
        all
    }
}

/// Every object that can be listed: annotations, labels and finalizers, and of services the status, where the mesh writes.
async fn objects(runtime: &Runtime) -> BTreeMap<String, String> {
    let kubeconfig = Kubeconfig::read_from(runtime.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it is complete");
    let client = kube::Client::try_from(config).expect("its certificates are good");
    let get = async |path: String| -> Option<Value> {
        eventually_async(async || {
            let request = http::Request::get(&path).body(Vec::new()).expect("a request");
            match client.request::<Value>(request).await {
                Ok(value) => Ok(Some(value)),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 405 => Ok(None),
                // A kind that comes or goes at this moment.
                Err(error) => Err(format!("{path}: {error}")),
            }
        })
        .await
    };
    let list = |value: Option<Value>, key: &str| -> Vec<Value> {
        let mut value = value.unwrap_or_default();
        match value[key].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    };
    let mut versions = vec!["/api/v1".to_owned()];
    for group in list(get("/apis".to_owned()).await, "groups") {
        let version = group["preferredVersion"]["groupVersion"].as_str();
        versions.push(format!("/apis/{}", version.expect("a group has a version")));
    }
    let mut found = BTreeMap::new();
    for version in versions {
        for kind in list(get(version.clone()).await, "resources") {
            let name = kind["name"].as_str().unwrap_or_default();
            let can_be_listed = kind["verbs"]
                .as_array()
                .is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            if !can_be_listed || VOLATILE_KINDS.contains(&name) {
                continue;
            }
            for object in list(get(format!("{version}/{name}")).await, "items") {
                let meta = &object["metadata"];
                let place = match meta["namespace"].as_str() {
                    Some(namespace) => format!("{namespace}/"),
                    None => String::new(),
                };
                let title = format!("{name} {place}{}", meta["name"].as_str().unwrap_or_default());
                found.insert(title, compared(name, &object));
            }
        }
    }
    found
}

/// Tries again what an API server refuses while it changes what it serves.
async fn eventually_async<T>(attempt: impl AsyncFn() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(problem) if begin.elapsed() > PATIENCE => panic!("after {PATIENCE:?} still: {problem}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn compared(kind: &str, object: &Value) -> String {
    let meta = &object["metadata"];
    let mut annotations = meta["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        VOLATILE_ANNOTATIONS
            .iter()
            .for_each(|name| drop(annotations.remove(*name)));
    }
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    let parts = [
        ("annotations", &annotations),
        ("labels", &meta["labels"]),
        ("finalizers", &meta["finalizers"]),
    ];
    let mut text: Vec<String> = parts
        .iter()
        .filter(|(_, value)| !empty(value))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if kind == "services" {
        text.push(format!("status {}", object["status"]));
    }
    text.join(", ")
}

fn node(name: &str) -> BTreeSet<String> {
    let Some(command) = node_command(name, NODE) else {
        return BTreeSet::new();
    };
    let said = run(command).ok();
    said.lines().map(|line| format!("{name}: {line}")).collect()
}
