//! The loops together, over an API in memory, with a kubelet that only says that pods run.

mod kubelet;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_apiserver::resources::{
    CONFIG_MAPS, CONTROLLER_REVISIONS, CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, EVENTS,
    NAMESPACES, NODES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS, SERVICES, STATEFUL_SETS,
};
use corten_apiserver::{Api, Client, DeleteOptions, Object, Patch, Propagation, ResourceId};
use corten_rt::TaskGroup;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::object;
use kubelet::Kubelet;

/// An API with the loops and two nodes.
struct Cluster {
    client: Client,
    kubelet: Arc<Kubelet>,
    tasks: TaskGroup,
}

impl Cluster {
    async fn start() -> Self {
        let api = Api::in_memory();
        let client = Client::new(api.clone(), "test");
        for node in ["node1", "node2"] {
            client.create(&NODES, kubelet::node(node)).await.expect("a node");
        }
        let tasks = TaskGroup::new("cluster");
        let loops = Client::new(api.clone(), "system:kube-controller-manager");
        let config = super::ControllersConfig {
            ca: "the root".to_owned(),
            api_service: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
            api_endpoint: SocketAddr::from(([192, 168, 77, 1], 6443)),
        };
        tasks.serve("controllers", |drain| super::run(loops, config, drain));
        let kubelet = Arc::new(Kubelet::new(Client::new(api, "system:node")));
        tasks.spawn("kubelet", kubelet.clone().run());
        let cluster = Self { client, kubelet, tasks };
        cluster.until(&SERVICE_ACCOUNTS, "default", "default", |_| true).await;
        cluster
    }

    async fn stop(self) {
        // The kubelet never ends by itself.
        self.tasks.shutdown(Duration::ZERO).await;
    }

    async fn create(&self, resource: &ResourceId, object: Value) -> Object {
        self.client.create(resource, object).await.expect("it can be made")
    }

    async fn get(&self, resource: &ResourceId, namespace: &str, name: &str) -> Object {
        self.client.get(resource, namespace, name).await.expect("it is there")
    }

    async fn list(&self, resource: &ResourceId, labels: &str) -> Vec<Object> {
        self.client
            .list(resource, Some("default"), Some(labels), None)
            .await
            .expect("a list")
    }

    async fn merge(&self, resource: &ResourceId, name: &str, patch: Value) -> Object {
        self.client
            .patch(resource, "default", name, None, Patch::Merge(patch))
            .await
            .expect("it can be patched")
    }

    async fn delete(&self, resource: &ResourceId, namespace: &str, name: &str, propagation: Propagation) {
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        self.client
            .delete(resource, namespace, name, options)
            .await
            .expect("it can be deleted");
    }

