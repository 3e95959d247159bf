//! Waypoints and network gateways from Gateways.

use std::{net::IpAddr, sync::Arc};

use crate::{
    input::{Gateway, GatewayClass, ObjectKey, ObjectKind, StatusAddress},
    text::Name,
    waypoint::{
        AllowedNamespaces, ApplicationTunnel, GatewayAddress, HBONE_PORT, TrafficType, TunnelHeader, Waypoint,
        WaypointAddress,
    },
};

/// The protocol of listeners that take tunnelled traffic behind the PROXY protocol's header.
const PROXY_LISTENER: &str = "istio.io/PROXY";
const HBONE_LISTENER: &str = "HBONE";
/// The class of gateways that stand for another network's.
const REMOTE_CLASS: &str = "istio-remote";
const NETWORK: &str = "topology.istio.io/network";

/// The waypoint that a gateway is; `None` while it has no address.
pub(crate) fn waypoint(
    gateway: &Gateway,
    class: Option<&GatewayClass>,
    mut service_accounts: Vec<Name>,
    network: &Name,
) -> Option<Waypoint> {
    if gateway.addresses.is_empty() {
        return None;
    }
    service_accounts.sort();
    service_accounts.dedup();
    let binding = gateway
        .binding
        .or_else(|| class.and_then(|class| class.binding))
        .flatten();
    let of_class = || class.and_then(|class| class.traffic_type.clone());
    let meta = &gateway.meta;
    Some(Waypoint {
        key: Arc::from(format!("{}/{}", meta.namespace, meta.name)),
        source: ObjectKey {
            kind: ObjectKind::Gateway,
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        },
        address: address(gateway, network).map(Arc::new),
        binding,
        traffic_type: gateway
            .traffic_type
            .clone()
            .or_else(of_class)
            .unwrap_or(TrafficType::Service),
        service_accounts,
        allowed: allowed(gateway, binding),
    })
}

/// Where a gateway is reached: by name if it has one, since names keep while addresses change.
fn address(gateway: &Gateway, network: &Name) -> Option<GatewayAddress> {
    let hostname = gateway.addresses.iter().find_map(|address| match address {
        StatusAddress::Hostname(hostname) => Some(WaypointAddress::Hostname {
            namespace: Arc::clone(&gateway.meta.namespace),
            hostname: Arc::clone(hostname),
        }),
        StatusAddress::Ip(_) | StatusAddress::Other => None,
    });
    let ip = || {
        gateway.addresses.iter().find_map(|address| match address {
            StatusAddress::Ip(Some(address)) => Some(WaypointAddress::Address {
                network: Arc::clone(network),
                address: *address,
            }),
            StatusAddress::Ip(None) | StatusAddress::Hostname(_) | StatusAddress::Other => None,
        })
    };
    Some(GatewayAddress {
        destination: hostname.or_else(ip)?,
        hbone_port: HBONE_PORT,
    })
}

/// Whose objects may use a waypoint: as the listener of its binding says, or else that for tunnels.
pub(crate) fn allowed(gateway: &Gateway, binding: Option<ApplicationTunnel>) -> AllowedNamespaces {
    let listeners = || gateway.listeners.iter();
    let bound = match binding {
        Some(ApplicationTunnel { port, .. }) if port != 0 => listeners().find(|listener| listener.port == port),
        Some(ApplicationTunnel {
            header: TunnelHeader::Proxy,
            ..
        }) => listeners().find(|listener| listener.protocol.as_ref() == PROXY_LISTENER),
        Some(_) | None => None,
    };
    let tunnels =
        || listeners().find(|listener| listener.protocol.as_ref() == HBONE_LISTENER && listener.port == HBONE_PORT);
    bound
        .or_else(tunnels)
        .map(|listener| listener.allowed.clone())
        .unwrap_or_default()
}

/// A way into another network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkGateway {
    /// The network.
    pub(crate) network: Name,
    /// Host name or address.
    pub(crate) host: Name,
    /// The address, if it is one.
    pub(crate) address: Option<IpAddr>,
    /// The port of its tunnel listener.
    pub(crate) port: u16,
    /// The namespace of its service account.
    pub(crate) namespace: Name,
    /// The name of its service account.
    pub(crate) service_account: Name,
    /// The gateway.
    pub(crate) source: ObjectKey,
}

/// The ways into another network that a gateway stands for.
pub(crate) fn network_gateways(gateway: &Gateway) -> Vec<NetworkGateway> {
    let network = gateway.meta.labels.get(NETWORK).filter(|network| !network.is_empty());
    let listener = gateway
        .listeners
        .iter()
        .find(|listener| listener.protocol.as_ref() == HBONE_LISTENER);
    let (Some(network), Some(listener), REMOTE_CLASS) = (network, listener, gateway.class.as_ref()) else {
        return Vec::new();
    };
    let meta = &gateway.meta;
    let to = |host: Name, address: Option<IpAddr>| NetworkGateway {
        network: Arc::clone(network),
        host,
        address,
        port: listener.port,
        namespace: Arc::clone(&meta.namespace),
        service_account: gateway
            .service_account
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| Arc::from(format!("{}-{}", meta.name, gateway.class))),
        source: ObjectKey {
            kind: ObjectKind::Gateway,
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        },
    };
    let ways = gateway.addresses.iter().filter_map(|address| match address {
        StatusAddress::Hostname(hostname) => Some(to(Arc::clone(hostname), None)),
        StatusAddress::Ip(Some(address)) => Some(to(Arc::from(address.to_string()), Some(*address))),
        StatusAddress::Ip(None) | StatusAddress::Other => None,
    });
    ways.collect()
}

impl NetworkGateway {
    /// As workloads of its network carry it.
    pub(crate) fn as_address(&self) -> GatewayAddress {
        GatewayAddress {
            destination: match self.address {
                Some(address) => WaypointAddress::Address {
                    network: Arc::clone(&self.network),
                    address,
                },
                None => WaypointAddress::Hostname {
                    namespace: Arc::clone(&self.namespace),
                    hostname: Arc::clone(&self.host),
                },
            },
            hbone_port: self.port,
        }
    }

    /// The key of the workload that it is to clients.
    pub(crate) fn uid(&self) -> Name {
        Arc::from(format!("NetworkGateway/{}/{}/{}", self.network, self.host, self.port))
    }
}
