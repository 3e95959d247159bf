//! Services as clients of the mesh see them: a name, addresses, ports, and how endpoints are chosen.

use std::{net::IpAddr, sync::Arc};

use corten_core::Protocol;

use crate::{
    input::ObjectKey,
    text::{Labels, Name},
    waypoint::{GatewayAddress, WeightedWaypoint},
};

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its key: `namespace/hostname`.
    pub key: Name,
    /// The name of the object it comes from.
    pub name: Name,
    /// The namespace of that object.
    pub namespace: Name,
    /// The host name.
    pub hostname: Name,
    /// The network of its addresses.
    pub network: Name,
    /// Its addresses.
    pub addresses: Box<[AddressRange]>,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// Identities that its endpoints may have besides their own.
    pub subject_alt_names: Box<[Name]>,
    /// The waypoint that its traffic goes through.
    pub waypoint: Option<Arc<GatewayAddress>>,
    /// How traffic is divided between two waypoints.
    pub weighted_waypoints: Box<[WeightedWaypoint]>,
    /// Whether gateways send through the waypoint, too.
    pub ingress_use_waypoint: bool,
    /// How endpoints are chosen; `None`: any healthy one.
    pub load_balancing: Option<LoadBalancing>,
    /// Families of its addresses.
    pub ip_families: IpFamilies,
    /// Whether it is the one meant by clients of other namespaces.
    pub canonical: bool,
    /// Who sees it.
    pub visibility: Visibility,
    /// The clusters it is for.
    pub scope: ServiceScope,
    /// The labels of its workloads; empty: none are selected.
    pub selector: Labels,
    /// Where it comes from.
    pub source: ObjectKey,
    /// When that was created.
    pub created: i64,
    /// Namespace and name of the waypoint, when there is one.
    pub waypoint_name: Option<Name>,
}

/// A single address, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The address, or the first of the range.
    pub address: IpAddr,
    /// The length of the range's prefix; `None`: a single address.
    pub length: Option<u8>,
}

/// A port of a service, with the names by which workloads tell where it leads.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    /// The name.
    pub name: Name,
    /// The number.
    pub port: u16,
    /// The workload's port; 0 when it depends on the workload, or was not given.
    pub target: u16,
    /// The name that the workload's port has; empty when the service gives none.
    pub target_name: Name,
    /// What is spoken.
    pub protocol: AppProtocol,
}

/// A service's port at a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The service's port.
    pub service_port: u16,
    /// The workload's port.
    pub target_port: u16,
}

/// What is spoken on a port, as far as node proxies tell it apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// Not said.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
    /// TLS.
    Tls,
}

impl From<Protocol> for AppProtocol {
    fn from(protocol: Protocol) -> AppProtocol {
        match protocol {
            Protocol::Http => AppProtocol::Http11,
            Protocol::Http2 => AppProtocol::Http2,
            Protocol::Grpc => AppProtocol::Grpc,
            Protocol::Tls | Protocol::Https => AppProtocol::Tls,
            Protocol::Tcp => AppProtocol::Tcp,
            Protocol::GrpcWeb
            | Protocol::HttpProxy
            | Protocol::Udp
            | Protocol::Mongo
            | Protocol::Redis
            | Protocol::MySql
            | Protocol::Unsupported => AppProtocol::Unknown,
        }
    }
}

/// How endpoints are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadBalancing {
    /// What an endpoint should share with the client, most important first.
    pub preferences: &'static [Scope],
    /// How strictly.
    pub mode: LoadMode,
    /// Whether unhealthy endpoints count.
    pub health: HealthPolicy,
}

/// What client and endpoint share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The region.
    Region,
    /// The zone.
    Zone,
    /// The part of the zone.
    Subzone,
    /// The node.
    Node,
    /// The network.
    Network,
}

/// How strictly preferences are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// There are none.
    #[default]
    Standard,
    /// Only endpoints that share everything.
    Strict,
    /// Those that share most.
    Failover,
    /// No endpoint is chosen: the address called is the address reached.
    Passthrough,
}

/// Whether unhealthy endpoints count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HealthPolicy {
    /// They do not.
    #[default]
    OnlyHealthy,
    /// They do.
    AllowAll,
}

/// Families of a service's addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpFamilies {
    /// Unsaid.
    #[default]
    Automatic,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Both.
    Dual,
}

/// Who sees a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody.
    #[default]
    Public,
    /// Clients of its namespace.
    Namespace,
    /// Nobody: it is left out.
    None,
}

/// The clusters a service is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceScope {
    /// Its own.
    #[default]
    Local,
    /// All.
    Global,
}
