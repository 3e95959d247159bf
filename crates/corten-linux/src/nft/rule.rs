//! What a rule says: statements over expressions and values, in the words of `nft`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

/// The bits of `ct state`.
pub mod ct_state {
    /// No connection could be made out.
    pub const INVALID: u32 = 1;
    /// Both directions were seen.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection (an ICMP error).
    pub const RELATED: u32 = 4;
    /// The first packet.
    pub const NEW: u32 = 8;
    /// Exempt from tracking.
    pub const UNTRACKED: u32 = 64;
}

/// A rule: its statements run in order until one does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// Kept by the kernel for readers.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule of these statements.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Rule {
        Rule {
            statements: statements.into_iter().collect(),
            comment: None,
        }
    }

    /// The rule with a comment (at most 128 bytes).
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Rule {
        self.comment = Some(comment.into());
        self
    }
}

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `saddr`, `sport`
    Source,
    /// `daddr`, `dport`
    Destination,
}

/// Whose ports are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Any protocol with ports; the rule says which by itself.
    Any,
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
}

/// Something read from a packet, its connection, or made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `meta l4proto`
    L4Proto,
    /// `meta nfproto`
    NfProto,
    /// `iifname`
    IifName,
    /// `oifname`
    OifName,
    /// `meta mark`
    Mark,
    /// `meta skuid`
    SkUid,
    /// `meta skgid`
    SkGid,
    /// `meta priority`: for a packet of this host what its socket asked for.
    Priority,
    /// `ip saddr`, `ip daddr`
    Ip(Side),
    /// `ip6 saddr`, `ip6 daddr`
    Ip6(Side),
    /// `th dport`, `tcp sport`, ...
    Port(Transport, Side),
    /// `ct state`
    CtState,
    /// `ct status`
    CtStatus,
    /// `ct mark`
    CtMark,
    /// `fib daddr type`
    FibDestinationType,
    /// `numgen random mod N offset O`
    Random {
        /// Below this.
        modulus: u32,
        /// Plus this.
        offset: u32,
    },
    /// `jhash A . B mod N seed S`
    Hash {
        /// What is hashed.
        of: Vec<Expression>,
        /// Below this.
        modulus: u32,
        /// Start value.
        seed: u32,
    },
    /// `A . B . C`
    Concat(Vec<Expression>),
    /// `tcp flags & mask`
    TcpFlags(u8),
    /// `A & mask`, of a 32-bit value
    Masked(Box<Expression>, u32),
}

/// The bits of `tcp flags`.
pub mod tcp_flags {
    /// Nothing more will be sent.
    pub const FIN: u8 = 1;
    /// The connection begins.
    pub const SYN: u8 = 2;
    /// The connection is broken off.
    pub const RST: u8 = 4;
    /// Something is acknowledged.
    pub const ACK: u8 = 16;
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// A range of addresses.
    Net(IpNet),
    /// An IP protocol number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A 32-bit number in the host's order: a mark, an index.
    Number(u32),
    /// `meta nfproto`: 2 or 10.
    NfProto(u8),
    /// An interface name.
    Interface(String),
    /// The id of a user or a group, or another number that is read as such.
    User(u32),
    /// TCP flags.
    Flags(u8),
    /// `fib ... type local`
    Local,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Where evaluation goes next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Let it pass (this base chain).
    Accept,
    /// Discard it.
    Drop,
    /// Back to the calling chain.
    Return,
    /// To that chain and back.
    Jump(String),
    /// To that chain, not back.
    Goto(String),
}

/// Where address translation leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nat {
    /// To this address, and port.
    To(std::net::IpAddr, Option<u16>),
    /// To the address and port that a map gives for this key.
    Map {
        /// For IPv6 (else IPv4).
        v6: bool,
        /// What is looked up.
        key: Expression,
        /// The map; its data is address . port.
        map: String,
    },
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on if the comparison holds.
    Match(Expression, Comparison, Value),
    /// Goes on if any of these bits is set.
    Any(Expression, u32),
    /// Goes on if the value is (or with `true`: is not) in the set.
    InSet(Expression, bool, String),
    /// Takes the verdict that the map has for the key; goes on if it has none.
    Vmap(Expression, String),
    /// Ends the rule.
    Verdict(Verdict),
    /// Counts packets and bytes.
    Counter,
    /// Answers with "port unreachable".
    Reject,
    /// Changes the destination.
    Dnat(Nat),
    /// Changes the source.
    Snat(Nat),
    /// Changes the destination to this host, that port.
    Redirect(u16),
    /// Changes the source to the outgoing interface's address.
    Masquerade,
    /// `meta mark set meta mark & and ^ xor`
    SetMark {
        /// Bits kept.
        and: u32,
        /// Bits flipped then.
        xor: u32,
    },
    /// `tproxy ip to :port`, or `ip6`: gives the packet to the socket that listens there.
    Tproxy {
        /// For IPv6 (else IPv4).
        v6: bool,
        /// The port.
        port: u16,
    },
    /// `meta mark set ct mark`
    RestoreMark,
    /// `ct mark set meta mark`
    SaveMark,
    /// `ct mark set ct mark & and ^ xor`
    SetCtMark {
        /// Bits kept.
        and: u32,
        /// Bits flipped then.
        xor: u32,
    },
    /// `ct zone set N`
    SetCtZone(u16),
    /// Exempts from connection tracking.
    Notrack,
    /// Puts the value into the set, or renews it there.
    Update(Expression, Duration, String),
}

impl Statement {
    /// `left == right`
    pub fn is(left: Expression, right: Value) -> Statement {
        Statement::Match(left, Comparison::Equal, right)
    }

    /// `left != right`
    pub fn is_not(left: Expression, right: Value) -> Statement {
        Statement::Match(left, Comparison::NotEqual, right)
    }

    /// `goto chain`
    pub fn goto(chain: impl Into<String>) -> Statement {
        Statement::Verdict(Verdict::Goto(chain.into()))
    }

    /// `jump chain`
    pub fn jump(chain: impl Into<String>) -> Statement {
        Statement::Verdict(Verdict::Jump(chain.into()))
    }

    /// `accept`
    pub fn accept() -> Statement {
        Statement::Verdict(Verdict::Accept)
    }
}
