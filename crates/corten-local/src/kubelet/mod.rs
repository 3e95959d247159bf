//! The kubelet: keeps one node's pods as the API says they should be, and tells the API how they are.
//!
//! One per node, all in the supervisor's process. Each pod has one task ([`worker`]) around a pure lifecycle ([`lifecycle`]). Knows neither
//! namespaces (the sandbox makes them), addresses (the network's CNI chain gives them), nor which pods should exist (controllers decide).

mod backend;
mod downward;
mod env;
mod events;
mod hooks;
mod images;
mod lifecycle;
mod logs;
mod machine;
mod node;
mod probes;
mod start;
mod status;
mod surroundings;
mod sysctls;
#[cfg(test)]
mod tests;
mod volumes;
mod worker;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::{Client, Event, Object, resources};
use corten_rt::{Drain, TaskGroup};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

pub use backend::Pods;
pub use images::{Images, ParseImageError};
pub use volumes::host::HostPaths;

use crate::network::Network;
use env::SourceKind;
use events::Recorder;
use machine::{Local, Machine};
use surroundings::ClusterDns;
use volumes::Tokens;
use worker::{Command, Worker};

/// What a kubelet is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, which is also its network's.
    pub node: String,
    /// The value of the node's zone label; empty for none.
    pub zone: String,
    /// Where pods' volumes and sandboxes are kept while they live; private to this node.
    pub dir: PathBuf,
    /// Where containers' logs are written.
    pub log_dir: PathBuf,
    /// What image names mean.
    pub images: Arc<Images>,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
    /// Directories of the host that containers see as empty.
    pub masks: Vec<PathBuf>,
    /// Places of the host that the node has for itself.
    pub host_paths: HostPaths,
}

/// What all pods of a node share.
struct Node {
    identity: node::Identity,
    dir: PathBuf,
    log_dir: PathBuf,
    images: Arc<Images>,
    dns: ClusterDns,
    masks: Vec<PathBuf>,
    host_paths: HostPaths,
    client: Client,
    tokens: Tokens,
    machine: Arc<dyn Machine>,
    recorder: Recorder,
    pods: Arc<Pods>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Why a kubelet could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The network has no such node.
    #[error("the network has no node {0:?}")]
    NoSuchNode(String),
    /// The node's object could not be written.
    #[error("node {node} cannot be registered: {status}")]
    Register {
        /// The node.
        node: String,
        /// What the API said.
        status: corten_apiserver::Status,
    },
}

/// How long the tasks of a node's pods may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// So many news for one pod wait; more push back on the watch.
const COMMANDS: usize = 16;

/// Runs one node until told to drain. `client` should act as `system:node:NAME`. Pods stay in the API as they are; a later run takes them up again.
pub async fn run(
    config: Config,
    client: Client,
    network: Arc<Network>,
    pods: Arc<Pods>,
    drain: Drain,
) -> Result<(), KubeletError> {
    let own = network
        .node(&config.node)
        .ok_or_else(|| KubeletError::NoSuchNode(config.node.clone()))?;
    let identity = node::Identity {
        name: config.node.clone(),
        zone: config.zone,
        addresses: own.addresses(),
        pod_cidrs: own.pod_cidrs(),
    };
    let (recorder, news) = Recorder::new();
    let host = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let dns = ClusterDns {
        servers: network.dns_addresses(),
        domain: config.cluster_domain,
        host: surroundings::parse_resolv_conf(&host),
    };
    let node = Arc::new(Node {
        machine: Arc::new(Local::new(config.node, network.clone())),
        identity,
        dir: config.dir,
        log_dir: config.log_dir,
        images: config.images,
        dns,
        masks: config.masks,
        host_paths: config.host_paths,
        tokens: volumes::api_tokens(client.clone()),
        client,
        recorder,
        pods,
        clock: Arc::new(Timestamp::now),
    });
    serve(node, news, drain).await
}

