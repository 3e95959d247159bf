//! A rule before it is spelled: what it matches and where it leads, in terms both backends have.

use std::net::IpAddr;

use ipnet::IpNet;

/// The tables, in the order they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Nat,
    Mangle,
    Raw,
}

/// Hooks and chains of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chain {
    Prerouting,
    Output,
    Divert,
    Tproxy,
    Drop,
    Inbound,
    Redirect,
    InRedirect,
    IstioOutput,
    OutputDns,
}

/// What a packet has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    From(String),
    To(String),
    Tcp,
    /// TCP where the backend would not tell from the rest of the rule, which then needs no protocol in the other.
    TcpForNft,
    Source(IpNet),
    Destination(IpNet),
    NotDestination(IpNet),
    TcpPort(u16),
    NotTcpPort(u16),
    NotTcpPorts(u16, u16),
    UdpPort(u16),
    UdpSourcePort(u16),
    User(String),
    NotUser(String),
    Group(String),
    NotGroup(String),
    Mark(u32),
    NotMark(u32),
    ConnectionMark(u32),
    Established,
    Invalid,
}

/// Where a packet goes then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Return,
    Accept,
    Drop,
    Jump(Chain),
    /// TCP, or UDP, to this port here.
    Redirect(u16),
    Mark(u32),
    SaveMark,
    RestoreMark,
    /// To the socket of this port, with this mark; for the family of the address.
    Tproxy(IpAddr, u16, u32),
    Zone(u16),
}

/// Which family a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Both,
    V4,
    V6,
}

/// A rule and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) family: Family,
    pub(super) table: Table,
    pub(super) chain: Chain,
    /// Before the rule with this number (from 0) rather than at the end.
    pub(super) before: Option<usize>,
    pub(super) terms: Vec<Term>,
    pub(super) target: Target,
}
