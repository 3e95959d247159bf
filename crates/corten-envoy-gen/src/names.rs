//! The names of what is made: Istio's, which tools and people look for.

use corten_core::Host;

/// Where connections go that must end.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Where connections go on to the address that they were made to.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// As [`PASSTHROUGH`], for connections that come in.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The listener that redirected outbound connections come to.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The listener that redirected inbound connections come to.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";

/// `outbound|PORT|SUBSET|HOST`.
pub fn outbound(port: u16, subset: &str, host: &Host) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound-vip|PORT|PROTOCOL[/SUBSET]|HOST`: what a waypoint sends to a service that it is for.
pub fn vip(port: u16, protocol: &str, subset: &str, host: &Host) -> String {
    let slash = if subset.is_empty() { "" } else { "/" };
    format!("{VIP}|{port}|{protocol}{slash}{subset}|{host}")
}

/// How the names of a waypoint's clusters begin.
pub const VIP: &str = "inbound-vip";
/// The listener of a waypoint that ends tunnels.
pub const TERMINATE: &str = "connect_terminate";
/// The listener of a waypoint that decides, and the cluster that leads there.
pub const MAIN: &str = "main_internal";
/// The listener of a waypoint that begins tunnels, and the cluster that leads out of it.
pub const ORIGINATE: &str = "connect_originate";
/// The cluster that leads a waypoint's connections to where they were made to, in a tunnel.
pub const ENCAP: &str = "encap";

/// `inbound|PORT||`.
pub fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The name that servers are asked for with mutual TLS, and the cluster that gateways lead it to: `outbound_.PORT_.SUBSET_.HOST`.
pub fn sni(port: u16, subset: &str, host: &Host) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `ADDRESS_PORT`.
pub fn listener(address: &str, port: u16) -> String {
    format!("{address}_{port}")
}

/// A virtual host: `HOST:PORT`.
pub fn virtual_host(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// Where requests go whose route names no host: it is nowhere.
pub const UNKNOWN_SERVICE: &str = "UnknownService";

/// Port and host of a cluster's name, if it is one of a service.
pub fn port_and_host(cluster: &str) -> Option<(&str, &str)> {
    let mut parts = cluster.split('|');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(port), Some(_), Some(host), None) => Some((port, host)),
        _ => None,
    }
}

/// The cluster of hosts that nobody knows and that are resolved when they are called.
pub const DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";

/// The name of a cluster, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// `outbound`, `inbound`.
    pub direction: &'a str,
    /// The port; 0 where it is none.
    pub port: u16,
    /// The subset; empty: none.
    pub subset: &'a str,
    /// `http` or `tcp` where the direction is [`VIP`]; else empty.
    pub protocol: &'a str,
    /// The host; empty: none.
    pub host: &'a str,
    /// The cluster is chosen by the name that a client asks a server for: its name is [`sni`]'s.
    pub by_server_name: bool,
}

impl<'a> Parsed<'a> {
    /// Takes a name apart; `None`: it has not four parts.
    pub fn of(name: &'a str) -> Option<Parsed<'a>> {
        let by_server_name = !name.contains('|') && name.starts_with("outbound_.");
        let separator = if by_server_name { "_." } else { "|" };
        let mut parts = name.splitn(4, separator);
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (protocol, subset) = match direction {
            VIP => subset.split_once('/').unwrap_or((subset, "")),
            _ => ("", subset),
        };
        Some(Parsed {
            protocol,
            direction,
            port: port.parse().unwrap_or_default(),
            subset,
            host,
            by_server_name,
        })
    }
}

/// An address that names a port, as URLs write it: `HOST:PORT`, `[ADDRESS]:PORT`.
pub fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The cache of looked-up names of a host.
pub fn dns_cache(host: &Host) -> String {
    format!("{host}_dfp_dns_cache")
}
