//! Where a connection that a local workload opens goes, and by which protocol.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corten_core::Identity;

use crate::{
    balance::{NoEndpoint, Purpose, Wanted},
    gateway::{Destination, GatewayAddress},
    name::Name,
    random::Random,
    service::{IpFamilies, Mode, Service},
    settings::{HBONE_PORT, Settings},
    tables::Tables,
    trie::hash,
    workload::Workload,
};

/// The next hop of a connection.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where the TCP connection goes.
    pub connect: Connect,
    /// What the request of the (innermost) tunnel asks for; none for plain TCP. The outer tunnel of two asks for the same.
    pub authority: Option<Authority>,
    /// Who may answer the (outer) tunnel.
    pub expected: Expected,
    /// Who may answer the inner of two tunnels.
    pub expected_inside: Option<Expected>,
    /// The workload that is the next hop, a waypoint or gateway included; none where nothing is known about the address.
    pub workload: Option<Arc<Workload>>,
    /// The service that the client meant; never a waypoint's or gateway's own.
    pub service: Option<Arc<Service>>,
    /// What the next hop is.
    pub hop: Hop,
}

/// How the next hop is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Bytes as they come.
    Tcp,
    /// One tunnel.
    Hbone,
    /// A tunnel through a gateway, and within it one to the destination.
    DoubleHbone,
}

/// What the next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The destination.
    Destination,
    /// The waypoint of the service.
    ServiceWaypoint,
    /// The waypoint of the workload.
    WorkloadWaypoint,
    /// The gateway of another network.
    Gateway,
    /// The address called, of which nothing is known, or which is to be left alone.
    Passthrough,
}

/// Where a TCP connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Connect {
    /// To an address.
    Address(SocketAddr),
    /// To an address of a name.
    Hostname {
        /// The name, to be resolved by the node's own resolver.
        hostname: Name,
        /// The port.
        port: u16,
        /// Addresses of this family come first.
        prefer_ipv6: bool,
    },
}

/// What a tunnel request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An address.
    Address(SocketAddr),
    /// The address that [`Connect::Hostname`] turned out to be, with this port.
    Resolved(u16),
    /// A service by name.
    Hostname(Name, u16),
}

impl Authority {
    /// As text, once the address of the connection is known.
    pub fn text(&self, connected: IpAddr) -> String {
        match self {
            Authority::Address(address) => address.to_string(),
            Authority::Resolved(port) => SocketAddr::new(connected, *port).to_string(),
            Authority::Hostname(hostname, port) => format!("{hostname}:{port}"),
        }
    }
}

/// Who may answer a tunnel: any of these identities. Cheap to clone and to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Expected {
    workload: Option<Arc<Identity>>,
    service: Option<Arc<[Identity]>>,
}

impl Expected {
    fn of(workload: &Workload, service: Option<&Arc<Service>>) -> Expected {
        let named = service
            .map(|service| &service.subject_alt_names)
            .filter(|names| !names.is_empty());
        Expected {
            workload: Some(workload.identity.clone()),
            service: named.cloned(),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.workload
            .as_deref()
            .into_iter()
            .chain(self.service.iter().flat_map(|names| names.iter()))
    }

    /// Whether an identity is one of them.
    pub fn contains(&self, identity: &Identity) -> bool {
        self.iter().any(|expected| expected == identity)
    }
}

/// Why a connection goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// It would come back to this proxy.
    #[error("attempted recursive call to ourselves: {0} is a port of this proxy")]
    SelfCall(SocketAddr),
    /// The service called has no endpoint to offer.
    #[error("no endpoint of service {service} for port {port}: {reason}")]
    NoHealthyUpstream {
        /// The service, `namespace/hostname`.
        service: String,
        /// The port called.
        port: u16,
        /// Why.
        reason: NoEndpoint,
    },
    /// The chosen workload cannot be reached.
    #[error("workload {workload} cannot be reached: {reason}")]
    NoValidDestination {
        /// Its uid.
        workload: Name,
        /// Why.
        reason: &'static str,
    },
    /// The waypoint of what was called cannot be found or has no endpoint; it is never gone round.
    #[error("waypoint {waypoint} of {target} is not available: {reason}")]
    UnknownWaypoint {
        /// The waypoint.
        waypoint: String,
        /// Service or workload that has it.
        target: String,
        /// Why.
        reason: String,
    },
    /// The gateway of another network cannot be found or has no endpoint.
    #[error("gateway {gateway} of network '{network}' is not available: {reason}")]
    UnknownNetworkGateway {
        /// The gateway.
        gateway: String,
        /// The network.
        network: Name,
        /// Why.
        reason: String,
    },
}

