//! What a proxy was sent.

use std::collections::BTreeMap;

use corten_envoy::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener, route::v3::RouteConfiguration,
};

/// The resources of one proxy.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Listeners, in the order in which they were sent.
    pub listeners: Vec<Listener>,
    /// Route configurations by name: those that listeners name rather than hold.
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// Endpoints by the name that their cluster asks for.
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
}

impl Config {
    /// A configuration of the resources. Of two with one name the first counts, as Envoy keeps it.
    pub fn new(
        listeners: impl IntoIterator<Item = Listener>,
        routes: impl IntoIterator<Item = RouteConfiguration>,
        clusters: impl IntoIterator<Item = Cluster>,
        endpoints: impl IntoIterator<Item = ClusterLoadAssignment>,
    ) -> Self {
        Self {
            listeners: listeners.into_iter().collect(),
            routes: keyed(routes, |routes| &routes.name),
            clusters: keyed(clusters, |cluster| &cluster.name),
            endpoints: keyed(endpoints, |assignment| &assignment.cluster_name),
        }
    }
}

fn keyed<T>(items: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &String) -> BTreeMap<String, T> {
    let mut keyed = BTreeMap::new();
    for item in items {
        keyed.entry(name(&item).clone()).or_insert(item);
    }
    keyed
}
