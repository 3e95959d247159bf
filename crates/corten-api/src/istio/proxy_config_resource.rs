//! The ProxyConfig resource: overrides for some workloads.

use std::collections::BTreeMap;

use corten_derive::Message;

use super::selector::WorkloadSelector;

/// Settings for the proxies of some workloads.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyConfigSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// Worker threads; 0 is one for each core.
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
