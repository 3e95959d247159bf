//! Wire types only: what the two planes, the node agent and their Istio counterparts say to each other.
//!
//! Messages are written down by hand from their field numbers and derive their encoding with `prost`; nothing is generated at build time.
//! There is no behaviour here beyond constants that belong to the wire.

pub mod ca;
pub mod discovery;
pub mod security;
pub mod workload;
pub mod zds;

pub use prost::Message;
pub use prost_types::{Any, Struct, Value, value};

/// Type URL of [`workload::Address`] resources.
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of [`workload::Workload`] resources.
pub const WORKLOAD_TYPE: &str = "type.googleapis.com/istio.workload.Workload";
/// Type URL of [`security::Authorization`] resources.
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";
