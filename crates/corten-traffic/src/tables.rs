//! The tables: what the control plane has said, indexed for the questions that connections ask.
//!
//! A [`Tables`] never changes. Each version shares with the one before whatever did not change, and a look-up
//! neither allocates nor locks.

use std::{cmp::Ordering, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    index::Index,
    name::Name,
    policy::Policy,
    service::Service,
    sorted::Sorted,
    trie::{Trie, hash},
    workload::Workload,
};

/// One version of the tables.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// By uid.
    pub(crate) workloads: Trie<Arc<Workload>>,
    /// By network and address.
    pub(crate) by_address: Index<(Name, IpAddr), Arc<Workload>>,
    /// By namespace and name.
    pub(crate) by_name: Index<(Name, Name), Arc<Workload>>,
    /// By namespace and host name, those that have one.
    pub(crate) by_hostname: Index<(Name, Name), Arc<Workload>>,
    /// By namespace and host name.
    pub(crate) services: Trie<ServiceEntry>,
    /// How many of the entries have a service, not only endpoints that wait for one.
    pub(crate) services_known: usize,
    /// By network and virtual address.
    pub(crate) by_vip: Index<(Name, IpAddr), Arc<Service>>,
    /// By network and range of virtual addresses.
    pub(crate) by_range: Index<(Name, IpNet), Arc<Service>>,
    /// The prefix lengths that occur in `by_range`, and how often, longest first.
    pub(crate) range_lengths: Arc<Vec<(u8, usize)>>,
    /// By host name.
    pub(crate) by_host: Index<Name, Arc<Service>>,
    /// By resource name.
    pub(crate) policies: Trie<Arc<Policy>>,
    /// Those that need not be listed by workloads, by namespace, global ones under none.
    pub(crate) by_scope: Index<Name, Arc<Policy>>,
    pub(crate) version: u64,
    pub(crate) policies_version: u64,
}

/// A service and its endpoints; without the service, endpoints that came before it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceEntry {
    pub(crate) namespace: Name,
    pub(crate) hostname: Name,
    pub(crate) service: Option<Arc<Service>>,
    /// By uid. All that name the service, healthy or not: health is looked at when one is chosen.
    pub(crate) endpoints: Sorted<Endpoint>,
    /// How many endpoints have another weight than 1.
    pub(crate) weighted: usize,
}

/// A workload behind a service.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Which of its memberships this is.
    pub(crate) membership: u32,
}

impl Endpoint {
    /// The workload's port for a port of the service, if it has one of its own.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        self.ports()
            .iter()
            .find(|(port, _)| *port == service_port)
            .map(|(_, target)| *target)
    }

    /// The workload's own ports for the service.
    pub fn ports(&self) -> &[(u16, u16)] {
        self.workload
            .services
            .get(self.membership as usize)
            .map_or(&[], |member| &member.ports)
    }
}

/// Who asks for a service by address or name, which decides among several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) namespace: &'a str,
    /// A namespace that comes after canonical services.
    pub(crate) preferred: Option<&'a str>,
}

impl<'a> Asker<'a> {
    pub(crate) fn in_namespace(namespace: &'a str) -> Asker<'a> {
        Asker {
            namespace,
            preferred: None,
        }
    }

    /// Of visible services, the one in the asker's namespace, else a canonical one, else one in the preferred namespace, else the first.
    ///
    /// First is by name. In ztunnel it is the one that came first, so that proxies differ by their history.
    pub(crate) fn best<'s>(self, services: impl Iterator<Item = &'s Arc<Service>>) -> Option<&'s Arc<Service>> {
        services
            .filter(|service| service.is_visible_to(Some(self.namespace)))
            .min_by_key(|service| self.rank(service))
    }

    fn rank(self, service: &Service) -> u8 {
        if *service.namespace == *self.namespace {
            0
        } else if service.canonical {
            1
        } else if self.preferred == Some(&*service.namespace) {
            2
        } else {
            3
        }
    }
}

impl Tables {
    /// Goes up with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Goes up with each change that can alter a verdict: of a policy, or of what policies workloads list.
    pub fn policies_version(&self) -> u64 {
        self.policies_version
    }

