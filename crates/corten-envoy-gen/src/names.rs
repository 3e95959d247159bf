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