    /// Waits until an object is there and as wanted.
    #[track_caller]
    fn until<'a, W: Fn(&Value) -> bool + 'a>(
        &'a self,
        resource: &ResourceId,
        namespace: &'a str,
        name: &'a str,
        wanted: W,
    ) -> impl Future<Output = Object> + use<'a, W> {
        let resource = resource.clone();
        let caller = std::panic::Location::caller();
        async move {
            let follow = async {
                let mut watch = self.client.watch(&resource, scope(namespace)).await.expect("a watch");
                while let Some(event) = watch.next().await {
                    if let corten_apiserver::Event::Added(new) | corten_apiserver::Event::Modified { new, .. } = event
                        && object::name(&new) == name
                        && wanted(&new)
                    {
                        return new;
                    }
                }
                panic!("the watch ended");
            };
            let waited = tokio::time::timeout(Duration::from_secs(20), follow).await;
            match waited {
                Ok(found) => found,
                Err(_) => {
                    let last = self.client.get(&resource, namespace, name).await;
                    panic!("{resource} {namespace}/{name} did not become as wanted at {caller}; it is {last:#?}");
                }
            }
        }
    }

    /// Waits until an object is gone.
    #[track_caller]
    fn gone<'a>(
        &'a self,
        resource: &'a ResourceId,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let follow = async {
                let mut watch = self.client.watch(resource, scope(namespace)).await.expect("a watch");
                let mut is_there = false;
                while let Some(event) = watch.next().await {
                    match event {
                        corten_apiserver::Event::Added(new) if object::name(&new) == name => is_there = true,
                        corten_apiserver::Event::Deleted(old) if object::name(&old) == name => return,
                        corten_apiserver::Event::Synced if !is_there => return,
                        _ => {}
                    }
                }
            };
            if tokio::time::timeout(Duration::from_secs(20), follow).await.is_err() {
                let last = self.client.get(resource, namespace, name).await;
                panic!("{resource} {namespace}/{name} did not go at {caller}; it is {last:#?}");
            }
        }
    }

    /// Waits until a deployment has finished its rollout, and gives it.
    #[track_caller]
    fn rolled_out<'a>(&'a self, name: &'a str) -> impl Future<Output = Object> + 'a {
        self.until(&DEPLOYMENTS, "default", name, |d| {
            let replicas = object::number(d, "/spec/replicas");
            object::number(d, "/status/observedGeneration") == object::number(d, "/metadata/generation")
                && object::number(d, "/status/updatedReplicas") == replicas
                && object::number(d, "/status/replicas") == replicas
                && object::number(d, "/status/availableReplicas") == replicas
                && object::condition(d, "Progressing")
                    .is_some_and(|c| object::text(c, "/reason") == "NewReplicaSetAvailable")
        })
    }
}

/// The namespace to watch; the empty one means the cluster.
fn scope(namespace: &str) -> Option<&str> {
    Some(namespace).filter(|namespace| !namespace.is_empty())
}

fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}],
            "terminationGracePeriodSeconds": 1},
    })
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "default", "name": name, "annotations": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template(name, "one"),
        },
    })
}

fn stateful_set(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, "one"),
        },
    })
}

/// A status without what differs from run to run.
fn plain(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastUpdateTime");
            condition.remove("lastTransitionTime");
        }
    }
    status
}

fn check(found: &Value, wanted: Expect) {
    wanted.assert_eq(&format!("{found:#}"));
}

