//! Rules as `nft` would list them, for readers and golden tests.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{
    Base, Chain, ChainKind, Comparison, Data, Element, Expression, Hook, Nat, Operation, Rule, Set, Side, Statement,
    Table, Transaction, Transport, Type, Value, Verdict, ct_state, tcp_flags,
};
use crate::nft::set::DYNAMIC_MAX;

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family.name(), self.name)?;
        let mut first = true;
        for set in &self.sets {
            separate(f, &mut first)?;
            writeln!(f, "\t{} {} {{\n\t\ttype {}", set.word(), set.name, set.types())?;
            if set.dynamic {
                writeln!(f, "\t\tsize {DYNAMIC_MAX}\n\t\tflags dynamic,timeout")?;
            }
            if !set.elements.is_empty() {
                let elements: Vec<String> = set.elements.iter().map(ToString::to_string).collect();
                writeln!(f, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "))?;
            }
            writeln!(f, "\t}}")?;
        }
        for chain in &self.chains {
            separate(f, &mut first)?;
            writeln!(f, "\tchain {} {{", chain.name)?;
            if let Some(base) = chain.base {
                writeln!(f, "\t\t{base}")?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

fn separate(f: &mut Formatter<'_>, first: &mut bool) -> fmt::Result {
    if std::mem::take(first) { Ok(()) } else { writeln!(f) }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type {} hook {} priority {}; policy accept;",
            self.kind.name(),
            self.hook.name(),
            priority(self)
        )
    }
}

/// The name of a well-known priority, with the distance from it.
fn priority(base: &Base) -> String {
    let known: &[(&str, i32)] = match (base.kind, base.hook) {
        (_, Hook::Prerouting) => &[("raw", -300), ("mangle", -150), ("dstnat", -100), ("filter", 0)],
        (_, Hook::Postrouting) => &[("raw", -300), ("mangle", -150), ("filter", 0), ("srcnat", 100)],
        (ChainKind::Nat, Hook::Output) => return base.priority.to_string(),
        _ => &[("raw", -300), ("mangle", -150), ("filter", 0)],
    };
    let near = known.iter().find(|(_, value)| (base.priority - value).abs() <= 10);
    match near {
        Some((name, value)) if base.priority == *value => (*name).to_owned(),
        Some((name, value)) => {
            let distance = base.priority - value;
            format!("{name} {} {}", if distance < 0 { '-' } else { '+' }, distance.abs())
        }
        None => base.priority.to_string(),
    }
}

impl Set {
    fn word(&self) -> &'static str {
        if self.data == Data::None { "set" } else { "map" }
    }

    fn types(&self) -> String {
        let names = |types: &[Type]| types.iter().map(|field| field.name()).collect::<Vec<_>>().join(" . ");
        match &self.data {
            Data::None => names(&self.key),
            Data::Verdict => format!("{} : verdict", names(&self.key)),
            Data::Values(types) => format!("{} : {}", names(&self.key), names(types)),
        }
    }
}

