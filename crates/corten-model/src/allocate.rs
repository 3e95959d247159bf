//! Addresses for ServiceEntries that have none, so that a name leads to a connection that can be recognized.
//!
//! The addresses are written to the entries' status, which is where they are remembered: what is there already is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use corten_api::istio::service_entry::ServiceEntryResolution;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    input::{Meta, ServiceEntry},
    text::Name,
};

/// The ranges addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// Of IPv4.
    pub v4: Ipv4Net,
    /// Of IPv6.
    pub v6: Ipv6Net,
}

impl Default for Ranges {
    fn default() -> Ranges {
        Ranges {
            v4: Ipv4Net::new_assert(Ipv4Addr::new(240, 240, 0, 0), 16),
            v6: Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48),
        }
    }
}

/// The addresses that an entry's status is to have: host and address, a host's IPv4 address before its IPv6 address.
pub type Assigned = Vec<(Name, IpAddr)>;

/// Which addresses are taken, and whose they are.
#[derive(Debug)]
pub struct Allocator {
    ranges: Ranges,
    /// Whose an address is; of a user's own address it is only known that it is taken.
    taken: BTreeMap<IpAddr, Option<Owner>>,
    /// What was given when last asked; a status shows it only once it was written and seen again.
    given: BTreeMap<Owner, Vec<IpAddr>>,
    /// Where the search for a free address goes on.
    next: (u32, u128),
}

/// The hosts of one entry share nothing with those of another.
type Owner = ((Name, Name), Name);

impl Allocator {
    /// Without any address taken.
    pub fn new(ranges: Ranges) -> Allocator {
        Allocator {
            ranges,
            taken: BTreeMap::new(),
            given: BTreeMap::new(),
            next: (u32::from(ranges.v4.network()), u128::from(ranges.v6.network())),
        }
    }

    /// What is to be written, given all entries: for each whose status is not as it should be, its new addresses.
    ///
    /// What users wrote themselves is taken first, then what the statuses say, the oldest entry's before others', so
    /// that of two with the same address the younger gets another.
    pub fn assign<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a Arc<ServiceEntry>>,
    ) -> Vec<((Name, Name), Assigned)> {
        let mut entries: Vec<&Arc<ServiceEntry>> = entries.into_iter().collect();
        entries.sort_by_key(|entry| (entry.meta.created, place(&entry.meta)));
        self.taken.clear();
        for text in entries.iter().flat_map(|entry| &entry.spec.addresses) {
            if let Ok(address) = text.parse::<IpAddr>() {
                self.taken.insert(address, None);
            }
        }
        entries.retain(|entry| entry.may_assign);
        // What statuses say comes before what was only given, whoever is older.
        let mut held: BTreeMap<Owner, Vec<IpAddr>> = BTreeMap::new();
        for entry in &entries {
            for host in hosts(entry) {
                let of_host = entry.assigned.iter().filter(|(of, _)| *of == host);
                let addresses: Vec<IpAddr> = of_host.map(|(_, address)| *address).collect();
                held.insert((place(&entry.meta), host), addresses);
            }
        }
        for entry in &entries {
            for host in hosts(entry) {
                self.claim((place(&entry.meta), host), &held);
            }
        }
        for (owner, given) in std::mem::take(&mut self.given) {
            if let Some(addresses) = held.get_mut(&owner) {
                addresses.extend(given);
                self.claim(owner, &held);
            }
        }
        let mut written = Vec::new();
        for entry in entries {
            let wanted = self.of_entry(entry, &held);
            for (host, address) in &wanted {
                let owner = (place(&entry.meta), Arc::clone(host));
                self.given.entry(owner).or_default().push(*address);
            }
            if wanted != entry.assigned {
                written.push((place(&entry.meta), wanted));
            }
        }
        written
    }

    /// Takes the addresses that an owner holds, as far as they are of our ranges and nobody else's.
    fn claim(&mut self, owner: Owner, held: &BTreeMap<Owner, Vec<IpAddr>>) {
        for address in held.get(&owner).into_iter().flatten() {
            if self.contains(*address) {
                self.taken.entry(*address).or_insert_with(|| Some(owner.clone()));
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        IpNet::V4(self.ranges.v4).contains(&address) || IpNet::V6(self.ranges.v6).contains(&address)
    }

    fn of_entry(&mut self, entry: &ServiceEntry, held: &BTreeMap<Owner, Vec<IpAddr>>) -> Assigned {
        let mut wanted = Assigned::new();
        for host in hosts(entry) {
            let owner = (place(&entry.meta), Arc::clone(&host));
            let own = |address: &&IpAddr| self.taken.get(*address) == Some(&Some(owner.clone()));
            let of_host = || held.get(&owner).into_iter().flatten().filter(own);
            let v4 = of_host().find(|address| address.is_ipv4()).copied();
            let v6 = of_host().find(|address| address.is_ipv6()).copied();
            let v4 = v4.or_else(|| self.free_v4(&owner));
            let v6 = v6.or_else(|| self.free_v6(&owner));
            wanted.extend(
                [v4, v6]
                    .into_iter()
                    .flatten()
                    .map(|address| (Arc::clone(&host), address)),
            );
        }
        wanted
    }

    /// The next free address; `None`: all are taken.
    fn free_v4(&mut self, owner: &Owner) -> Option<IpAddr> {
        let (first, last) = (
            u32::from(self.ranges.v4.network()),
            u32::from(self.ranges.v4.broadcast()),
        );
        for _ in first..last {
            // The first of a range names the range, the last one everybody in it.
            self.next.0 = if self.next.0 + 1 >= last {
                first + 1
            } else {
                self.next.0 + 1
            };
            let address = IpAddr::V4(Ipv4Addr::from(self.next.0));
            if let std::collections::btree_map::Entry::Vacant(free) = self.taken.entry(address) {
                free.insert(Some(owner.clone()));
                return Some(address);
            }
        }
        None
    }

    fn free_v6(&mut self, owner: &Owner) -> Option<IpAddr> {
        let (first, last) = (
            u128::from(self.ranges.v6.network()),
            u128::from(self.ranges.v6.broadcast()),
        );
        // More tries than there are taken addresses are never needed.
        for _ in 0..=self.taken.len() {
            self.next.1 = if self.next.1 + 1 >= last {
                first + 1
            } else {
                self.next.1 + 1
            };
            let address = IpAddr::V6(Ipv6Addr::from(self.next.1));
            if let std::collections::btree_map::Entry::Vacant(free) = self.taken.entry(address) {
                free.insert(Some(owner.clone()));
                return Some(address);
            }
        }
        None
    }
}

fn place(meta: &Meta) -> (Name, Name) {
    (Arc::clone(&meta.namespace), Arc::clone(&meta.name))
}

/// The hosts of an entry that can have an address, each once: a wildcard only where it is resolved when it is called.
fn hosts(entry: &ServiceEntry) -> Vec<Name> {
    let dynamic = entry.spec.resolution == ServiceEntryResolution::DynamicDns;
    let mut seen = BTreeSet::new();
    let usable = entry.spec.hosts.iter().filter(|host| dynamic || !host.is_wildcard());
    usable
        .map(|host| Arc::from(host.as_str()))
        .filter(|host: &Name| seen.insert(Arc::clone(host)))
        .collect()
}

#[cfg(test)]
mod tests;
