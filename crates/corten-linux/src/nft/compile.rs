//! From statements to the kernel's instructions over registers.

use super::instruction::{Instruction, meta, nat};
use super::{Comparison, Expression, Family, Nat, Rule, Side, Statement, Transport, Value, Verdict};

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The bytes of a value, without padding.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::V4(address) => address.octets().to_vec(),
        Value::V6(address) => address.octets().to_vec(),
        Value::Net(ipnet::IpNet::V4(net)) => net.network().octets().to_vec(),
        Value::Net(ipnet::IpNet::V6(net)) => net.network().octets().to_vec(),
        Value::Protocol(number) | Value::NfProto(number) | Value::Flags(number) => vec![*number],
        Value::Port(port) => port.to_be_bytes().to_vec(),
        Value::Number(number) | Value::User(number) => number.to_ne_bytes().to_vec(),
        Value::Interface(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
        // RTN_LOCAL
        Value::Local => 2u32.to_ne_bytes().to_vec(),
    }
}

/// The bytes of a key or data: a single field as it is, several each padded to whole registers.
pub(super) fn fields(values: &[Value]) -> Vec<u8> {
    match values {
        [one] => bytes(one),
        many => {
            let mut all = Vec::new();
            for value in many {
                all.extend(bytes(value));
                all.resize(all.len().next_multiple_of(4), 0);
            }
            all
        }
    }
}

/// What the rule has established about the packet so far, so that nothing is tested twice.
struct Compiler {
    family: Family,
    network: Option<u8>,
    transport: Option<u8>,
    out: Vec<Instruction>,
}

/// The instructions of a rule.
///
/// A match on an IPv4 header in an `inet` table, or on a TCP port, is preceded by the test for the protocol, as `nft` does it.
pub(super) fn rule(family: Family, rule: &Rule) -> Vec<Instruction> {
    let network = match family {
        Family::Inet => None,
        Family::Ip => Some(IPV4),
        Family::Ip6 => Some(IPV6),
    };
    let mut compiler = Compiler {
        family,
        network,
        transport: None,
        out: Vec::new(),
    };
    for statement in &rule.statements {
        compiler.statement(statement);
    }
    compiler.out
}

impl Compiler {
    /// Loads the expression into registers from `register` on (counted in 4 bytes) and returns its length in bytes.
    fn load(&mut self, expression: &Expression, register: u32) -> u32 {
        let meta_load = |key, bytes| (Instruction::Meta { key, to: register }, bytes);
        let ct_load = |key| (Instruction::Ct { key, to: register }, 4);
        let (instruction, length) = match expression {
            Expression::L4Proto => meta_load(meta::L4PROTO, 1),
            Expression::NfProto => meta_load(meta::NFPROTO, 1),
            Expression::IifName => meta_load(meta::IIFNAME, 16),
            Expression::OifName => meta_load(meta::OIFNAME, 16),
            Expression::Mark => meta_load(meta::MARK, 4),
            Expression::SkUid => meta_load(meta::SKUID, 4),
            Expression::SkGid => meta_load(meta::SKGID, 4),
            Expression::Priority => meta_load(meta::PRIORITY, 4),
            Expression::CtState => ct_load(meta::CT_STATE),
            Expression::CtStatus => ct_load(meta::CT_STATUS),
            Expression::CtMark => ct_load(meta::CT_MARK),
            Expression::Ip(side) => {
                self.need_network(IPV4);
                let offset = if *side == Side::Source { 12 } else { 16 };
                (
                    Instruction::Payload {
                        base: 1,
                        offset,
                        length: 4,
                        to: register,
                    },
                    4,
                )
            }
            Expression::Ip6(side) => {
                self.need_network(IPV6);
                let offset = if *side == Side::Source { 8 } else { 24 };
                (
                    Instruction::Payload {
                        base: 1,
                        offset,
                        length: 16,
                        to: register,
                    },
                    16,
                )
            }
            Expression::Port(transport, side) => {
                match transport {
                    Transport::Any => {}
                    Transport::Tcp => self.need_transport(TCP),
                    Transport::Udp => self.need_transport(UDP),
                }
                let offset = if *side == Side::Source { 0 } else { 2 };
                (
                    Instruction::Payload {
                        base: 2,
                        offset,
                        length: 2,
                        to: register,
                    },
                    2,
                )
            }
            Expression::FibDestinationType => (Instruction::FibType { to: register }, 4),
            Expression::Random { modulus, offset } => (
                Instruction::Random {
                    modulus: *modulus,
                    offset: *offset,
                    to: register,
                },
                4,
            ),
            Expression::Hash { of, modulus, seed } => {
                // The hash reads its input from the registers after its result.
                let length = self.concat(of, register + 1);
                let hash = Instruction::Hash {
                    from: register + 1,
                    length,
                    modulus: *modulus,
                    seed: *seed,
                    to: register,
                };
                (hash, 4)
            }
            Expression::Concat(parts) => return self.concat(parts, register),
            Expression::TcpFlags(mask) => {
                self.need_transport(TCP);
                self.out.push(Instruction::Payload {
                    base: 2,
                    offset: 13,
                    length: 1,
                    to: register,
                });
                let mask = Instruction::Bitwise {
                    from: register,
                    to: register,
                    length: 1,
                    mask: vec![*mask],
                    xor: vec![0],
                };
                (mask, 1)
            }
            Expression::Masked(inner, mask) => {
                self.load(inner, register);
                (Instruction::bits(register, *mask, 0), 4)
            }
        };
        self.out.push(instruction);
        length
    }

