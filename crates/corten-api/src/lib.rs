//! Resource types: Kubernetes, Istio and Gateway API, decoded with diagnostics.

// The derive macros name this crate from outside as well as from within.
extern crate self as corten_api;

pub mod codec;
pub mod decode;
pub mod diagnostic;