/// The messages of the events about an object, in order.
async fn messages(cluster: &Cluster, reason: &str, count: usize) -> Vec<String> {
    let started = Instant::now();
    loop {
        let mut events = cluster
            .client
            .list(&EVENTS, Some("default"), None, Some(&format!("reason={reason}")))
            .await
            .expect("events");
        events.sort_by_key(|event| object::version(event));
        if events.len() >= count || started.elapsed() > Duration::from_secs(10) {
            return events.iter().map(|e| object::text(e, "/message").to_owned()).collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_available_rolls_and_goes_back() {
    let cluster = Cluster::start().await;
    cluster.create(&DEPLOYMENTS, deployment("web", 4)).await;
    let first = cluster.rolled_out("web").await;
    let set = object::name(&cluster.list(&REPLICA_SETS, "app=web").await[0]).to_owned();
    let status = plain(&first["status"]).to_string().replace(&set, "SET");
    check(
        &serde_json::from_str(&status).expect("JSON"),
        expect![[r#"
            {
              "availableReplicas": 4,
              "conditions": [
                {
                  "message": "Deployment has minimum availability.",
                  "reason": "MinimumReplicasAvailable",
                  "status": "True",
                  "type": "Available"
                },
                {
                  "message": "ReplicaSet \"SET\" has successfully progressed.",
                  "reason": "NewReplicaSetAvailable",
                  "status": "True",
                  "type": "Progressing"
                }
              ],
              "observedGeneration": 1,
              "readyReplicas": 4,
              "replicas": 4,
              "updatedReplicas": 4
            }"#]],
    );
    assert_eq!(
        object::annotation(&first, "deployment.kubernetes.io/revision"),
        Some("1")
    );
    assert_eq!(
        messages(&cluster, "ScalingReplicaSet", 1).await,
        [format!("Scaled up replica set {set} from 0 to 4")]
    );
    let pods = cluster.list(&PODS, "app=web").await;
    let on_first = pods
        .iter()
        .filter(|pod| object::text(pod, "/spec/nodeName") == "node1")
        .count();
    assert_eq!(on_first, 2, "spread over both nodes");

    // At no time may fewer than three of the four be available, nor more than five be there.
    let watcher = cluster.kubelet.clone();
    watcher.measure("app", "web");
    cluster
        .merge(
            &DEPLOYMENTS,
            "web",
            json!({"spec": {"template": template("web", "two")}}),
        )
        .await;
    let second = cluster.rolled_out("web").await;
    assert_eq!(
        object::annotation(&second, "deployment.kubernetes.io/revision"),
        Some("2")
    );
    let (available_min, total_max) = watcher.measured();
    assert!(available_min >= 3, "{available_min} were available");
    assert!(total_max <= 5, "{total_max} were there");

    cluster
        .merge(
            &DEPLOYMENTS,
            "web",
            json!({"spec": {"template": template("web", "one")}}),
        )
        .await;
    let third = cluster.rolled_out("web").await;
    assert_eq!(
        object::annotation(&third, "deployment.kubernetes.io/revision"),
        Some("3")
    );
    let sets = cluster.list(&REPLICA_SETS, "app=web").await;
    assert_eq!(sets.len(), 2, "the first replica set is used again");
    let back = cluster.get(&REPLICA_SETS, "default", &set).await;
    assert_eq!(
        object::annotation(&back, "deployment.kubernetes.io/revision"),
        Some("3")
    );
    assert_eq!(
        object::annotation(&back, "deployment.kubernetes.io/revision-history"),
        Some("1")
    );
    assert_eq!(object::annotation(&back, "team"), Some("a"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_image_stops_a_rollout_and_scaling_works_meanwhile() {
    let cluster = Cluster::start().await;
    cluster.kubelet.hold("broken");
    cluster.create(&DEPLOYMENTS, deployment("web", 4)).await;
    cluster.rolled_out("web").await;
    cluster
        .merge(
            &DEPLOYMENTS,
            "web",
            json!({"spec": {"template": template("web", "broken")}}),
        )
        .await;
    let stuck = cluster
        .until(&DEPLOYMENTS, "default", "web", |d| {
            object::number(d, "/status/updatedReplicas") == Some(2) && object::number(d, "/status/replicas") == Some(5)
        })
        .await;
    assert_eq!(object::number(&stuck, "/status/availableReplicas"), Some(3));
    cluster
        .merge(&DEPLOYMENTS, "web", json!({"spec": {"replicas": 8}}))
        .await;
    cluster
        .until(&DEPLOYMENTS, "default", "web", |d| {
            object::number(d, "/status/replicas") == Some(10)
                && object::number(d, "/status/availableReplicas") == Some(6)
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_starts_in_order_and_updates_from_the_top() {
    let cluster = Cluster::start().await;
    cluster.create(&STATEFUL_SETS, stateful_set("db", 3)).await;
    let complete = |s: &Value| {
        object::number(s, "/status/readyReplicas") == Some(3)
            && object::number(s, "/status/updatedReplicas") == Some(3)
            && s["status"]["currentRevision"] == s["status"]["updateRevision"]
            && object::number(s, "/status/observedGeneration") == object::number(s, "/metadata/generation")
    };
    let set = cluster.until(&STATEFUL_SETS, "default", "db", complete).await;
    let created = messages(&cluster, "SuccessfulCreate", 3).await;
    assert_eq!(
        created,
        [0, 1, 2].map(|i| format!("create Pod db-{i} in StatefulSet db successful"))
    );
    cluster
        .merge(
            &STATEFUL_SETS,
            "db",
            json!({"spec": {"template": template("db", "two")}}),
        )
        .await;
    let before = set["status"]["updateRevision"].clone();
    let updated = cluster
        .until(&STATEFUL_SETS, "default", "db", |s| {
            complete(s) && s["status"]["updateRevision"] != before
        })
        .await;
    let deleted = messages(&cluster, "SuccessfulDelete", 3).await;
    assert_eq!(
        deleted,
        [2, 1, 0].map(|i| format!("delete Pod db-{i} in StatefulSet db successful"))
    );
    let revisions = cluster.list(&CONTROLLER_REVISIONS, "app=db").await;
    assert_eq!(revisions.len(), 2);
    let pod = cluster.get(&PODS, "default", "db-0").await;
    assert_eq!(
        object::label(&pod, "controller-revision-hash"),
        updated["status"]["updateRevision"].as_str()
    );
    cluster
        .merge(&STATEFUL_SETS, "db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster.gone(&PODS, "default", "db-1").await;
    cluster.stop().await;
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_follow_their_pods() {
    let cluster = Cluster::start().await;
    cluster.create(&SERVICES, service("web")).await;
    cluster.create(&DEPLOYMENTS, deployment("web", 3)).await;
    let addresses = |endpoints: &Value| object::items(endpoints, "/subsets/0/addresses").len();
    cluster.until(&ENDPOINTS, "default", "web", |e| addresses(e) == 3).await;
    let slices = cluster.list(&ENDPOINT_SLICES, "kubernetes.io/service-name=web").await;
    let ready: usize = slices
        .iter()
        .filter(|slice| slice["addressType"] == "IPv4")
        .flat_map(|slice| object::items(slice, "/endpoints"))
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count();
    assert!(ready > 0, "{slices:#?}");
    cluster
        .merge(&DEPLOYMENTS, "web", json!({"spec": {"replicas": 1}}))
        .await;
    cluster.until(&ENDPOINTS, "default", "web", |e| addresses(e) == 1).await;
    let slice = object::name(&slices[0]).to_owned();
    cluster
        .delete(&SERVICES, "default", "web", Propagation::Background)
        .await;
    cluster.gone(&ENDPOINT_SLICES, "default", &slice).await;
    cluster.gone(&ENDPOINTS, "default", "web").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_has_a_service_and_namespaces_their_contents() {
    let cluster = Cluster::start().await;
    let service = cluster.until(&SERVICES, "default", "kubernetes", |_| true).await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let slice = cluster.until(&ENDPOINT_SLICES, "default", "kubernetes", |_| true).await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.168.77.1"]));
    cluster.create(&NAMESPACES, json!({"metadata": {"name": "team"}})).await;
    cluster.until(&SERVICE_ACCOUNTS, "team", "default", |_| true).await;
    let root = cluster.until(&CONFIG_MAPS, "team", "kube-root-ca.crt", |_| true).await;
    assert_eq!(root["data"]["ca.crt"], "the root");
    for namespace in ["kube-system", "kube-public", "kube-node-lease"] {
        cluster
            .until(&CONFIG_MAPS, namespace, "kube-root-ca.crt", |_| true)
            .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_with_their_owner_before_it_or_not_at_all() {
    let cluster = Cluster::start().await;
    for name in ["background", "foreground", "orphan"] {
        cluster.create(&DEPLOYMENTS, deployment(name, 1)).await;
        cluster.rolled_out(name).await;
    }
    let set_of = async |name: &str| {
        let sets = cluster.list(&REPLICA_SETS, &format!("app={name}")).await;
        object::name(&sets[0]).to_owned()
    };
    let pod_of = async |name: &str| {
        let pods = cluster.list(&PODS, &format!("app={name}")).await;
        object::name(&pods[0]).to_owned()
    };
    let (set, pod) = (set_of("background").await, pod_of("background").await);
    cluster
        .delete(&DEPLOYMENTS, "default", "background", Propagation::Background)
        .await;
    cluster.gone(&REPLICA_SETS, "default", &set).await;
    cluster.gone(&PODS, "default", &pod).await;

    let pod = pod_of("foreground").await;
    cluster
        .delete(&DEPLOYMENTS, "default", "foreground", Propagation::Foreground)
        .await;
    cluster.gone(&DEPLOYMENTS, "default", "foreground").await;
    let left = cluster
        .client
        .get(&PODS, "default", &pod)
        .await
        .expect_err("it went before");
    assert!(left.is_not_found());

    let set = set_of("orphan").await;
    cluster
        .delete(&DEPLOYMENTS, "default", "orphan", Propagation::Orphan)
        .await;
    cluster.gone(&DEPLOYMENTS, "default", "orphan").await;
    let set = cluster.get(&REPLICA_SETS, "default", &set).await;
    assert!(object::items(&set, "/metadata/ownerReferences").is_empty());
    // Made again, it adopts what it left.
    cluster.create(&DEPLOYMENTS, deployment("orphan", 1)).await;
    cluster.rolled_out("orphan").await;
    assert_eq!(set_of("orphan").await, object::name(&set));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_takes_all_with_it() {
    let cluster = Cluster::start().await;
    cluster.create(&NAMESPACES, json!({"metadata": {"name": "team"}})).await;
    cluster.until(&SERVICE_ACCOUNTS, "team", "default", |_| true).await;
    let mut web = deployment("web", 2);
    web["metadata"]["namespace"] = json!("team");
    cluster.create(&DEPLOYMENTS, web).await;
    cluster
        .until(&DEPLOYMENTS, "team", "web", |d| {
            object::number(d, "/status/availableReplicas") == Some(2)
        })
        .await;
    let held = json!({"metadata": {"namespace": "team", "name": "held", "finalizers": ["example.com/hold"]}});
    cluster.create(&CONFIG_MAPS, held).await;
    cluster.delete(&NAMESPACES, "", "team", Propagation::Background).await;
    cluster
        .until(&NAMESPACES, "", "team", |n| {
            object::condition(n, "NamespaceFinalizersRemaining").is_some_and(|c| {
                object::text(c, "/message")
                    == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            })
        })
        .await;
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster
        .client
        .patch(&CONFIG_MAPS, "team", "held", None, release)
        .await
        .expect("it is released");
    cluster.gone(&NAMESPACES, "", "team").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pods_are_ready_in_seconds() {
    let cluster = Cluster::start().await;
    let started = Instant::now();
    cluster.create(&DEPLOYMENTS, deployment("one", 1)).await;
    cluster.rolled_out("one").await;
    let one = started.elapsed();
    let started = Instant::now();
    cluster.create(&DEPLOYMENTS, deployment("many", 200)).await;
    cluster.rolled_out("many").await;
    let many = started.elapsed();
    println!("one pod: {one:?}; two hundred: {many:?}");
    assert!(many < Duration::from_secs(15), "{many:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_objects_go_with_their_owner_and_their_namespace() {
    let cluster = Cluster::start().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    cluster.create(&CUSTOM_RESOURCE_DEFINITIONS, definition).await;
    cluster
        .until(&CUSTOM_RESOURCE_DEFINITIONS, "", "things.example.com", |d| {
            object::is_true(d, "Established")
        })
        .await;
    let things = ResourceId::new("example.com", "v1", "things");
    cluster.create(&NAMESPACES, json!({"metadata": {"name": "team"}})).await;
    let thing = |name: &str, owners: Value| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"namespace": "team", "name": name, "ownerReferences": owners}})
    };
    let owner = cluster.create(&things, thing("owner", json!([]))).await;
    let owners =
        json!([{"apiVersion": "example.com/v1", "kind": "Thing", "name": "owner", "uid": object::uid(&owner)}]);
    cluster.create(&things, thing("owned", owners)).await;
    cluster.create(&things, thing("other", json!([]))).await;
    cluster.delete(&things, "team", "owner", Propagation::Background).await;
    cluster.gone(&things, "team", "owned").await;
    cluster.get(&things, "team", "other").await;
    cluster.delete(&NAMESPACES, "", "team", Propagation::Background).await;
    cluster.gone(&NAMESPACES, "", "team").await;
    let left = cluster
        .client
        .get(&things, "team", "other")
        .await
        .expect_err("it went with its namespace");
    assert!(left.is_not_found());
    cluster.stop().await;
}