    fn concat(&mut self, parts: &[Expression], register: u32) -> u32 {
        if let [one] = parts {
            return self.load(one, register);
        }
        // Tests for protocols come first: in between they would overwrite what is loaded.
        for part in parts {
            match part {
                Expression::Ip(_) => self.need_network(IPV4),
                Expression::Ip6(_) => self.need_network(IPV6),
                Expression::Port(Transport::Tcp, _) => self.need_transport(TCP),
                Expression::Port(Transport::Udp, _) => self.need_transport(UDP),
                _ => {}
            }
        }
        parts.iter().fold(0, |length, part| {
            length + self.load(part, register + length / 4).next_multiple_of(4)
        })
    }

    fn need_network(&mut self, protocol: u8) {
        if self.family == Family::Inet && self.network != Some(protocol) {
            self.network = Some(protocol);
            self.out.push(Instruction::Meta {
                key: meta::NFPROTO,
                to: 0,
            });
            self.out.push(Instruction::equal(0, vec![protocol]));
        }
    }

    fn need_transport(&mut self, protocol: u8) {
        if self.transport != Some(protocol) {
            self.transport = Some(protocol);
            self.out.push(Instruction::Meta {
                key: meta::L4PROTO,
                to: 0,
            });
            self.out.push(Instruction::equal(0, vec![protocol]));
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(left, comparison, right) => self.compare(left, *comparison, right),
            Statement::Any(left, bits) => {
                self.load(left, 0);
                self.out.push(Instruction::bits(0, *bits, 0));
                self.out.push(Instruction::Compare {
                    equal: false,
                    from: 0,
                    value: vec![0; 4],
                });
            }
            Statement::InSet(left, invert, set) => {
                self.load(left, 0);
                self.out.push(Instruction::Lookup {
                    set: set.clone(),
                    from: 0,
                    to: None,
                    verdict: false,
                    invert: *invert,
                });
            }
            Statement::Vmap(key, map) => {
                self.load(key, 0);
                self.out.push(Instruction::Lookup {
                    set: map.clone(),
                    from: 0,
                    to: None,
                    verdict: true,
                    invert: false,
                });
            }
            Statement::Verdict(verdict) => self.out.push(Instruction::Verdict(verdict.clone())),
            Statement::Counter => self.out.push(Instruction::Counter),
            Statement::Reject => self.out.push(Instruction::Reject),
            Statement::Dnat(to) => self.nat(nat::DESTINATION, to),
            Statement::Snat(to) => self.nat(nat::SOURCE, to),
            Statement::Redirect(port) => {
                self.out.push(Instruction::Load {
                    to: 0,
                    value: port.to_be_bytes().to_vec(),
                });
                self.out.push(Instruction::Redirect { port: 0 });
            }
            Statement::Tproxy { v6, port } => {
                self.need_network(if *v6 { IPV6 } else { IPV4 });
                self.out.push(Instruction::Load {
                    to: 0,
                    value: port.to_be_bytes().to_vec(),
                });
                self.out.push(Instruction::Tproxy { v6: *v6, port: 0 });
            }
            Statement::Masquerade => self.out.push(Instruction::Masquerade),
            Statement::SetMark { and, xor } => {
                self.out.push(Instruction::Meta { key: meta::MARK, to: 0 });
                self.out.push(Instruction::bits(0, *and, *xor));
                self.out.push(Instruction::MetaSet {
                    key: meta::MARK,
                    from: 0,
                });
            }
            Statement::RestoreMark => {
                self.out.push(Instruction::Ct {
                    key: meta::CT_MARK,
                    to: 0,
                });
                self.out.push(Instruction::MetaSet {
                    key: meta::MARK,
                    from: 0,
                });
            }
            Statement::SaveMark => {
                self.out.push(Instruction::Meta { key: meta::MARK, to: 0 });
                self.out.push(Instruction::CtSet {
                    key: meta::CT_MARK,
                    from: 0,
                });
            }
            Statement::SetCtMark { and, xor } => {
                self.out.push(Instruction::Ct {
                    key: meta::CT_MARK,
                    to: 0,
                });
                self.out.push(Instruction::bits(0, *and, *xor));
                self.out.push(Instruction::CtSet {
                    key: meta::CT_MARK,
                    from: 0,
                });
            }
            Statement::SetCtZone(zone) => {
                self.out.push(Instruction::Load {
                    to: 0,
                    value: zone.to_ne_bytes().to_vec(),
                });
                self.out.push(Instruction::CtSet {
                    key: meta::CT_ZONE,
                    from: 0,
                });
            }
            Statement::Notrack => self.out.push(Instruction::Notrack),
            Statement::Update(key, time, set) => {
                self.load(key, 0);
                let milliseconds = super::set::milliseconds(*time);
                self.out.push(Instruction::Update {
                    set: set.clone(),
                    from: 0,
                    milliseconds,
                });
            }
        }
    }

