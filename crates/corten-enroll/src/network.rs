//! A pod's namespace: putting rules and routes there, reading them back, taking them away.
//!
//! Calls block for the time of a few system calls. Sockets of the namespace stay open, so that looking whether anybody changed
//! something costs no change of namespace.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use corten_linux::NetNs;
use corten_linux::net::{Conntrack, NetlinkError, Rtnl, has_ipv6};
use corten_linux::nft::{Family, Nft, Table, Transaction};

use crate::backend::{self, Backend};
use crate::constants::{DNS_PORT, INBOUND_PORT, OUTBOUND_PORT, TABLE_MANGLE, TABLE_NAT, TABLE_RAW};
use crate::proxied::proxied_connections;
use crate::{PodRules, Routing, iptables};

/// Where connections were redirected to.
const PROXY_PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PORT, DNS_PORT];

/// Why a namespace could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It could not be entered.
    #[error("cannot work in the pod's network namespace: {0}")]
    Namespace(#[from] io::Error),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
}

/// What is in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// None of our tables.
    Absent,
    /// Exactly the rules of an enrolled pod.
    Enrolled,
    /// Exactly the rules of a pod that left and is still served.
    Leaving,
    /// Something else under our names.
    Drifted,
}

/// The network namespace of a pod.
#[derive(Debug)]
pub struct PodNetwork {
    netns: Arc<NetNs>,
    backend: Backend,
    nft: Option<Nft>,
    rtnl: Rtnl,
    /// The generation of the rules when they were last found, or made, right.
    seen: Option<u32>,
}

impl PodNetwork {
    /// Opens one.
    pub fn open(netns: Arc<NetNs>, backend: Backend) -> Result<PodNetwork, NetworkError> {
        let (nft, rtnl) = netns.run(|| -> io::Result<_> {
            let nft = match backend {
                Backend::Nftables => Some(Nft::open()?),
                Backend::Iptables => None,
            };
            Ok((nft, Rtnl::open()?))
        })??;
        Ok(PodNetwork {
            netns,
            backend,
            nft,
            rtnl,
            seen: None,
        })
    }

    /// The namespace.
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// The namespace's addresses but for those of loopback and of links alone.
    pub fn addresses(&mut self) -> Result<BTreeSet<IpAddr>, NetworkError> {
        let global = |address: &IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let addresses = self.rtnl.addresses()?.into_iter().map(|address| address.net.addr());
        Ok(addresses.filter(global).collect())
    }

    /// Puts the rules of an enrolled pod in place; what is right already is not touched.
    ///
    /// Routing comes first: rules that mark replies without a route for them would lose them.
    pub fn enroll(&mut self, rules: &PodRules) -> Result<(), NetworkError> {
        let rules = self.suited(rules)?;
        self.route(rules.ipv6)?;
        match self.backend {
            Backend::Nftables => self.put(&rules.tables()),
            Backend::Iptables => self.put_iptables(&rules),
        }
    }

    /// Puts the rules in place of a pod that left while the proxy still serves connections of it.
    pub fn leave(&mut self) -> Result<(), NetworkError> {
        match self.backend {
            Backend::Nftables => self.put(&PodRules::tables_leaving()),
            // Without its chains the table still translates what it translated before.
            Backend::Iptables => self.remove_iptables(&["nat", "raw"]),
        }
    }

    /// Takes everything away. Connections that were redirected break.
    pub fn remove(&mut self) -> Result<(), NetworkError> {
        if let Some(nft) = &mut self.nft {
            let transactions = [TABLE_NAT, TABLE_MANGLE, TABLE_RAW].map(|name| Transaction::remove(Family::Inet, name));
            nft.apply_all(&transactions)?;
        } else {
            self.remove_iptables(&["nat", "raw", "mangle"])?;
        }
        self.seen = None;
        let rtnl = &mut self.rtnl;
        self.netns.run(|| Routing::of_node_proxy(true).remove(rtnl))??;
        if let Err(error) = self.forget_connections() {
            tracing::warn!(%error, "connections that were tracked for the mesh stay remembered until the kernel's own time limits");
        }
        Ok(())
    }

    /// Makes connection tracking forget what the rules made it remember.
    ///
    /// With the rules the tracking ends, but not what it holds: the kernel would keep it for minutes or days, miss how these
    /// connections end, and on the pod's return take a new connection with the same ports for one of them: it would be led to a
    /// proxy that knows nothing of it, or past the proxy. What others translated in this namespace stays theirs.
    ///
    /// The kernel ends the tracking in the background, after the rules are gone; until then each packet of a connection that
    /// lives on makes it remember that connection anew. Closing a socket of netfilter's waits for this work to be done.
    fn forget_connections(&mut self) -> Result<(), NetworkError> {
        drop(self.netns.run(Conntrack::open)??);
        let mut conntrack = self.netns.run(Conntrack::open)??;
        for connection in conntrack.list()? {
            if connection.answers == connection.destination || PROXY_PORTS.contains(&connection.answers.port()) {
                conntrack.forget(&connection)?;
            }
        }
        Ok(())
    }

