//! Wire types only: what the two planes, the node agent and their Istio counterparts say to each other.
//!
//! Messages are written down by hand from their field numbers and derive their encoding with `prost`; nothing is generated at build time.
//! There is no behaviour here beyond constants that belong to the wire.

pub mod ca;
pub mod client_status;
pub mod discovery;
pub mod names;
pub mod security;
pub mod trust;
pub mod workload;
pub mod zds;

pub use prost::Message;
pub use prost_types::{Any, Struct, Timestamp, Value, value};

/// Type URL of [`workload::Address`] resources.
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of [`workload::Workload`] resources.
pub const WORKLOAD_TYPE: &str = "type.googleapis.com/istio.workload.Workload";
/// Type URL of [`security::Authorization`] resources.
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";
/// Type URL of [`names::NameTable`] resources.
pub const NAME_TABLE_TYPE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
/// Type URL of [`trust::ProxyConfig`] resources.
pub const PROXY_CONFIG_TYPE: &str = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig";
/// Type URL of [`client_status::ClientConfig`] resources.
pub const CLIENT_CONFIG_TYPE: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";
/// What tools ask a control plane for: one of its debug endpoints, by path and query. Types below it ask for one of them.
pub const DEBUG_TYPE: &str = "istio.io/debug";
