//! Whether a stock Envoy accepts what was generated while the areas ran: each configuration once, given to one running Envoy by the
//! protocol by which proxies get theirs.

mod envoy;
mod secrets;
mod session;
mod single;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use corten_envoy::{
    any, boolean,
    envoy::config::{core::v3::address::Address as Socket, listener::v3::Listener},
};
use corten_envoy_gen::Resources;
use corten_routing::{Proxy, Snapshot};
use prost_types::Any;

pub(crate) use self::single::objects;

/// What was generated.
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

#[derive(Default)]
struct Kept {
    /// The area that runs.
    area: String,
    seen: HashSet<u64>,
    all: Vec<Configuration>,
}

/// What a proxy was sent, in the order in which Envoy is given it.
pub(crate) struct Configuration {
    /// The area that it is of, and whom it was for.
    pub(crate) of: String,
    /// By what they are called, which is what is asked for by name, and the names.
    pub(crate) parts: Vec<Part>,
}

/// The resources of one type.
pub(crate) struct Part {
    pub(crate) type_url: &'static str,
    /// Everything there is belongs to the proxy; otherwise it asks by name.
    pub(crate) wildcard: bool,
    pub(crate) resources: Vec<(String, Any)>,
}

/// Begins to keep what is generated.
pub(crate) fn keep() {
    *lock() = Some(Kept::default());
}

/// From here on, what is generated is of that area.
pub(crate) fn of_area(name: &str) {
    if let Some(kept) = lock().as_mut() {
        name.clone_into(&mut kept.area);
    }
}

/// Whether what is generated is kept.
fn keeps() -> bool {
    lock().is_some()
}

/// What a proxy is sent; every runner generates by this.
pub(crate) fn generate(snapshot: &Snapshot, proxy: &Proxy) -> Resources {
    let made = corten_envoy_gen::generate(snapshot, proxy);
    if let Some(kept) = lock().as_mut() {
        let parts = parts(&made);
        let mut hasher = DefaultHasher::new();
        for (name, resource) in parts.iter().flat_map(|part| &part.resources) {
            (name, &resource.type_url, &resource.value).hash(&mut hasher);
        }
        if kept.seen.insert(hasher.finish()) {
            let of = format!("{}, {:?} {}.{}", kept.area, proxy.kind, proxy.name, proxy.namespace);
            kept.all.push(Configuration { of, parts });
        }
    }
    made
}

/// Gives everything that was kept to an Envoy: how many configurations there were, and what it says of those that it refuses.
pub(crate) fn ask(envoy: &Path) -> Result<(usize, Vec<String>)> {
    let kept = lock().take().unwrap_or_default();
    Ok((kept.all.len(), session::all(envoy, &kept.all)?))
}

fn lock() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parts(made: &Resources) -> Vec<Part> {
    let plain = |made: corten_envoy::google::protobuf::Any| Any {
        type_url: made.type_url,
        value: made.value,
    };
    let part = |type_url, wildcard, resources| Part {
        type_url,
        wildcard,
        resources,
    };
    let clusters = made.clusters.iter().map(|one| (one.name.clone(), plain(any(one))));
    let endpoints = made.endpoints.iter().map(|(name, one)| (name.clone(), plain(any(one))));
    let listeners = made
        .listeners
        .iter()
        .map(|one| (one.name.clone(), plain(any(&unbound(one)))));
    let extensions = made
        .extensions
        .iter()
        .map(|(name, one)| (name.clone(), plain(any(one))));
    let routes = made.routes.iter().map(|(name, one)| (name.clone(), plain(any(one))));
    vec![
        part(
            "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            true,
            clusters.collect(),
        ),
        part(
            "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            false,
            endpoints.collect(),
        ),
        part(
            "type.googleapis.com/envoy.config.listener.v3.Listener",
            true,
            listeners.collect(),
        ),
        part(
            "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            false,
            extensions.collect(),
        ),
        part(
            "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            false,
            routes.collect(),
        ),
    ]
}

/// A listener that takes no port of the machine: whatever else there is to it is as it was generated.
fn unbound(listener: &Listener) -> Listener {
    let address = listener.address.as_ref().and_then(|address| address.address.as_ref());
    let mut listener = listener.clone();
    if matches!(address, Some(Socket::SocketAddress(_))) {
        listener.bind_to_port = boolean(false);
    }
    listener
}
