//! The `forwarded` header of a tunnel request: the client's address, which nobody relies on, and the service it meant, for telemetry.

use std::net::SocketAddr;

/// Name of the header.
pub const FORWARDED_HEADER: &str = "forwarded";
/// The longest host name, as DNS has it.
const HOSTNAME_MAX: usize = 253;

/// The header of a request for a client that meant a service, if that is known.
pub fn forwarded(client: SocketAddr, hostname: Option<&str>) -> String {
    match hostname {
        Some(hostname) => format!("for=\"{client}\";host={hostname}"),
        None => format!("for=\"{client}\""),
    }
}

/// The host that a header names.
pub fn forwarded_host(header: &[u8]) -> Option<&str> {
    let header = std::str::from_utf8(header).ok().filter(|header| header.is_ascii())?;
    let host = header.split(';').find_map(|part| part.trim().strip_prefix("host="))?;
    let host = host.strip_prefix('"').unwrap_or(host);
    let host = host.strip_suffix('"').unwrap_or(host);
    (!host.is_empty() && host.len() <= HOSTNAME_MAX).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::{forwarded, forwarded_host};

    #[test]
    fn written_and_read() {
        let client = "[fd00::1]:1234".parse().unwrap();
        assert_eq!(forwarded(client, None), "for=\"[fd00::1]:1234\"");
        let header = forwarded(client, Some("a.b.svc.cluster.local"));
        assert_eq!(header, "for=\"[fd00::1]:1234\";host=a.b.svc.cluster.local");
        assert_eq!(forwarded_host(header.as_bytes()), Some("a.b.svc.cluster.local"));
    }

    #[test]
    fn odd_headers() {
        for (header, expected) in [
            ("host=\"a\"", Some("a")),
            ("for=x; host=a ;by=y", Some("a")),
            ("host=a;host=b", Some("a")),
            ("host=", None),
            ("host=\"\"", None),
            ("host=\"", None),
            ("for=1.2.3.4", None),
            ("", None),
            ("host=\u{e9}", None),
        ] {
            assert_eq!(forwarded_host(header.as_bytes()), expected, "{header}");
        }
        assert_eq!(forwarded_host(&[b'h', 0xff]), None);
        assert_eq!(forwarded_host(format!("host={}", "a".repeat(254)).as_bytes()), None);
    }
}
