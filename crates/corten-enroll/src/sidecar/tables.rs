//! A sidecar's rules as tables of the kernel.

use corten_linux::nft::{
    Base, Chain as KernelChain, ChainKind, Expression, Family as KernelFamily, Hook, Rule as KernelRule, Side,
    Statement, Table as KernelTable, Transport, Value, Verdict, ct_state,
};
use ipnet::IpNet;

use super::nftables::{chain_name, chains, table_name};
use super::program::program;
use super::rule::{Chain, Family, Rule, Table, Target, Term};
use super::{Settings, SettingsError};

/// What the proxy's sockets ask for where its user cannot be told from the others': a priority that nobody needs a power for, and that
/// no type of service stands for, so that no other program has it by chance.
pub const PROXY_PRIORITY: u32 = 5;

/// How the proxy's connections are told from the pod's other ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMark {
    /// By its user and group.
    Owner,
    /// By [`PROXY_PRIORITY`]: in a namespace of users that has only one, everybody's sockets belong to that one.
    Priority,
}

/// The tables that the settings make; both families in each.
///
/// # Errors
///
/// A user or group is given by another thing than its number.
pub fn tables(settings: &Settings, mark: ProxyMark) -> Result<Vec<KernelTable>, SettingsError> {
    let rules = program(settings);
    let mut made = Vec::new();
    for table in [Table::Nat, Table::Mangle, Table::Raw] {
        let of_table = |rule: &&Rule| rule.table == table && (rule.family != Family::V6 || settings.ipv6);
        let rules: Vec<&Rule> = rules.iter().filter(of_table).collect();
        if rules.is_empty() {
            continue;
        }
        let mut kernel = Vec::new();
        let used = |chain: &&Chain| rules.iter().any(|rule| rule.chain == **chain);
        for chain in chains(table).iter().filter(used) {
            let mut in_order = Vec::new();
            for rule in rules.iter().filter(|rule| rule.chain == *chain) {
                if let Some(rule_of_kernel) = kernel_rule(rule, mark)? {
                    let place = rule.before.unwrap_or(in_order.len()).min(in_order.len());
                    in_order.insert(place, rule_of_kernel);
                }
            }
            kernel.push(KernelChain {
                name: chain_name(*chain).to_owned(),
                base: base(table, *chain),
                rules: in_order,
            });
        }
        made.push(KernelTable {
            family: KernelFamily::Inet,
            name: table_name(table).to_owned(),
            sets: Vec::new(),
            chains: kernel,
        });
    }
    Ok(made)
}

fn base(table: Table, chain: Chain) -> Option<Base> {
    let (kind, hook, priority) = match (table, chain) {
        (Table::Nat, Chain::Prerouting) => (ChainKind::Nat, Hook::Prerouting, -100),
        (Table::Nat, Chain::Output) => (ChainKind::Nat, Hook::Output, -100),
        (Table::Mangle, Chain::Prerouting) => (ChainKind::Filter, Hook::Prerouting, -150),
        // This kind routes again when the mark changed.
        (Table::Mangle, Chain::Output) => (ChainKind::Route, Hook::Output, -150),
        (Table::Raw, Chain::Prerouting) => (ChainKind::Filter, Hook::Prerouting, -300),
        (Table::Raw, Chain::Output) => (ChainKind::Filter, Hook::Output, -300),
        _ => return None,
    };
    Some(Base { kind, hook, priority })
}

/// The rule; `None`: it tells owners apart by what cannot be told apart here, and another rule says the same.
fn kernel_rule(rule: &Rule, mark: ProxyMark) -> Result<Option<KernelRule>, SettingsError> {
    let mut statements = Vec::new();
    for term in &rule.terms {
        match (term, mark) {
            // Each rule for a group stands beside one for a user.
            (Term::Group(_) | Term::NotGroup(_), ProxyMark::Priority) => return Ok(None),
            (Term::User(_), ProxyMark::Priority) => {
                statements.push(Statement::is(Expression::Priority, Value::User(PROXY_PRIORITY)));
            }
            (Term::NotUser(_), ProxyMark::Priority) => {
                statements.push(Statement::is_not(Expression::Priority, Value::User(PROXY_PRIORITY)));
            }
            _ => term_statements(term, &mut statements)?,
        }
    }
    target_statements(&rule.target, &mut statements);
    Ok(Some(KernelRule::new(statements)))
}

