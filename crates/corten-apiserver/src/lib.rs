//! The local runtime's Kubernetes API: storage, discovery, list and watch, patch, admission.
//!
//! Serves what kubectl, kube-rs and client-go need for the resources of a mesh, over HTTPS and to the runtime's own parts in process.
//! Knows Kubernetes' protocol and no mesh; how pods run is behind [`PodBackend`].

mod api;
mod client;
mod context;
mod crd;
mod kinds;
pub mod object;
mod pods;
#[cfg_attr(not(test), expect(dead_code, reason = "tables are sent by the HTTP side, which comes next"))]
mod printers;
mod registry;
pub mod resources;
pub mod selector;
mod status;
mod store;
mod verbs;

pub use api::Api;
pub use client::{Client, Event, Patch, Watch};
pub use context::{Context, FieldValidation, User};
pub use object::Object;
pub use pods::{Duplex, ExecExit, ExecOptions, ExecStreams, LogOptions, PodBackend, TerminalSize};
pub use resources::ResourceId;
pub use status::{Cause, Details, Status};
pub use store::{Expired, OpenError};
pub use verbs::{DeleteOptions, Preconditions, Propagation};
