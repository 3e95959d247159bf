//! The control loops of the small Kubernetes: what turns wanted objects into others, and cleans up after them.
//!
//! One watch per resource feeds a cache that all loops share; changes become keys in the loops' queues; a loop looks at a key and says what is to
//! be done, purely from the cache; a driver does it through the API and puts the answers into the cache. The loops know objects only: how pods
//! run is the kubelet's, how packets flow the network's.

mod action;
mod cache;
mod daemonset;
mod deployment;
mod driver;
mod endpoints;
mod event;
mod garbage;
pub(crate) mod hash;
mod namespace;
mod nodes;
mod object;
mod pod;
mod queue;
mod replicaset;
mod revision;
mod scheduler;
mod seeds;
mod selector;
mod statefulset;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::resources::{self, CUSTOM_RESOURCE_DEFINITIONS};
use corten_apiserver::{Client, Event, ResourceId};
use corten_rt::{Drain, TaskGroup};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use action::Controller;
use driver::{Running, Shared};

/// What the control loops are told about the place they run in.
#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// The certificate authority that signed the API's serving certificate, as PEM; put into every namespace.
    pub ca: String,
    /// The address of the service `kubernetes` in the namespace `default`.
    pub api_service: IpAddr,
    /// Where pods reach the API: the endpoint of that service.
    pub api_endpoint: SocketAddr,
}

/// The built-in resources that are watched: all that is stored, for owners and namespaces can hold any of them.
const WATCHED: [ResourceId; 24] = [
    resources::NAMESPACES,
    resources::NODES,
    resources::PODS,
    resources::SERVICES,
    resources::ENDPOINTS,
    resources::ENDPOINT_SLICES,
    resources::CONFIG_MAPS,
    resources::SECRETS,
    resources::SERVICE_ACCOUNTS,
    resources::EVENTS,
    resources::DEPLOYMENTS,
    resources::REPLICA_SETS,
    resources::STATEFUL_SETS,
    resources::DAEMON_SETS,
    resources::CONTROLLER_REVISIONS,
    resources::LEASES,
    CUSTOM_RESOURCE_DEFINITIONS,
    resources::MUTATING_WEBHOOK_CONFIGURATIONS,
    resources::VALIDATING_WEBHOOK_CONFIGURATIONS,
    resources::ROLES,
    resources::ROLE_BINDINGS,
    resources::CLUSTER_ROLES,
    resources::CLUSTER_ROLE_BINDINGS,
    resources::NETWORK_POLICIES,
];

fn controllers(config: ControllersConfig) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(seeds::NamespaceContents { ca: config.ca }),
        Box::new(seeds::ApiService {
            address: config.api_service,
            endpoint: config.api_endpoint,
        }),
        Box::new(deployment::Deployments),
        Box::new(replicaset::ReplicaSets),
        Box::new(statefulset::StatefulSets),
        Box::new(daemonset::DaemonSets),
        Box::new(scheduler::Scheduler),
        Box::new(endpoints::EndpointSlices),
        Box::new(endpoints::LegacyEndpoints),
        Box::new(endpoints::MirroredSlices),
        Box::new(namespace::Namespaces),
        Box::new(garbage::GarbageCollector),
        Box::new(nodes::Nodes),
        Box::new(nodes::LostPods),
        Box::new(sweep::Events),
        Box::new(sweep::FinishedPods),
    ]
}

/// Runs all control loops until drained.
///
/// The client's user name is the manager of the fields that the loops write: `system:kube-controller-manager` is what users of Kubernetes know.
pub async fn run(client: Client, config: ControllersConfig, mut drain: Drain) {
    let tasks = TaskGroup::new("controllers");
    let loops = controllers(config).into_iter().map(|controller| Running {
        controller,
        queue: queue::Queue::default(),
    });
    let shared = Arc::new(Shared {
        client,
        cache: cache::Cache::default(),
        recorder: event::Recorder::new(),
        loops: loops.collect(),
    });
    tokio::select! {
        () = start(&shared, &tasks) => {}
        () = drain.wait() => {}
    }
    drain.wait().await;
    // Nothing is lost by stopping anywhere: the next start finds the objects as they are.
    tasks.shutdown(Duration::ZERO).await;
}

/// Fills the cache, then starts the workers: before, absence from the cache would mean nothing.
async fn start(shared: &Arc<Shared>, tasks: &TaskGroup) {
    let mut readiness = Vec::new();
    for resource in WATCHED {
        readiness.push(follow(shared, tasks, resource).1);
    }
    join_all(readiness).await;
    for (index, running) in shared.loops.iter().enumerate() {
        for key in running.controller.start() {
            running.queue.add(key);
        }
        for _ in 0..running.controller.workers() {
            tasks.spawn(running.controller.name(), shared.clone().work(index));
        }
    }
    tasks.spawn("events", shared.clone().write_events());
    tasks.spawn("custom-resources", follow_custom(shared.clone(), tasks.clone()));
}

fn follow(shared: &Arc<Shared>, tasks: &TaskGroup, resource: ResourceId) -> (AbortHandle, oneshot::Receiver<()>) {
    shared.cache.write(|objects| objects.expect(&resource));
    let (ready, is_ready) = oneshot::channel();
    let name = format!("watch {resource}");
    (tasks.spawn(name, shared.clone().follow(resource, ready)), is_ready)
}

/// Watches each custom resource while it is defined.
async fn follow_custom(shared: Arc<Shared>, tasks: TaskGroup) {
    let mut followed: BTreeMap<String, (ResourceId, AbortHandle)> = BTreeMap::new();
    // The definitions are always served, so that the watch cannot be refused.
    let Ok(mut definitions) = shared.client.watch(&CUSTOM_RESOURCE_DEFINITIONS, None).await else {
        tracing::error!("custom resource definitions cannot be watched: custom objects will not be collected");
        return;
    };
    while let Some(event) = definitions.next().await {
        let (definition, wanted) = match &event {
            Event::Added(definition) | Event::Modified { new: definition, .. } => {
                (definition, custom_resource(definition))
            }
            Event::Deleted(definition) => (definition, None),
            Event::Synced => continue,
        };
        let name = object::name(definition);
        if followed.get(name).map(|(resource, _)| resource) == wanted.as_ref() {
            continue;
        }
        if let Some((resource, watch)) = followed.remove(name) {
            watch.abort();
            let changes = shared.cache.write(|objects| objects.forget(&resource));
            for change in changes {
                shared.publish(&change);
            }
        }
        if let Some(resource) = wanted {
            let (watch, _) = follow(&shared, &tasks, resource.clone());
            followed.insert(name.to_owned(), (resource, watch));
        }
    }
}

/// The resource that an established definition serves, in the version that it stores, or else the first one served.
fn custom_resource(definition: &Value) -> Option<ResourceId> {
    if !object::is_true(definition, "Established") {
        return None;
    }
    let served = || {
        object::items(definition, "/spec/versions")
            .iter()
            .filter(|version| object::flag(version, "/served"))
    };
    let version = served()
        .find(|version| object::flag(version, "/storage"))
        .or_else(|| served().next())?;
    Some(ResourceId::new(
        object::text(definition, "/spec/group"),
        object::text(version, "/name"),
        object::text(definition, "/spec/names/plural"),
    ))
}
