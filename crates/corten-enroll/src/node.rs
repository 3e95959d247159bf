//! The node's own namespace: the rule that makes probes recognizable, and the set of pods it is for.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use corten_linux::NetNs;
use corten_linux::net::has_ipv6;
use corten_linux::nft::{Family, Nft, Operation, Table, Transaction};

use crate::backend::{self, Backend};
use crate::constants::{PROBE_SET_V4, PROBE_SET_V6, TABLE_NAT};
use crate::host::element;
use crate::{HostRules, NetworkError, iptables};

/// The probe rules of a node, with the pods they are for.
#[derive(Debug)]
pub struct HostNetwork {
    rules: HostRules,
    way: Way,
    pods: BTreeMap<IpAddr, String>,
}

/// How they get into the kernel.
#[derive(Debug)]
enum Way {
    Nftables(Box<Nft>),
    /// By programs, in the node's namespace.
    Iptables {
        netns: NetNs,
        /// The pods that there were rules for when they were last written.
        written: Option<Vec<IpAddr>>,
    },
}

impl HostNetwork {
    /// Opens the node's namespace. Nothing is changed yet.
    pub fn open(netns: &NetNs, rules: HostRules, backend: Backend) -> Result<HostNetwork, NetworkError> {
        let (way, ipv6) = netns.run(|| -> io::Result<_> {
            let way = match backend {
                Backend::Nftables => Way::Nftables(Box::new(Nft::open()?)),
                Backend::Iptables => Way::Iptables {
                    netns: NetNs::current()?,
                    written: None,
                },
            };
            Ok((way, has_ipv6()))
        })??;
        Ok(HostNetwork {
            rules: HostRules {
                ipv6: rules.ipv6 && ipv6,
                ..rules
            },
            way,
            pods: BTreeMap::new(),
        })
    }

    /// Remembers a pod's addresses for the next change: for many pods that are there already.
    pub fn remember(&mut self, uid: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.pods.insert(address, uid.to_owned());
        }
    }

    /// Takes up a pod's addresses.
    pub fn add(&mut self, uid: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), NetworkError> {
        self.remember(uid, addresses);
        self.repair().map(drop)
    }

    /// Drops a pod's addresses; one that another pod has meanwhile stays.
    pub fn remove(&mut self, uid: &str) -> Result<(), NetworkError> {
        self.pods.retain(|_, owner| owner != uid);
        self.repair().map(drop)
    }

    /// Makes the kernel hold what it should; whether anything had to be done.
    pub fn repair(&mut self) -> Result<bool, NetworkError> {
        let pods = self
            .pods
            .iter()
            .filter(|(address, _)| self.rules.ipv6 || address.is_ipv4());
        let nft = match &mut self.way {
            Way::Nftables(nft) => nft,
            Way::Iptables { netns, written } => {
                let wanted: Vec<IpAddr> = pods.map(|(address, _)| *address).collect();
                let known = written.as_ref() == Some(&wanted);
                let changed = netns.run(|| put_iptables(&self.rules, &wanted, known))??;
                *written = Some(wanted);
                return Ok(changed);
            }
        };
        let table = self.rules.table(&pods.map(|(a, uid)| (*a, uid.clone())).collect());
        let wanted = table.image();
        let transaction = match nft.image(table.family, &table.name)? {
            Some(held) if held == wanted => return Ok(false),
            Some(held) if held.chains == wanted.chains && held.sets.keys().eq(wanted.sets.keys()) => {
                elements(&table, &held)
            }
            _ => Transaction::replace(&table),
        };
        nft.apply(&transaction)?;
        Ok(true)
    }

    /// Takes the rules away.
    pub fn close(&mut self) -> Result<(), NetworkError> {
        self.pods.clear();
        match &mut self.way {
            Way::Nftables(nft) => nft.apply(&Transaction::remove(Family::Inet, TABLE_NAT))?,
            Way::Iptables { netns, written } => {
                *written = None;
                netns.run(|| remove_iptables(&self.rules))??;
            }
        }
        Ok(())
    }
}

fn families(rules: &HostRules) -> impl Iterator<Item = bool> {
    [false, true].into_iter().take(if rules.ipv6 { 2 } else { 1 })
}

/// Writes the rules of the calling thread's namespace, unless they are known to be written and are still jumped to; whether anything was.
fn put_iptables(rules: &HostRules, pods: &[IpAddr], known: bool) -> io::Result<bool> {
    let mut changed = false;
    for v6 in families(rules) {
        let is_there = backend::command(v6, "nat", &format!("-C {}", iptables::HOST_JUMP))?;
        if known && is_there {
            continue;
        }
        backend::restore(v6, &iptables::host_by_address(rules, v6, pods.iter()))?;
        if !is_there {
            backend::command(
                v6,
                "nat",
                &iptables::HOST_JUMP.replacen("POSTROUTING", "-I POSTROUTING 1", 1),
            )?;
        }
        changed = true;
    }
    Ok(changed)
}

fn remove_iptables(rules: &HostRules) -> io::Result<()> {
    for v6 in families(rules) {
        for command in iptables::host(rules, v6).removal() {
            // What is not there cannot be removed, and need not be.
            backend::command(v6, "nat", &command)?;
        }
    }
    Ok(())
}

/// What brings the sets from what they hold to what they should: the rules that use them need not be touched.
fn elements(table: &Table, held: &corten_linux::nft::Image) -> Transaction {
    let mut transaction = Transaction::new(table.family, &table.name);
    for set in &table.sets {
        let before = held.sets.get(&set.name).map(|set| &set.elements);
        let wanted = table.image().sets.get(&set.name).map(|set| set.elements.clone());
        let gone = before
            .into_iter()
            .flatten()
            .filter(|element| !wanted.as_ref().is_some_and(|wanted| wanted.contains(*element)));
        let gone: Vec<_> = gone.filter_map(|(key, ..)| Some(element(address(key)?, ""))).collect();
        if !gone.is_empty() {
            transaction.push(Operation::DeleteElements(set.name.clone(), gone));
        }
        // Those that are there already are no error.
        if !set.elements.is_empty() {
            transaction.push(Operation::AddElements(set.name.clone(), set.elements.clone()));
        }
    }
    debug_assert!(
        table
            .sets
            .iter()
            .all(|set| [PROBE_SET_V4, PROBE_SET_V6].contains(&set.name.as_str()))
    );
    transaction
}

fn address(key: &[u8]) -> Option<IpAddr> {
    match key.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(key).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(key).ok()?)),
        _ => None,
    }
}
