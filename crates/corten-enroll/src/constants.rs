//! Numbers and names that the agent, the node proxy and the control plane of an ambient mesh share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The mark on every packet that a node proxy sends from inside a pod.
pub const PROXY_MARK: u32 = 0x539;
/// The mark on connections whose client address the proxy took over, and on the replies to them.
pub const REPLY_MARK: u32 = 0x111;
/// The bits of a mark that count.
pub const MARK_MASK: u32 = 0xfff;
/// The routing table that leads replies to the proxy.
pub const ROUTE_TABLE: u32 = 100;
/// Where the rule for that table stands among the policy rules.
pub const RULE_PRIORITY: u32 = 32764;

/// Where the proxy takes what the pod sends.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where the proxy takes plain connections to the pod.
pub const INBOUND_PORT: u16 = 15006;
/// Where the proxy takes tunnels to the pod.
pub const TUNNEL_PORT: u16 = 15008;
/// Where the proxy answers names.
pub const DNS_PORT: u16 = 15053;
/// The connection tracking zone of the proxy's own queries.
pub const DNS_ZONE: u16 = 1;

/// The address that the node's own connections to a pod seem to come from: probes, which no policy concerns.
pub const PROBE_SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));
/// The same for IPv6.
pub const PROBE_SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(
    0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff,
));
/// The node's set of IPv4 addresses of enrolled pods.
pub const PROBE_SET_V4: &str = "istio-inpod-probes-v4";
/// The same for IPv6.
pub const PROBE_SET_V6: &str = "istio-inpod-probes-v6";

/// The table that redirects, in a pod; the one that changes probes' source, on the host.
pub const TABLE_NAT: &str = "istio-ambient-nat";
/// The table that keeps marks.
pub const TABLE_MANGLE: &str = "istio-ambient-mangle";
/// The table that separates DNS connections.
pub const TABLE_RAW: &str = "istio-ambient-raw";