    /// The workload that the node agent calls by namespace, name and service account.
    pub fn local(&self, namespace: &str, name: &str, service_account: &str) -> Option<&Arc<Workload>> {
        let found = self
            .by_name
            .get(hash((namespace, name)), |(ns, n)| *ns == namespace && *n == name);
        found
            .iter()
            .find(|workload| workload.identity.service_account == service_account)
    }

    /// The workload with a uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(hash(uid), |workload| *workload.uid == *uid)
    }

    /// The workload that has an address, which is not its node's: of several a pod, then one that speaks HBONE.
    pub fn workload_at(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        let found = self
            .by_address
            .get(hash(address), |(n, a)| *a == address && *n == network);
        found
            .iter()
            .min_by_key(|workload| std::cmp::Reverse(workload.address_rank()))
    }

    /// A service by namespace and host name.
    pub fn service(&self, namespace: &str, hostname: &str) -> Option<&Arc<Service>> {
        self.entry(namespace, hostname)?.service.as_ref()
    }

    /// The service that has a virtual address, as clients of a namespace see it: by the address itself, else by range.
    pub fn service_at(&self, network: &str, address: IpAddr, namespace: &str) -> Option<&Arc<Service>> {
        let asker = Asker::in_namespace(namespace);
        let exact = self.by_vip.get(hash(address), |(n, a)| *a == address && *n == network);
        if let Some(service) = asker.best(exact.iter()) {
            return Some(service);
        }
        // Same namespace before longest prefix before canonical: the first of the longest wins unless a shorter one is of the namespace.
        let mut best: Option<&Arc<Service>> = None;
        for (length, _) in self.range_lengths.iter() {
            let Ok(range) = IpNet::new(address, *length) else {
                continue;
            };
            let range = range.trunc();
            let found = self.by_range.get(hash(range), |(n, r)| *r == range && *n == network);
            if let Some(service) = asker.best(found.iter()) {
                if *service.namespace == *namespace {
                    return Some(service);
                }
                best = best.or(Some(service));
            }
        }
        best
    }

    /// The service with a host name, as clients of a namespace see it.
    pub fn service_named(&self, hostname: &str, namespace: &str) -> Option<&Arc<Service>> {
        Asker::in_namespace(namespace).best(self.services_named(hostname).iter())
    }

    /// All services with a host name, by namespace.
    pub(crate) fn services_named(&self, hostname: &str) -> &[Arc<Service>] {
        self.by_host.get(hash(hostname), |host| *host == hostname)
    }

    /// The endpoints of a service, healthy or not, ordered by uid.
    pub fn endpoints(&self, service: &Service) -> impl Iterator<Item = &Endpoint> {
        self.entry(&service.namespace, &service.hostname)
            .into_iter()
            .flat_map(|entry| entry.endpoints.iter())
    }

    pub(crate) fn entry(&self, namespace: &str, hostname: &str) -> Option<&ServiceEntry> {
        self.services.get(hash((namespace, hostname)), |entry| {
            *entry.hostname == *hostname && *entry.namespace == *namespace
        })
    }

    /// The policy with a resource name.
    pub fn policy(&self, key: &str) -> Option<&Arc<Policy>> {
        self.policies.get(hash(key), |policy| *policy.key == *key)
    }

    /// All workloads, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// All services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().filter_map(|entry| entry.service.as_ref())
    }

    /// Services that workloads belong to and that are not known, with those workloads.
    pub fn staged(&self) -> impl Iterator<Item = (&str, &str, impl Iterator<Item = &Endpoint>)> {
        let staged = self.services.iter().filter(|entry| entry.service.is_none());
        staged.map(|entry| (&*entry.namespace, &*entry.hostname, entry.endpoints.iter()))
    }

    /// All policies, in no particular order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }

    /// How many workloads, services and policies there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.workloads.len(), self.services_known, self.policies.len())
    }
}

/// How an endpoint is ordered to a workload's.
pub(crate) fn endpoint_order(uid: &str) -> impl Fn(&Endpoint) -> Ordering {
    move |endpoint| (*endpoint.workload.uid).cmp(uid)
}
