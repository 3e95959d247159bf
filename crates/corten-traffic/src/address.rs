//! IP addresses as the messages have them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// 4 or 16 bytes as an address; an IPv4 address written as IPv6 is IPv4.
pub(crate) fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|sixteen| IpAddr::from(sixteen).to_canonical())
}

/// An address and a prefix length as a range.
pub(crate) fn parse_net(bytes: &[u8], length: u32) -> Option<IpNet> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let net = IpNet::new(address, u8::try_from(length).ok()?).ok()?;
    Some(net.trunc())
}

/// The address with an IPv4 address written as IPv6 turned into IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
