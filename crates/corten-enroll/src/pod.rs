//! The rules inside a pod's namespace, as nf_tables.
//!
//! What they do with a packet: TCP that the pod starts goes to the proxy's outbound port; TCP that others start towards the pod goes to
//! its inbound port, unless it is a tunnel already or comes from the node itself; names are asked of the proxy. Whatever carries the
//! proxy's mark is left alone, and connections on which it took over a client's address are marked, so that replies find back to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use corten_linux::nft::{
    Chain, ChainKind, Expression, Family, Hook, Rule, Side, Statement, Table, Transport, Value, Verdict, tcp_flags,
};

use crate::constants::{
    DNS_PORT, DNS_ZONE, INBOUND_PORT, MARK_MASK, OUTBOUND_PORT, PROBE_SOURCE_V4, PROBE_SOURCE_V6, PROXY_MARK,
    REPLY_MARK, TABLE_MANGLE, TABLE_NAT, TABLE_RAW, TUNNEL_PORT,
};

/// What the rules of a pod depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRules {
    /// Also for IPv6.
    pub ipv6: bool,
    /// Names are asked of the proxy.
    pub dns_capture: bool,
    /// What comes in goes past the proxy.
    pub inbound_bypass: bool,
    /// What comes in from these interfaces is somebody's outbound traffic: that of a machine inside the pod.
    pub virtual_interfaces: Vec<String>,
    /// Where probes seem to come from.
    pub probe_source_v4: IpAddr,
    /// The same for IPv6.
    pub probe_source_v6: IpAddr,
    /// Leaves connections alone that are older than the rules.
    ///
    /// Connection tracking starts with the rules and takes the next packet of a running connection for the first of a new one;
    /// redirected, it would meet a proxy that knows nothing of it, and the connection would break.
    pub spare_established: bool,
}

impl Default for PodRules {
    fn default() -> Self {
        PodRules {
            ipv6: true,
            dns_capture: true,
            inbound_bypass: false,
            virtual_interfaces: Vec::new(),
            probe_source_v4: PROBE_SOURCE_V4,
            probe_source_v6: PROBE_SOURCE_V6,
            spare_established: true,
        }
    }
}

const PREROUTING: &str = "istio-prerouting";
const OUTPUT: &str = "istio-output";
const TCP: Value = Value::Protocol(6);

fn masked(of: Expression) -> Expression {
    Expression::Masked(Box::new(of), MARK_MASK)
}

fn from_proxy() -> Statement {
    Statement::is(masked(Expression::Mark), Value::Number(PROXY_MARK))
}

fn not_from_proxy() -> Statement {
    Statement::is_not(masked(Expression::Mark), Value::Number(PROXY_MARK))
}

fn tcp() -> Statement {
    Statement::is(Expression::L4Proto, TCP)
}

fn port(transport: Transport, side: Side, port: u16) -> Statement {
    Statement::is(Expression::Port(transport, side), Value::Port(port))
}

fn address(side: Side, address: IpAddr) -> Statement {
    match address {
        IpAddr::V4(v4) => Statement::is(Expression::Ip(side), Value::V4(v4)),
        IpAddr::V6(v6) => Statement::is(Expression::Ip6(side), Value::V6(v6)),
    }
}

impl PodRules {
    /// The tables of an enrolled pod.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.nat(), mangle()];
        if self.dns_capture {
            tables.push(raw());
        }
        tables
    }

    /// The tables of a pod that left while the proxy still serves connections of it.
    ///
    /// Nothing new is redirected. What was redirected is translated packet by packet for as long as the namespace has a chain that
    /// translates and a rule that tracks connections: these two, kept empty and kept.
    pub fn tables_leaving() -> Vec<Table> {
        vec![nat_table([], []), mangle()]
    }

    fn each_family(&self, mut rule: impl FnMut(IpAddr)) {
        rule(Ipv4Addr::LOCALHOST.into());
        if self.ipv6 {
            rule(Ipv6Addr::LOCALHOST.into());
        }
    }

    fn probe_source(&self, family_of: IpAddr) -> IpAddr {
        if family_of.is_ipv4() {
            self.probe_source_v4
        } else {
            self.probe_source_v6
        }
    }

    fn nat(&self) -> Table {
        let (prerouting, output) = (self.inbound(), self.outbound());
        let mut table = nat_table([jump(PREROUTING)], [jump(OUTPUT)]);
        if self.spare_established {
            for chain in &mut table.chains {
                chain.rules.insert(0, spare_established());
            }
        }
        table
            .chains
            .extend([Chain::regular(PREROUTING, prerouting), Chain::regular(OUTPUT, output)]);
        table
    }

    fn inbound(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for interface in &self.virtual_interfaces {
            let from = || Statement::is(Expression::IifName, Value::Interface(interface.clone()));
            rules.push(counted([from(), tcp()], Statement::Redirect(OUTBOUND_PORT)));
            rules.push(counted([from(), tcp()], Statement::Verdict(Verdict::Return)));
        }
        if self.inbound_bypass {
            return rules;
        }
        self.each_family(|loopback| {
            let source = address(Side::Source, self.probe_source(loopback));
            rules.push(counted([tcp(), source], Statement::accept()));
        });
        self.each_family(|loopback| {
            let no_tunnel = Statement::is_not(
                Expression::Port(Transport::Tcp, Side::Destination),
                Value::Port(TUNNEL_PORT),
            );
            rules.push(counted(
                [elsewhere(loopback), no_tunnel, not_from_proxy()],
                Statement::Redirect(INBOUND_PORT),
            ));
        });
        rules
    }

    fn outbound(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let by_loopback = |comparison: fn(Expression, Value) -> Statement| {
            comparison(Expression::OifName, Value::Interface("lo".into()))
        };
        self.each_family(|loopback| {
            let probe = address(Side::Destination, self.probe_source(loopback));
            rules.push(counted([tcp(), probe], Statement::accept()));
        });
        if self.dns_capture {
            let query = port(Transport::Udp, Side::Destination, 53);
            rules.push(counted(
                [by_loopback(Statement::is_not), not_from_proxy(), query],
                Statement::Redirect(DNS_PORT),
            ));
            self.each_family(|loopback| {
                let query = port(Transport::Tcp, Side::Destination, 53);
                rules.push(counted(
                    [elsewhere(loopback), query, not_from_proxy()],
                    Statement::Redirect(DNS_PORT),
                ));
            });
        }
        let reply = Statement::is(masked(Expression::Mark), Value::Number(REPLY_MARK));
        rules.push(counted([tcp(), reply], Statement::accept()));
        // A pod that calls its own address does so directly.
        self.each_family(|loopback| {
            rules.push(counted(
                [by_loopback(Statement::is), elsewhere(loopback)],
                Statement::accept(),
            ));
        });
        self.each_family(|loopback| {
            rules.push(counted(
                [tcp(), elsewhere(loopback), not_from_proxy()],
                Statement::Redirect(OUTBOUND_PORT),
            ));
        });
        rules
    }
}

