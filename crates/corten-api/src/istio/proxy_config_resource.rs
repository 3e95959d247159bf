//! The ProxyConfig resource: overrides for some workloads.

use std::collections::BTreeMap;

use corten_derive::Message;

use super::selector::WorkloadSelector;

/// The specification of a proxy config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyConfigSpec {
    /// The selector.
    pub selector: Option<WorkloadSelector>,
    /// The concurrency.
    #[api(minimum = 0, nullable)]
    pub concurrency: Option<i32>,
    /// The environment variables.
    #[api(values(max_length = 2048))]
    pub environment_variables: BTreeMap<String, String>,
    /// The image.
    pub image: Option<ProxyImage>,
}

/// The proxy image.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyImage {
    /// The image type.
    pub image_type: String,
}
