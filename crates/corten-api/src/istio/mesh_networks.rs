//! MeshNetworks: which endpoints can reach each other directly.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Message, OneOf};

/// The network endpoints.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct NetworkEndpoints {
    /// The ne.
    #[api(flatten)]
    pub ne: Option<NetworkEndpointsNe>,
}

/// The network endpoints ne.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum NetworkEndpointsNe {
    /// The from cidr.
    FromCidr(String),
    /// The from registry.
    FromRegistry(String),
}

/// The istio network gateway.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioNetworkGateway {
    /// The gw.
    #[api(flatten)]
    pub gw: Option<IstioNetworkGatewayGw>,
    /// The port.
    pub port: Port,
    /// The locality.
    pub locality: String,
}

/// The istio network gateway gw.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum IstioNetworkGatewayGw {
    /// The registry service name.
    RegistryServiceName(String),
    /// The address.
    Address(String),
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Network {
    /// The endpoints.
    pub endpoints: Vec<NetworkEndpoints>,
    /// The gateways this is limited to.
    pub gateways: Vec<IstioNetworkGateway>,
}

/// The networks of the mesh, by name.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MeshNetworks {
    /// The networks.
    pub networks: BTreeMap<String, Network>,
}