fn counted(matches: impl IntoIterator<Item = Statement>, then: Statement) -> Rule {
    Rule::new(matches.into_iter().chain([Statement::Counter, then]))
}

fn jump(chain: &str) -> Rule {
    Rule::new([Statement::jump(chain)])
}

/// The destination is not that loopback address.
fn elsewhere(loopback: IpAddr) -> Statement {
    match loopback {
        IpAddr::V4(v4) => Statement::is_not(Expression::Ip(Side::Destination), Value::V4(v4)),
        IpAddr::V6(v6) => Statement::is_not(Expression::Ip6(Side::Destination), Value::V6(v6)),
    }
}

/// Only a first segment opens a connection; what else looks new has been running since before the rules.
fn spare_established() -> Rule {
    let flags = tcp_flags::FIN | tcp_flags::SYN | tcp_flags::RST | tcp_flags::ACK;
    Rule::new([
        Statement::is_not(Expression::TcpFlags(flags), Value::Flags(tcp_flags::SYN)),
        Statement::Counter,
        Statement::accept(),
    ])
    .comment("connections older than these rules")
}

fn nat_table(prerouting: impl IntoIterator<Item = Rule>, output: impl IntoIterator<Item = Rule>) -> Table {
    let base = |name: &str, hook, rules| Chain {
        rules,
        ..Chain::base(name, ChainKind::Nat, hook, -100, [])
    };
    Table {
        family: Family::Inet,
        name: TABLE_NAT.into(),
        sets: Vec::new(),
        chains: vec![
            base("prerouting", Hook::Prerouting, prerouting.into_iter().collect()),
            base("output", Hook::Output, output.into_iter().collect()),
        ],
    }
}

fn mangle() -> Table {
    let reply = Statement::is(masked(Expression::CtMark), Value::Number(REPLY_MARK));
    let mark = Statement::SetCtMark {
        and: !MARK_MASK,
        xor: REPLY_MARK,
    };
    Table {
        family: Family::Inet,
        name: TABLE_MANGLE.into(),
        sets: Vec::new(),
        chains: vec![
            Chain::base(
                "prerouting",
                ChainKind::Filter,
                Hook::Prerouting,
                -150,
                [jump(PREROUTING)],
            ),
            Chain::base("output", ChainKind::Route, Hook::Output, -150, [jump(OUTPUT)]),
            Chain::regular(PREROUTING, [counted([from_proxy()], mark)]),
            Chain::regular(OUTPUT, [counted([reply], Statement::RestoreMark)]),
        ],
    }
}

fn raw() -> Table {
    let query = port(Transport::Udp, Side::Destination, 53);
    let answer = port(Transport::Udp, Side::Source, 53);
    let zone = || Statement::SetCtZone(DNS_ZONE);
    Table {
        family: Family::Inet,
        name: TABLE_RAW.into(),
        sets: Vec::new(),
        chains: vec![
            Chain::base(
                "prerouting",
                ChainKind::Filter,
                Hook::Prerouting,
                -300,
                [jump(PREROUTING)],
            ),
            Chain::base("output", ChainKind::Filter, Hook::Output, -300, [jump(OUTPUT)]),
            Chain::regular(PREROUTING, [counted([answer, not_from_proxy()], zone())]),
            Chain::regular(OUTPUT, [counted([query, from_proxy()], zone())]),
        ],
    }
}