/// The node's own tasks, and its pods'.
async fn serve(node: Arc<Node>, news: mpsc::Receiver<events::News>, mut drain: Drain) -> Result<(), KubeletError> {
    let name = node.identity.name.clone();
    let registered = node::register(&node.client, &node.identity).await;
    let uid = registered.map_err(|status| KubeletError::Register {
        node: name.clone(),
        status,
    })?;
    let tasks = TaskGroup::new(format!("kubelet {name}"));
    tasks.spawn("events", events::run(node.client.clone(), name.clone(), news));
    tasks.serve("lease", |drain| {
        node::keep_lease(node.client.clone(), node.identity.clone(), uid, drain)
    });
    tell_ready(&node);
    let mut kubelet = Kubelet {
        tasks: tasks.clone(),
        node,
        workers: HashMap::new(),
    };
    tokio::select! {
        outcome = kubelet.follow() => if let Err(status) = outcome {
            tracing::error!(node = name, %status, "the node's pods are no longer followed");
        },
        () = drain.wait() => {}
    }
    // Ends the pods' tasks: each stops its processes and leaves its object alone.
    drop(kubelet);
    let late = tasks.shutdown(GRACE).await;
    if !late.is_empty() {
        tracing::debug!(node = name, ?late, "tasks were cut short");
    }
    Ok(())
}

fn tell_ready(node: &Node) {
    let name = &node.identity.name;
    let about = events::Involved {
        kind: "Node",
        name: name.clone(),
        uid: name.clone(),
        ..events::Involved::default()
    };
    node.recorder.tell(worker::news(
        about.clone(),
        false,
        "Starting",
        "Starting kubelet.".to_owned(),
    ));
    let ready = format!("Node {name} status is now: NodeReady");
    node.recorder.tell(worker::news(about, false, "NodeReady", ready));
}

/// The pods of one node, each with its task.
struct Kubelet {
    node: Arc<Node>,
    tasks: TaskGroup,
    workers: HashMap<String, Running>,
}

struct Running {
    commands: mpsc::Sender<Command>,
    namespace: String,
    /// What the pod's volumes and variables come from.
    sources: HashSet<(SourceKind, String)>,
}

impl Kubelet {
    /// Hands every change to the task it concerns.
    async fn follow(&mut self) -> Result<(), corten_apiserver::Status> {
        let client = self.node.client.clone();
        let mut pods = client.watch(&resources::PODS, None).await?;
        let mut config_maps = client.watch(&resources::CONFIG_MAPS, None).await?;
        let mut secrets = client.watch(&resources::SECRETS, None).await?;
        loop {
            tokio::select! {
                event = pods.next() => match event {
                    Some(event) => self.pod_event(event).await,
                    None => return Ok(()),
                },
                event = config_maps.next() => match event {
                    Some(event) => self.source_event(SourceKind::ConfigMap, event).await,
                    None => return Ok(()),
                },
                event = secrets.next() => match event {
                    Some(event) => self.source_event(SourceKind::Secret, event).await,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn pod_event(&mut self, event: Event) {
        match event {
            Event::Added(pod) | Event::Modified { new: pod, .. } if self.is_ours(&pod) => self.pod_changed(pod).await,
            Event::Deleted(pod) if self.is_ours(&pod) => {
                if let Some(running) = self.workers.remove(uid(&pod)) {
                    // A task that is ending by itself no longer listens.
                    let _ = running.commands.send(Command::Gone).await;
                }
            }
            Event::Added(_) | Event::Modified { .. } | Event::Deleted(_) | Event::Synced => {}
        }
    }

    fn is_ours(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"] == *self.node.identity.name
    }

    async fn pod_changed(&mut self, pod: Object) {
        let uid = uid(&pod).to_owned();
        if let Some(running) = self.workers.get(&uid) {
            let _ = running.commands.send(Command::Changed(pod)).await;
            return;
        }
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let name = format!("{namespace}/{}", pod["metadata"]["name"].as_str().unwrap_or_default());
        let worker = match Worker::new(self.node.clone(), pod) {
            Ok(worker) => worker,
            Err(error) => {
                tracing::error!(pod = name, %error, "the pod cannot be read");
                return;
            }
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let running = Running {
            commands,
            namespace,
            sources: worker.sources().into_iter().collect(),
        };
        self.workers.insert(uid, running);
        self.tasks.spawn(name, worker.run(receiver));
    }

    async fn source_event(&mut self, kind: SourceKind, event: Event) {
        let object = match event {
            Event::Added(object) | Event::Modified { new: object, .. } | Event::Deleted(object) => object,
            Event::Synced => return,
        };
        let (namespace, name) = (
            &object["metadata"]["namespace"],
            object["metadata"]["name"].as_str().unwrap_or_default(),
        );
        let key = (kind, name.to_owned());
        for running in self.workers.values() {
            if *namespace == *running.namespace && running.sources.contains(&key) {
                let _ = running.commands.send(Command::SourceChanged).await;
            }
        }
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}
