//! `istio.workload`: services and workloads as a node proxy sees them.

use std::collections::BTreeMap;

/// One resource: a workload or a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    /// Which.
    #[prost(oneof = "address::Type", tags = "1, 2")]
    pub r#type: Option<address::Type>,
}

/// The forms of [`Address`].
pub mod address {
    /// One form.
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[expect(
        clippy::large_enum_variant,
        reason = "most resources are workloads, which are the large ones"
    )]
    pub enum Type {
        /// A workload.
        #[prost(message, tag = "1")]
        Workload(super::Workload),
        /// A service.
        #[prost(message, tag = "2")]
        Service(super::Service),
    }
}

/// A service, known by namespace and host name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    /// Short name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Fully qualified host name.
    #[prost(string, tag = "3")]
    pub hostname: String,
    /// Virtual addresses; with `length` set, ranges.
    #[prost(message, repeated, tag = "4")]
    pub addresses: Vec<NetworkAddress>,
    /// Ports; a target port of 0 is to be looked up in each workload.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<Port>,
    /// Further identities that its servers may have.
    #[prost(string, repeated, tag = "6")]
    pub subject_alt_names: Vec<String>,
    /// Waypoint through which its traffic goes.
    #[prost(message, optional, tag = "7")]
    pub waypoint: Option<GatewayAddress>,
    /// How endpoints are chosen; absent: all alike.
    #[prost(message, optional, tag = "8")]
    pub load_balancing: Option<LoadBalancing>,
    /// Address families it is served on.
    #[prost(enumeration = "IpFamilies", tag = "9")]
    pub ip_families: i32,
    /// Wins conflicts about host name and address.
    #[prost(bool, tag = "11")]
    pub canonical: bool,
    /// Gateways, too, send through the waypoint.
    #[prost(bool, tag = "12")]
    pub ingress_use_waypoint: bool,
    /// Waypoints by weight; wins over `waypoint`.
    #[prost(message, repeated, tag = "13")]
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// Who sees it.
    #[prost(enumeration = "Visibility", tag = "14")]
    pub visibility: i32,
}

/// Who sees a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Visibility {
    /// Everybody.
    Public = 0,
    /// Clients of its namespace.
    Namespace = 1,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum IpFamilies {
    /// Unsaid.
    Automatic = 0,
    /// IPv4.
    Ipv4Only = 1,
    /// IPv6.
    Ipv6Only = 2,
    /// Both.
    Dual = 3,
}

/// How endpoints are chosen.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct LoadBalancing {
    /// What an endpoint should share with the client, most important first.
    #[prost(enumeration = "load_balancing::Scope", repeated, tag = "1")]
    pub routing_preference: Vec<i32>,
    /// How strictly.
    #[prost(enumeration = "load_balancing::Mode", tag = "2")]
    pub mode: i32,
    /// Whether unhealthy endpoints count.
    #[prost(enumeration = "load_balancing::HealthPolicy", tag = "3")]
    pub health_policy: i32,
}

/// The enumerations of [`LoadBalancing`].
pub mod load_balancing {
    /// What client and endpoint share.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Scope {
        /// Nothing said.
        Unspecified = 0,
        /// Region.
        Region = 1,
        /// Zone.
        Zone = 2,
        /// Sub-zone.
        Subzone = 3,
        /// Node.
        Node = 4,
        /// Cluster.
        Cluster = 5,
        /// Network.
        Network = 6,
    }

    /// How strictly preferences are taken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Mode {
        /// Not at all.
        Unspecified = 0,
        /// Only endpoints that share everything.
        Strict = 1,
        /// Those that share most.
        Failover = 2,
        /// No endpoint is chosen: the address called is the address reached.
        Passthrough = 3,
    }

    /// Whether unhealthy endpoints count.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum HealthPolicy {
        /// They do not.
        OnlyHealthy = 0,
        /// They do.
        AllowAll = 1,
    }
}

