//! The same rules in the words of `iptables-restore`: for kernels and images without nf_tables, and for comparison.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use crate::PodRules;
use crate::constants::{
    DNS_PORT, DNS_ZONE, INBOUND_PORT, MARK_MASK, OUTBOUND_PORT, PROBE_SET_V4, PROBE_SET_V6, PROXY_MARK, REPLY_MARK,
    TUNNEL_PORT,
};

/// The chains of ours that PREROUTING jumps to.
const PREROUTING: &str = "ISTIO_PRERT";
/// The chains of ours that OUTPUT jumps to.
const OUTPUT: &str = "ISTIO_OUTPUT";
const POSTROUTING: &str = "ISTIO_POSTRT";

/// One table of an `iptables-restore` input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// `nat`, `mangle`, `raw`
    pub name: &'static str,
    /// Chains of ours, to be made.
    pub chains: Vec<&'static str>,
    /// Commands in order, as `-A CHAIN ...` or `-I CHAIN N ...`.
    pub rules: Vec<String>,
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "* {}", self.name)?;
        for chain in &self.chains {
            writeln!(f, "-N {chain}")?;
        }
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        writeln!(f, "COMMIT")
    }
}

impl Table {
    /// The commands that take this table's rules away again: jumps first, then the chains' contents, then the chains.
    #[must_use]
    pub fn removal(&self) -> Vec<String> {
        let own = |rule: &str| {
            let chain = rule.split_whitespace().nth(1).unwrap_or_default();
            self.chains.contains(&chain)
        };
        let mut commands = Vec::new();
        for rule in self.rules.iter().filter(|rule| !own(rule)) {
            let rest = match rule.strip_prefix("-I ") {
                // The position is no part of the rule.
                Some(rest) => {
                    let mut words = rest.splitn(3, ' ');
                    let (chain, _, rest) = (words.next(), words.next(), words.next());
                    format!("{} {}", chain.unwrap_or_default(), rest.unwrap_or_default())
                }
                None => rule.trim_start_matches("-A ").to_owned(),
            };
            commands.push(format!("-D {rest}"));
        }
        commands.extend(self.chains.iter().map(|chain| format!("-F {chain}")));
        commands.extend(self.chains.iter().map(|chain| format!("-X {chain}")));
        commands
    }
}

/// An `iptables-restore` input: tables in order.
pub fn restore(tables: &[Table]) -> String {
    tables.iter().map(ToString::to_string).collect()
}

/// The rules of an enrolled pod for `iptables` (or, with `v6`, for `ip6tables`).
pub fn pod(rules: &PodRules, v6: bool) -> Vec<Table> {
    let loopback = if v6 { "::1/128" } else { "127.0.0.1/32" };
    let probe = if v6 {
        rules.probe_source_v6
    } else {
        rules.probe_source_v4
    };
    let from_proxy = format!("-m mark --mark {PROXY_MARK:#x}/{MARK_MASK:#x}");
    let not_from_proxy = format!("-m mark ! --mark {PROXY_MARK:#x}/{MARK_MASK:#x}");
    let reply = format!("--mark {REPLY_MARK:#x}/{MARK_MASK:#x}");
    let mut tables = vec![mangle(&from_proxy, &reply)];

    let mut nat = Table {
        name: "nat",
        chains: vec![PREROUTING, OUTPUT],
        rules: Vec::new(),
    };
    if rules.spare_established {
        for chain in ["OUTPUT", "PREROUTING"] {
            nat.rules.push(format!(
                "-A {chain} -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"
            ));
        }
    }
    nat.rules.push(format!("-A OUTPUT -j {OUTPUT}"));
    nat.rules.push(format!("-A PREROUTING -j {PREROUTING}"));
    let mut inbound = |rule: String| nat.rules.push(format!("-A {PREROUTING} {rule}"));
    for interface in &rules.virtual_interfaces {
        inbound(format!("-i {interface} -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}"));
        inbound(format!("-i {interface} -p tcp -j RETURN"));
    }
    if !rules.inbound_bypass {
        inbound(format!("-s {probe} -p tcp -m tcp -j ACCEPT"));
        inbound(format!(
            "! -d {loopback} -p tcp ! --dport {TUNNEL_PORT} {not_from_proxy} -j REDIRECT --to-ports {INBOUND_PORT}"
        ));
    }
    let mut outbound = |rule: String| nat.rules.push(format!("-A {OUTPUT} {rule}"));
    outbound(format!("-d {probe} -p tcp -m tcp -j ACCEPT"));
    if rules.dns_capture {
        outbound(format!(
            "! -o lo -p udp {not_from_proxy} -m udp --dport 53 -j REDIRECT --to-port {DNS_PORT}"
        ));
        outbound(format!(
            "! -d {loopback} -p tcp --dport 53 {not_from_proxy} -j REDIRECT --to-ports {DNS_PORT}"
        ));
    }
    outbound(format!("-p tcp -m mark {reply} -j ACCEPT"));
    outbound(format!("! -d {loopback} -o lo -j ACCEPT"));
    outbound(format!(
        "! -d {loopback} -p tcp {not_from_proxy} -j REDIRECT --to-ports {OUTBOUND_PORT}"
    ));
    tables.push(nat);

    if rules.dns_capture {
        tables.push(Table {
            name: "raw",
            chains: vec![OUTPUT, PREROUTING],
            rules: vec![
                format!("-A PREROUTING -j {PREROUTING}"),
                format!("-A OUTPUT -j {OUTPUT}"),
                format!("-A {OUTPUT} -p udp {from_proxy} -m udp --dport 53 -j CT --zone {DNS_ZONE}"),
                format!("-A {PREROUTING} -p udp {not_from_proxy} -m udp --sport 53 -j CT --zone {DNS_ZONE}"),
            ],
        });
    }
    tables
}

