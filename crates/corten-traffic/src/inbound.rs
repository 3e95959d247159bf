//! Where a tunnel request of a peer goes, and whether it may ask for that at all. Policies are asked afterwards.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use crate::{
    authority::{AuthorityError, Requested},
    gateway::{Destination, GatewayAddress},
    name::Name,
    service::Service,
    settings::Settings,
    tables::Tables,
    trie::hash,
    workload::Workload,
};

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct InboundTarget {
    /// The application: what policies see and logs say.
    pub destination: SocketAddr,
    /// Where to connect: the same, or the loopback address with the same port.
    pub connect: SocketAddr,
    /// A PROXY header that names this destination goes first.
    pub proxy_header: Option<SocketAddr>,
    /// The service that was asked for by name.
    pub service: Option<Arc<Service>>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The authority is malformed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The address is not this workload's, nor of anything it is the waypoint of.
    #[error("the tunnel asks for {requested}, but {local} is not its address and not its waypoint")]
    AddressMismatch {
        /// The address asked for.
        requested: IpAddr,
        /// The local address.
        local: IpAddr,
    },
    /// No service has the name.
    #[error("no service is named '{0}'")]
    NoService(String),
    /// The service's port leads nowhere.
    #[error("service {service} has no port {port} that leads to a port of this workload")]
    NoPort {
        /// The service.
        service: Name,
        /// The port.
        port: u16,
    },
    /// The service has no address to put into the PROXY header.
    #[error("service {0} has no address")]
    NoAddress(Name),
    /// It would come back to this proxy.
    #[error("attempted recursive call to ourselves: {0} is a port of this proxy")]
    SelfCall(SocketAddr),
}

impl InboundError {
    /// The status that the peer gets.
    pub fn status(&self) -> u16 {
        match self {
            InboundError::Authority(_) | InboundError::AddressMismatch { .. } => 400,
            InboundError::NoService(_)
            | InboundError::NoPort { .. }
            | InboundError::NoAddress(_)
            | InboundError::SelfCall(_) => 503,
        }
    }
}

impl Tables {
    /// Decides about a tunnel request to a local workload. `local_address` is where the tunnel's connection was accepted.
    pub fn inbound(
        &self,
        settings: &Settings,
        local: &Workload,
        local_address: SocketAddr,
        authority: &str,
    ) -> Result<InboundTarget, InboundError> {
        let here = local_address.ip().to_canonical();
        let (port, service) = match Requested::parse(authority)? {
            Requested::Address(requested) => {
                self.validate(settings, local, here, requested.ip())?;
                (requested.port(), None)
            }
            Requested::Hostname(hostname, port) => {
                let service = self
                    .service_named(hostname, &local.namespace)
                    .ok_or_else(|| InboundError::NoService(hostname.to_owned()))?;
                let own = local.membership(&service.namespace, &service.hostname);
                let target = own
                    .and_then(|member| member.target_port(port))
                    .filter(|target| *target != 0);
                let target = target.or_else(|| service.target_port(port).filter(|target| *target != 0));
                let target = target.ok_or_else(|| InboundError::NoPort {
                    service: service.hostname.clone(),
                    port,
                })?;
                (target, Some(service.clone()))
            }
        };
        let destination = SocketAddr::new(here, port);
        if settings.is_own_port(port) {
            return Err(InboundError::SelfCall(destination));
        }
        let Some(tunnel) = local.application_tunnel else {
            return Ok(InboundTarget {
                destination,
                connect: destination,
                proxy_header: None,
                service,
            });
        };

        let header = match (Requested::parse(authority)?, &service) {
            (Requested::Address(address), _) => address,
            (Requested::Hostname(_, port), Some(service)) => {
                let address = header_address(settings, service)
                    .ok_or_else(|| InboundError::NoAddress(service.hostname.clone()))?;
                SocketAddr::new(address, port)
            }
            (Requested::Hostname(hostname, _), None) => return Err(InboundError::NoService(hostname.to_owned())),
        };
        let destination = SocketAddr::new(here, tunnel.port.unwrap_or(port));
        let loopback = match here {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let to_loopback = tunnel.proxy && settings.localhost_app_tunnel;
        Ok(InboundTarget {
            destination,
            connect: SocketAddr::new(if to_loopback { loopback } else { here }, destination.port()),
            proxy_header: tunnel.proxy.then_some(header),
            service,
        })
    }

    /// Whether an address may be asked for here.
    fn validate(
        &self,
        settings: &Settings,
        local: &Workload,
        here: IpAddr,
        requested: IpAddr,
    ) -> Result<(), InboundError> {
        let allowed = requested == here
            // Its application sees what was asked for, and decides.
            || local.application_tunnel.is_some()
            || self.waypoints_of(settings, requested).any(|gateway| self.is_gateway(gateway, local, here));
        if allowed {
            return Ok(());
        }
        Err(InboundError::AddressMismatch { requested, local: here })
    }

    /// The waypoints of whatever has an address, those by weight included: ztunnel leaves them out and refuses shifted traffic.
    fn waypoints_of(&self, settings: &Settings, address: IpAddr) -> impl Iterator<Item = &GatewayAddress> {
        let network = &settings.network;
        let workload = self.workload_at(network, address);
        let services = match workload {
            Some(_) => &[],
            None => self.by_vip.get(hash(address), |(n, a)| *a == address && n == network),
        };
        let of_services = services.iter().flat_map(|service| {
            service
                .waypoint
                .as_deref()
                .into_iter()
                .chain(service.weighted_waypoints.iter().map(|(gateway, _)| gateway))
        });
        workload
            .and_then(|workload| workload.waypoint.as_deref())
            .into_iter()
            .chain(of_services)
    }

    /// Whether a gateway's address means the local workload.
    fn is_gateway(&self, gateway: &GatewayAddress, local: &Workload, here: IpAddr) -> bool {
        let is_behind = |service: &Service| local.membership(&service.namespace, &service.hostname).is_some();
        match &gateway.destination {
            Destination::Address { network, address } => match self.workload_at(network, *address) {
                Some(workload) => workload.has_address(here),
                None => self
                    .by_vip
                    .get(hash(*address), |(n, a)| a == address && n == network)
                    .iter()
                    .any(|s| is_behind(s)),
            },
            Destination::Hostname { namespace, hostname } => self
                .service(namespace, hostname)
                .is_some_and(|service| is_behind(service)),
        }
    }

    /// The service that a peer says it meant, if the workload belongs to one of that name; for telemetry only.
    pub fn intended_service(&self, local: &Workload, hostname: &str) -> Option<&Arc<Service>> {
        let own = local.services.iter().filter(|member| *member.hostname == *hostname);
        let same = own.clone().find(|member| member.namespace == local.namespace);
        let member = same.or_else(|| own.clone().next())?;
        self.service(&member.namespace, &member.hostname)
    }
}

/// The address of a service for a PROXY header: of the own network first, then IPv4.
fn header_address(settings: &Settings, service: &Service) -> Option<IpAddr> {
    let rank = |network: &Name, address: &IpAddr| match (*network == settings.network, address.is_ipv4()) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    };
    service
        .addresses
        .iter()
        .min_by_key(|(network, address)| rank(network, address))
        .map(|(_, address)| *address)
}

#[cfg(test)]
mod tests;