/// A workload: something with a network address of its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Workload {
    /// Name, for a pod the pod's.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Addresses of 4 or 16 bytes.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub addresses: Vec<Vec<u8>>,
    /// Network; empty is the default one.
    #[prost(string, tag = "4")]
    pub network: String,
    /// What it speaks inbound.
    #[prost(enumeration = "TunnelProtocol", tag = "5")]
    pub tunnel_protocol: i32,
    /// Trust domain; empty is `cluster.local`.
    #[prost(string, tag = "6")]
    pub trust_domain: String,
    /// Service account; empty is `default`.
    #[prost(string, tag = "7")]
    pub service_account: String,
    /// Waypoint through which traffic addressed to it goes.
    #[prost(message, optional, tag = "8")]
    pub waypoint: Option<GatewayAddress>,
    /// Node it runs on.
    #[prost(string, tag = "9")]
    pub node: String,
    /// Name for telemetry.
    #[prost(string, tag = "10")]
    pub canonical_name: String,
    /// Revision for telemetry.
    #[prost(string, tag = "11")]
    pub canonical_revision: String,
    /// Kind of its owner.
    #[prost(enumeration = "WorkloadType", tag = "12")]
    pub workload_type: i32,
    /// Name of its owner.
    #[prost(string, tag = "13")]
    pub workload_name: String,
    /// It terminates tunnels itself.
    #[prost(bool, tag = "14")]
    pub native_tunnel: bool,
    /// Policies by selector that apply to it, `namespace/name`.
    #[prost(string, repeated, tag = "16")]
    pub authorization_policies: Vec<String>,
    /// Health.
    #[prost(enumeration = "WorkloadStatus", tag = "17")]
    pub status: i32,
    /// Cluster; empty is `Kubernetes`.
    #[prost(string, tag = "18")]
    pub cluster_id: String,
    /// How it is reached from another network.
    #[prost(message, optional, tag = "19")]
    pub network_gateway: Option<GatewayAddress>,
    /// Its key.
    #[prost(string, tag = "20")]
    pub uid: String,
    /// Name to be resolved when it has no address.
    #[prost(string, tag = "21")]
    pub hostname: String,
    /// Services it belongs to, `namespace/hostname`, with its ports for each.
    #[prost(btree_map = "string, message", tag = "22")]
    pub services: BTreeMap<String, PortList>,
    /// How its application wants tunnelled traffic.
    #[prost(message, optional, tag = "23")]
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it is.
    #[prost(message, optional, tag = "24")]
    pub locality: Option<Locality>,
    /// Whether its address is its own.
    #[prost(enumeration = "NetworkMode", tag = "25")]
    pub network_mode: i32,
    /// Weight; absent is 1, 0 is never.
    #[prost(message, optional, tag = "27")]
    pub capacity: Option<u32>,
}

/// What a workload speaks inbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TunnelProtocol {
    /// Plain TCP.
    None = 0,
    /// HBONE.
    Hbone = 1,
    /// Istio's mutual TLS of sidecars.
    LegacyIstioMtls = 2,
}

/// Kind of a workload's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadType {
    /// Deployment.
    Deployment = 0,
    /// Cron job.
    Cronjob = 1,
    /// The pod itself.
    Pod = 2,
    /// Job.
    Job = 3,
}

/// Health of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadStatus {
    /// Takes traffic.
    Healthy = 0,
    /// Does not.
    Unhealthy = 1,
}

/// Whether a workload's address is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum NetworkMode {
    /// It is.
    Standard = 0,
    /// It is the node's; the workload is not found by address.
    HostNetwork = 1,
}

/// Where a workload is.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Locality {
    /// Region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// Zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// Sub-zone.
    #[prost(string, tag = "3")]
    pub subzone: String,
}

/// Ports.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct PortList {
    /// The ports.
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<Port>,
}

/// A service's port and where it leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Port {
    /// The service's port.
    #[prost(uint32, tag = "1")]
    pub service_port: u32,
    /// The workload's port.
    #[prost(uint32, tag = "2")]
    pub target_port: u32,
    /// What is spoken.
    #[prost(enumeration = "AppProtocol", tag = "3")]
    pub app_protocol: i32,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AppProtocol {
    /// Not said.
    Unknown = 0,
    /// HTTP/1.1.
    Http11 = 1,
    /// HTTP/2.
    Http2 = 2,
    /// gRPC.
    Grpc = 3,
    /// Bytes.
    Tcp = 4,
    /// TLS.
    Tls = 5,
}

/// How an application wants tunnelled traffic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ApplicationTunnel {
    /// What precedes the bytes.
    #[prost(enumeration = "application_tunnel::Protocol", tag = "1")]
    pub protocol: i32,
    /// The port to use instead; 0: unchanged.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// The enumeration of [`ApplicationTunnel`].
pub mod application_tunnel {
    /// What precedes the bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Protocol {
        /// Nothing.
        None = 0,
        /// The PROXY protocol's header, version 2.
        Proxy = 1,
    }
}

/// Where a gateway is.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct GatewayAddress {
    /// By name or address.
    #[prost(oneof = "gateway_address::Destination", tags = "1, 2")]
    pub destination: Option<gateway_address::Destination>,
    /// Port of its tunnel listener.
    #[prost(uint32, tag = "3")]
    pub hbone_mtls_port: u32,
}

/// The forms of [`GatewayAddress`].
pub mod gateway_address {
    /// One form.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum Destination {
        /// A service.
        #[prost(message, tag = "1")]
        Hostname(super::NamespacedHostname),
        /// An address.
        #[prost(message, tag = "2")]
        Address(super::NetworkAddress),
    }
}

/// A waypoint and its share.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct WeightedWaypoint {
    /// The waypoint.
    #[prost(message, optional, tag = "1")]
    pub destination: Option<GatewayAddress>,
    /// Its weight.
    #[prost(uint32, tag = "2")]
    pub weight: u32,
}

/// An address on a network, or a range.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct NetworkAddress {
    /// Network; empty is the default one.
    #[prost(string, tag = "1")]
    pub network: String,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    /// Prefix length in bits; absent: a single address.
    #[prost(uint32, optional, tag = "3")]
    pub length: Option<u32>,
}

/// A host name as seen from a namespace.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct NamespacedHostname {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Host name.
    #[prost(string, tag = "2")]
    pub hostname: String,
}
