//! Resource types: Kubernetes, Istio and Gateway API, decoded with diagnostics.

// The derive macros name this crate from outside as well as from within.
extern crate self as corten_api;

mod base64;
pub mod codec;
pub mod crds;
pub mod decode;
pub mod diagnostic;
pub mod gateway_api;
pub mod inference;
pub mod istio;
pub mod kubernetes;
pub mod metadata;
pub mod multicluster;
pub mod re2;
pub mod resource;
pub mod validate;
pub mod yaml;

/// All kinds of custom resources that are known.
pub fn kinds() -> impl Iterator<Item = &'static resource::Registered> {
    [istio::KINDS, gateway_api::KINDS, inference::KINDS, multicluster::KINDS]
        .into_iter()
        .flatten()
}

/// The kind an object is of, if it is a known one; its version is not looked at.
pub fn kind(group: &str, kind: &str) -> Option<&'static resource::Registered> {
    kinds().find(|r| r.kind.kind == kind && r.kind.group == group)
}
