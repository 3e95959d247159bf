//! Puts a network namespace into the mesh: redirection rules, policy routing, probe sets, namespace hand-over (ZDS).
//!
//! What the rules are is pure: [`PodRules`], [`HostRules`] and [`sidecar`] render values and text. [`PodNetwork`] and [`HostNetwork`]
//! carry them to the kernel, read them back and repair them; [`zds`] is the agent's side of the protocol that hands namespaces to a
//! node proxy. Knows neither Kubernetes nor which pods belong to the mesh.

mod backend;
pub mod constants;
mod host;
pub mod iptables;
mod network;
mod node;
mod pod;
mod proxied;
mod routing;
pub mod sidecar;
mod text;
pub mod zds;

pub use backend::{Backend, NoBackend};
pub use host::HostRules;
pub use network::{NetworkError, PodNetwork, State};
pub use node::HostNetwork;
pub use pod::PodRules;
pub use routing::Routing;
pub use text::commands;
