//! Resource types: Kubernetes, Istio and Gateway API, decoded with diagnostics.

pub mod decode;
pub mod diagnostic;
