//! A service: a name and addresses behind which workloads stand.

use std::{net::IpAddr, sync::Arc};

use corten_core::Identity;
use corten_proto::workload as proto;
use ipnet::IpNet;

use crate::{
    address::{parse_ip, parse_net},
    gateway::{self, GatewayAddress},
    name::{Interner, Name},
    resource::Invalid,
    workload::{parse_ports, port_of},
};

/// A service as the tables keep it; its endpoints are kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Short name.
    pub name: Name,
    /// Namespace.
    pub namespace: Name,
    /// Fully qualified host name.
    pub hostname: Name,
    /// Virtual addresses, each of a network.
    pub addresses: Box<[(Name, IpAddr)]>,
    /// Ranges of virtual addresses, each of a network.
    pub ranges: Box<[(Name, IpNet)]>,
    /// Port and target port, ordered by port; a target of 0 is looked up in each workload.
    pub ports: Box<[(u16, u16)]>,
    /// Further identities that its servers may have.
    pub subject_alt_names: Arc<[Identity]>,
    /// Waypoint through which its traffic goes.
    pub waypoint: Option<Box<GatewayAddress>>,
    /// Waypoints by weight; win over `waypoint` unless all weights are 0.
    pub weighted_waypoints: Box<[(GatewayAddress, u32)]>,
    /// How endpoints are chosen.
    pub load_balancing: Option<LoadBalancing>,
    /// Address families it is served on; `None` if unsaid.
    pub ip_families: Option<IpFamilies>,
    /// Wins conflicts about host name and address.
    pub canonical: bool,
    /// Only clients of its own namespace see it.
    pub namespace_only: bool,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoadBalancing {
    /// What an endpoint should share with the client, most important first.
    pub preferences: Box<[Scope]>,
    /// How strictly.
    pub mode: Mode,
    /// Unhealthy endpoints count, too.
    pub allow_unhealthy: bool,
}

/// What client and endpoint share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Region.
    Region,
    /// Zone.
    Zone,
    /// Sub-zone.
    Subzone,
    /// Node.
    Node,
    /// Cluster.
    Cluster,
    /// Network.
    Network,
}

/// How strictly preferences are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not at all.
    Standard,
    /// Only endpoints that share everything.
    Strict,
    /// Those that share most.
    Failover,
    /// No endpoint is chosen: the address called is the address reached.
    Passthrough,
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Dual,
}

impl IpFamilies {
    /// Whether an address is of these families.
    pub fn accepts(self, address: IpAddr) -> bool {
        match self {
            IpFamilies::V4 => address.is_ipv4(),
            IpFamilies::V6 => address.is_ipv6(),
            IpFamilies::Dual => true,
        }
    }
}

impl Service {
    /// The target of a port: `None` without such a port, 0 if each workload has its own.
    pub fn target_port(&self, port: u16) -> Option<u16> {
        port_of(&self.ports, port)
    }

    /// How endpoints are chosen.
    pub fn mode(&self) -> Mode {
        self.load_balancing.as_ref().map_or(Mode::Standard, |lb| lb.mode)
    }

    /// Whether clients of a namespace see it; `None` sees what is public.
    pub fn is_visible_to(&self, namespace: Option<&str>) -> bool {
        !self.namespace_only || namespace == Some(&*self.namespace)
    }
}