    fn compare(&mut self, left: &Expression, comparison: Comparison, right: &Value) {
        let length = self.load(left, 0);
        let equal = comparison == Comparison::Equal;
        if let Value::Net(net) = right
            && net.prefix_len() < net.max_prefix_len()
        {
            let mask = match net {
                ipnet::IpNet::V4(net) => net.netmask().octets().to_vec(),
                ipnet::IpNet::V6(net) => net.netmask().octets().to_vec(),
            };
            let xor = vec![0; mask.len()];
            self.out.push(Instruction::Bitwise {
                from: 0,
                to: 0,
                length,
                mask,
                xor,
            });
        }
        self.out.push(Instruction::Compare {
            equal,
            from: 0,
            value: bytes(right),
        });
        match (left, right) {
            (Expression::L4Proto, Value::Protocol(protocol)) if equal => self.transport = Some(*protocol),
            (Expression::NfProto, Value::NfProto(protocol)) if equal => self.network = Some(*protocol),
            _ => {}
        }
    }

    /// Needs no test of the family: the instruction leaves packets of the other one alone.
    fn nat(&mut self, kind: u32, to: &Nat) {
        let (v6, port) = match to {
            Nat::To(address, port) => {
                let value = match address {
                    std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                    std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let after = u32::from(address.is_ipv6()) * 3 + 1;
                self.out.push(Instruction::Load { to: 0, value });
                if let Some(port) = port {
                    self.out.push(Instruction::Load {
                        to: after,
                        value: port.to_be_bytes().to_vec(),
                    });
                }
                (address.is_ipv6(), port.map(|_| after))
            }
            Nat::Map { v6, key, map } => {
                self.load(key, 0);
                self.out.push(Instruction::Lookup {
                    set: map.clone(),
                    from: 0,
                    to: Some(0),
                    verdict: false,
                    invert: false,
                });
                (*v6, Some(if *v6 { 4 } else { 1 }))
            }
        };
        self.out.push(Instruction::Nat {
            kind,
            v6,
            address: 0,
            port,
        });
    }
}

impl Verdict {
    /// The verdict as comparable bytes: code, then the chain's name.
    pub(super) fn image(&self) -> Vec<u8> {
        let (code, chain) = self.parts();
        [&code.to_be_bytes(), chain.unwrap_or_default().as_bytes()].concat()
    }

    /// The kernel's number and the chain's name.
    pub(super) fn parts(&self) -> (i32, Option<&str>) {
        match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        }
    }
}
