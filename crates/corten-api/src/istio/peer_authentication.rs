//! PeerAuthentication: whether mutual TLS is demanded.

use std::collections::BTreeMap;

use corten_derive::{Enumeration, Message};

use super::selector::WorkloadSelector;

/// The specification of a peer authentication.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true",
    "portLevelMtls requires selector"
))]
pub struct PeerAuthenticationSpec {
    /// The selector.
    pub selector: Option<WorkloadSelector>,
    /// The mtls.
    pub mtls: Option<MutualTLS>,
    /// The port level mtls.
    #[api(
        min_properties = 1,
        rule("self.all(key, 0 < int(key) && int(key) <= 65535)", "port must be between 1-65535")
    )]
    pub port_level_mtls: Option<BTreeMap<u32, MutualTLS>>,
}

/// The mutual TLS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MutualTLS {
    /// The mode.
    pub mode: MutualTLSMode,
}

/// The mutual TLS mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum MutualTLSMode {
    /// The value `UNSET`.
    #[default]
    Unset,
    /// The value `DISABLE`.
    Disable,
    /// The value `PERMISSIVE`.
    Permissive,
    /// The value `STRICT`.
    Strict,
}
