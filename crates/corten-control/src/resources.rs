//! Envoy's resources as they are sent: encoded once, with a version that says whether they changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_envoy::prost::{Message, Name};
use corten_envoy_gen::Resources;
use corten_xds::server::Resource;
use xxhash_rust::xxh64::xxh64;

/// Clusters.
pub(crate) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of a cluster.
pub(crate) const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners.
pub(crate) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Routes.
pub(crate) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Extensions that filters ask for by name.
pub(crate) const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// Resources of a type by name.
pub(crate) type ByName = BTreeMap<Arc<str>, Resource>;

/// All of them, by type, in the order in which a proxy takes them.
pub(crate) fn encode(made: Resources) -> [(&'static str, ByName); 5] {
    [
        (
            CLUSTER,
            of(CLUSTER, made.clusters.iter().map(|one| (one.name.as_str(), one))),
        ),
        (
            ENDPOINT,
            of(ENDPOINT, made.endpoints.iter().map(|(name, one)| (name.as_str(), one))),
        ),
        (
            LISTENER,
            of(LISTENER, made.listeners.iter().map(|one| (one.name.as_str(), one))),
        ),
        (
            ROUTE,
            of(ROUTE, made.routes.iter().map(|(name, one)| (name.as_str(), one))),
        ),
        (
            EXTENSION,
            of(
                EXTENSION,
                made.extensions.iter().map(|(name, one)| (name.as_str(), one)),
            ),
        ),
    ]
}

fn of<'a, M: Message + Name + 'a>(type_url: &'static str, made: impl Iterator<Item = (&'a str, &'a M)>) -> ByName {
    made.map(|(name, message)| {
        let body = corten_envoy::encode(message);
        let version = format!("{:016x}", xxh64(&body, 0));
        let resource = Resource::new(type_url, name, &version, &body);
        (Arc::clone(resource.name()), resource)
    })
    .collect()
}