fn mangle(from_proxy: &str, reply: &str) -> Table {
    Table {
        name: "mangle",
        chains: vec![PREROUTING, OUTPUT],
        rules: vec![
            format!("-A PREROUTING -j {PREROUTING}"),
            format!("-A OUTPUT -j {OUTPUT}"),
            format!("-A {PREROUTING} {from_proxy} -j CONNMARK --set-xmark {REPLY_MARK:#x}/{MARK_MASK:#x}"),
            format!(
                "-A {OUTPUT} -m connmark {reply} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
            ),
        ],
    }
}

/// The jump to the node's rules, as the words after `-C`, `-I` or `-D`.
pub(crate) const HOST_JUMP: &str = "POSTROUTING -j ISTIO_POSTRT";

/// The rules of the node for these pods, as an `iptables-restore` input that replaces those that are there at once. A rule for each pod takes
/// the place of a set, for which another program would be needed.
pub(crate) fn host_by_address<'a>(
    rules: &crate::HostRules,
    v6: bool,
    pods: impl Iterator<Item = &'a IpAddr>,
) -> String {
    let source = if v6 {
        rules.probe_source_v6
    } else {
        rules.probe_source_v4
    };
    let owner = owner(rules);
    let mut text = format!("*nat\n:{POSTROUTING} - [0:0]\n");
    for pod in pods.filter(|pod| pod.is_ipv6() == v6) {
        text.push_str(&format!(
            "-A {POSTROUTING} -d {pod} -p tcp -m owner {owner} -j SNAT --to-source {source}\n"
        ));
    }
    text.push_str("COMMIT\n");
    text
}

fn owner(rules: &crate::HostRules) -> String {
    let any = || "--socket-exists".to_owned();
    rules.user.map_or_else(any, |user| format!("--uid-owner {user}"))
}

/// The rules of the node for `iptables` (or, with `v6`, for `ip6tables`); the sets are `ipset`'s.
pub fn host(rules: &crate::HostRules, v6: bool) -> Table {
    let (set, source) = if v6 {
        (PROBE_SET_V6, rules.probe_source_v6)
    } else {
        (PROBE_SET_V4, rules.probe_source_v4)
    };
    let owner = owner(rules);
    Table {
        name: "nat",
        chains: vec![POSTROUTING],
        rules: vec![
            format!("-I POSTROUTING 1 -j {POSTROUTING}"),
            format!(
                "-A {POSTROUTING} -m owner {owner} -p tcp -m set --match-set {set} dst -j SNAT --to-source {source}"
            ),
        ],
    }
}
