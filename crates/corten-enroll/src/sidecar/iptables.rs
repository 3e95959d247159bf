//! A sidecar's rules as inputs of `iptables-restore` and `ip6tables-restore`.

use super::rule::{Chain, Family, Rule, Table, Target, Term};
use super::{Settings, program::program};

/// The input for each family, IPv4 first; IPv6 only where it is on.
pub fn render(settings: &Settings) -> Vec<String> {
    let rules = program(settings);
    let families = [Family::V4, Family::V6];
    let families = &families[..if settings.ipv6 { 2 } else { 1 }];
    families.iter().map(|family| restore(&rules, *family)).collect()
}

fn restore(rules: &[Rule], family: Family) -> String {
    let mut text = String::new();
    for table in [Table::Mangle, Table::Nat, Table::Raw] {
        let rules = rules
            .iter()
            .filter(|rule| rule.table == table && (rule.family == Family::Both || rule.family == family));
        let rules: Vec<&Rule> = rules.collect();
        if rules.is_empty() {
            continue;
        }
        text.push_str(&format!("* {}\n", table_name(table)));
        let mut chains = Vec::new();
        for rule in &rules {
            if !chains.contains(&rule.chain) && !is_hook(rule.chain) {
                chains.push(rule.chain);
            }
        }
        for chain in chains {
            text.push_str(&format!("-N {}\n", chain_name(chain)));
        }
        // Insertions come last, as they count on what is there.
        for rule in rules {
            text.push_str(&line(rule));
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn is_hook(chain: Chain) -> bool {
    matches!(chain, Chain::Prerouting | Chain::Output)
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Nat => "nat",
        Table::Mangle => "mangle",
        Table::Raw => "raw",
    }
}

fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Divert => "ISTIO_DIVERT",
        Chain::Tproxy => "ISTIO_TPROXY",
        Chain::Drop => "ISTIO_DROP",
        Chain::Inbound => "ISTIO_INBOUND",
        Chain::Redirect => "ISTIO_REDIRECT",
        Chain::InRedirect => "ISTIO_IN_REDIRECT",
        Chain::IstioOutput => "ISTIO_OUTPUT",
        Chain::OutputDns => "ISTIO_OUTPUT_DNS",
    }
}

fn line(rule: &Rule) -> String {
    let chain = chain_name(rule.chain);
    let mut words = match rule.before {
        Some(before) => vec![format!("-I {chain} {}", before + 1)],
        None => vec![format!("-A {chain}")],
    };
    let mut protocol = None;
    for term in &rule.terms {
        let needed = match term {
            Term::Tcp | Term::TcpPort(_) | Term::NotTcpPort(_) | Term::NotTcpPorts(..) => Some("tcp"),
            Term::UdpPort(_) | Term::UdpSourcePort(_) => Some("udp"),
            _ => None,
        };
        // The protocol is named once, before what depends on it.
        if let Some(name) = needed
            && protocol.is_none()
        {
            protocol = needed;
            words.push(format!("-p {name}"));
        }
        words.extend(spell(term));
    }
    words.push(target(&rule.target, protocol));
    words.join(" ")
}

fn spell(term: &Term) -> Option<String> {
    Some(match term {
        Term::Tcp | Term::TcpForNft => return None,
        Term::From(interface) => format!("-i {interface}"),
        Term::To(interface) => format!("-o {interface}"),
        Term::Source(net) => format!("-s {net}"),
        Term::Destination(net) => format!("-d {net}"),
        Term::NotDestination(net) => format!("! -d {net}"),
        Term::TcpPort(port) | Term::UdpPort(port) => format!("--dport {port}"),
        Term::NotTcpPort(port) => format!("! --dport {port}"),
        Term::NotTcpPorts(one, other) => format!("-m multiport ! --dports {one},{other}"),
        Term::UdpSourcePort(port) => format!("--sport {port}"),
        Term::User(user) => format!("-m owner --uid-owner {user}"),
        Term::NotUser(user) => format!("-m owner ! --uid-owner {user}"),
        Term::Group(group) => format!("-m owner --gid-owner {group}"),
        Term::NotGroup(group) => format!("-m owner ! --gid-owner {group}"),
        Term::Mark(mark) => format!("-m mark --mark {mark}"),
        Term::NotMark(mark) => format!("-m mark ! --mark {mark}"),
        Term::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
        Term::Established => "-m conntrack --ctstate RELATED,ESTABLISHED".into(),
        Term::Invalid => "-m conntrack --ctstate INVALID".into(),
    })
}

fn target(target: &Target, protocol: Option<&str>) -> String {
    match target {
        Target::Return => "-j RETURN".into(),
        Target::Accept => "-j ACCEPT".into(),
        Target::Drop => "-j DROP".into(),
        Target::Jump(chain) => format!("-j {}", chain_name(*chain)),
        Target::Redirect(port) if protocol == Some("udp") => format!("-j REDIRECT --to-port {port}"),
        Target::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Target::Mark(mark) => format!("-j MARK --set-mark {mark}"),
        Target::SaveMark => "-j CONNMARK --save-mark".into(),
        Target::RestoreMark => "-j CONNMARK --restore-mark".into(),
        Target::Tproxy(_, port, mark) => format!("-j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
        Target::Zone(zone) => format!("-j CT --zone {zone}"),
    }
}
