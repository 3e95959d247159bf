//! The header of the PROXY protocol, version 2, with which an application that takes the tunnel's traffic learns who calls whom.

use std::net::{IpAddr, SocketAddr};

use corten_core::Identity;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// The element that holds the caller's identity.
const IDENTITY_TYPE: u8 = 0xd0;

/// The header for a connection from `source`, whose identity is known or not, to `destination`.
///
/// The protocol has one family for both addresses: where they differ, the IPv4 one is written as IPv6.
pub fn proxy_header(source: SocketAddr, destination: SocketAddr, identity: Option<&Identity>) -> Vec<u8> {
    let (source_ip, destination_ip) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mut body = Vec::with_capacity(128);
    let family = match (source_ip, destination_ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets());
            body.extend(to.octets());
            TCP4
        }
        (from, to) => {
            body.extend(as_ipv6(from));
            body.extend(as_ipv6(to));
            TCP6
        }
    };
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    if let Some(identity) = identity.map(Identity::to_string)
        // Names of Kubernetes are far shorter; what does not fit could not be read either.
        && let Ok(length) = u16::try_from(identity.len())
        && body.len() + 3 + identity.len() <= usize::from(u16::MAX)
    {
        body.push(IDENTITY_TYPE);
        body.extend(length.to_be_bytes());
        body.extend(identity.as_bytes());
    }
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + body.len());
    header.extend(SIGNATURE);
    header.extend([VERSION_AND_COMMAND, family]);
    header.extend(length.to_be_bytes());
    header.extend(body);
    header
}

fn as_ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::proxy_header;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[track_caller]
    fn check(source: &str, destination: &str, identity: Option<&str>, expected: &str) {
        let identity = identity.map(|text| text.parse().unwrap());
        let header = proxy_header(source.parse().unwrap(), destination.parse().unwrap(), identity.as_ref());
        assert_eq!(hex(&header), format!("0d0a0d0a000d0a515549540a{expected}"));
    }

    #[test]
    fn headers() {
        check("10.0.0.1:4660", "10.0.0.2:80", None, "2111000c0a0000010a00000212340050");
        check(
            "10.0.0.1:4660",
            "[::1]:80",
            None,
            "21210024\
             00000000000000000000ffff0a000001\
             00000000000000000000000000000001\
             12340050",
        );
        check(
            "[::ffff:10.0.0.1]:4660",
            "10.0.0.2:80",
            None,
            "2111000c0a0000010a00000212340050",
        );
        check(
            "10.0.0.1:1",
            "10.0.0.2:2",
            Some("spiffe://td/ns/a/sa/b"),
            "211100240a0000010a00000200010002d000157370696666653a2f2f74642f6e732f612f73612f62",
        );
    }
}
