//! `envoy.service.discovery.v3`: the part of the discovery messages that sessions need, both variants.

use std::collections::HashMap;

use prost_types::{Any, Struct};

/// Full path of the bidirectional delta method.
pub const DELTA_METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Full path of the bidirectional state-of-the-world method.
pub const SOTW_METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Locality {
    /// Region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// Zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// Sub-zone.
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.Node`: who asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// `<type>~<ip>~<name>.<namespace>~<dns domain>`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name of the local service cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Istio's node metadata.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    /// Where the node is.
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    /// Which software the node is.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// What an Envoy is built with.
    #[prost(message, repeated, tag = "9")]
    pub extensions: Vec<Extension>,
}

/// `envoy.config.core.v3.Extension`, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    /// The name that it is known by.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `google.rpc.Status`: why a response was rejected.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A gRPC code; clients may leave it 0 even for a rejection.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The reason.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Typed details.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// A resource with its name and version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Version of this resource; opaque to the client.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The resource.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names under which it was asked for.
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
}

/// Delta: subscribes, unsubscribes, acknowledges or rejects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// The client; needed in the first request of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Type of the resources.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add; `*` is everything.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to drop.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client already has, name to version; in the first request after a reconnect.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// The response that is acknowledged or rejected; empty for a request of the client's own accord.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present: the response was rejected, at least in part.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// Delta: changed and removed resources.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// Version of the whole, for people.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Added and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Comes back in the acknowledgement.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that no longer exist.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// State of the world: asks, acknowledges or rejects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// The version last accepted.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// The client; needed in the first request of a stream.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// The names asked for.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response that is acknowledged or rejected.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Present: the response was rejected.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// State of the world: all resources of a type that the client asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponse {
    /// Version of the whole.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// The resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Comes back in the acknowledgement.
    #[prost(string, tag = "5")]
    pub nonce: String,
}
