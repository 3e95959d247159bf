//! Addresses on links.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NEW, NetlinkError, REQUEST, Rtnl, address_of, family, octets};
use crate::netlink::{Attribute, attributes};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// No duplicate address detection: in a namespace of our own nobody else takes the address, and waiting would cost a second.
const FLAG_NODAD: u8 = 0x02;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// Address and prefix length.
    pub net: IpNet,
}

impl Rtnl {
    /// Adds an address, usable at once (no duplicate address detection). No error if the link has it.
    pub fn add_address(&mut self, link: u32, net: IpNet) -> Result<(), NetlinkError> {
        match self.address(NEW_ADDRESS, NEW, link, net) {
            Err(error) if error.is_exists() => Ok(()),
            result => result,
        }
    }

    /// Removes an address. No error if the link has it not.
    pub fn delete_address(&mut self, link: u32, net: IpNet) -> Result<(), NetlinkError> {
        match self.address(DELETE_ADDRESS, REQUEST | super::ACK, link, net) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn address(&mut self, kind: u16, flags: u16, link: u32, net: IpNet) -> Result<(), NetlinkError> {
        let verb = if kind == NEW_ADDRESS { "add" } else { "delete" };
        self.tell(
            kind,
            flags,
            || format!("{verb} address {net} on link {link}"),
            |m| {
                let flags = if matches!(net, IpNet::V6(_)) { FLAG_NODAD } else { 0 };
                m.raw(&[family(net.addr()), net.prefix_len(), flags, 0]);
                m.raw(&link.to_ne_bytes());
                m.attribute(LOCAL, &octets(net.addr()));
                m.attribute(ADDRESS, &octets(net.addr()));
            },
        )
    }

    /// All addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let replies = self.ask(
            GET_ADDRESS,
            REQUEST | super::DUMP,
            || "list addresses".into(),
            |m| m.raw(&[0; 8]),
        )?;
        Ok(replies
            .iter()
            .filter(|reply| reply.kind == NEW_ADDRESS)
            .filter_map(|reply| read(&reply.body))
            .collect())
    }
}

fn read(body: &[u8]) -> Option<Address> {
    let (header, rest) = body.split_at_checked(8)?;
    let link = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let find = |kind| {
        attributes(rest)
            .find(|a| a.kind == kind)
            .and_then(|a: Attribute<'_>| address_of(a.value))
    };
    // On a point-to-point link ADDRESS is the other end's; LOCAL is missing for IPv6.
    let address: IpAddr = find(LOCAL).or_else(|| find(ADDRESS))?;
    Some(Address {
        link,
        net: IpNet::new(address, header[1]).ok()?,
    })
}
