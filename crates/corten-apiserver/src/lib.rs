//! The local runtime's Kubernetes API: storage, discovery, list and watch, patch, admission.
//!
//! Serves what kubectl, kube-rs and client-go need for the resources of a mesh, over HTTPS and to the runtime's own parts in process.
//! Knows Kubernetes' protocol and no mesh; how pods run is behind [`PodBackend`].

mod admission;
mod api;
mod auth;
mod client;
mod context;
mod crd;
mod http;
mod kinds;
pub mod object;
pub mod pki;
mod pods;
mod printers;
mod registry;
pub mod resources;
pub mod selector;
mod status;
mod store;
mod validation;
mod verbs;

pub use admission::Dialer;
pub use api::Api;
pub use client::{Client, Event, Patch, Watch};
pub use context::{Context, FieldValidation, User};
pub use http::{ServeError, ServerConfig, serve};
pub use object::Object;
pub use pods::{Duplex, ExecExit, ExecOptions, ExecStreams, LogOptions, PodBackend, TerminalSize};
pub use printers::human_span;
pub use resources::ResourceId;
pub use status::{Cause, Details, Status};
pub use store::OpenError;
pub use verbs::{DeleteOptions, Preconditions, Propagation};
