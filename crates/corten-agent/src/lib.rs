//! corten-agent, the node agent: answers the CNI plugin, watches this node's pods, enrolls and repairs.
//!
//! [`machine`] decides, and is pure; [`driver`] feeds it with what happens and gives its jobs to [`worker`], which carries them out in the
//! pods' namespaces, with the node proxy and the Kubernetes API. [`eligibility`] says who belongs to the mesh. [`install`] keeps the CNI
//! plugin in place. [`repair`] sees to pods with sidecars that were started before it was.

mod admin;
mod agent;
pub mod config;
pub mod discovery;
pub mod driver;
pub mod eligibility;
pub mod install;
pub mod kubernetes;
mod leavings;
pub mod machine;
pub mod metrics;
mod placement;
pub mod plugin;
pub mod pod;
pub mod repair;
pub mod worker;

pub use agent::{RunError, run};
