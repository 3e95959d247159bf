//! The authority of a tunnel request: what a peer asks to be connected to.

use std::net::SocketAddr;

use crate::address::canonical;

/// The longest host name, as DNS has it.
const HOSTNAME_MAX: usize = 253;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested<'a> {
    /// An address.
    Address(SocketAddr),
    /// A service's port.
    Hostname(&'a str, u16),
}

/// An authority that is neither `address:port` nor `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is no port, or it is none.
    #[error("the authority has no port")]
    Port,
    /// There is no host, or it is none.
    #[error("the authority's host is neither an address nor a name")]
    Host,
}

impl<'a> Requested<'a> {
    /// From the text of `:authority`.
    pub fn parse(authority: &'a str) -> Result<Requested<'a>, AuthorityError> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Ok(Requested::Address(canonical(address)));
        }
        let (host, port) = authority.rsplit_once(':').ok_or(AuthorityError::Port)?;
        // `u16::from_str` takes a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AuthorityError::Port);
        }
        let port = port.parse().map_err(|_| AuthorityError::Port)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if host.is_empty() || host.len() > HOSTNAME_MAX || !host.bytes().all(is_name) {
            return Err(AuthorityError::Host);
        }
        Ok(Requested::Hostname(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthorityError, Requested};

    #[track_caller]
    fn check(authority: &str, expected: Result<Requested<'_>, AuthorityError>) {
        assert_eq!(Requested::parse(authority), expected, "{authority}");
    }

    #[test]
    fn authorities() {
        let address = |text: &str| Ok(Requested::Address(text.parse().unwrap()));
        check("10.0.0.1:80", address("10.0.0.1:80"));
        check("[fd00::1]:8080", address("[fd00::1]:8080"));
        check("[::ffff:10.0.0.1]:80", address("10.0.0.1:80"));
        check(
            "a.b.svc.cluster.local:80",
            Ok(Requested::Hostname("a.b.svc.cluster.local", 80)),
        );
        check("a.b", Err(AuthorityError::Port));
        check("a.b:", Err(AuthorityError::Port));
        check("a.b:+80", Err(AuthorityError::Port));
        check("a.b:65536", Err(AuthorityError::Port));
        check(":80", Err(AuthorityError::Host));
        check("", Err(AuthorityError::Port));
        check("user@host:80", Err(AuthorityError::Host));
        check("fd00::1:80", Err(AuthorityError::Host));
        check(&format!("{}:80", "a".repeat(254)), Err(AuthorityError::Host));
    }
}