/// A connection to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// The local workload that opens it.
    pub source: &'a Workload,
    /// The address it comes from.
    pub client: IpAddr,
    /// The address called.
    pub destination: SocketAddr,
    /// Any number; decides where chance does.
    pub random: u64,
}

/// A workload chosen, with what led to it.
struct Chosen {
    workload: Arc<Workload>,
    service: Option<Arc<Service>>,
    port: u16,
    host: Host,
}

/// Which address of the chosen workload.
enum Host {
    Address(IpAddr),
    Hostname(Name),
    /// None is needed: it is on another network, behind its gateway.
    Remote,
}

impl Tables {
    /// Decides where a connection goes.
    ///
    /// The address is taken for a workload's first when looking for waypoints, and for a service's first when looking for the endpoint; the
    /// former on the network of the settings, the latter on the workload's. Peers rely on neither, but ztunnel does both, and addresses
    /// that are a workload's and a service's at once are told apart by it.
    pub fn outbound(&self, settings: &Settings, call: &Outbound<'_>) -> Result<Upstream, OutboundError> {
        let (source, destination) = (call.source, crate::address::canonical(call.destination));
        let mut random = Random::new(call.random);
        if destination.ip().is_loopback() && settings.is_own_port(destination.port()) {
            return Err(OutboundError::SelfCall(destination));
        }

        let called = match self.workload_at(&settings.network, destination.ip()) {
            Some(_) => None,
            None => self.service_at(&settings.network, destination.ip(), &source.namespace),
        };
        if let Some(service) = called
            && let Some(gateway) = waypoint_of(service, &mut random)
        {
            let waypoint = self
                .waypoint(gateway, call, &mut random)
                .map_err(|reason| unknown_waypoint(gateway, &key(service), reason))?;
            if waypoint.workload.network != source.network {
                return self.through_gateway(call, waypoint, service, &mut random);
            }
            return via_waypoint(waypoint, Some(service.clone()), destination, Hop::ServiceWaypoint);
        }

        let chosen = match self.destination_of(source, destination, &mut random) {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return self.without_endpoint(called, destination, None),
            Err(Lost::NoEndpoint(service, reason)) => {
                return self.without_endpoint(called, destination, Some((service, reason)));
            }
            Err(Lost::Unreachable(error)) => return Err(error),
        };
        if chosen.workload.network != source.network {
            let Some(service) = called else {
                return Err(OutboundError::NoValidDestination {
                    workload: chosen.workload.uid.clone(),
                    reason: "it is on another network, and those are entered by calling a service only",
                });
            };
            return self.through_gateway(call, chosen, service, &mut random);
        }

        if called.is_none()
            && let Some(gateway) = &chosen.workload.waypoint
            && !self.is_waypoint(gateway, source, call.client)
        {
            let waypoint = self
                .waypoint(gateway, call, &mut random)
                .map_err(|reason| unknown_waypoint(gateway, &chosen.workload.uid, reason))?;
            return via_waypoint(waypoint, chosen.service, destination, Hop::WorkloadWaypoint);
        }
        direct(chosen, destination)
    }

    /// What happens to a call that has no endpoint: a service's ends here, any other passes through.
    fn without_endpoint(
        &self,
        called: Option<&Arc<Service>>,
        destination: SocketAddr,
        lost: Option<(Arc<Service>, NoEndpoint)>,
    ) -> Result<Upstream, OutboundError> {
        if let Some(service) = called
            && service.mode() != Mode::Passthrough
        {
            let (service, reason) = lost.unwrap_or_else(|| (service.clone(), NoEndpoint::Empty));
            return Err(OutboundError::NoHealthyUpstream {
                service: key(&service),
                port: destination.port(),
                reason,
            });
        }
        Ok(Upstream {
            protocol: Protocol::Tcp,
            connect: Connect::Address(destination),
            authority: None,
            expected: Expected::default(),
            expected_inside: None,
            workload: None,
            service: None,
            hop: Hop::Passthrough,
        })
    }

    /// The workload behind an address: an endpoint of the service that has it, else the workload that has it.
    fn destination_of(
        &self,
        source: &Workload,
        destination: SocketAddr,
        random: &mut Random,
    ) -> Result<Option<Chosen>, Lost> {
        if let Some(service) = self.service_at(&source.network, destination.ip(), &source.namespace) {
            if service.mode() == Mode::Passthrough {
                return Ok(None);
            }
            return self
                .endpoint(
                    source,
                    service,
                    destination.port(),
                    Purpose::Standard,
                    destination,
                    random,
                )
                .map(Some);
        }
        let Some(workload) = self.workload_at(&source.network, destination.ip()) else {
            return Ok(None);
        };
        finish(workload, None, destination.port(), destination).map(Some)
    }

