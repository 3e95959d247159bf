//! Callers behind a gateway that ends their TLS, and says in a header (`x-forwarded-client-cert`) whose certificate it saw.
//!
//! Only gateways at addresses that are named as trusted are believed, and this process's own machine.

use std::net::IpAddr;

use corten_core::Identity;

/// The header, in small letters.
pub const HEADER: &str = "x-forwarded-client-cert";

/// Whose word is taken for who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedGateways {
    ranges: Vec<(IpAddr, u8)>,
}

/// A range that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no range of addresses, as 10.1.0.0/16 is")]
pub struct NotARange(pub String);

impl TrustedGateways {
    /// From ranges, separated by commas. An empty text: nobody is trusted but this machine.
    ///
    /// # Errors
    ///
    /// One of them is none; it is named.
    pub fn parse(text: &str) -> Result<TrustedGateways, NotARange> {
        let range = |text: &str| {
            let read = text.split_once('/').and_then(|(address, length)| {
                let address: IpAddr = address.parse().ok()?;
                let length: u8 = length.parse().ok()?;
                (u32::from(length) <= bits(address)).then_some((address, length))
            });
            read.ok_or_else(|| NotARange(text.to_owned()))
        };
        let ranges = text
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(range);
        Ok(TrustedGateways {
            ranges: ranges.collect::<Result<_, _>>()?,
        })
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a connection from there is a gateway's that is believed.
    pub fn trusts(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        from.is_loopback() || self.ranges.iter().any(|range| holds(*range, from))
    }

    /// Who called a gateway at `from`, by its header's lines; `None`: it is not believed, or does not say who.
    ///
    /// What several gateways say of one another is a list, of which only the last part is from who is believed. A caller may have brought along
    /// any text before it: a line of its own, or a quote that never ends and takes in what the gateway adds. Nobody is believed then.
    /// A name of another trust domain than `trust_domain` is no name of a caller.
    pub fn identity<'a>(
        &self,
        from: IpAddr,
        mut lines: impl Iterator<Item = &'a [u8]>,
        trust_domain: &str,
    ) -> Option<Identity> {
        if self.is_empty() || !self.trusts(from) {
            return None;
        }
        let line = std::str::from_utf8(lines.next()?).ok()?;
        if lines.next().is_some() {
            return None;
        }
        let last = split(line, ',')?.pop()?;
        let mut uris = split(last, ';')?.into_iter().filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case("uri")
                .then(|| value.trim().trim_matches('"'))
        });
        let identity: Identity = uris.next()?.parse().ok()?;
        (uris.next().is_none() && identity.trust_domain == trust_domain).then_some(identity)
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn holds((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let rest = bits(network) - u32::from(length);
    let shifted = |address| number(address).checked_shr(rest).unwrap_or_default();
    network.is_ipv4() == address.is_ipv4() && shifted(network) == shifted(address)
}

/// The parts of a text, with quoted ones whole; `None`: a quote does not end.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text
        .split(|letter: char| {
            let ends = letter == at && !quoted;
            if letter == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = letter == '\\' && !escaped;
            ends
        })
        .collect();
    (!quoted && !escaped).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "spiffe://cluster.local/ns/shop/sa/web";

    #[test]
    fn only_gateways_that_are_named_are_believed() {
        let trusted = TrustedGateways::parse("10.1.0.0/16, fd00::/8").unwrap();
        let says = format!("Hash=1;URI={CALLER};Subject=\"O=a,CN=b;URI=spiffe://x/ns/x/sa/x\"");
        let all = |from: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| line.as_bytes());
            let found = trusted.identity(from.parse().unwrap(), lines, "cluster.local");
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let seen = |from: &str, header: &str| all(from, &[header]);
        assert_eq!(seen("10.1.2.3", &says), [CALLER]);
        assert_eq!(seen("::ffff:10.1.2.3", &says), [CALLER]);
        assert_eq!(seen("fd12::1", &says), [CALLER]);
        assert_eq!(seen("127.0.0.1", &says), [CALLER]);
        assert_eq!(seen("10.2.0.1", &says), [""; 0]);
        assert_eq!(seen("10.1.2.3", "Hash=1"), [""; 0]);
        // What a caller brings along is not the gateway's word.
        let forged = format!("URI=spiffe://cluster.local/ns/istio-system/sa/istiod,{says}");
        assert_eq!(seen("10.1.2.3", &forged), [CALLER]);
        let quote = "URI=spiffe://cluster.local/ns/istio-system/sa/istiod;X=\"";
        for forged in [quote.to_owned(), format!("{quote}\\"), format!("{quote}\\\\")] {
            assert_eq!(seen("10.1.2.3", &format!("{forged},{says}")), [""; 0], "{forged}");
        }
        assert_eq!(all("10.1.2.3", &[quote, &says]), [""; 0]);
        assert_eq!(all("10.1.2.3", &[]), [""; 0]);
        // One caller has one name, and one of this mesh.
        assert_eq!(seen("10.1.2.3", &format!("URI={CALLER};{says}")), [""; 0]);
        let other = "URI=spiffe://elsewhere/ns/shop/sa/web";
        assert_eq!(seen("10.1.2.3", other), [""; 0]);
        let nobody = TrustedGateways::default();
        let line = std::iter::once(says.as_bytes());
        assert_eq!(
            nobody.identity("127.0.0.1".parse().unwrap(), line, "cluster.local"),
            None
        );
        for wrong in ["10.1.0.0", "10.1.0.0/33", "a/8"] {
            assert_eq!(TrustedGateways::parse(wrong), Err(NotARange(wrong.to_owned())));
        }
        assert!(
            TrustedGateways::parse("0.0.0.0/0")
                .unwrap()
                .trusts("1.2.3.4".parse().unwrap())
        );
    }
}
