//! Envoy's resources as they are sent: encoded once, with a version that says whether they changed.

use std::collections::BTreeMap;

use corten_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use corten_envoy::prost::{Message, Name};
use corten_envoy_gen::{Resources, name_table::Named};
use corten_proto::names::{NameInfo, NameTable};
use corten_proto::{NAME_TABLE_TYPE, PROXY_CONFIG_TYPE};
use corten_routing::Registry;
use corten_xds::server::{Keys, Resource, TypeConfig};
use xxhash_rust::xxh64::xxh64;

use crate::secret::SECRET;

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

/// The types in the order in which a proxy takes them: nothing is told of before what it leads to.
pub(crate) fn types() -> [TypeConfig; 8] {
    let config = |type_url, state_wildcard, follows| TypeConfig {
        type_url,
        state_wildcard,
        keys: |_: &Resource| Keys::default(),
        view: None,
        follows,
    };
    [
        config(CLUSTER, true, None),
        config(ENDPOINT, false, Some(CLUSTER)),
        config(LISTENER, true, None),
        config(ROUTE, false, None),
        config(EXTENSION, false, None),
        // There is one.
        config(NAME_TABLE_TYPE, true, None),
        // These are put there by whoever knows them; of the first there is one as well.
        config(PROXY_CONFIG_TYPE, true, None),
        config(SECRET, false, None),
    ]
}

/// Encodes all of them.
pub(crate) fn encode(made: &Resources, mut take: impl FnMut(&'static str, Resource)) {
    for cluster in &made.clusters {
        take(CLUSTER, resource(CLUSTER, &cluster.name, cluster));
    }
    for (name, endpoints) in &made.endpoints {
        take(ENDPOINT, resource(ENDPOINT, name, endpoints));
    }
    for listener in &made.listeners {
        take(LISTENER, resource(LISTENER, &listener.name, listener));
    }
    for (name, route) in &made.routes {
        take(ROUTE, resource(ROUTE, name, route));
    }
    for (name, extension) in &made.extensions {
        take(EXTENSION, resource(EXTENSION, name, extension));
    }
    if let Some(names) = &made.names {
        let body = name_table(names).encode_to_vec();
        let version = format!("{:016x}", xxh64(&body, 0));
        take(
            NAME_TABLE_TYPE,
            Resource::new(NAME_TABLE_TYPE, "names", &version, &body),
        );
    }
}

fn name_table(names: &BTreeMap<String, Named>) -> NameTable {
    let info = |named: &Named| NameInfo {
        ips: named.addresses.iter().map(ToString::to_string).collect(),
        registry: match named.registry {
            Registry::Kubernetes => "Kubernetes",
            Registry::External => "External",
        }
        .to_owned(),
        shortname: named.short.to_string(),
        namespace: named.namespace.to_string(),
        alt_hosts: Vec::new(),
    };
    NameTable {
        table: names.iter().map(|(name, named)| (name.clone(), info(named))).collect(),
    }
}

/// The endpoints of a name.
pub(crate) fn endpoints(name: &str, made: &ClusterLoadAssignment) -> Resource {
    resource(ENDPOINT, name, made)
}

fn resource<M: Message + Name>(type_url: &'static str, name: &str, message: &M) -> Resource {
    let body = corten_envoy::encode(message);
    let version = format!("{:016x}", xxh64(&body, 0));
    Resource::new(type_url, name, &version, &body)
}