    fn endpoint(
        &self,
        source: &Workload,
        service: &Arc<Service>,
        port: u16,
        purpose: Purpose,
        destination: SocketAddr,
        random: &mut Random,
    ) -> Result<Chosen, Lost> {
        let none = |reason| Lost::NoEndpoint(service.clone(), reason);
        let entry = self
            .entry(&service.namespace, &service.hostname)
            .ok_or_else(|| none(NoEndpoint::Empty))?;
        let wanted = Wanted {
            source,
            service,
            port,
            purpose,
        };
        let (endpoint, port) = wanted.pick(entry, random).map_err(none)?;
        finish(&endpoint.workload, Some(service), port, destination)
    }

    /// A gateway as a workload: an endpoint of its service, or the workload with its address or name.
    fn gateway(
        &self,
        gateway: &GatewayAddress,
        purpose: Purpose,
        source: &Workload,
        destination: SocketAddr,
        random: &mut Random,
    ) -> Result<Chosen, String> {
        let port = gateway.hbone_port;
        let found = match &gateway.destination {
            Destination::Address { network, address } => {
                let destination = SocketAddr::new(*address, port);
                if let Some(service) = self.service_at(network, *address, &source.namespace) {
                    self.endpoint(source, service, port, purpose, destination, random)
                } else if let Some(workload) = self.workload_at(network, *address) {
                    finish(workload, None, port, destination)
                } else {
                    return Err("no service or workload has this address".to_owned());
                }
            }
            Destination::Hostname { namespace, hostname } => {
                if let Some(service) = self.service(namespace, hostname) {
                    self.endpoint(source, service, port, purpose, destination, random)
                } else if let Some(workload) = self.workload_named(namespace, hostname) {
                    finish(workload, None, port, destination)
                } else {
                    return Err("no service or workload has this name".to_owned());
                }
            }
        };
        found.map_err(|lost| match lost {
            Lost::NoEndpoint(service, reason) => format!("service {}: {reason}", key(&service)),
            Lost::Unreachable(error) => error.to_string(),
        })
    }

    fn waypoint(&self, gateway: &GatewayAddress, call: &Outbound<'_>, random: &mut Random) -> Result<Chosen, String> {
        self.gateway(
            gateway,
            Purpose::Waypoint,
            call.source,
            crate::address::canonical(call.destination),
            random,
        )
    }

    fn workload_named(&self, namespace: &str, hostname: &str) -> Option<&Arc<Workload>> {
        self.by_hostname
            .get(hash((namespace, hostname)), |(ns, host)| {
                *ns == namespace && *host == hostname
            })
            .first()
    }

    /// Whether a caller is the waypoint itself, whose connections must not come back to it.
    fn is_waypoint(&self, gateway: &GatewayAddress, source: &Workload, client: IpAddr) -> bool {
        let is = |workload: &Workload| workload.identity == source.identity && workload.has_address(client);
        let is_behind = |service: &Arc<Service>| {
            source.membership(&service.namespace, &service.hostname).is_some() && source.has_address(client)
        };
        match &gateway.destination {
            Destination::Address { network, address } => {
                self.workload_at(network, *address).is_some_and(|workload| is(workload))
                    || self
                        .service_at(network, *address, &source.namespace)
                        .is_some_and(is_behind)
            }
            Destination::Hostname { namespace, hostname } => {
                self.service(namespace, hostname).is_some_and(is_behind)
                    || self
                        .workload_named(namespace, hostname)
                        .is_some_and(|workload| is(workload))
            }
        }
    }

    /// Into another network. Gateway and destination are both asked for the service by its name and the port called, waypoint or not.
    fn through_gateway(
        &self,
        call: &Outbound<'_>,
        chosen: Chosen,
        service: &Arc<Service>,
        random: &mut Random,
    ) -> Result<Upstream, OutboundError> {
        let destination = crate::address::canonical(call.destination);
        let Some(address) = &chosen.workload.network_gateway else {
            return Err(OutboundError::NoValidDestination {
                workload: chosen.workload.uid.clone(),
                reason: "it is on another network and has no gateway",
            });
        };
        let gateway = self
            .gateway(address, Purpose::Standard, call.source, destination, random)
            .map_err(|reason| OutboundError::UnknownNetworkGateway {
                gateway: address.destination.to_string(),
                network: chosen.workload.network.clone(),
                reason,
            })?;
        Ok(Upstream {
            protocol: Protocol::DoubleHbone,
            connect: connect(&gateway, gateway.port, destination)?,
            authority: Some(Authority::Hostname(service.hostname.clone(), destination.port())),
            expected: Expected::of(&gateway.workload, gateway.service.as_ref()),
            // The gateway stands for many workloads; only the names that the service lists say who they are.
            expected_inside: Some(Expected {
                workload: None,
                service: chosen.service.as_ref().map(|service| service.subject_alt_names.clone()),
            }),
            workload: Some(gateway.workload),
            service: Some(service.clone()),
            hop: Hop::Gateway,
        })
    }
}

