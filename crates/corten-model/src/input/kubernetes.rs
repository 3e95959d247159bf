//! Views of Kubernetes' own kinds and of gateways.

use std::{net::IpAddr, sync::Arc};

use super::Meta;
use crate::{
    service::IpFamilies,
    text::{Labels, Name},
    waypoint::{AllowedNamespaces, ApplicationTunnel, TrafficType},
    workload::{Locality, Tunnel},
};

/// A namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Name and labels.
    pub meta: Meta,
    /// What its services say about near endpoints where they say nothing themselves.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// The share of the canary waypoint, as written.
    pub canary_weight: Option<Name>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name.
    pub meta: Meta,
    /// Where it is.
    pub locality: Option<Arc<Locality>>,
    /// Nothing was heard of it for so long that Kubernetes takes it for lost: it has a Ready condition of status Unknown.
    pub silent: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Name and labels.
    pub meta: Meta,
    /// Identifies it among all pods that had its name.
    pub uid: u128,
    /// All its addresses; empty when it has none, or one that is none.
    pub addresses: Box<[IpAddr]>,
    /// It has ended.
    pub terminal: bool,
    /// It is ready, and not asked to go.
    pub healthy: bool,
    /// It would be healthy by what its node last said of it: its containers are ready, and whatever else has a say. One that is not
    /// healthy all the same is on a node that was taken for lost.
    pub healthy_by_node: bool,
    /// It is asked to go.
    pub terminating: bool,
    /// It uses its node's network.
    pub host_network: bool,
    /// What it speaks inbound.
    pub tunnel: Tunnel,
    /// Its node.
    pub node: Name,
    /// Its service account.
    pub service_account: Name,
    /// The name of what it belongs to.
    pub workload_name: Name,
    /// Its named TCP ports, those of ordinary containers first.
    pub ports: Arc<[(Name, u16)]>,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Name and labels.
    pub meta: Meta,
    /// The host it is only another name for.
    pub external_name: Option<Name>,
    /// Who sees it, as its annotation lists them; `None`: it says nothing.
    pub export_to: Option<Box<[Name]>>,
    /// Identities that its endpoints may have besides their own, by its annotation.
    pub identities: Box<[Name]>,
    /// Service accounts of its namespace that its endpoints may have besides their own, by its annotation.
    pub service_accounts: Box<[Name]>,
    /// Its addresses; `None`: one of them is none.
    pub addresses: Option<Box<[IpAddr]>>,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// The labels of its pods; empty: none are selected.
    pub selector: Labels,
    /// Families of its addresses.
    pub ip_families: IpFamilies,
    /// Only endpoints of the client's node.
    pub node_local: bool,
    /// Endpoints that are not ready count.
    pub publish_not_ready: bool,
    /// What it says about near endpoints.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// The share of the canary waypoint, as written.
    pub canary_weight: Option<Name>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    /// Name.
    pub name: Name,
    /// Number.
    pub port: u16,
    /// Where it leads.
    pub target: TargetPort,
    /// What is spoken.
    pub protocol: corten_core::Protocol,
}

/// Where a port leads.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetPort {
    /// To the same number.
    Unset,
    /// To a number.
    Number(u16),
    /// To a port that the pod names.
    Named(Name),
}

/// What a service wants of near endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// Nothing.
    Any,
    /// Those of the same zone are preferred.
    SameZone,
    /// Those of the same node are preferred.
    SameNode,
}

/// A part of a service's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSlice {
    /// Name.
    pub meta: Meta,
    /// The service it is for.
    pub service: Name,
    /// The ports that TCP is spoken on.
    pub ports: Box<[SlicePort]>,
    /// Endpoints that are not pods.
    pub endpoints: Box<[Endpoint]>,
    /// Endpoints that are pods: namespace, name and uid.
    pub pods: Box<[(Name, Name, u128)]>,
}

/// A port of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq)]
pub struct SlicePort {
    /// The name of the service's port.
    pub name: Name,
    /// The number.
    pub port: u16,
}

/// An endpoint that is not a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The first address as written, which is part of its key.
    pub key: Name,
    /// The addresses.
    pub addresses: Box<[IpAddr]>,
    /// Whether it takes traffic.
    pub ready: bool,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Name and labels.
    pub meta: Meta,
    /// Its class.
    pub class: Name,
    /// The addresses in its status.
    pub addresses: Box<[StatusAddress]>,
    /// What it takes besides tunnels of its own, when it says so; inside: when that is understood.
    pub binding: Option<Option<ApplicationTunnel>>,
    /// Which traffic it is for, when it says so.
    pub traffic_type: Option<TrafficType>,
    /// Its listeners.
    pub listeners: Box<[Listener]>,
    /// The service account that its annotations name.
    pub service_account: Option<Name>,
}

/// An address in the status of a [`Gateway`].
#[derive(Debug, Clone, PartialEq)]
pub enum StatusAddress {
    /// A host name.
    Hostname(Name),
    /// An address; `None`: what is written is none.
    Ip(Option<IpAddr>),
    /// Of another type, or of none.
    Other,
}

/// A listener of a [`Gateway`].
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// What is spoken.
    pub protocol: Name,
    /// Whose objects may use it.
    pub allowed: AllowedNamespaces,
}

/// A class of gateways.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayClass {
    /// Name.
    pub meta: Meta,
    /// Who serves them.
    pub controller: Name,
    /// What its waypoints take besides tunnels of their own, when it says so; inside: when that is understood.
    pub binding: Option<Option<ApplicationTunnel>>,
    /// Which traffic its waypoints are for.
    pub traffic_type: Option<TrafficType>,
}
