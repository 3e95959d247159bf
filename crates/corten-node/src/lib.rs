//! corten-node, the L4 node proxy: HBONE between pods, policy, load balancing, DNS.
//!
//! Two sides. The data path is [`shard`]s: threads with an epoll each, which read immutable tables and own their sockets.
//! The control side is one tokio runtime: configuration, certificates, the node agent, servers for operators. It never touches a connection.

pub mod config;
pub mod control;
pub mod dns;
pub mod inpod;
mod run;
pub mod shard;
pub mod telemetry;

pub use run::{RunError, run};