fn id(what: &'static str, text: &str) -> Result<Value, SettingsError> {
    let number = text.parse().map_err(|_| SettingsError {
        value: text.to_owned(),
        what,
        expected: "a number",
    });
    number.map(Value::User)
}

fn address(side: Side, net: IpNet) -> (Expression, Value) {
    match net {
        IpNet::V4(_) => (Expression::Ip(side), Value::Net(net)),
        IpNet::V6(_) => (Expression::Ip6(side), Value::Net(net)),
    }
}

fn term_statements(term: &Term, into: &mut Vec<Statement>) -> Result<(), SettingsError> {
    let port = |transport, side| Expression::Port(transport, side);
    let tcp_port = || port(Transport::Tcp, Side::Destination);
    let interface = |name: &str| Value::Interface(name.to_owned());
    let single = match term {
        Term::Tcp | Term::TcpForNft => Statement::is(Expression::L4Proto, Value::Protocol(6)),
        Term::From(name) => Statement::is(Expression::IifName, interface(name)),
        Term::To(name) => Statement::is(Expression::OifName, interface(name)),
        Term::Source(net) => {
            let (left, right) = address(Side::Source, *net);
            Statement::is(left, right)
        }
        Term::Destination(net) => {
            let (left, right) = address(Side::Destination, *net);
            Statement::is(left, right)
        }
        Term::NotDestination(net) => {
            let (left, right) = address(Side::Destination, *net);
            Statement::is_not(left, right)
        }
        Term::TcpPort(number) => Statement::is(tcp_port(), Value::Port(*number)),
        Term::NotTcpPort(number) => Statement::is_not(tcp_port(), Value::Port(*number)),
        Term::NotTcpPorts(one, other) => {
            into.push(Statement::is_not(tcp_port(), Value::Port(*one)));
            Statement::is_not(tcp_port(), Value::Port(*other))
        }
        Term::UdpPort(number) => Statement::is(port(Transport::Udp, Side::Destination), Value::Port(*number)),
        Term::UdpSourcePort(number) => Statement::is(port(Transport::Udp, Side::Source), Value::Port(*number)),
        Term::User(user) => Statement::is(Expression::SkUid, id("user", user)?),
        Term::NotUser(user) => Statement::is_not(Expression::SkUid, id("user", user)?),
        Term::Group(group) => Statement::is(Expression::SkGid, id("group", group)?),
        Term::NotGroup(group) => Statement::is_not(Expression::SkGid, id("group", group)?),
        Term::Mark(mark) => Statement::is(Expression::Mark, Value::Number(*mark)),
        Term::NotMark(mark) => Statement::is_not(Expression::Mark, Value::Number(*mark)),
        Term::ConnectionMark(mark) => Statement::is(Expression::CtMark, Value::Number(*mark)),
        Term::Established => Statement::Any(Expression::CtState, ct_state::RELATED | ct_state::ESTABLISHED),
        Term::Invalid => Statement::Any(Expression::CtState, ct_state::INVALID),
    };
    into.push(single);
    Ok(())
}

fn target_statements(target: &Target, into: &mut Vec<Statement>) {
    let set_mark = |mark: u32| Statement::SetMark { and: 0, xor: mark };
    if let Target::Tproxy(family, port, mark) = target {
        into.extend([
            Statement::Tproxy {
                v6: family.is_ipv6(),
                port: *port,
            },
            set_mark(*mark),
            Statement::Counter,
            Statement::accept(),
        ]);
        return;
    }
    into.push(Statement::Counter);
    into.push(match target {
        Target::Return => Statement::Verdict(Verdict::Return),
        Target::Accept | Target::Tproxy(..) => Statement::accept(),
        Target::Drop => Statement::Verdict(Verdict::Drop),
        Target::Jump(chain) => Statement::jump(chain_name(*chain)),
        Target::Redirect(port) => Statement::Redirect(*port),
        Target::Mark(mark) => set_mark(*mark),
        Target::SaveMark => Statement::SaveMark,
        Target::RestoreMark => Statement::RestoreMark,
        Target::Zone(zone) => Statement::SetCtZone(*zone),
    });
}
