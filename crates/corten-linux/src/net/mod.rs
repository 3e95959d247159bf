//! Links, addresses, routes, policy rules and sysctls of the calling thread's network namespace, over rtnetlink and procfs.
//!
//! Synchronous: a request takes microseconds, and the CNI plugin, which must be small and start at once, uses the same code.
//! An [`Rtnl`] keeps the namespace it was opened in. Knows nothing of pods or nodes.

mod address;
mod conntrack;
mod link;
mod route;
mod sysctl;

use std::io;
use std::net::IpAddr;

pub use address::Address;
pub use conntrack::{Connection, Conntrack};
pub use link::{Link, LinkChange, LinkKind, NewLink};
pub use route::{PolicyRule, Route, RouteKind, RouteScope};
pub use sysctl::{has_ipv6, set_sysctl, sysctl};

pub use crate::netlink::NetlinkError;
use crate::netlink::{Messages, Reply, Socket};

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
/// What makes a new thing and fails if it is there.
const NEW: u16 = REQUEST | ACK | CREATE | EXCLUSIVE;

/// A conversation with the kernel about one network namespace.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens one for the calling thread's namespace. Use [`NetNs::run`](crate::NetNs::run) around this for another.
    pub fn open() -> io::Result<Rtnl> {
        Ok(Rtnl {
            socket: Socket::open(None)?,
        })
    }

    fn tell(
        &mut self,
        kind: u16,
        flags: u16,
        action: impl FnOnce() -> String,
        body: impl FnOnce(&mut Messages),
    ) -> Result<(), NetlinkError> {
        let mut messages = Messages::new();
        messages.message(kind, flags, body);
        self.socket.acknowledged(&mut messages, action)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        action: impl FnOnce() -> String,
        body: impl FnOnce(&mut Messages),
    ) -> Result<Vec<Reply>, NetlinkError> {
        let mut messages = Messages::new();
        messages.message(kind, flags, body);
        self.socket.replies(&mut messages, action)
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
