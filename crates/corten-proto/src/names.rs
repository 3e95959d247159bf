//! Name discovery: the names of services, for whoever answers a pod's questions to DNS (`istio.networking.nds.v1`).

use std::collections::BTreeMap;

/// The names that may be asked for, with the names of their zones, as in `web.shop.svc.cluster.local`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameTable {
    /// By name; a wildcard stands for all that end so.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NameInfo {
    /// Addresses.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// `Kubernetes`, `External`.
    #[prost(string, tag = "2")]
    pub registry: String,
    /// The name of a Kubernetes Service, by which it is known in its namespace.
    #[prost(string, tag = "3")]
    pub shortname: String,
    /// That namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Other names; not sent any more.
    #[prost(string, repeated, tag = "5")]
    pub alt_hosts: Vec<String>,
}
