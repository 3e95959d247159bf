//! Which names the mesh knows, and what a pod that asks for one is told.
//!
//! Only questions for addresses come here. Reading and writing messages, and asking elsewhere for names that are not ours, is the driver's.

pub mod message;

use std::{net::IpAddr, sync::Arc};

use crate::{
    name::Name,
    random::Random,
    service::{IpFamilies, Service},
    settings::Settings,
    tables::{Asker, Tables},
    workload::Workload,
};

/// How long answers may be kept, in seconds.
pub const TTL: u32 = 30;
/// The longest name in text, as DNS has it.
const NAME_MAX: usize = 253;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `A`.
    V4,
    /// `AAAA`.
    V6,
}

/// What is said to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is not ours: others are asked.
    NotOurs,
    /// The name is ours: these addresses, perhaps none.
    Ours(Found),
}

/// A name that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The service it means.
    pub service: Arc<Service>,
    /// Set when a search domain was stripped: the name that the question is an alias of and that the addresses are of.
    pub alias_of: Option<String>,
    /// The addresses, in random order.
    pub addresses: Vec<IpAddr>,
}

/// A form of the name under which it is looked for.
struct Candidate {
    name: String,
    /// What was left when a search domain was taken off.
    stripped: Option<String>,
}

/// Answers a question of a local workload. `name` may end in a dot; `random` is any number and decides the order.
pub fn answer(
    tables: &Tables,
    settings: &Settings,
    client: &Workload,
    name: &str,
    family: Family,
    random: u64,
) -> Answer {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name.is_empty() || name.len() > NAME_MAX {
        return Answer::NotOurs;
    }
    let cluster = Cluster::new(settings, client);
    let found = cluster.candidates(&name).into_iter().find_map(|candidate| {
        let (service, by_wildcard) = cluster.service(tables, settings, client, &candidate.name)?;
        Some((service, candidate.stripped.filter(|_| !by_wildcard)))
    });
    let Some((service, alias_of)) = found else {
        return Answer::NotOurs;
    };
    let mut addresses = addresses(tables, settings, client, service, family);
    shuffle(&mut addresses, Random::new(random));
    Answer::Ours(Found {
        service: service.clone(),
        alias_of: alias_of.filter(|_| !addresses.is_empty()),
        addresses,
    })
}

/// The domains of the cluster, as a client sees them.
struct Cluster {
    /// `svc.cluster.local`.
    services: String,
    /// `ns.svc.cluster.local`.
    namespace: String,
    /// `cluster.local`.
    domain: Name,
    /// What clients append to names.
    search: Vec<Name>,
}

impl Cluster {
    fn new(settings: &Settings, client: &Workload) -> Cluster {
        let domain = settings.cluster_domain.clone();
        let services = format!("svc.{domain}");
        let namespace = format!("{}.{services}", client.namespace);
        let kubernetes = || vec![Name::from(&*namespace), Name::from(&*services), domain.clone()];
        Cluster {
            search: settings.search.clone().unwrap_or_else(kubernetes),
            namespace,
            domain,
            services,
        }
    }

    /// The forms of a name, first the most literal.
    fn candidates(&self, name: &str) -> Vec<Candidate> {
        let mut candidates = Vec::with_capacity(8);
        self.add(name, None, &mut candidates);
        for search in &self.search {
            let stripped = name.strip_suffix(&**search).and_then(|rest| rest.strip_suffix('.'));
            if let Some(stripped) = stripped.filter(|rest| !rest.is_empty()) {
                self.add(stripped, Some(stripped), &mut candidates);
            }
        }
        candidates
    }

    /// Adds a name, and what it would be in full if it were the short form of a service or of a pod of one.
    fn add(&self, name: &str, stripped: Option<&str>, candidates: &mut Vec<Candidate>) {
        let mut add = |name: String| {
            if !candidates.iter().any(|other| other.name == name) {
                candidates.push(Candidate {
                    name,
                    stripped: stripped.map(str::to_owned),
                });
            }
        };
        add(name.to_owned());
        let is_svc = name.ends_with(".svc");
        let in_full: &[&str] = match name.split('.').count() {
            1 => &[&self.namespace],
            2 => &[&self.services, &self.namespace],
            3 if is_svc => &[&self.domain, &self.services],
            3 => &[&self.services],
            4 if is_svc => &[&self.domain],
            _ => &[],
        };
        for domain in in_full {
            add(format!("{name}.{domain}"));
        }
    }

    /// The service of a name, by itself or by the closest wildcard, and whether it was a wildcard.
    fn service<'t>(
        &self,
        tables: &'t Tables,
        settings: &Settings,
        client: &Workload,
        name: &str,
    ) -> Option<(&'t Arc<Service>, bool)> {
        let asker = Asker {
            namespace: &client.namespace,
            preferred: settings.preferred_service_namespace.as_deref(),
        };
        let best = |name: &str| {
            asker.best(
                tables
                    .services_named(name)
                    .iter()
                    .filter(|service| self.is_answered(service)),
            )
        };
        if let Some(service) = best(name) {
            return Some((service, false));
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            rest = parent;
            if let Some(service) = best(&format!("*.{parent}")) {
                return Some((service, true));
            }
        }
        None
    }

    /// Without an address of its own only a service of Kubernetes is known to be headless; others resolve elsewhere.
    fn is_answered(&self, service: &Service) -> bool {
        let of_kubernetes = || {
            let rest = service.hostname.strip_suffix(&*self.services);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        !service.addresses.is_empty() || of_kubernetes()
    }
}

fn addresses(
    tables: &Tables,
    settings: &Settings,
    client: &Workload,
    service: &Service,
    family: Family,
) -> Vec<IpAddr> {
    let refused = matches!(
        (service.ip_families, family),
        (Some(IpFamilies::V4), Family::V6) | (Some(IpFamilies::V6), Family::V4)
    );
    if refused || (family == Family::V6 && !settings.ipv6) {
        return Vec::new();
    }
    let is_asked = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
    if !service.addresses.is_empty() {
        let own = service
            .addresses
            .iter()
            .filter(|(network, _)| *network == client.network);
        return own.map(|(_, address)| *address).filter(is_asked).collect();
    }
    let any_health = service.load_balancing.as_ref().is_some_and(|lb| lb.allow_unhealthy);
    let endpoints = tables
        .endpoints(service)
        .filter(|endpoint| any_health || endpoint.workload.healthy);
    endpoints
        .filter_map(|endpoint| endpoint.workload.addresses.iter().copied().find(is_asked))
        .collect()
}

fn shuffle(addresses: &mut [IpAddr], mut random: Random) {
    for left in (2..=addresses.len()).rev() {
        let at = random.below(left as u64).and_then(|at| usize::try_from(at).ok());
        addresses.swap(left - 1, at.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
