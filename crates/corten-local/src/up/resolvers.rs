//! Sockets to the host's DNS resolvers, made in the host's network namespace for the cluster's DNS to ask through.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// As many as C libraries use.
const RESOLVERS_MAX: usize = 3;

/// A connected socket for each of the host's resolvers that can be reached at all; none if the host has no network.
pub(super) fn connect() -> Vec<UdpSocket> {
    let config = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    servers(&config)
        .into_iter()
        .filter_map(|server| socket(server).ok())
        .collect()
}

fn socket(server: IpAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((server, 53))?;
    Ok(socket)
}

/// The `nameserver` lines of a `resolv.conf`. Addresses with a zone (`fe80::1%eth0`) are left out.
fn servers(config: &str) -> Vec<IpAddr> {
    let words = config.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let named = words.filter_map(|words| match words[..] {
        ["nameserver", address, ..] => address.parse().ok(),
        _ => None,
    });
    named.take(RESOLVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &str, expected: &[&str]) {
        let found: Vec<String> = servers(config).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nameservers_are_found_in_order() {
        check(
            "search a b\nnameserver 127.0.0.53\n# nameserver 9.9.9.9\nnameserver ::1 # comment\n",
            &["127.0.0.53", "::1"],
        );
        check("nameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n", &[]);
        check(
            &"nameserver 10.0.0.1\n".repeat(5),
            &["10.0.0.1", "10.0.0.1", "10.0.0.1"],
        );
        check("", &[]);
    }
}
