//! `envoy.service.status.v3`: how far a client is, as tools ask for it.

use prost_types::Timestamp;

use crate::discovery::Node;

/// `ClientConfig`: one client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientConfig {
    /// The client.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Its types.
    #[prost(message, repeated, tag = "3")]
    pub generic_xds_configs: Vec<GenericXdsConfig>,
}

/// `ClientConfig.GenericXdsConfig`: one type of a client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GenericXdsConfig {
    /// The type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// When the last response was sent.
    #[prost(message, optional, tag = "5")]
    pub last_updated: Option<Timestamp>,
    /// How far the client is.
    #[prost(enumeration = "ConfigStatus", tag = "6")]
    pub config_status: i32,
    /// Its last rejection, if nothing was accepted since.
    #[prost(message, optional, tag = "8")]
    pub error_state: Option<UpdateFailureState>,
}

/// `envoy.admin.v3.UpdateFailureState`: a rejection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateFailureState {
    /// Why.
    #[prost(string, tag = "3")]
    pub details: String,
}

/// `ConfigStatus`: how far a client is with a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ConfigStatus {
    /// Not known.
    Unknown = 0,
    /// All that was sent has been accepted.
    Synced = 1,
    /// Nothing has been sent.
    NotSent = 2,
    /// Something sent is not acknowledged yet.
    Stale = 3,
    /// The last answer was a rejection.
    Error = 4,
}
