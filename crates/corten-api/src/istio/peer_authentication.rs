//! PeerAuthentication: whether mutual TLS is demanded.

use std::collections::BTreeMap;

use corten_derive::{Enumeration, Message};

use super::selector::WorkloadSelector;

/// Whether mutual TLS is demanded of those who connect.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true",
    "portLevelMtls requires selector"
))]
pub struct PeerAuthenticationSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The mode of all ports.
    pub mtls: Option<MutualTLS>,
    /// The modes of single ports.
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
    /// As the policy above says; permissive if there is none.
    #[default]
    Unset,
    /// Plain text.
    Disable,
    /// Both plain text and mutual TLS.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