/// From the message.
pub(crate) fn parse(message: proto::Service, interner: &mut Interner) -> Result<Service, Invalid> {
    if message.hostname.is_empty() {
        return Err(Invalid::new("hostname", "is empty"));
    }
    let ip_families = match proto::IpFamilies::try_from(message.ip_families) {
        Ok(proto::IpFamilies::Automatic) => None,
        Ok(proto::IpFamilies::Ipv4Only) => Some(IpFamilies::V4),
        Ok(proto::IpFamilies::Ipv6Only) => Some(IpFamilies::V6),
        Ok(proto::IpFamilies::Dual) => Some(IpFamilies::Dual),
        Err(_) => return Err(Invalid::unknown("ip_families", message.ip_families)),
    };
    let mut addresses = Vec::with_capacity(message.addresses.len());
    let mut ranges = Vec::new();
    for address in &message.addresses {
        let network = interner.name(&address.network);
        let invalid = || Invalid::address("addresses", &address.address);
        match address.length {
            None => addresses.push((network, parse_ip(&address.address).ok_or_else(invalid)?)),
            Some(length) => {
                let range = parse_net(&address.address, length).ok_or_else(|| {
                    Invalid::new(
                        "addresses",
                        format!("has a range with prefix length {length} that is none"),
                    )
                })?;
                ranges.push((network, range));
            }
        }
    }
    addresses.dedup();
    ranges.dedup();
    let waypoint = message
        .waypoint
        .map(|waypoint| gateway::parse("waypoint", waypoint, interner).map(Box::new))
        .transpose()?;
    let mut weighted_waypoints = Vec::with_capacity(message.weighted_waypoints.len());
    for weighted in message.weighted_waypoints {
        let Some(destination) = weighted.destination else {
            return Err(Invalid::new("weighted_waypoints", "has an entry without a destination"));
        };
        weighted_waypoints.push((
            gateway::parse("weighted_waypoints", destination, interner)?,
            weighted.weight,
        ));
    }
    Ok(Service {
        name: interner.name(&message.name),
        namespace: interner.name(&message.namespace),
        hostname: interner.name(&message.hostname),
        addresses: addresses.into(),
        ranges: ranges.into(),
        ports: parse_ports("ports", &message.ports)?,
        // What is no identity cannot be presented by a server, so nothing is lost by leaving it out.
        subject_alt_names: message
            .subject_alt_names
            .iter()
            .filter_map(|san| san.parse().ok())
            .collect(),
        waypoint,
        weighted_waypoints: weighted_waypoints.into(),
        load_balancing: message.load_balancing.as_ref().map(parse_load_balancing).transpose()?,
        ip_families,
        canonical: message.canonical,
        // An unknown number is public, as in Istio.
        namespace_only: message.visibility == proto::Visibility::Namespace as i32,
    })
}

fn parse_load_balancing(message: &proto::LoadBalancing) -> Result<LoadBalancing, Invalid> {
    use proto::load_balancing as lb;
    let mut preferences = Vec::with_capacity(message.routing_preference.len());
    for number in &message.routing_preference {
        preferences.push(match lb::Scope::try_from(*number) {
            Ok(lb::Scope::Region) => Scope::Region,
            Ok(lb::Scope::Zone) => Scope::Zone,
            Ok(lb::Scope::Subzone) => Scope::Subzone,
            Ok(lb::Scope::Node) => Scope::Node,
            Ok(lb::Scope::Cluster) => Scope::Cluster,
            Ok(lb::Scope::Network) => Scope::Network,
            Ok(lb::Scope::Unspecified) | Err(_) => {
                return Err(Invalid::unknown("load_balancing.routing_preference", *number));
            }
        });
    }
    let mode = match lb::Mode::try_from(message.mode) {
        Ok(lb::Mode::Unspecified) => Mode::Standard,
        Ok(lb::Mode::Strict) => Mode::Strict,
        Ok(lb::Mode::Failover) => Mode::Failover,
        Ok(lb::Mode::Passthrough) => Mode::Passthrough,
        Err(_) => return Err(Invalid::unknown("load_balancing.mode", message.mode)),
    };
    let health = lb::HealthPolicy::try_from(message.health_policy)
        .map_err(|_| Invalid::unknown("load_balancing.health_policy", message.health_policy))?;
    Ok(LoadBalancing {
        preferences: preferences.into(),
        mode,
        allow_unhealthy: health == lb::HealthPolicy::AllowAll,
    })
}
