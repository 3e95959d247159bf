//! The one writer of the tables: takes changes, publishes versions.

use std::sync::Arc;

use corten_proto::{security, workload as proto};

use crate::{
    name::{Interner, Name},
    policy::{self, Policy, Scope},
    resource::{Change, Rejected},
    service::{self, Service},
    sorted::Sorted,
    tables::{Endpoint, ServiceEntry, Tables, endpoint_order},
    trie::hash,
    workload::{self, Workload},
};

/// Builds versions of the tables, each from the one before.
///
/// The result depends on the resources alone, not on the order in which they came.
#[derive(Debug, Default)]
pub struct TablesWriter {
    tables: Tables,
    interner: Interner,
}

impl TablesWriter {
    /// A writer of empty tables.
    pub fn new() -> TablesWriter {
        TablesWriter::default()
    }

    /// The version that holds all changes so far.
    pub fn snapshot(&self) -> Arc<Tables> {
        Arc::new(self.tables.clone())
    }

    /// The same, to look at.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Applies changes in order. Those that are refused are named, all others are in force.
    ///
    /// A refused workload or service leaves what was there before. So does a refused policy; where there was none, a policy that denies
    /// all it would apply to takes its place until it is sent again or removed: a policy that cannot be understood must not let through
    /// what it may have been meant to keep out. (ztunnel goes on without it.)
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), Vec<Rejected>> {
        let mut rejected = Vec::new();
        for change in changes {
            let outcome = match change {
                Change::Address { name, address } => self.upsert(*address).map_err(|reason| (name, reason)),
                Change::Authorization { name, policy } => {
                    self.upsert_policy(&name, &policy).map_err(|reason| (name, reason))
                }
                Change::Undecodable {
                    name,
                    is_policy,
                    reason,
                } => {
                    if is_policy {
                        // Its name is all that is known, and says for which namespace it was meant.
                        let namespace = name.split_once('/').map_or("", |(namespace, _)| namespace).to_owned();
                        let message = security::Authorization {
                            namespace,
                            scope: security::Scope::Namespace as i32,
                            ..security::Authorization::default()
                        };
                        self.stand_in(&name, &message, &reason);
                    }
                    Err((name, reason))
                }
                Change::RemoveAddress(name) => {
                    self.remove(&name);
                    Ok(())
                }
                Change::RemoveAuthorization(name) => {
                    self.remove_policy(&name);
                    Ok(())
                }
            };
            if let Err((name, reason)) = outcome {
                rejected.push(Rejected { name, reason });
            }
        }
        if rejected.is_empty() { Ok(()) } else { Err(rejected) }
    }

    fn upsert(&mut self, address: proto::Address) -> Result<(), String> {
        match address.r#type {
            Some(proto::address::Type::Workload(message)) => {
                let workload = workload::parse(message, &mut self.interner).map_err(|e| e.to_string())?;
                self.set_workload(Arc::new(workload));
                Ok(())
            }
            Some(proto::address::Type::Service(message)) => {
                let service = service::parse(message, &mut self.interner).map_err(|e| e.to_string())?;
                self.set_service(Arc::new(service));
                Ok(())
            }
            None => Err("is neither a workload nor a service".to_owned()),
        }
    }

    /// A removed name is a workload's uid, or else a service's namespace and host name, which has no slash.
    fn remove(&mut self, name: &str) {
        if let Some(workload) = self.tables.workload(name).cloned() {
            self.remove_workload(&workload);
            self.tables
                .workloads
                .remove(hash(name), |workload| *workload.uid == *name);
            self.tables.version += 1;
        } else if let Some((namespace, hostname)) = name.split_once('/')
            && !hostname.contains('/')
        {
            self.remove_service(namespace, hostname);
        }
    }

    fn set_workload(&mut self, workload: Arc<Workload>) {
        let uid = workload.uid.clone();
        let is = |other: &Arc<Workload>| other.uid == uid;
        let mut policies_differ = true;
        if let Some(old) = self.tables.workloads.get(hash(&*uid), is).cloned() {
            if old == workload {
                return;
            }
            policies_differ = old.policies != workload.policies || old.namespace != workload.namespace;
            self.remove_workload(&old);
        }
        self.tables.version += 1;
        self.tables.policies_version += u64::from(policies_differ);
        self.tables.workloads.insert(hash(&*uid), workload.clone(), is);
        for key in address_keys(&workload) {
            self.tables.by_address.insert(hash(key.1), key, workload.clone());
        }
        let key = (workload.namespace.clone(), workload.name.clone());
        self.tables
            .by_name
            .insert(hash((&*key.0, &*key.1)), key, workload.clone());
        if !workload.hostname.is_empty() {
            let key = (workload.namespace.clone(), workload.hostname.clone());
            self.tables
                .by_hostname
                .insert(hash((&*key.0, &*key.1)), key, workload.clone());
        }
        for (at, member) in (0..).zip(&workload.services) {
            let endpoint = Endpoint {
                workload: workload.clone(),
                membership: at,
            };
            let entry = self.entry(&member.namespace, &member.hostname);
            entry.weighted += usize::from(workload.capacity != 1);
            entry.endpoints.insert(endpoint, endpoint_order(&workload.uid));
        }
    }

    /// Takes a workload out of every index but that by uid.
    fn remove_workload(&mut self, workload: &Arc<Workload>) {
        for key in address_keys(workload) {
            self.tables.by_address.remove(hash(key.1), &key, workload);
        }
        let key = (workload.namespace.clone(), workload.name.clone());
        self.tables.by_name.remove(hash((&*key.0, &*key.1)), &key, workload);
        if !workload.hostname.is_empty() {
            let key = (workload.namespace.clone(), workload.hostname.clone());
            self.tables.by_hostname.remove(hash((&*key.0, &*key.1)), &key, workload);
        }
        for member in &workload.services {
            let entry = self.entry(&member.namespace, &member.hostname);
            entry.endpoints.remove(endpoint_order(&workload.uid));
            entry.weighted -= usize::from(workload.capacity != 1);
            if entry.endpoints.is_empty() && entry.service.is_none() {
                self.drop_entry(&member.namespace, &member.hostname);
            }
        }
    }

    fn set_service(&mut self, service: Arc<Service>) {
        let entry = self.entry(&service.namespace, &service.hostname);
        let old = entry.service.clone();
        if old.as_ref() == Some(&service) {
            return;
        }
        entry.service = Some(service.clone());
        self.tables.version += 1;
        match old {
            Some(old) => self.unindex_service(&old),
            None => self.tables.services_known += 1,
        }
        for key in &service.addresses {
            self.tables.by_vip.insert(hash(key.1), key.clone(), service.clone());
        }
        for key in &service.ranges {
            self.tables.by_range.insert(hash(key.1), key.clone(), service.clone());
            let lengths = Arc::make_mut(&mut self.tables.range_lengths);
            let length = key.1.prefix_len();
            match lengths.binary_search_by(|(other, _)| length.cmp(other)) {
                Ok(at) => lengths[at].1 += 1,
                Err(at) => lengths.insert(at, (length, 1)),
            }
        }
        self.tables
            .by_host
            .insert(hash(&*service.hostname), service.hostname.clone(), service);
    }

    fn unindex_service(&mut self, service: &Arc<Service>) {
        for key in &service.addresses {
            self.tables.by_vip.remove(hash(key.1), key, service);
        }
        for key in &service.ranges {
            self.tables.by_range.remove(hash(key.1), key, service);
            let lengths = Arc::make_mut(&mut self.tables.range_lengths);
            if let Ok(at) = lengths.binary_search_by(|(other, _)| key.1.prefix_len().cmp(other)) {
                lengths[at].1 -= 1;
                if lengths[at].1 == 0 {
                    lengths.remove(at);
                }
            }
        }
        self.tables
            .by_host
            .remove(hash(&*service.hostname), &service.hostname, service);
    }

    fn remove_service(&mut self, namespace: &str, hostname: &str) {
        let Some(service) = self.tables.service(namespace, hostname).cloned() else {
            return;
        };
        self.tables.version += 1;
        self.tables.services_known -= 1;
        self.unindex_service(&service);
        let entry = self.entry(&service.namespace, &service.hostname);
        entry.service = None;
        if entry.endpoints.is_empty() {
            self.drop_entry(namespace, hostname);
        }
    }

    /// The entry of a service, made if there is none.
    fn entry(&mut self, namespace: &Name, hostname: &Name) -> &mut ServiceEntry {
        let hash = hash((&**namespace, &**hostname));
        let is = |entry: &ServiceEntry| entry.hostname == *hostname && entry.namespace == *namespace;
        if self.tables.services.get(hash, is).is_none() {
            let entry = ServiceEntry {
                namespace: namespace.clone(),
                hostname: hostname.clone(),
                service: None,
                endpoints: Sorted::default(),
                weighted: 0,
            };
            self.tables.services.insert(hash, entry, is);
        }
        self.tables
            .services
            .get_mut(hash, is)
            .expect("it was there or has been inserted")
    }

    fn drop_entry(&mut self, namespace: &str, hostname: &str) {
        self.tables.services.remove(hash((namespace, hostname)), |entry| {
            *entry.hostname == *hostname && *entry.namespace == *namespace
        });
    }

    fn upsert_policy(&mut self, name: &str, message: &security::Authorization) -> Result<(), String> {
        match policy::parse(name, message, &mut self.interner) {
            Ok(policy) => {
                self.set_policy(Arc::new(policy));
                Ok(())
            }
            Err(invalid) => {
                let reason = invalid.to_string();
                self.stand_in(name, message, &reason);
                Err(reason)
            }
        }
    }

    /// Denies in the place of a policy that cannot be understood, unless an earlier form of it is in force.
    fn stand_in(&mut self, name: &str, message: &security::Authorization, reason: &str) {
        if self.tables.policy(name).is_none_or(|present| present.broken.is_some()) {
            let policy = Policy::broken(name, message, reason, &mut self.interner);
            self.set_policy(Arc::new(policy));
        }
    }

    fn set_policy(&mut self, policy: Arc<Policy>) {
        let key = policy.key.clone();
        let old = self
            .tables
            .policies
            .insert(hash(&*key), policy.clone(), |other| other.key == key);
        if old.as_ref() == Some(&policy) {
            return;
        }
        if let Some(old) = old {
            self.unindex_policy(&old);
        }
        self.tables.version += 1;
        self.tables.policies_version += 1;
        if let Some(namespace) = scope_key(&policy, &mut self.interner) {
            self.tables.by_scope.insert(hash(&*namespace), namespace, policy);
        }
    }

    fn unindex_policy(&mut self, policy: &Arc<Policy>) {
        if let Some(namespace) = scope_key(policy, &mut self.interner) {
            self.tables.by_scope.remove(hash(&*namespace), &namespace, policy);
        }
    }

    fn remove_policy(&mut self, name: &str) {
        let Some(policy) = self.tables.policies.remove(hash(name), |policy| *policy.key == *name) else {
            return;
        };
        self.unindex_policy(&policy);
        self.tables.version += 1;
        self.tables.policies_version += 1;
    }
}

/// Under which networks and addresses a workload is found: none if its address is its node's.
fn address_keys(workload: &Workload) -> impl Iterator<Item = (Name, std::net::IpAddr)> + use<> {
    let addresses = if workload.host_network {
        Box::default()
    } else {
        workload.addresses.clone()
    };
    let network = workload.network.clone();
    addresses.into_iter().map(move |address| (network.clone(), address))
}

/// Under which namespace a policy is found; global ones under none, those that workloads list not at all.
fn scope_key(policy: &Policy, interner: &mut Interner) -> Option<Name> {
    match policy.scope {
        Scope::Global => Some(interner.name("")),
        Scope::Namespace => Some(policy.namespace.clone()),
        Scope::WorkloadSelector => None,
    }
}

#[cfg(test)]
mod tests;
