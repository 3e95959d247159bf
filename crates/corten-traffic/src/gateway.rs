//! Where a gateway is: a waypoint, or the way into another network.

use std::{fmt, net::IpAddr};

use corten_proto::workload as proto;

use crate::{
    address::parse_ip,
    name::{Interner, Name},
    resource::Invalid,
};

/// A gateway, by address or by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// Where.
    pub destination: Destination,
    /// Port of its tunnel listener, as its service has it.
    pub hbone_port: u16,
}

/// An address or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// An address of a network.
    Address {
        /// The network.
        network: Name,
        /// The address.
        address: IpAddr,
    },
    /// A service, or a workload, by host name.
    Hostname {
        /// The namespace.
        namespace: Name,
        /// The host name.
        hostname: Name,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Address { network, address } => write!(f, "{network}/{address}"),
            Destination::Hostname { namespace, hostname } => write!(f, "{namespace}/{hostname}"),
        }
    }
}

/// From the message; the field's name is for the reason.
pub(crate) fn parse(
    field: &'static str,
    gateway: proto::GatewayAddress,
    interner: &mut Interner,
) -> Result<GatewayAddress, Invalid> {
    let Some(destination) = gateway.destination else {
        return Err(Invalid::new(field, "has neither an address nor a host name"));
    };
    let destination = match destination {
        proto::gateway_address::Destination::Address(address) => Destination::Address {
            network: interner.name(&address.network),
            address: parse_ip(&address.address).ok_or_else(|| Invalid::address(field, &address.address))?,
        },
        proto::gateway_address::Destination::Hostname(host) => Destination::Hostname {
            namespace: interner.name(&host.namespace),
            hostname: interner.name(&host.hostname),
        },
    };
    let hbone_port = u16::try_from(gateway.hbone_mtls_port)
        .map_err(|_| Invalid::new(field, format!("has port {}, which is none", gateway.hbone_mtls_port)))?;
    Ok(GatewayAddress {
        destination,
        hbone_port,
    })
}
