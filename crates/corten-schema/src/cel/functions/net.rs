//! IP addresses and address ranges.

use super::{Declaration, Out, STRING_TYPE, Type, as_opaque, declare, error, no_overload, opaque, string};
use cel::objects::Opaque;
use cel::{ExecutionError, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn declarations() -> Vec<Declaration> {
    let ip = || Type::new_opaque_type("net.IP");
    let cidr = || Type::new_opaque_type("net.CIDR");
    vec![
        declare!(fn "isIP"(STRING_TYPE) => is_ip),
        declare!(fn "ip"(STRING_TYPE) => to_ip),
        declare!(fn "ip.isCanonical"(STRING_TYPE) => is_canonical),
        declare!(fn "string"(ip()) => ip_text),
        declare!(method "family"(ip()) => family),
        declare!(method "isUnspecified"(ip()) => is_unspecified),
        declare!(method "isLoopback"(ip()) => is_loopback),
        declare!(method "isLinkLocalMulticast"(ip()) => is_link_local_multicast),
        declare!(method "isLinkLocalUnicast"(ip()) => is_link_local_unicast),
        declare!(method "isGlobalUnicast"(ip()) => is_global_unicast),
        declare!(fn "isCIDR"(STRING_TYPE) => is_cidr),
        declare!(fn "cidr"(STRING_TYPE) => to_cidr),
        declare!(fn "string"(cidr()) => cidr_text),
        declare!(method "containsIP"(cidr(), STRING_TYPE) => contains_ip),
        declare!(method "containsIP"(cidr(), ip()) => contains_ip),
        declare!(method "containsCIDR"(cidr(), STRING_TYPE) => contains_cidr),
        declare!(method "containsCIDR"(cidr(), cidr()) => contains_cidr),
        declare!(method "ip"(cidr()) => address),
        declare!(method "masked"(cidr()) => masked),
        declare!(method "prefixLength"(cidr()) => prefix_length),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ip(IpAddr);

impl Opaque for Ip {
    fn runtime_type_name(&self) -> &str {
        "net.IP"
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Opaque for Cidr {
    fn runtime_type_name(&self) -> &str {
        "net.CIDR"
    }
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (address, bits) = text.split_once('/')?;
        let (address, plain) = (
            parse_ip(address)?,
            !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()),
        );
        let bits = bits.parse().ok().filter(|bits| *bits <= width(address) && plain)?;
        Some(Cidr { address, bits })
    }

    fn masked(&self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Cidr {
            address,
            bits: self.bits,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Cidr {
                address,
                bits: self.bits,
            }
            .masked()
                == self.masked()
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as Kubernetes takes it: no zone, and no IPv4 address written as an IPv6 one.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

fn is_ip(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("isIP"));
    };
    Ok(Value::Bool(parse_ip(string(text)).is_some()))
}

fn ip_of(value: &Value, function: &str) -> Result<IpAddr, ExecutionError> {
    match value {
        Value::String(text) => parse_ip(text).ok_or_else(|| {
            error(
                function,
                format!("IP Address {text:?} parse error during conversion from string"),
            )
        }),
        value => Ok(as_opaque::<Ip>(value, function)?.0),
    }
}

fn to_ip(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("ip"));
    };
    ip_of(text, "ip").map(|address| opaque(Ip(address)))
}

fn is_canonical(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("ip.isCanonical"));
    };
    ip_of(text, "ip.isCanonical").map(|address| Value::Bool(address.to_string() == string(text)))
}

fn ask(arguments: &[Value], function: &str, answer: fn(IpAddr) -> Value) -> Out {
    let [ip] = arguments else {
        return Err(no_overload(function));
    };
    ip_of(ip, function).map(answer)
}

fn ip_text(arguments: &[Value]) -> Out {
    ask(arguments, "string", |ip| Value::from(ip.to_string()))
}

fn family(arguments: &[Value]) -> Out {
    ask(arguments, "family", |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified(arguments: &[Value]) -> Out {
    ask(arguments, "isUnspecified", |ip| Value::Bool(ip.is_unspecified()))
}

fn is_loopback(arguments: &[Value]) -> Out {
    ask(arguments, "isLoopback", |ip| Value::Bool(ip.is_loopback()))
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_unicast(arguments: &[Value]) -> Out {
    ask(arguments, "isLinkLocalUnicast", |ip| {
        Value::Bool(link_local_unicast(ip))
    })
}

fn is_link_local_multicast(arguments: &[Value]) -> Out {
    ask(arguments, "isLinkLocalMulticast", |ip| {
        Value::Bool(match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        })
    })
}

fn is_global_unicast(arguments: &[Value]) -> Out {
    ask(arguments, "isGlobalUnicast", |ip| {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        Value::Bool(
            !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip)),
        )
    })
}

fn is_cidr(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("isCIDR"));
    };
    Ok(Value::Bool(Cidr::parse(string(text)).is_some()))
}

fn cidr_of(value: &Value, function: &str) -> Result<Cidr, ExecutionError> {
    match value {
        Value::String(text) => Cidr::parse(text).ok_or_else(|| {
            error(
                function,
                format!("network address parse error during conversion from string: {text:?}"),
            )
        }),
        value => as_opaque::<Cidr>(value, function).cloned(),
    }
}

fn to_cidr(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("cidr"));
    };
    cidr_of(text, "cidr").map(opaque)
}

fn cidr_text(arguments: &[Value]) -> Out {
    let [cidr] = arguments else {
        return Err(no_overload("string"));
    };
    cidr_of(cidr, "string").map(|cidr| Value::from(format!("{}/{}", cidr.address, cidr.bits)))
}

fn contains_ip(arguments: &[Value]) -> Out {
    let [cidr, ip] = arguments else {
        return Err(no_overload("containsIP"));
    };
    Ok(Value::Bool(
        cidr_of(cidr, "containsIP")?.contains(ip_of(ip, "containsIP")?),
    ))
}

fn contains_cidr(arguments: &[Value]) -> Out {
    let [cidr, other] = arguments else {
        return Err(no_overload("containsCIDR"));
    };
    let (cidr, other) = (cidr_of(cidr, "containsCIDR")?, cidr_of(other, "containsCIDR")?);
    Ok(Value::Bool(cidr.bits <= other.bits && cidr.contains(other.address)))
}

fn address(arguments: &[Value]) -> Out {
    let [cidr] = arguments else {
        return Err(no_overload("ip"));
    };
    cidr_of(cidr, "ip").map(|cidr| opaque(Ip(cidr.address)))
}

fn masked(arguments: &[Value]) -> Out {
    let [cidr] = arguments else {
        return Err(no_overload("masked"));
    };
    cidr_of(cidr, "masked").map(|cidr| opaque(cidr.masked()))
}

fn prefix_length(arguments: &[Value]) -> Out {
    let [cidr] = arguments else {
        return Err(no_overload("prefixLength"));
    };
    cidr_of(cidr, "prefixLength").map(|cidr| Value::Int(i64::from(cidr.bits)))
}
