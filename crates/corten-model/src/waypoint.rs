//! Waypoints: gateways of the mesh that enforce what node proxies cannot, and who may use them.

use std::{net::IpAddr, sync::Arc};

use crate::{
    input::ObjectKey,
    text::{Labels, Name},
};

/// The port on which gateways take tunnels.
pub(crate) const HBONE_PORT: u16 = 15008;

/// A waypoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Waypoint {
    /// Its key: `namespace/name`.
    pub key: Name,
    /// The gateway.
    pub source: ObjectKey,
    /// Where it is reached.
    pub address: Option<Arc<GatewayAddress>>,
    /// What its instances take besides tunnels of their own.
    pub binding: Option<ApplicationTunnel>,
    /// Which traffic it is for.
    pub traffic_type: TrafficType,
    /// The service accounts of its instances, sorted.
    pub service_accounts: Vec<Name>,
    /// Whose objects may use it.
    pub allowed: AllowedNamespaces,
}

/// Where a gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// By name or address.
    pub destination: WaypointAddress,
    /// The port of its tunnel listener.
    pub hbone_port: u16,
}

/// The forms of a [`GatewayAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WaypointAddress {
    /// A service.
    Hostname {
        /// The namespace it is seen from.
        namespace: Name,
        /// The name.
        hostname: Name,
    },
    /// An address.
    Address {
        /// The network.
        network: Name,
        /// The address.
        address: IpAddr,
    },
}

/// A waypoint and its share.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedWaypoint {
    /// The waypoint.
    pub address: Option<Arc<GatewayAddress>>,
    /// Its share, in percent.
    pub weight: u8,
}

/// Which traffic a waypoint is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrafficType {
    /// Traffic addressed to services.
    Service,
    /// Traffic addressed to workloads.
    Workload,
    /// Both.
    All,
    /// Neither: `none`, or a word that is not known.
    Other(Name),
}

impl TrafficType {
    /// From a label's value.
    pub fn parse(text: &Name) -> TrafficType {
        match text.as_ref() {
            "service" => TrafficType::Service,
            "workload" => TrafficType::Workload,
            "all" => TrafficType::All,
            _ => TrafficType::Other(Arc::clone(text)),
        }
    }

    /// Whether it takes traffic addressed to services.
    pub fn takes_services(&self) -> bool {
        matches!(self, TrafficType::Service | TrafficType::All)
    }

    /// Whether it takes traffic addressed to workloads.
    pub fn takes_workloads(&self) -> bool {
        matches!(self, TrafficType::Workload | TrafficType::All)
    }
}

/// What precedes the bytes that an application gets from a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelHeader {
    /// Nothing.
    None,
    /// The PROXY protocol's header.
    Proxy,
}

/// How an application wants tunnelled traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What precedes the bytes.
    pub header: TunnelHeader,
    /// The port to use instead; 0: unchanged.
    pub port: u16,
}

/// Namespaces whose objects may use something.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum AllowedNamespaces {
    /// All.
    All,
    /// That of the gateway.
    #[default]
    Same,
    /// None.
    None,
    /// Those with certain labels.
    Selected(Arc<Selector>),
}

/// A selection of objects by labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there.
    pub labels: Labels,
    /// Further requirements.
    pub requirements: Vec<Requirement>,
}

/// A requirement of a [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: Name,
    /// What is required of it.
    pub operator: Operator,
    /// The values it is about.
    pub values: Vec<Name>,
}

/// What a [`Requirement`] asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of a list.
    In,
    /// The value is none of a list, or absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl Operator {
    /// From its name.
    pub fn parse(text: &str) -> Option<Operator> {
        Some(match text {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        })
    }
}

impl Selector {
    /// Whether labels are selected; a selector that asks nothing selects everything.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.labels.is_subset_of(labels)
            && self.requirements.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                let listed = value.is_some_and(|value| requirement.values.contains(value));
                match requirement.operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

impl AllowedNamespaces {
    /// Whether objects of a namespace may use what is in the namespace `own`; `None`: nothing is known of its labels.
    pub fn allow(&self, own: &str, namespace: &str, labels: &Labels) -> bool {
        match self {
            AllowedNamespaces::All => true,
            AllowedNamespaces::None => false,
            AllowedNamespaces::Same => own == namespace,
            AllowedNamespaces::Selected(selector) => selector.selects(labels),
        }
    }
}
