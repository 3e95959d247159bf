//! Tracked connections: finding and forgetting those whose translation is out of date.
//!
//! Translation is decided with a connection's first packet. For TCP that is right; a UDP client that keeps sending from one port would
//! reach an endpoint that is gone for as long as it goes on.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{ACK, DUMP, NetlinkError, REQUEST, address_of, family, octets};
use crate::netlink::{Attribute, Messages, Socket, attributes};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;

/// A tracked connection: who called whom, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The IP protocol.
    pub protocol: u8,
    /// The caller.
    pub source: SocketAddr,
    /// Whom it called.
    pub destination: SocketAddr,
    /// Who answers: another than the destination if that was translated.
    pub answers: SocketAddr,
}

/// A conversation with the connection tracking of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens one for the calling thread's namespace.
    pub fn open() -> io::Result<Conntrack> {
        Ok(Conntrack {
            socket: Socket::open(Some(rustix::net::netlink::NETFILTER))?,
        })
    }

    /// All connections with ports.
    pub fn list(&mut self) -> Result<Vec<Connection>, NetlinkError> {
        let mut messages = Messages::new();
        messages.message(SUBSYSTEM << 8 | GET, REQUEST | DUMP, |m| m.raw(&[0; 4]));
        let replies = self
            .socket
            .replies(&mut messages, || "list tracked connections".into())?;
        Ok(replies.iter().filter_map(|reply| read(&reply.body)).collect())
    }

    /// Forgets a connection. No error if it is gone.
    pub fn forget(&mut self, connection: &Connection) -> Result<(), NetlinkError> {
        let (source, destination) = (connection.source, connection.destination);
        let mut messages = Messages::new();
        messages.message(SUBSYSTEM << 8 | DELETE, REQUEST | ACK, |m| {
            m.raw(&[family(source.ip()), 0, 0, 0]);
            m.nest(ORIGINAL, |m| {
                m.nest(ADDRESSES, |m| {
                    let first = if source.is_ipv4() { 1 } else { 3 };
                    m.attribute(first, &octets(source.ip()));
                    m.attribute(first + 1, &octets(destination.ip()));
                });
                m.nest(PROTOCOL, |m| {
                    m.attribute(1, &[connection.protocol]);
                    m.attribute(2, &source.port().to_be_bytes());
                    m.attribute(3, &destination.port().to_be_bytes());
                });
            });
        });
        match self.socket.acknowledged(&mut messages, || {
            format!("forget the connection {source} to {destination}")
        }) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

fn read(body: &[u8]) -> Option<Connection> {
    let tuple = |kind| attributes(body.get(4..)?).find(|a| a.kind == kind).and_then(read_tuple);
    let (protocol, source, destination) = tuple(ORIGINAL)?;
    let (_, answers, _) = tuple(REPLY)?;
    Some(Connection {
        protocol,
        source,
        destination,
        answers,
    })
}

fn read_tuple(tuple: Attribute<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let part = |kind| tuple.nested().find(|a| a.kind == kind);
    let (addresses, protocol) = (part(ADDRESSES)?, part(PROTOCOL)?);
    let address = |v4, v6| -> Option<IpAddr> {
        let found = addresses.nested().find(|a| a.kind == v4 || a.kind == v6)?;
        address_of(found.value)
    };
    let port = |kind| -> Option<u16> {
        let found = protocol.nested().find(|a| a.kind == kind)?;
        Some(u16::from_be_bytes(found.value.get(..2)?.try_into().ok()?))
    };
    let number = protocol.nested().find(|a| a.kind == 1)?.value.first().copied()?;
    Some((
        number,
        SocketAddr::new(address(1, 3)?, port(2)?),
        SocketAddr::new(address(2, 4)?, port(3)?),
    ))
}
