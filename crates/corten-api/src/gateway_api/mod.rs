//! The resources of the Gateway API, of its standard and experimental channels.
//!
//! One definition serves both channels: what only the experimental one has is marked.

pub mod backend_tls_policy;
pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
mod kinds;
pub mod listener_set;
pub mod policy;
pub mod reference_grant;
pub mod shared;
pub mod tcp_route;
pub mod tls_route;
pub mod udp_route;
pub mod x_backend;
pub mod x_backend_traffic_policy;
pub mod x_mesh;

pub use kinds::*;
