//! The local runtime's API, served over HTTPS, and what tests put into it.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::{Api, Client, DeleteOptions, ResourceId, ServerConfig, pki::Pki, resources, serve};
use corten_rt::TaskGroup;
use corten_store_kube::{Kubeconfig, client};
use serde_json::{Value, json};

pub(crate) struct Served {
    pub(crate) api: Arc<Api>,
    pub(crate) address: SocketAddr,
    tasks: TaskGroup,
    pki: Pki,
}

impl Served {
    pub(crate) async fn start(dir: &Path, address: &str) -> Served {
        let api = Api::open(dir).expect("the store opens");
        let pki = Pki::open(dir).expect("keys are made");
        api.use_pki(&pki);
        // The port of the life before may still be settling.
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let address = listener.local_addr().expect("it is bound");
        let tasks = TaskGroup::new("test API");
        let config = ServerConfig {
            listeners: vec![listener],
            pki: pki.clone(),
            api: api.clone(),
        };
        serve(config, &tasks).expect("it is served");
        Served {
            api,
            address,
            tasks,
            pki,
        }
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        self.api.close();
    }

    /// From within.
    pub(crate) fn inside(&self) -> Client {
        Client::new(self.api.clone(), "test")
    }

    /// From outside, as the control plane comes: by a kubeconfig file.
    pub(crate) async fn outside(&self, dir: &Path) -> kube::Client {
        let file = dir.join("kubeconfig");
        let text = self.pki.kubeconfig("test", &format!("https://{}", self.address));
        std::fs::write(&file, text).expect("written");
        client(&Kubeconfig::File(file)).await.expect("a client")
    }
}

pub(crate) async fn create(client: &Client, id: &ResourceId, object: Value) -> Value {
    let created = client.create(id, object).await.expect("created");
    serde_json::to_value(&*created).expect("an object")
}

pub(crate) async fn namespace(client: &Client, name: &str) {
    create(client, &resources::NAMESPACES, json!({"metadata": {"name": name}})).await;
}

pub(crate) async fn delete(client: &Client, id: &ResourceId, namespace: &str, name: &str) {
    client
        .delete(id, namespace, name, DeleteOptions::default())
        .await
        .expect("deleted");
}

pub(crate) async fn pod(client: &Client, name: &str, node: &str) -> Value {
    let pod = json!({
        "metadata": {"name": name, "namespace": "n", "labels": {"app": "a"}},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [
            {"name": "c", "image": "corten.dev/echo", "ports": [{"name": "http", "containerPort": 80}], "env": [{"name": "A", "value": "b"}]},
        ]},
    });
    create(client, &resources::PODS, pod).await
}

/// Installs the definitions of the Istio and Gateway API kinds.
pub(crate) async fn install_definitions(client: &Client) {
    for definition in corten_api::crds::definitions(corten_api::crds::Channel::Standard) {
        create(client, &resources::CUSTOM_RESOURCE_DEFINITIONS, definition).await;
    }
}

pub(crate) async fn eventually<T>(what: &str, attempt: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), wait).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
