//! From settings to rules: all that is decided.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::rule::{Chain, Family, Rule, Table, Target, Term};
use super::{Dns, Groups, Mode, Ports, Settings};
use crate::constants::DNS_PORT;

/// The mark on what the proxy sends to the pod's own address: it takes the inbound way once more.
const OUTBOUND_MARK: u32 = 1338;

/// The rules in the order they are made.
pub(super) fn program(settings: &Settings) -> Vec<Rule> {
    let mut program = Program {
        settings,
        rules: Vec::new(),
    };
    program.interfaces();
    program.invalid();
    program.redirects();
    program.inbound();
    program.outbound();
    if settings.mode == Mode::Tproxy {
        program.marks();
    }
    program.rules
}

struct Program<'a> {
    settings: &'a Settings,
    rules: Vec<Rule>,
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The address that the proxy binds for what it passes through to the pod.
fn passthrough(v6: bool) -> IpNet {
    if v6 {
        host(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into())
    } else {
        host(Ipv4Addr::new(127, 0, 0, 6).into())
    }
}

impl Program<'_> {
    fn add(&mut self, table: Table, chain: Chain, terms: impl IntoIterator<Item = Term>, target: Target) {
        self.add_for(Family::Both, table, chain, terms, target);
    }

    fn add_for(
        &mut self,
        family: Family,
        table: Table,
        chain: Chain,
        terms: impl IntoIterator<Item = Term>,
        target: Target,
    ) {
        self.rules.push(Rule {
            family,
            table,
            chain,
            before: None,
            terms: terms.into_iter().collect(),
            target,
        });
    }

    fn insert_for(
        &mut self,
        family: Family,
        (table, chain, before): (Table, Chain, usize),
        terms: impl IntoIterator<Item = Term>,
        target: Target,
    ) {
        self.add_for(family, table, chain, terms, target);
        if let Some(rule) = self.rules.last_mut() {
            rule.before = Some(before);
        }
    }

    /// A rule for each family, in that family's words.
    fn versioned(&mut self, table: Table, chain: Chain, target: &Target, terms: impl Fn(bool, IpNet) -> Vec<Term>) {
        for (v6, loopback) in self.families() {
            let target = match target {
                Target::Tproxy(_, port, mark) => Target::Tproxy(loopback.addr(), *port, *mark),
                other => other.clone(),
            };
            let family = if v6 { Family::V6 } else { Family::V4 };
            self.add_for(family, table, chain, terms(v6, loopback), target);
        }
    }

    /// Each family, and what counts as loopback there.
    fn families(&self) -> impl Iterator<Item = (bool, IpNet)> + use<> {
        let v4 = self.settings.loopback_v4;
        [(false, v4), (true, host(Ipv6Addr::LOCALHOST.into()))]
            .into_iter()
            .take(if self.settings.ipv6 { 2 } else { 1 })
    }

    fn interfaces(&mut self) {
        for interface in &self.settings.exclude_interfaces {
            let mut tables = vec![Table::Nat];
            if self.settings.mode == Mode::Tproxy {
                tables.push(Table::Mangle);
            }
            for table in tables {
                self.add(
                    table,
                    Chain::Prerouting,
                    [Term::From(interface.clone())],
                    Target::Return,
                );
                self.add(table, Chain::Output, [Term::To(interface.clone())], Target::Return);
            }
        }
        for interface in &self.settings.reroute_interfaces {
            let place = (Table::Nat, Chain::Prerouting, 0);
            self.insert_for(Family::Both, place, [Term::From(interface.clone())], Target::Return);
        }
    }

    fn invalid(&mut self) {
        if self.settings.drop_invalid {
            self.add(
                Table::Mangle,
                Chain::Prerouting,
                [Term::TcpForNft, Term::Invalid],
                Target::Jump(Chain::Drop),
            );
            self.add(Table::Mangle, Chain::Drop, [], Target::Drop);
        }
    }

    fn redirects(&mut self) {
        let settings = self.settings;
        let tunnel = [Term::Tcp, Term::TcpPort(settings.tunnel_port)];
        self.add(Table::Nat, Chain::Inbound, tunnel, Target::Return);
        let outbound = Target::Redirect(settings.outbound_port);
        self.add(Table::Nat, Chain::Redirect, [Term::Tcp], outbound);
        let inbound = Target::Redirect(settings.inbound_port);
        self.add(Table::Nat, Chain::InRedirect, [Term::Tcp], inbound);
    }

    fn inbound(&mut self) {
        let settings = self.settings;
        let ports: Vec<Option<u16>> = match &settings.inbound_include {
            Ports::None => return,
            Ports::All => vec![None],
            Ports::List(ports) => ports.iter().copied().map(Some).collect(),
        };
        let tproxy = settings.mode == Mode::Tproxy;
        let table = if tproxy { Table::Mangle } else { Table::Nat };
        if tproxy {
            self.add(table, Chain::Divert, [], Target::Mark(settings.tproxy_mark));
            self.add(table, Chain::Divert, [], Target::Accept);
            let target = Target::Tproxy(
                Ipv4Addr::UNSPECIFIED.into(),
                settings.inbound_port,
                settings.tproxy_mark,
            );
            self.versioned(table, Chain::Tproxy, &target, |_, loopback| {
                vec![Term::Tcp, Term::NotDestination(loopback)]
            });
        }
        self.add(table, Chain::Prerouting, [Term::Tcp], Target::Jump(Chain::Inbound));
        if settings.inbound_include == Ports::All {
            for port in settings.inbound_exclude.listed() {
                let port = [Term::Tcp, Term::TcpPort(*port)];
                self.add(table, Chain::Inbound, port, Target::Return);
            }
        }
        for port in ports {
            let to = || [Term::Tcp].into_iter().chain(port.map(Term::TcpPort));
            if tproxy {
                let running = to().chain([Term::Established]);
                self.add(table, Chain::Inbound, running, Target::Jump(Chain::Divert));
                self.add(table, Chain::Inbound, to(), Target::Jump(Chain::Tproxy));
            } else {
                self.add(table, Chain::Inbound, to(), Target::Jump(Chain::InRedirect));
            }
        }
    }

    fn outbound(&mut self) {
        let settings = self.settings;
        self.add(Table::Nat, Chain::Output, [], Target::Jump(Chain::IstioOutput));
        for port in settings.outbound_exclude.listed() {
            self.output([Term::TcpPort(*port)], Target::Return);
            self.output([Term::UdpPort(*port)], Target::Return);
        }
        self.versioned(Table::Nat, Chain::IstioOutput, &Target::Return, |v6, _| {
            vec![Term::To("lo".into()), Term::Source(passthrough(v6))]
        });
        self.proxy_itself();
        match &settings.owners {
            Groups::Except(groups) => {
                for group in groups {
                    self.output([Term::Group(group.clone())], Target::Return);
                }
            }
            Groups::Only(groups) => {
                let others = groups.iter().cloned().map(Term::NotGroup);
                self.output(others.collect::<Vec<_>>(), Target::Return);
            }
        }
        self.dns();
        self.versioned(Table::Nat, Chain::IstioOutput, &Target::Return, |_, loopback| {
            vec![Term::Destination(loopback)]
        });
        for net in &settings.ranges_exclude.nets {
            let terms = [Term::Destination(*net)];
            self.add_for(family(*net), Table::Nat, Chain::IstioOutput, terms, Target::Return);
        }
        for port in settings.outbound_include.listed() {
            self.output([Term::TcpPort(*port)], Target::Jump(Chain::Redirect));
        }
        self.included();
    }

    fn output(&mut self, terms: impl IntoIterator<Item = Term>, target: Target) {
        self.add(Table::Nat, Chain::IstioOutput, terms, target);
    }

    /// What the proxy sends: back in if it is for the pod's own address, else out as it is.
    fn proxy_itself(&mut self) {
        let settings = self.settings;
        let dns = settings.dns != Dns::Off;
        let calls_itself = !settings.ranges_include.has_loopback();
        let tunnel = settings.tunnel_port;
        let users = settings.users.iter().map(|user| {
            // A query of the proxy to a resolver must not come back in.
            let ports = if dns {
                Term::NotTcpPorts(53, tunnel)
            } else {
                Term::NotTcpPort(tunnel)
            };
            (Term::User(user.clone()), Term::NotUser(user.clone()), ports)
        });
        let groups = settings.groups.iter().map(|group| {
            let ports = Term::NotTcpPort(tunnel);
            (Term::Group(group.clone()), Term::NotGroup(group.clone()), ports)
        });
        for (owner, other, ports) in users.chain(groups) {
            let lo = || Term::To("lo".into());
            let target = Target::Jump(Chain::InRedirect);
            self.versioned(Table::Nat, Chain::IstioOutput, &target, |_, loopback| {
                vec![
                    lo(),
                    Term::Tcp,
                    Term::NotDestination(loopback),
                    ports.clone(),
                    owner.clone(),
                ]
            });
            if calls_itself {
                // A resolver may run on localhost, and what is asked of it is to be taken.
                let mut terms = vec![lo()];
                if dns {
                    terms.extend([Term::Tcp, Term::NotTcpPort(53)]);
                }
                terms.push(other);
                self.output(terms, Target::Return);
            }
            self.output([owner], Target::Return);
        }
    }

    fn dns(&mut self) {
        let servers: Vec<Option<IpAddr>> = match &self.settings.dns {
            Dns::Off => return,
            Dns::All => vec![None],
            Dns::Servers(servers) => {
                let ipv6 = self.settings.ipv6;
                let usable = servers.iter().copied().filter(|server| ipv6 || server.is_ipv4());
                usable.map(Some).collect()
            }
        };
        let zone = Target::Zone;
        self.add(Table::Raw, Chain::Output, [], Target::Jump(Chain::OutputDns));
        self.jump_for_servers(&servers, (Table::Nat, Chain::IstioOutput), Chain::OutputDns);
        let named = |server: Option<IpAddr>| server.map_or(Family::Both, |server| family(host(server)));
        for port in [Term::TcpPort(53), Term::UdpPort(53)] {
            for server in &servers {
                let tcp = (server.is_none() && port == Term::TcpPort(53)).then_some(Term::Tcp);
                let to = server.map(|server| Term::Destination(host(server)));
                let terms = tcp.into_iter().chain(to).chain([port.clone()]);
                let redirect = Target::Redirect(DNS_PORT);
                self.add_for(named(*server), Table::Nat, Chain::OutputDns, terms, redirect);
            }
        }
        // The proxy's own queries, and answers to them, in one zone; the pod's, and the proxy's answers, in another.
        let settings = self.settings;
        let users = settings.users.iter().cloned().map(Term::User);
        for owner in users.chain(settings.groups.iter().cloned().map(Term::Group)) {
            let query = [Term::UdpPort(53), owner.clone()];
            self.add(Table::Raw, Chain::OutputDns, query, zone(1));
            let answer = [Term::UdpSourcePort(DNS_PORT), owner];
            self.add(Table::Raw, Chain::OutputDns, answer, zone(2));
        }
        self.jump_for_servers(&servers, (Table::Raw, Chain::Prerouting), Chain::Inbound);
        for server in &servers {
            let net = server.map(host);
            let query = [Term::UdpPort(53)].into_iter().chain(net.map(Term::Destination));
            self.add_for(named(*server), Table::Raw, Chain::OutputDns, query, zone(2));
            let answer = [Term::UdpSourcePort(53)].into_iter().chain(net.map(Term::Source));
            self.add_for(named(*server), Table::Raw, Chain::Inbound, answer, zone(1));
        }
    }

    /// A jump, for the families that the servers are of.
    fn jump_for_servers(&mut self, servers: &[Option<IpAddr>], (table, from): (Table, Chain), to: Chain) {
        let any = |v6: bool| {
            let mut of = servers.iter().flatten();
            servers.contains(&None) || of.any(|server| server.is_ipv6() == v6)
        };
        let family = match (any(false), any(true)) {
            (true, true) => Family::Both,
            (true, false) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => return,
        };
        self.add_for(family, table, from, [], Target::Jump(to));
    }

    /// What is sent elsewhere and is to be taken.
    fn included(&mut self) {
        let settings = self.settings;
        let target = || Target::Jump(Chain::Redirect);
        if settings.ranges_include.all {
            self.output([], target());
            for interface in &settings.reroute_interfaces {
                let place = (Table::Nat, Chain::Prerouting, 0);
                self.insert_for(Family::Both, place, [Term::From(interface.clone())], target());
            }
            return;
        }
        for v6 in [false, true] {
            for net in settings.ranges_include.family(v6) {
                for interface in &settings.reroute_interfaces {
                    let place = (Table::Nat, Chain::Prerouting, 0);
                    let terms = [Term::From(interface.clone()), Term::Destination(net)];
                    self.insert_for(family(net), place, terms, target());
                }
                let terms = [Term::Destination(net)];
                self.add_for(family(net), Table::Nat, Chain::IstioOutput, terms, target());
            }
        }
    }

    /// In mode TPROXY: marks that lead replies back, and keep what is the proxy's own from coming in again.
    fn marks(&mut self) {
        let settings = self.settings;
        let mark = settings.tproxy_mark;
        let lo = || "lo".to_owned();
        self.add(
            Table::Mangle,
            Chain::Prerouting,
            [Term::Tcp, Term::Mark(mark)],
            Target::SaveMark,
        );
        let own = [Term::To(lo()), Term::Tcp, Term::Mark(mark)];
        self.add(Table::Mangle, Chain::Output, own, Target::Return);
        let users = settings.users.iter().cloned().map(Term::User);
        for owner in users.chain(settings.groups.iter().cloned().map(Term::Group)) {
            let target = Target::Mark(OUTBOUND_MARK);
            self.versioned(Table::Mangle, Chain::Output, &target, |_, loopback| {
                vec![Term::To(lo()), Term::Tcp, Term::NotDestination(loopback), owner.clone()]
            });
        }
        let reply = [Term::Tcp, Term::ConnectionMark(mark)];
        self.add(Table::Mangle, Chain::Output, reply, Target::RestoreMark);
        let inbound = |before| (Table::Mangle, Chain::Inbound, before);
        self.insert_for(Family::Both, inbound(0), [Term::Tcp, Term::Mark(mark)], Target::Return);
        for (v6, _) in self.families() {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let terms = [Term::From(lo()), Term::Tcp, Term::Source(passthrough(v6))];
            self.insert_for(family, inbound(1), terms, Target::Return);
        }
        let terms = [Term::From(lo()), Term::Tcp, Term::NotMark(OUTBOUND_MARK)];
        self.insert_for(Family::Both, inbound(2), terms, Target::Return);
    }
}

fn family(net: IpNet) -> Family {
    if net.addr().is_ipv4() { Family::V4 } else { Family::V6 }
}
