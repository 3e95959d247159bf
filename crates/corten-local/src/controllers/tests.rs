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
        self.tasks.shutdown(Duration::from_secs(5)).await;
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
    fn until<'a>(
        &'a self,
        resource: &'a ResourceId,
        namespace: &'a str,
        name: &'a str,
        wanted: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Object> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let follow = async {
                let mut watch = self.client.watch(resource, Some(namespace)).await.expect("a watch");
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
                    let last = self.client.get(resource, namespace, name).await;
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
                let mut watch = self.client.watch(resource, Some(namespace)).await.expect("a watch");
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