fn joined(values: &[Value]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.key))?;
        if let Some(comment) = &self.comment {
            write!(f, " comment {comment:?}")?;
        }
        if let Some(verdict) = &self.verdict {
            write!(f, " : {verdict}")?;
        } else if !self.values.is_empty() {
            write!(f, " : {}", joined(&self.values))?;
        }
        Ok(())
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::V4(address) => address.fmt(f),
            Value::V6(address) => address.fmt(f),
            Value::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Value::Net(net) => net.fmt(f),
            Value::Protocol(1) => f.write_str("icmp"),
            Value::Protocol(6) => f.write_str("tcp"),
            Value::Protocol(17) => f.write_str("udp"),
            Value::Protocol(132) => f.write_str("sctp"),
            Value::Protocol(number) => number.fmt(f),
            Value::Port(port) => port.fmt(f),
            Value::Number(number) => write!(f, "{number:#010x}"),
            Value::NfProto(2) => f.write_str("ipv4"),
            Value::NfProto(_) => f.write_str("ipv6"),
            Value::Interface(name) => write!(f, "{name:?}"),
            Value::User(id) => id.fmt(f),
            Value::Flags(flags) => f.write_str(&flag_names(*flags)),
            Value::Local => f.write_str("local"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = |side: &Side| if *side == Side::Source { 's' } else { 'd' };
        match self {
            Expression::L4Proto => f.write_str("meta l4proto"),
            Expression::NfProto => f.write_str("meta nfproto"),
            Expression::IifName => f.write_str("iifname"),
            Expression::OifName => f.write_str("oifname"),
            Expression::Mark => f.write_str("meta mark"),
            Expression::SkUid => f.write_str("meta skuid"),
            Expression::SkGid => f.write_str("meta skgid"),
            Expression::Priority => f.write_str("meta priority"),
            Expression::Ip(which) => write!(f, "ip {}addr", side(which)),
            Expression::Ip6(which) => write!(f, "ip6 {}addr", side(which)),
            Expression::Port(transport, which) => {
                let name = match transport {
                    Transport::Any => "th",
                    Transport::Tcp => "tcp",
                    Transport::Udp => "udp",
                };
                write!(f, "{name} {}port", side(which))
            }
            Expression::CtState => f.write_str("ct state"),
            Expression::CtStatus => f.write_str("ct status"),
            Expression::CtMark => f.write_str("ct mark"),
            Expression::FibDestinationType => f.write_str("fib daddr type"),
            Expression::Random { modulus, offset: 0 } => write!(f, "numgen random mod {modulus}"),
            Expression::Random { modulus, offset } => write!(f, "numgen random mod {modulus} offset {offset}"),
            Expression::Hash { of, modulus, seed } => {
                write!(
                    f,
                    "jhash {} mod {modulus} seed {seed:#x}",
                    Expression::Concat(of.clone())
                )
            }
            Expression::Concat(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" . ")?;
                    }
                    part.fmt(f)?;
                }
                Ok(())
            }
            Expression::TcpFlags(mask) => write!(f, "tcp flags & ({})", flag_names(*mask)),
            Expression::Masked(inner, mask) => write!(f, "{inner} & {mask:#010x}"),
        }
    }
}

impl Display for Nat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Nat::To(std::net::IpAddr::V4(address), port) => {
                write!(f, "ip to {address}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Nat::To(std::net::IpAddr::V6(address), Some(port)) => write!(f, "ip6 to [{address}]:{port}"),
            Nat::To(std::net::IpAddr::V6(address), None) => write!(f, "ip6 to {address}"),
            Nat::Map { v6, key, map } => write!(f, "{} to {key} map @{map}", if *v6 { "ip6" } else { "ip" }),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // What keeps `and` and flips `xor` reads best as "& .. | .." when it only sets bits.
        let bits = |f: &mut Formatter<'_>, what: &str, and: u32, xor: u32| {
            write!(f, "{what} set {what}")?;
            let keep = and | (xor & !and);
            if keep != u32::MAX {
                write!(f, " & {keep:#010x}")?;
            }
            if xor & !and != 0 {
                write!(f, " | {:#010x}", xor & !and)?;
            }
            if xor & and != 0 {
                write!(f, " ^ {:#010x}", xor & and)?;
            }
            Ok(())
        };
        match self {
            Statement::Match(Expression::TcpFlags(mask), comparison, right) => {
                let sign = if *comparison == Comparison::NotEqual { "!= " } else { "" };
                write!(f, "tcp flags {sign}{right} / {}", flag_names(*mask))
            }
            Statement::Match(left, comparison, right) => {
                let sign = match (comparison, left) {
                    (Comparison::NotEqual, _) => "!= ",
                    (Comparison::Equal, Expression::Masked(..)) => "== ",
                    (Comparison::Equal, _) => "",
                };
                write!(f, "{left} {sign}{right}")
            }
            Statement::Any(Expression::CtState, bits) => write!(f, "ct state {}", states(*bits)),
            Statement::Any(left, bits) => write!(f, "{left} & {bits:#010x} != 0x00000000"),
            Statement::InSet(left, invert, set) => write!(f, "{left} {}@{set}", if *invert { "!= " } else { "" }),
            Statement::Vmap(key, map) => write!(f, "{key} vmap @{map}"),
            Statement::Verdict(verdict) => verdict.fmt(f),
            Statement::Counter => f.write_str("counter packets 0 bytes 0"),
            Statement::Reject => f.write_str("reject"),
            Statement::Dnat(to) => write!(f, "dnat {to}"),
            Statement::Snat(to) => write!(f, "snat {to}"),
            Statement::Redirect(port) => write!(f, "redirect to :{port}"),
            Statement::Tproxy { v6, port } => write!(f, "tproxy {} to :{port}", if *v6 { "ip6" } else { "ip" }),
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::SetMark { and, xor } => bits(f, "meta mark", *and, *xor),
            Statement::RestoreMark => f.write_str("meta mark set ct mark"),
            Statement::SaveMark => f.write_str("ct mark set meta mark"),
            Statement::SetCtMark { and, xor } => bits(f, "ct mark", *and, *xor),
            Statement::SetCtZone(zone) => write!(f, "ct zone set {zone}"),
            Statement::Notrack => f.write_str("notrack"),
            Statement::Update(key, time, set) => write!(f, "update @{set} {{ {key} timeout {} }}", span(*time)),
        }
    }
}