/// Why there is no workload to go to.
enum Lost {
    NoEndpoint(Arc<Service>, NoEndpoint),
    Unreachable(OutboundError),
}

fn key(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.hostname)
}

fn unknown_waypoint(gateway: &GatewayAddress, target: &str, reason: String) -> OutboundError {
    OutboundError::UnknownWaypoint {
        waypoint: gateway.destination.to_string(),
        target: target.to_owned(),
        reason,
    }
}

/// The waypoint of a service: one by weight, or the only one.
fn waypoint_of<'a>(service: &'a Service, random: &mut Random) -> Option<&'a GatewayAddress> {
    let total: u64 = service
        .weighted_waypoints
        .iter()
        .map(|(_, weight)| u64::from(*weight))
        .sum();
    if let Some(mut at) = random.below(total) {
        for (gateway, weight) in &service.weighted_waypoints {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return Some(gateway),
            }
        }
    }
    service.waypoint.as_deref()
}

/// Settles which address of a workload is used.
fn finish(
    workload: &Arc<Workload>,
    service: Option<&Arc<Service>>,
    port: u16,
    destination: SocketAddr,
) -> Result<Chosen, Lost> {
    let families = service.and_then(|service| service.ip_families);
    let host = if let Some(address) = pick_address(workload, families, destination.ip()) {
        Host::Address(address)
    } else if !workload.hostname.is_empty() {
        Host::Hostname(workload.hostname.clone())
    } else if workload.network_gateway.is_some() {
        Host::Remote
    } else {
        return Err(Lost::Unreachable(OutboundError::NoValidDestination {
            workload: workload.uid.clone(),
            reason: "it has no address of the service's families",
        }));
    };
    Ok(Chosen {
        workload: workload.clone(),
        service: service.cloned(),
        port,
        host,
    })
}

/// The address called if it is the workload's, else the first allowed one of its family, else the first allowed.
fn pick_address(workload: &Workload, families: Option<IpFamilies>, called: IpAddr) -> Option<IpAddr> {
    if workload.has_address(called) {
        return Some(called);
    }
    let mut allowed = workload
        .addresses
        .iter()
        .filter(|address| families.is_none_or(|f| f.accepts(**address)));
    let first = allowed.clone().next();
    allowed
        .find(|address| address.is_ipv4() == called.is_ipv4())
        .or(first)
        .copied()
}

fn connect(chosen: &Chosen, port: u16, destination: SocketAddr) -> Result<Connect, OutboundError> {
    match &chosen.host {
        Host::Address(address) => Ok(Connect::Address(SocketAddr::new(*address, port))),
        Host::Hostname(hostname) => Ok(Connect::Hostname {
            hostname: hostname.clone(),
            port,
            prefer_ipv6: destination.is_ipv6(),
        }),
        Host::Remote => Err(OutboundError::NoValidDestination {
            workload: chosen.workload.uid.clone(),
            reason: "it has neither address nor host name",
        }),
    }
}

fn via_waypoint(
    waypoint: Chosen,
    service: Option<Arc<Service>>,
    destination: SocketAddr,
    hop: Hop,
) -> Result<Upstream, OutboundError> {
    Ok(Upstream {
        protocol: Protocol::Hbone,
        connect: connect(&waypoint, waypoint.port, destination)?,
        // As it was called: what it means is the waypoint's to decide.
        authority: Some(Authority::Address(destination)),
        expected: Expected::of(&waypoint.workload, waypoint.service.as_ref()),
        expected_inside: None,
        workload: Some(waypoint.workload),
        service,
        hop,
    })
}

fn direct(chosen: Chosen, destination: SocketAddr) -> Result<Upstream, OutboundError> {
    let hbone = chosen.workload.is_hbone();
    let port = if hbone { HBONE_PORT } else { chosen.port };
    let connect = connect(&chosen, port, destination)?;
    let authority = match &connect {
        Connect::Address(address) => Authority::Address(SocketAddr::new(address.ip(), chosen.port)),
        Connect::Hostname { .. } => Authority::Resolved(chosen.port),
    };
    Ok(Upstream {
        protocol: if hbone { Protocol::Hbone } else { Protocol::Tcp },
        connect,
        authority: hbone.then_some(authority),
        expected: Expected::of(&chosen.workload, chosen.service.as_ref()),
        expected_inside: None,
        workload: Some(chosen.workload),
        service: chosen.service,
        hop: Hop::Destination,
    })
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connect::Address(address) => write!(f, "{address}"),
            Connect::Hostname { hostname, port, .. } => write!(f, "{hostname}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests;
