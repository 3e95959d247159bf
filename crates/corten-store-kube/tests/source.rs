//! The source against the local runtime's API: what it tells is the truth after restarts, lost history, and changes of
//! what kinds there are.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use corten_apiserver::{Patch, ResourceId, resources};
use corten_core::NamespacedName;
use corten_rt::TaskGroup;
use corten_store_kube::{Change, Event, Kind, Source, kinds};
use serde_json::{Value, json};
use support::{Served, create, delete, install_definitions, namespace, pod};
use tokio::sync::mpsc;

/// What a reader believes from the events alone.
struct Reader {
    events: mpsc::Receiver<Event>,
    objects: BTreeMap<(&'static str, NamespacedName), Value>,
    synced: bool,
    changes: usize,
}

impl Reader {
    fn new(events: mpsc::Receiver<Event>) -> Reader {
        Reader {
            events,
            objects: BTreeMap::new(),
            synced: false,
            changes: 0,
        }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Synced => {
                assert!(!self.synced, "once");
                self.synced = true;
            }
            Event::Changes(changes) => {
                assert!(!changes.is_empty() && changes.len() <= 256);
                self.changes += changes.len();
                for change in changes {
                    match change {
                        Change::Put { kind, object } => {
                            let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
                            let key = NamespacedName::new(text("namespace"), text("name"));
                            self.objects.insert((kind.plural, key), object);
                        }
                        Change::Removed { kind, key } => {
                            assert!(self.objects.remove(&(kind.plural, key)).is_some(), "it was told before");
                        }
                    }
                }
            }
        }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Reader) -> bool) {
        let wait = async {
            while !condition(self) {
                let event = self.events.recv().await.expect("the source goes on");
                self.see(event);
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
            panic!("waited in vain for {what}; known are {:?}", self.objects.keys());
        }
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let keys = self.objects.keys().filter(|(plural, _)| *plural == kind.plural);
        keys.map(|(_, key)| key.to_string()).collect()
    }

    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.plural, NamespacedName::new(namespace, name)))
    }
}

fn mesh() -> Source {
    kinds::MESH.into_iter().fold(Source::new(), Source::watch)
}

const POLICIES: ResourceId = ResourceId::fixed("security.istio.io", "v1", "authorizationpolicies");

