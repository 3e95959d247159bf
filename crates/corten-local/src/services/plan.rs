//! What a service means on one node: which addresses lead to which endpoints. A pure function.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::catalog::{Endpoint, Entry, Port, Service, ServiceKind};

/// An address and port that packets are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// The address: a ClusterIP, an external one, or the node's own.
    pub address: IpAddr,
    /// The IP protocol.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// What is to be done with packets for a [`Vip`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Every usable endpoint.
    pub cluster: Vec<SocketAddr>,
    /// Those on this node.
    pub local: Vec<SocketAddr>,
    /// Which of them are used, and how.
    pub reach: Reach,
    /// How long a client keeps its endpoint.
    pub affinity: Option<Duration>,
}

/// Which endpoints are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// All; the client's address stays.
    Cluster,
    /// All, from outside: the node takes the client's place, so that answers come back through it.
    Masquerade,
    /// Those on this node only.
    Local,
    /// From outside those on this node only, from pods all.
    ExternalLocal,
}

/// What the plan needs to know about the node it is for.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its name; empty for the runtime's own namespace, which has no pods.
    pub name: String,
    /// Where NodePorts are served.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of a service on a node, and where each leads.
///
/// A ClusterIP without endpoints is left out: what is sent to the service range and translated by nobody is rejected.
pub fn plan(entry: &Entry, node: &NodeView) -> Vec<(Vip, Target)> {
    let Some(service) = entry
        .service
        .as_ref()
        .filter(|service| service.kind == ServiceKind::Addressed)
    else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for port in &service.ports {
        for address in &service.addresses {
            let reach = if service.internal_local {
                Reach::Local
            } else {
                Reach::Cluster
            };
            let target = target(entry, service, port, *address, node, reach);
            if !target.cluster.is_empty() {
                all.push((vip(*address, port, port.port), target));
            }
        }
        let reach = if service.external_local {
            Reach::ExternalLocal
        } else {
            Reach::Masquerade
        };
        for address in &service.external {
            all.push((
                vip(*address, port, port.port),
                target(entry, service, port, *address, node, reach),
            ));
        }
        if let Some(node_port) = port.node_port {
            // A node port has the families of the service.
            let families = |address: &&IpAddr| service.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
            for address in node.addresses.iter().filter(families) {
                all.push((
                    vip(*address, port, node_port),
                    target(entry, service, port, *address, node, reach),
                ));
            }
        }
    }
    all
}

fn vip(address: IpAddr, port: &Port, number: u16) -> Vip {
    Vip {
        address,
        protocol: port.protocol,
        port: number,
    }
}

fn target(entry: &Entry, service: &Service, port: &Port, family: IpAddr, node: &NodeView, reach: Reach) -> Target {
    let mut all: Vec<(&Endpoint, SocketAddr)> = Vec::new();
    for slice in entry.slices.values() {
        let matching = slice
            .ports
            .iter()
            .find(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
        let Some((_, _, number)) = matching else { continue };
        for endpoint in &slice.endpoints {
            let address = endpoint
                .addresses
                .iter()
                .find(|address| address.is_ipv4() == family.is_ipv4());
            all.extend(address.map(|address| (endpoint, SocketAddr::new(*address, *number))));
        }
    }
    let here = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(node.name.as_str());
    let local: Vec<_> = all.iter().filter(|(endpoint, _)| here(endpoint)).copied().collect();
    Target {
        cluster: usable(&all, service.publish_not_ready),
        local: usable(&local, service.publish_not_ready),
        reach,
        affinity: service.affinity,
    }
}

/// The ready endpoints; without any, those that still serve while they terminate. Sorted, each address once.
fn usable(endpoints: &[(&Endpoint, SocketAddr)], publish_not_ready: bool) -> Vec<SocketAddr> {
    let pick = |want: &dyn Fn(&Endpoint) -> bool| {
        let mut picked: Vec<_> = endpoints
            .iter()
            .filter(|(e, _)| want(e))
            .map(|(_, address)| *address)
            .collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    };
    let ready = pick(&|endpoint| endpoint.ready || publish_not_ready);
    if ready.is_empty() {
        pick(&|endpoint| endpoint.serving && endpoint.terminating)
    } else {
        ready
    }
}
