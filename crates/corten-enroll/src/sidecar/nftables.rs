//! A sidecar's rules as commands of `nft`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{Chain, Family, Rule, Table, Target, Term};
use super::{Settings, program::program};

/// The commands, one a line; both families in one table.
pub fn render(settings: &Settings) -> String {
    let rules = program(settings);
    let mut text = String::new();
    for table in [Table::Nat, Table::Mangle, Table::Raw] {
        let rules = rules
            .iter()
            .filter(|rule| rule.table == table && (rule.family != Family::V6 || settings.ipv6));
        let rules: Vec<&Rule> = rules.collect();
        if !rules.is_empty() {
            write(&mut text, table, &rules);
        }
    }
    text
}

/// What a table is called.
pub(super) fn table_name(table: Table) -> &'static str {
    match table {
        Table::Nat => "istio-proxy-nat",
        Table::Mangle => "istio-proxy-mangle",
        Table::Raw => "istio-proxy-raw",
    }
}

/// The chains that a table may have, in the order they are made.
pub(super) fn chains(table: Table) -> &'static [Chain] {
    match table {
        Table::Nat => &[
            Chain::Prerouting,
            Chain::Output,
            Chain::Inbound,
            Chain::Redirect,
            Chain::InRedirect,
            Chain::IstioOutput,
            Chain::OutputDns,
        ],
        Table::Mangle => &[
            Chain::Prerouting,
            Chain::Output,
            Chain::Divert,
            Chain::Tproxy,
            Chain::Inbound,
            Chain::Drop,
        ],
        Table::Raw => &[Chain::Prerouting, Chain::Output, Chain::Inbound, Chain::OutputDns],
    }
}

fn write(text: &mut String, table: Table, rules: &[&Rule]) {
    let (name, chains) = (table_name(table), chains(table));
    text.push_str(&format!("add table inet {name}\nflush table inet {name}\n"));
    for chain in chains
        .iter()
        .filter(|chain| rules.iter().any(|rule| rule.chain == **chain))
    {
        text.push_str(&format!(
            "add chain inet {name} {}{}\n",
            chain_name(*chain),
            hook(table, *chain)
        ));
    }
    let mut lengths = std::collections::BTreeMap::<Chain, usize>::new();
    for rule in rules {
        let length = lengths.entry(rule.chain).or_default();
        // There is no inserting before a rule that is not there.
        let command = match rule.before.filter(|before| before < length) {
            Some(before) => format!("insert rule inet {name} {} index {before}", chain_name(rule.chain)),
            None => format!("add rule inet {name} {}", chain_name(rule.chain)),
        };
        *length += 1;
        text.push_str(&format!("{command}{}\n", line(rule)));
    }
}

fn hook(table: Table, chain: Chain) -> String {
    let (hook, kind, priority) = match (table, chain) {
        (Table::Nat, Chain::Prerouting) => ("prerouting", "nat", -100),
        (Table::Nat, Chain::Output) => ("output", "nat", -100),
        (Table::Mangle, Chain::Prerouting) => ("prerouting", "filter", -150),
        // This kind routes again when the mark changed.
        (Table::Mangle, Chain::Output) => ("output", "route", -150),
        (Table::Raw, Chain::Prerouting) => ("prerouting", "filter", -300),
        (Table::Raw, Chain::Output) => ("output", "filter", -300),
        _ => return String::new(),
    };
    format!(" {{ type {kind} hook {hook} priority {priority} ; }}")
}

pub(super) fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        Chain::Divert => "istio-divert",
        Chain::Tproxy => "istio-tproxy",
        Chain::Drop => "istio-drop",
        Chain::Inbound => "istio-inbound",
        Chain::Redirect => "istio-redirect",
        Chain::InRedirect => "istio-in-redirect",
        Chain::IstioOutput => "istio-output",
        Chain::OutputDns => "istio-output-dns",
    }
}

fn line(rule: &Rule) -> String {
    let mut text = String::new();
    for term in &rule.terms {
        text.push(' ');
        text.push_str(&spell(term));
    }
    text.push(' ');
    text.push_str(&target(&rule.target));
    text
}

fn spell(term: &Term) -> String {
    match term {
        Term::Tcp | Term::TcpForNft => "meta l4proto tcp".into(),
        Term::From(interface) => format!("iifname {interface}"),
        Term::To(interface) => format!("oifname {interface}"),
        Term::Source(net) => format!("{} saddr {net}", family(*net)),
        Term::Destination(net) => format!("{} daddr {net}", family(*net)),
        Term::NotDestination(net) => format!("{} daddr != {net}", family(*net)),
        Term::TcpPort(port) => format!("tcp dport {port}"),
        Term::NotTcpPort(port) => format!("tcp dport != {port}"),
        Term::NotTcpPorts(one, other) => format!("tcp dport != {{ {one}, {other} }}"),
        Term::UdpPort(port) => format!("udp dport {port}"),
        Term::UdpSourcePort(port) => format!("udp sport {port}"),
        Term::User(user) => format!("meta skuid {user}"),
        Term::NotUser(user) => format!("meta skuid != {user}"),
        Term::Group(group) => format!("meta skgid {group}"),
        Term::NotGroup(group) => format!("meta skgid != {group}"),
        Term::Mark(mark) => format!("meta mark {mark}"),
        Term::NotMark(mark) => format!("meta mark != {mark}"),
        Term::ConnectionMark(mark) => format!("ct mark {mark}"),
        Term::Established => "ct state related,established".into(),
        Term::Invalid => "ct state invalid".into(),
    }
}

fn family(net: IpNet) -> &'static str {
    if net.addr().is_ipv4() { "ip" } else { "ip6" }
}

fn target(target: &Target) -> String {
    match target {
        Target::Return => "counter return".into(),
        Target::Accept => "counter accept".into(),
        Target::Drop => "counter drop".into(),
        Target::Jump(chain) => format!("counter jump {}", chain_name(*chain)),
        Target::Redirect(port) => format!("counter redirect to :{port}"),
        Target::Mark(mark) => format!("counter meta mark set {mark}"),
        Target::SaveMark => "counter ct mark set mark".into(),
        Target::RestoreMark => "counter meta mark set ct mark".into(),
        Target::Tproxy(family, port, mark) => {
            let family = if matches!(family, IpAddr::V4(_)) { "ip" } else { "ip6" };
            format!("tproxy {family} to :{port} meta mark set {mark} counter accept")
        }
        Target::Zone(zone) => format!("counter ct zone set {zone}"),
    }
}