fn policy(name: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "n"}, "spec": {}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_told_without_what_nobody_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let inside = served.inside();
    namespace(&inside, "n").await;
    pod(&inside, "p", "node-1").await;
    let tasks = TaskGroup::new("test");
    let mut reader = Reader::new(mesh().start(&served.outside(dir.path()).await, &tasks));
    // No definition is installed, and that is no reason to wait.
    reader.until("the first lists", |reader| reader.synced).await;
    let told = reader.get(kinds::PODS, "n", "p").expect("told");
    assert_eq!(
        told["spec"],
        json!({"nodeName": "node-1", "serviceAccountName": "default",
        "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}]})
    );
    assert!(told["metadata"]["uid"].is_string());
    assert!(told["metadata"].get("managedFields").is_none());
    let told = reader.get(kinds::NAMESPACES, "", "n").expect("told");
    assert!(told.get("spec").is_none());

    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "b"}}}));
    inside
        .patch(&resources::PODS, "n", "p", None, patch)
        .await
        .expect("patched");
    let label = |reader: &Reader| {
        reader
            .get(kinds::PODS, "n", "p")
            .map(|pod| pod["metadata"]["labels"]["app"].clone())
    };
    reader
        .until("the change", |reader| label(reader) == Some(json!("b")))
        .await;
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_kinds_come_and_go_with_their_definitions() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let inside = served.inside();
    namespace(&inside, "n").await;
    let tasks = TaskGroup::new("test");
    let mut reader = Reader::new(mesh().start(&served.outside(dir.path()).await, &tasks));
    reader.until("the first lists", |reader| reader.synced).await;
    install_definitions(&inside).await;
    create(&inside, &POLICIES, policy("a")).await;
    let policies = |reader: &Reader| reader.names(kinds::AUTHORIZATION_POLICIES);
    reader.until("a policy", |reader| policies(reader) == ["n/a"]).await;
    create(&inside, &POLICIES, policy("b")).await;
    reader
        .until("another", |reader| policies(reader) == ["n/a", "n/b"])
        .await;

    let definition = "authorizationpolicies.security.istio.io";
    delete(&inside, &resources::CUSTOM_RESOURCE_DEFINITIONS, "", definition).await;
    reader.until("their end", |reader| policies(reader).is_empty()).await;
    let definitions = corten_api::crds::definitions(corten_api::crds::Channel::Standard);
    let again = definitions
        .into_iter()
        .find(|found| found["metadata"]["name"] == definition)
        .expect("there is one");
    create(&inside, &resources::CUSTOM_RESOURCE_DEFINITIONS, again).await;
    create(&inside, &POLICIES, policy("c")).await;
    reader.until("their return", |reader| policies(reader) == ["n/c"]).await;
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_truth_is_told_after_lost_history_and_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let address = served.address.to_string();
    let inside = served.inside();
    namespace(&inside, "n").await;
    install_definitions(&inside).await;
    create(&inside, &POLICIES, policy("stays")).await;
    create(&inside, &POLICIES, policy("goes")).await;
    for index in 0..40 {
        pod(&inside, &format!("p{index}"), "node-1").await;
    }
    let tasks = TaskGroup::new("test");
    let mut reader = Reader::new(mesh().start(&served.outside(dir.path()).await, &tasks));
    reader.until("the first lists", |reader| reader.synced).await;
    assert_eq!(reader.names(kinds::PODS).len(), 40);
    assert_eq!(reader.names(kinds::AUTHORIZATION_POLICIES), ["n/goes", "n/stays"]);

    // More happens than the history keeps, unread.
    for index in 0..20 {
        let gone = format!("p{index}");
        let now = corten_apiserver::DeleteOptions {
            grace_seconds: Some(0),
            ..Default::default()
        };
        inside.delete(&resources::PODS, "n", &gone, now).await.expect("deleted");
        pod(&inside, &format!("q{index}"), "node-1").await;
    }
    served.api.compact(0);
    let count = |reader: &Reader| {
        reader
            .names(kinds::PODS)
            .iter()
            .filter(|name| name.starts_with("n/q"))
            .count()
    };
    reader
        .until("the new pods", |reader| {
            count(reader) == 20 && reader.names(kinds::PODS).len() == 40
        })
        .await;

    served.stop().await;
    let before = reader.changes;
    let api = corten_apiserver::Api::open(dir.path()).expect("the store opens again");
    let inside = corten_apiserver::Client::new(api.clone(), "test");
    delete(&inside, &POLICIES, "n", "goes").await;
    create(&inside, &POLICIES, policy("new")).await;
    api.close();
    drop((api, inside));
    let served = Served::start(dir.path(), &address).await;
    let policies = |reader: &Reader| reader.names(kinds::AUTHORIZATION_POLICIES);
    reader
        .until("what happened meanwhile", |reader| {
            policies(reader) == ["n/new", "n/stays"]
        })
        .await;
    create(&served.inside(), &POLICIES, policy("later")).await;
    reader
        .until("what happens later", |reader| policies(reader).len() == 3)
        .await;
    // What did not change is not told again, however often it is listed.
    assert!(reader.changes - before <= 10, "{} changes", reader.changes - before);
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sees_the_pods_of_its_node_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let inside = served.inside();
    namespace(&inside, "n").await;
    pod(&inside, "here", "node-1").await;
    pod(&inside, "there", "node-2").await;
    let tasks = TaskGroup::new("test");
    let source = Source::new().pods_of_node("node-1");
    let mut reader = Reader::new(source.start(&served.outside(dir.path()).await, &tasks));
    reader.until("the first list", |reader| reader.synced).await;
    assert_eq!(reader.names(kinds::PODS), ["n/here"]);
    let told = reader.get(kinds::PODS, "n", "here").expect("told");
    assert_eq!(
        told["spec"]["containers"][0]["env"],
        json!([{"name": "A", "value": "b"}])
    );
    pod(&inside, "there-too", "node-2").await;
    pod(&inside, "here-too", "node-1").await;
    reader
        .until("another", |reader| {
            reader.names(kinds::PODS) == ["n/here", "n/here-too"]
        })
        .await;
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}
