//! Links: bridges, veth pairs whose other end lies in another namespace, and what can be changed about a link.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{ACK, DUMP, NEW, NetlinkError, REQUEST, Rtnl};
use crate::netlink::{Attribute, Messages, attributes};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const MAC: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const NETNS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const BRIDGE_MCAST_SNOOPING: u16 = 23;
const UP: u32 = 1;

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
    /// The largest packet.
    pub mtu: u32,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// `bridge`, `veth`, ...; absent for the loopback.
    pub kind: Option<String>,
}

/// A link to be made.
#[derive(Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: LinkKind<'a>,
    /// What else is set at once.
    pub change: LinkChange<'a>,
}

/// What a new link is.
#[derive(Debug)]
pub enum LinkKind<'a> {
    /// A bridge.
    Bridge,
    /// One end of a pair; the other is described here (its namespace by `change.netns`).
    Veth {
        /// The other end's name.
        peer: &'a str,
        /// What else is set on the other end.
        change: LinkChange<'a>,
    },
}

/// Properties to set; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// A new name.
    pub name: Option<&'a str>,
    /// The bridge to join.
    pub master: Option<u32>,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// The namespace to move to.
    pub netns: Option<BorrowedFd<'a>>,
}

impl LinkChange<'_> {
    fn header(&self, m: &mut Messages, index: u32) {
        let flags = if self.up == Some(true) { UP } else { 0 };
        let mask = if self.up.is_some() { UP } else { 0 };
        m.raw(&[0; 4]);
        for word in [index, flags, mask] {
            m.raw(&word.to_ne_bytes());
        }
    }

    fn attributes(&self, m: &mut Messages) {
        if let Some(name) = self.name {
            m.string(NAME, name);
        }
        if let Some(mac) = self.mac {
            m.attribute(MAC, &mac);
        }
        if let Some(mtu) = self.mtu {
            m.u32(MTU, mtu);
        }
        if let Some(master) = self.master {
            m.u32(MASTER, master);
        }
        if let Some(netns) = self.netns {
            m.u32(NETNS_FD, netns.as_raw_fd().cast_unsigned());
        }
    }
}

impl Rtnl {
    /// Makes a link.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        self.tell(
            NEW_LINK,
            NEW,
            || format!("make link {}", link.name),
            |m| {
                link.change.header(m, 0);
                LinkChange {
                    name: Some(link.name),
                    ..link.change.clone()
                }
                .attributes(m);
                m.nest(LINK_INFO, |m| match &link.kind {
                    LinkKind::Bridge => {
                        m.attribute(INFO_KIND, b"bridge");
                        // Without snooping the bridge keeps no multicast state and no timers; neighbour discovery is flooded to few ports.
                        m.nest(INFO_DATA, |m| m.attribute(BRIDGE_MCAST_SNOOPING, &[0]));
                    }
                    LinkKind::Veth { peer, change } => {
                        m.attribute(INFO_KIND, b"veth");
                        m.nest(INFO_DATA, |m| {
                            m.nest(VETH_PEER, |m| {
                                change.header(m, 0);
                                LinkChange {
                                    name: Some(peer),
                                    ..change.clone()
                                }
                                .attributes(m);
                            });
                        });
                    }
                });
            },
        )
    }

    /// Changes a link.
    pub fn set_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        self.tell(
            NEW_LINK,
            REQUEST | ACK,
            || format!("change link {index}"),
            |m| {
                change.header(m, index);
                change.attributes(m);
            },
        )
    }

    /// Removes a link (and the other end of a pair). No error if there is none of this name.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let result = self.tell(
            DELETE_LINK,
            REQUEST | ACK,
            || format!("delete link {name}"),
            |m| {
                m.raw(&[0; 16]);
                m.string(NAME, name);
            },
        );
        match result {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// The link of this name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let replies = self.ask(
            GET_LINK,
            REQUEST | ACK,
            || format!("find link {name}"),
            |m| {
                m.raw(&[0; 16]);
                m.string(NAME, name);
            },
        );
        match replies {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(replies) => Ok(replies.iter().find_map(|reply| read(&reply.body))),
        }
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let replies = self.ask(GET_LINK, REQUEST | DUMP, || "list links".into(), |m| m.raw(&[0; 16]))?;
        Ok(replies
            .iter()
            .filter(|reply| reply.kind == NEW_LINK)
            .filter_map(|reply| read(&reply.body))
            .collect())
    }
}

fn read(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_at_checked(16)?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let find = |kind| attributes(rest).find(|attribute| attribute.kind == kind);
    Some(Link {
        index: word(4),
        name: find(NAME)?.string(),
        up: word(8) & UP != 0,
        mac: find(MAC).and_then(|a| a.value.try_into().ok()),
        mtu: find(MTU).and_then(Attribute::u32).unwrap_or_default(),
        master: find(MASTER).and_then(Attribute::u32),
        kind: find(LINK_INFO)
            .and_then(|info| info.nested().find(|a| a.kind == INFO_KIND))
            .map(Attribute::string),
    })
}
