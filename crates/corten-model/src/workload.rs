//! Workloads: whatever has an address, or a name that leads to one.

use std::{net::IpAddr, sync::Arc};

use crate::{
    input::ObjectKey,
    service::Port,
    text::{Labels, Name},
    waypoint::{ApplicationTunnel, GatewayAddress},
};

/// A workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its key.
    pub uid: Name,
    /// The name, for a pod the pod's.
    pub name: Name,
    /// The namespace.
    pub namespace: Name,
    /// The addresses.
    pub addresses: Box<[IpAddr]>,
    /// The name to be resolved when there is no address; empty otherwise.
    pub hostname: Name,
    /// The network of the addresses.
    pub network: Name,
    /// How it is reached from other networks.
    pub network_gateway: Option<Arc<GatewayAddress>>,
    /// What it speaks inbound.
    pub tunnel: Tunnel,
    /// The trust domain; empty for `cluster.local`.
    pub trust_domain: Name,
    /// The service account.
    pub service_account: Name,
    /// The node.
    pub node: Name,
    /// The waypoint that traffic addressed to it goes through.
    pub waypoint: Option<Arc<GatewayAddress>>,
    /// How the application wants tunnelled traffic.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// The name of what it belongs to; empty when that is not known.
    pub workload_name: Name,
    /// The name for telemetry.
    pub canonical_name: Name,
    /// The revision for telemetry.
    pub canonical_revision: Name,
    /// Keys of the policies that apply to it by selector.
    pub policies: Arc<[Name]>,
    /// Keys of the services it belongs to, sorted, with its ports for each.
    pub services: Arc<[(Name, Arc<[Port]>)]>,
    /// Its labels.
    pub labels: Labels,
    /// Whether it takes traffic.
    pub healthy: bool,
    /// Whether it is on its way out: it does not even count as one that takes no traffic.
    pub terminating: bool,
    /// The cluster; empty for what belongs to none.
    pub cluster: Name,
    /// Where it is.
    pub locality: Option<Arc<Locality>>,
    /// Whether its address is not its own.
    pub host_network: bool,
    /// Whether it stands for a single process, which has a type of workload; what an EndpointSlice lists has none.
    pub typed: bool,
    /// Its share of the load; `None`: 1.
    pub capacity: Option<u32>,
    /// The object it comes from.
    pub source: ObjectKey,
}

/// Where a workload is.
pub type Locality = corten_core::Locality;

/// What a workload speaks inbound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// Plain TCP.
    #[default]
    None,
    /// HBONE, through its node's proxy.
    Hbone,
    /// HBONE, which it terminates itself.
    NativeHbone,
}