fn flag_names(bits: u8) -> String {
    let names = [
        (tcp_flags::FIN, "fin"),
        (tcp_flags::SYN, "syn"),
        (tcp_flags::RST, "rst"),
        (tcp_flags::ACK, "ack"),
    ];
    let set = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

fn states(bits: u32) -> String {
    let names = [
        (ct_state::INVALID, "invalid"),
        (ct_state::ESTABLISHED, "established"),
        (ct_state::RELATED, "related"),
        (ct_state::NEW, "new"),
        (ct_state::UNTRACKED, "untracked"),
    ];
    let set = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

/// `3h`, `1m30s`
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [
        (seconds / 86400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() { "0s".into() } else { text }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, statement) in self.statements.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            statement.fmt(f)?;
        }
        self.comment
            .as_ref()
            .map_or(Ok(()), |comment| write!(f, " comment {comment:?}"))
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.base.map_or(Ok(()), |base| write!(f, " {{ {base} }}"))
    }
}

impl Transaction {
    /// One change as a command of `nft`.
    pub fn describe(&self, operation: &Operation) -> String {
        let table = format!("{} {}", self.family.name(), self.table);
        let list = |elements: &[Element]| elements.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let keys = |elements: &[Element]| elements.iter().map(|e| joined(&e.key)).collect::<Vec<_>>().join(", ");
        match operation {
            Operation::AddTable => format!("add table {table}"),
            Operation::DeleteTable => format!("delete table {table}"),
            Operation::AddSet(set) => format!("add {} {table} {} {{ type {}; }}", set.word(), set.name, set.types()),
            Operation::DeleteSet(name) => format!("delete set {table} {name}"),
            Operation::AddChain(chain) => format!("add chain {table} {chain}"),
            Operation::FlushChain(name) => format!("flush chain {table} {name}"),
            Operation::DeleteChain(name) => format!("delete chain {table} {name}"),
            Operation::AddRule(chain, rule) => format!("add rule {table} {chain} {rule}"),
            Operation::AddElements(set, elements) => format!("add element {table} {set} {{ {} }}", list(elements)),
            Operation::DeleteElements(set, elements) => {
                format!("delete element {table} {set} {{ {} }}", keys(elements))
            }
        }
    }
}

impl Display for Transaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.operations
            .iter()
            .try_for_each(|operation| writeln!(f, "{}", self.describe(operation)))
    }
}