    /// What is there, compared with these rules.
    pub fn state(&mut self, rules: &PodRules) -> Result<State, NetworkError> {
        let rules = self.suited(rules)?;
        if self.nft.is_none() {
            return self.state_iptables();
        }
        let generation = self.generation()?;
        let held = self.held()?;
        let is = |tables: &[Table]| {
            held.iter().all(|(name, image)| {
                let wanted = tables.iter().find(|table| table.name == *name);
                wanted.map(Table::image) == *image
            })
        };
        let tables = if held.iter().all(|(_, image)| image.is_none()) {
            State::Absent
        } else if is(&rules.tables()) {
            State::Enrolled
        } else if is(&PodRules::tables_leaving()) {
            State::Leaving
        } else {
            State::Drifted
        };
        let routing = Routing::of_node_proxy(rules.ipv6);
        let rtnl = &mut self.rtnl;
        let routed = self.netns.run(|| routing.is_applied(rtnl))??;
        if tables == State::Enrolled && !routed {
            return Ok(State::Drifted);
        }
        self.seen = (tables == State::Enrolled).then_some(generation);
        Ok(tables)
    }

    /// Whether nobody changed the rules since they were last found right. Cheap: to be asked often.
    pub fn is_undisturbed(&mut self) -> Result<bool, NetworkError> {
        let Some(seen) = self.seen else { return Ok(false) };
        Ok(self.generation()? == seen)
    }

    /// How many connections of the pod go through the proxy.
    pub fn proxied_connections(&self) -> Result<usize, NetworkError> {
        Ok(self.netns.run(proxied_connections)??)
    }

    /// The rules as they fit this namespace.
    fn suited(&self, rules: &PodRules) -> Result<PodRules, NetworkError> {
        let mut rules = rules.clone();
        rules.ipv6 = rules.ipv6 && self.netns.run(has_ipv6)?;
        Ok(rules)
    }

    fn route(&mut self, ipv6: bool) -> Result<(), NetworkError> {
        let rtnl = &mut self.rtnl;
        Ok(self.netns.run(|| Routing::of_node_proxy(ipv6).apply(rtnl))??)
    }

    fn generation(&mut self) -> Result<u32, NetworkError> {
        Ok(match &mut self.nft {
            Some(nft) => nft.generation()?,
            None => 0,
        })
    }

    /// The kernel's image of each table of ours.
    fn held(&mut self) -> Result<Vec<(&'static str, Option<corten_linux::nft::Image>)>, NetworkError> {
        let mut held = Vec::new();
        if let Some(nft) = &mut self.nft {
            for name in [TABLE_NAT, TABLE_MANGLE, TABLE_RAW] {
                held.push((name, nft.image(Family::Inet, name)?));
            }
        }
        Ok(held)
    }

    /// All tables at once; those that are right stay as they are.
    fn put(&mut self, tables: &[Table]) -> Result<(), NetworkError> {
        let mut transactions = Vec::new();
        for (name, image) in self.held()? {
            match tables.iter().find(|table| table.name == name) {
                Some(table) if image.as_ref() != Some(&table.image()) => {
                    transactions.push(Transaction::replace(table));
                }
                None if image.is_some() => transactions.push(Transaction::remove(Family::Inet, name)),
                _ => {}
            }
        }
        if let Some(nft) = &mut self.nft {
            nft.apply_all(&transactions)?;
        }
        self.seen = Some(self.generation()?);
        Ok(())
    }

    fn put_iptables(&mut self, rules: &PodRules) -> Result<(), NetworkError> {
        if self.state_iptables()? == State::Enrolled {
            return Ok(());
        }
        self.remove_iptables(&["nat", "raw", "mangle"])?;
        let rules = rules.clone();
        self.netns.run(move || -> io::Result<()> {
            for v6 in [false, true].into_iter().take(if rules.ipv6 { 2 } else { 1 }) {
                backend::restore(v6, &iptables::restore(&iptables::pod(&rules, v6)))?;
            }
            Ok(())
        })??;
        Ok(())
    }

    fn remove_iptables(&self, tables: &'static [&'static str]) -> Result<(), NetworkError> {
        let every = PodRules::default();
        let remove = move || -> io::Result<()> {
            for v6 in [false, true].into_iter().take(if has_ipv6() { 2 } else { 1 }) {
                let ours = iptables::pod(&every, v6);
                for table in ours.iter().filter(|table| tables.contains(&table.name)) {
                    for command in table.removal() {
                        // What is not there cannot be removed, and need not be.
                        backend::command(v6, table.name, &command)?;
                    }
                }
            }
            Ok(())
        };
        Ok(self.netns.run(remove)??)
    }

    fn state_iptables(&self) -> Result<State, NetworkError> {
        let has = |table: &'static str| move || backend::command(false, table, "-C OUTPUT -j ISTIO_OUTPUT");
        let redirects = self.netns.run(has("nat"))??;
        let marks = self.netns.run(has("mangle"))??;
        Ok(match (redirects, marks) {
            (true, true) => State::Enrolled,
            (false, true) => State::Leaving,
            (false, false) => State::Absent,
            (true, false) => State::Drifted,
        })
    }
}

#[cfg(test)]
mod tests;
