//! Puts a sidecar's redirection into the network namespace of the calling thread.

use std::io;

use corten_linux::net::{NetlinkError, Rtnl, has_ipv6};
use corten_linux::nft::{Nft, Transaction};

use super::tables::{ProxyMark, tables};
use super::{Mode, Settings, SettingsError, iptables};
use crate::Routing;
use crate::backend::restore;

/// The routing table of marked packets in mode TPROXY, unless another is asked for.
pub const TPROXY_TABLE: u32 = 133;

/// Why a pod has no redirection.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Netlink cannot be used at all.
    #[error("cannot talk to the kernel: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    /// Neither way to the kernel took the rules.
    #[error("the kernel takes no redirection rules: nf_tables: {nftables}; iptables-restore: {iptables}")]
    NoBackend {
        /// What nf_tables said.
        nftables: NetlinkError,
        /// What the program said.
        iptables: io::Error,
    },
}

/// How many users the calling process's namespace of users has; with one, sockets do not tell whose they are.
pub fn has_one_user() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_one(&map))
}

fn is_one(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>() == 1
}

/// Puts rules and routes in place of what was there before under their names; blocks for a few system calls.
///
/// Routes come first: what is marked without a route for it would be lost.
///
/// # Errors
///
/// Nothing is redirected then, or only in one family (with `iptables`): the pod is not to start.
pub fn apply(settings: &Settings, mark: ProxyMark, tproxy_table: u32) -> Result<(), ApplyError> {
    let mut settings = settings.clone();
    settings.ipv6 = settings.ipv6 && has_ipv6();
    if settings.mode == Mode::Tproxy {
        let routing = Routing {
            ipv6: settings.ipv6,
            mark: settings.tproxy_mark,
            mask: u32::MAX,
            table: tproxy_table,
            priority: 32_764,
        };
        routing.apply(&mut Rtnl::open()?)?;
    }
    let tables = tables(&settings, mark)?;
    let transactions: Vec<Transaction> = tables.iter().map(Transaction::replace).collect();
    let refused = match Nft::open()?.apply_all(&transactions) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let inputs = iptables::render(&settings);
    for (v6, input) in [false, true].into_iter().zip(&inputs) {
        if let Err(iptables) = restore(v6, input) {
            return Err(ApplyError::NoBackend {
                nftables: refused,
                iptables,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use corten_linux::net::LinkChange;
    use corten_linux::nft::Family;
    use corten_linux::testing::{Isolation, isolated};

    use super::super::{Dns, Ports, Ranges};
    use super::*;

    #[test]
    fn one_user_is_told_from_many() {
        assert!(is_one("         0       1000          1\n"));
        assert!(is_one("      1337          0          1\n"));
        assert!(!is_one("         0          0 4294967295\n"));
        assert!(!is_one("0 100000 65536\n"));
        assert!(!is_one(""));
    }

    #[test]
    fn the_kernel_takes_and_holds_every_kind_of_rule() {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
        // A route needs an interface that is up.
        let mut rtnl = Rtnl::open().unwrap();
        let loopback = rtnl.link("lo").unwrap().unwrap().index;
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        rtnl.set_link(loopback, &up).unwrap();
        let everything = |mode| Settings {
            mode,
            inbound_include: Ports::All,
            inbound_exclude: Ports::parse("22,15021").unwrap(),
            outbound_exclude: Ports::parse("25").unwrap(),
            outbound_include: Ports::parse("31400").unwrap(),
            ranges_include: Ranges::parse("*").unwrap(),
            ranges_exclude: Ranges::parse("10.1.0.0/16,fd00:1::/32").unwrap(),
            reroute_interfaces: vec!["vnet0".into()],
            exclude_interfaces: vec!["net1".into()],
            dns: Dns::All,
            drop_invalid: true,
            ipv6: true,
            ..Settings::default()
        };
        for mode in [Mode::Redirect, Mode::Tproxy] {
            for mark in [ProxyMark::Owner, ProxyMark::Priority] {
                let mut settings = everything(mode);
                apply(&settings, mark, TPROXY_TABLE).unwrap();
                settings.ipv6 = has_ipv6();
                let mut nft = Nft::open().unwrap();
                for table in tables(&settings, mark).unwrap() {
                    let held = nft.image(Family::Inet, &table.name).unwrap();
                    assert_eq!(held, Some(table.image()), "{mode:?} {mark:?}\n{table}");
                }
            }
        }
    }
}
