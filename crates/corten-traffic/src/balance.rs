//! Which endpoint of a service a connection goes to.

use crate::{
    random::Random,
    service::{Mode, Scope, Service},
    tables::{Endpoint, ServiceEntry},
    workload::Workload,
};

/// How often an endpoint is tried at random before all are looked at.
const PROBES: usize = 24;

/// For what an endpoint is wanted, which decides what makes it usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The service's own traffic: the port must lead somewhere.
    Standard,
    /// As a waypoint: one whose application takes the tunnel itself need not map the port.
    Waypoint,
}

/// Why no endpoint can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The service has no such port.
    #[error("it has no such port")]
    Port,
    /// No workload belongs to it.
    #[error("it has no endpoints")]
    Empty,
    /// None takes traffic.
    #[error("none of its endpoints is healthy")]
    Unhealthy,
    /// None can be reached or has the port, or all have weight 0.
    #[error("none of its endpoints has an address, the port and a weight above 0")]
    Unusable,
    /// None shares what the service demands.
    #[error("none of its usable endpoints is where its load balancing demands (internal traffic policy or locality)")]
    Elsewhere,
}

/// One call for an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) source: &'a Workload,
    pub(crate) service: &'a Service,
    pub(crate) port: u16,
    pub(crate) purpose: Purpose,
}

impl Wanted<'_> {
    /// Chooses an endpoint and its port: of those that are usable and share most with the client, at random by weight.
    pub(crate) fn pick<'t>(
        self,
        entry: &'t ServiceEntry,
        random: &mut Random,
    ) -> Result<(&'t Endpoint, u16), NoEndpoint> {
        if self.purpose == Purpose::Standard && self.service.target_port(self.port).is_none() {
            return Err(NoEndpoint::Port);
        }
        let endpoint = match self.probe(entry, random) {
            Some(endpoint) => endpoint,
            None => self.scan(entry, random)?,
        };
        let port = self.port_of(endpoint).ok_or(NoEndpoint::Port)?;
        Ok((endpoint, port))
    }

    /// Without preferences and weights any usable endpoint will do, and nearly all are: a few tries find one among thousands.
    fn probe<'t>(self, entry: &'t ServiceEntry, random: &mut Random) -> Option<&'t Endpoint> {
        if entry.weighted > 0 || self.service.mode() != Mode::Standard {
            return None;
        }
        let mut tries = (0..PROBES).filter_map(|_| {
            let numbers = random.next();
            entry.endpoints.probe((numbers >> 32) as u32, numbers as u32)
        });
        tries.find(|endpoint| self.is_usable(endpoint))
    }

    fn scan<'t>(self, entry: &'t ServiceEntry, random: &mut Random) -> Result<&'t Endpoint, NoEndpoint> {
        let mut best = 0;
        let mut weight = 0u64;
        let mut usable = false;
        let ranked = || {
            entry
                .endpoints
                .iter()
                .filter(|endpoint| self.is_usable(endpoint))
                .filter_map(|endpoint| Some((self.rank(endpoint)?, endpoint)))
        };
        for (rank, endpoint) in ranked() {
            if rank > best || !usable {
                (best, weight, usable) = (rank, 0, true);
            }
            if rank == best {
                weight += u64::from(endpoint.workload.capacity);
            }
        }
        let mut at = random.below(weight).ok_or_else(|| self.why_none(entry))?;
        for (rank, endpoint) in ranked() {
            let share = u64::from(endpoint.workload.capacity);
            if rank == best && at < share {
                return Ok(endpoint);
            }
            if rank == best {
                at -= share;
            }
        }
        Err(NoEndpoint::Unusable)
    }

    fn is_usable(self, endpoint: &Endpoint) -> bool {
        self.is_healthy(endpoint) && self.is_reachable(endpoint)
    }

    /// Health is looked at now and not when the endpoint came, so that a service that begins to allow unhealthy ones has them at once.
    fn is_healthy(self, endpoint: &Endpoint) -> bool {
        endpoint.workload.healthy
            || self
                .service
                .load_balancing
                .as_ref()
                .is_some_and(|lb| lb.allow_unhealthy)
    }

    fn is_reachable(self, endpoint: &Endpoint) -> bool {
        let workload = &*endpoint.workload;
        let addressed = !workload.addresses.is_empty() || !workload.hostname.is_empty();
        let remote = workload.network != self.source.network && workload.network_gateway.is_some();
        (addressed || remote)
            && match self.purpose {
                Purpose::Standard => {
                    self.service.target_port(self.port).is_some_and(|target| target != 0)
                        || endpoint.target_port(self.port).is_some()
                }
                Purpose::Waypoint => {
                    self.service.target_port(self.port).is_some() || workload.application_tunnel.is_some()
                }
            }
    }

    fn port_of(self, endpoint: &Endpoint) -> Option<u16> {
        let of_service = || self.service.target_port(self.port).filter(|target| *target != 0);
        let of_tunnel = || {
            endpoint
                .workload
                .application_tunnel
                .and_then(|tunnel| tunnel.port)
                .map(|_| self.port)
        };
        let own = endpoint.target_port(self.port).filter(|target| *target != 0);
        own.or_else(of_service).or_else(of_tunnel)
    }

    /// How many of the leading preferences an endpoint shares with the client; `None` if it must share all and does not.
    ///
    /// With the network first, another network is no bar to the preferences after it, but an endpoint of the same network always comes first.
    fn rank(self, endpoint: &Endpoint) -> Option<usize> {
        let Some(balancing) = &self.service.load_balancing else {
            return Some(0);
        };
        let preferences = &balancing.preferences;
        let network_first = preferences.first() == Some(&Scope::Network);
        let mut shared = 0;
        let mut bonus = 0;
        for scope in preferences {
            let same = shares(*scope, self.source, &endpoint.workload);
            if *scope == Scope::Network && network_first {
                if !same {
                    continue;
                }
                bonus = preferences.len() - 1;
            }
            if !same {
                break;
            }
            shared += 1;
        }
        let all = shared == preferences.len();
        match balancing.mode {
            Mode::Standard => Some(0),
            Mode::Strict if !all => None,
            Mode::Strict | Mode::Failover | Mode::Passthrough => Some(shared + bonus),
        }
    }

    /// Looked for only once it is certain that there is none.
    fn why_none(self, entry: &ServiceEntry) -> NoEndpoint {
        if entry.endpoints.is_empty() {
            NoEndpoint::Empty
        } else if !entry.endpoints.iter().any(|endpoint| self.is_healthy(endpoint)) {
            NoEndpoint::Unhealthy
        } else if !entry
            .endpoints
            .iter()
            .any(|endpoint| self.is_usable(endpoint) && endpoint.workload.capacity > 0)
        {
            NoEndpoint::Unusable
        } else {
            NoEndpoint::Elsewhere
        }
    }
}

fn shares(scope: Scope, a: &Workload, b: &Workload) -> bool {
    match scope {
        Scope::Region => a.locality.region == b.locality.region,
        Scope::Zone => a.locality.zone == b.locality.zone,
        Scope::Subzone => a.locality.subzone == b.locality.subzone,
        Scope::Node => a.node == b.node,
        Scope::Cluster => a.cluster == b.cluster,
        Scope::Network => a.network == b.network,
    }
}
