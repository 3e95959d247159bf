//! Istio's resources and mesh-wide configuration.
//!
//! One module per subject as Istio's own API has them; types of several subjects are where their first user is.

pub mod authorization_policy;
pub mod destination_rule;
pub mod envoy_filter;
pub mod extension_providers;
pub mod extensions;
pub mod gateway;
mod kinds;
pub mod mesh_config;
pub mod mesh_networks;
pub mod peer_authentication;
pub mod proxy_config;
pub mod proxy_config_resource;
pub mod request_authentication;
pub mod selector;
pub mod service_entry;
pub mod sidecar;
pub mod status;
pub mod telemetry;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

pub use kinds::*;
