//! The kernel's instructions: what a rule is made of there, to and from netlink attributes.
//!
//! Registers are counted here in units of 4 bytes from 0.

use super::Verdict;
use crate::netlink::{Attribute, Messages, attributes};

/// Keys of `meta` and `ct`.
pub(super) mod meta {
    pub(in super::super) const PRIORITY: u32 = 2;
    pub(in super::super) const MARK: u32 = 3;
    pub(in super::super) const IIFNAME: u32 = 6;
    pub(in super::super) const OIFNAME: u32 = 7;
    pub(in super::super) const SKUID: u32 = 10;
    pub(in super::super) const SKGID: u32 = 11;
    pub(in super::super) const NFPROTO: u32 = 15;
    pub(in super::super) const L4PROTO: u32 = 16;
    pub(in super::super) const CT_STATE: u32 = 0;
    pub(in super::super) const CT_STATUS: u32 = 2;
    pub(in super::super) const CT_MARK: u32 = 3;
    pub(in super::super) const CT_ZONE: u32 = 17;
}

/// Kinds of address translation.
pub(super) mod nat {
    pub(in super::super) const SOURCE: u32 = 0;
    pub(in super::super) const DESTINATION: u32 = 1;
}

/// One instruction of the kernel's rule machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the kernel's operands: `to` and `from` are registers"
)]
pub enum Instruction {
    /// Loads packet bytes; base 1 is the network header, 2 the transport header.
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        to: u32,
    },
    /// Loads a property of the packet.
    Meta { key: u32, to: u32 },
    /// Sets a property of the packet.
    MetaSet { key: u32, from: u32 },
    /// Loads a property of the connection.
    Ct { key: u32, to: u32 },
    /// Sets a property of the connection.
    CtSet { key: u32, from: u32 },
    /// Goes on if the register holds (or does not hold) the value.
    Compare { equal: bool, from: u32, value: Vec<u8> },
    /// `to = (from & mask) ^ xor`
    Bitwise {
        from: u32,
        to: u32,
        length: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Loads a constant.
    Load { to: u32, value: Vec<u8> },
    /// Ends with a verdict.
    Verdict(Verdict),
    /// Looks a key up: membership, a value into `to`, or a verdict.
    Lookup {
        set: String,
        from: u32,
        to: Option<u32>,
        verdict: bool,
        invert: bool,
    },
    /// Adds or renews an element.
    Update { set: String, from: u32, milliseconds: u64 },
    /// Translates an address.
    Nat {
        kind: u32,
        v6: bool,
        address: u32,
        port: Option<u32>,
    },
    /// Translates the source to the outgoing interface's address.
    Masquerade,
    /// Translates the destination to this host.
    Redirect { port: u32 },
    /// Gives the packet to a socket of this host.
    Tproxy { v6: bool, port: u32 },
    /// Counts.
    Counter,
    /// Answers "port unreachable".
    Reject,
    /// A random number.
    Random { modulus: u32, offset: u32, to: u32 },
    /// Jenkins' hash.
    Hash {
        from: u32,
        length: u32,
        modulus: u32,
        seed: u32,
        to: u32,
    },
    /// The kind of the destination address as routing sees it.
    FibType { to: u32 },
    /// Exempts from connection tracking.
    Notrack,
    /// Something this library does not make.
    Other(String),
}

const REGISTER_VERDICT: u32 = 0;
/// The first of sixteen registers of 4 bytes.
const REGISTER_FIRST: u32 = 8;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

fn register(number: u32) -> u32 {
    REGISTER_FIRST + number
}

impl Instruction {
    pub(super) fn equal(from: u32, value: Vec<u8>) -> Instruction {
        Instruction::Compare {
            equal: true,
            from,
            value,
        }
    }

    /// `(register & mask) ^ xor` on a 32-bit value.
    pub(super) fn bits(register: u32, mask: u32, xor: u32) -> Instruction {
        Instruction::Bitwise {
            from: register,
            to: register,
            length: 4,
            mask: mask.to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Instruction::Payload { .. } => "payload",
            Instruction::Meta { .. } | Instruction::MetaSet { .. } => "meta",
            Instruction::Ct { .. } | Instruction::CtSet { .. } => "ct",
            Instruction::Compare { .. } => "cmp",
            Instruction::Bitwise { .. } => "bitwise",
            Instruction::Load { .. } | Instruction::Verdict(_) => "immediate",
            Instruction::Lookup { .. } => "lookup",
            Instruction::Update { .. } => "dynset",
            Instruction::Nat { .. } => "nat",
            Instruction::Masquerade => "masq",
            Instruction::Redirect { .. } => "redir",
            Instruction::Tproxy { .. } => "tproxy",
            Instruction::Counter => "counter",
            Instruction::Reject => "reject",
            Instruction::Random { .. } => "numgen",
            Instruction::Hash { .. } => "hash",
            Instruction::FibType { .. } => "fib",
            Instruction::Notrack => "notrack",
            Instruction::Other(name) => name,
        }
    }

    /// Writes the instruction as an element of a rule's list.
    pub(super) fn encode(&self, m: &mut Messages) {
        m.nest(1, |m| {
            m.string(1, self.name());
            m.nest(2, |m| self.encode_operands(m));
        });
    }

    fn encode_operands(&self, m: &mut Messages) {
        match self {
            Instruction::Payload {
                base,
                offset,
                length,
                to,
            } => {
                numbers(m, &[(1, register(*to)), (2, *base), (3, *offset), (4, *length)]);
            }
            Instruction::Meta { key, to } => numbers(m, &[(1, register(*to)), (2, *key)]),
            Instruction::MetaSet { key, from } => numbers(m, &[(2, *key), (3, register(*from))]),
            Instruction::Ct { key, to } => numbers(m, &[(1, register(*to)), (2, *key)]),
            Instruction::CtSet { key, from } => numbers(m, &[(2, *key), (4, register(*from))]),
            Instruction::Compare { equal, from, value } => {
                numbers(m, &[(1, register(*from)), (2, u32::from(!*equal))]);
                data(m, 3, value);
            }
            Instruction::Bitwise {
                from,
                to,
                length,
                mask,
                xor,
            } => {
                numbers(m, &[(1, register(*from)), (2, register(*to)), (3, *length)]);
                data(m, 4, mask);
                data(m, 5, xor);
            }
            Instruction::Load { to, value } => {
                m.be32(1, register(*to));
                data(m, 2, value);
            }
            Instruction::Verdict(verdict) => {
                m.be32(1, REGISTER_VERDICT);
                m.nest(2, |m| encode_verdict(m, verdict));
            }
            Instruction::Lookup {
                set,
                from,
                to,
                verdict,
                invert,
            } => {
                m.string(1, set);
                m.be32(2, register(*from));
                match to {
                    Some(to) => m.be32(3, register(*to)),
                    None if *verdict => m.be32(3, REGISTER_VERDICT),
                    None => {}
                }
                if *invert {
                    m.be32(5, 1);
                }
            }
            Instruction::Update {
                set,
                from,
                milliseconds,
            } => {
                m.string(1, set);
                numbers(m, &[(3, 1), (4, register(*from))]);
                m.attribute(6, &milliseconds.to_be_bytes());
            }
            Instruction::Nat {
                kind,
                v6,
                address,
                port,
            } => {
                numbers(m, &[(1, *kind), (2, if *v6 { 10 } else { 2 }), (3, register(*address))]);
                if let Some(port) = port {
                    m.be32(5, register(*port));
                }
            }
            Instruction::Redirect { port } => m.be32(1, register(*port)),
            Instruction::Tproxy { v6, port } => {
                numbers(m, &[(1, if *v6 { 10 } else { 2 }), (3, register(*port))]);
            }
            Instruction::Reject => {
                // The kind that fits both families; code 1 is "port unreachable".
                m.be32(1, 2);
                m.attribute(2, &[1]);
            }
            Instruction::Random { modulus, offset, to } => {
                numbers(m, &[(1, register(*to)), (2, *modulus), (3, 1), (4, *offset)]);
            }
            Instruction::Hash {
                from,
                length,
                modulus,
                seed,
                to,
            } => numbers(
                m,
                &[
                    (1, register(*from)),
                    (2, register(*to)),
                    (3, *length),
                    (4, *modulus),
                    (5, *seed),
                    (7, 0),
                ],
            ),
            // The address type of the destination.
            Instruction::FibType { to } => numbers(m, &[(1, register(*to)), (2, 3), (3, 2)]),
            Instruction::Masquerade | Instruction::Counter | Instruction::Notrack | Instruction::Other(_) => {}
        }
    }

    /// Reads an element of a rule's list.
    pub(super) fn decode(element: Attribute<'_>) -> Instruction {
        let name = element
            .nested()
            .find(|a| a.kind == 1)
            .map(Attribute::string)
            .unwrap_or_default();
        let operands = element.nested().find(|a| a.kind == 2).map_or(&[][..], |a| a.value);
        read(&name, operands).unwrap_or(Instruction::Other(name))
    }
}

fn read(name: &str, operands: &[u8]) -> Option<Instruction> {
    let find = |kind| attributes(operands).find(|a| a.kind == kind);
    let number = |kind| find(kind).and_then(Attribute::be32);
    let register = |kind| number(kind).and_then(plain_register);
    let value = |kind| {
        find(kind)
            .and_then(|a| a.nested().find(|a| a.kind == DATA_VALUE))
            .map(|a| a.value.to_vec())
    };
    Some(match name {
        "payload" => Instruction::Payload {
            to: register(1)?,
            base: number(2)?,
            offset: number(3)?,
            length: number(4)?,
        },
        "meta" => match register(3) {
            Some(from) => Instruction::MetaSet { key: number(2)?, from },
            None => Instruction::Meta {
                key: number(2)?,
                to: register(1)?,
            },
        },
        "ct" => match register(4) {
            Some(from) => Instruction::CtSet { key: number(2)?, from },
            None => Instruction::Ct {
                key: number(2)?,
                to: register(1)?,
            },
        },
        "cmp" => Instruction::Compare {
            from: register(1)?,
            equal: match number(2)? {
                0 => true,
                1 => false,
                _ => return None,
            },
            value: value(3)?,
        },
        "bitwise" => Instruction::Bitwise {
            from: register(1)?,
            to: register(2)?,
            length: number(3)?,
            mask: value(4)?,
            xor: value(5)?,
        },
        "immediate" => match register(1) {
            Some(to) => Instruction::Load { to, value: value(2)? },
            None => Instruction::Verdict(decode_verdict(find(2)?)?),
        },
        "lookup" => Instruction::Lookup {
            set: find(1)?.string(),
            from: register(2)?,
            to: register(3),
            verdict: number(3) == Some(REGISTER_VERDICT),
            invert: number(5) == Some(1),
        },
        "dynset" => Instruction::Update {
            set: find(1)?.string(),
            from: register(4)?,
            milliseconds: find(6).and_then(Attribute::be64).unwrap_or_default(),
        },
        "nat" => Instruction::Nat {
            kind: number(1)?,
            v6: number(2)? == 10,
            address: register(3)?,
            port: register(5),
        },
        "redir" => Instruction::Redirect { port: register(1)? },
        // With an address as well it is none of ours.
        "tproxy" if register(2).is_none() => Instruction::Tproxy {
            v6: number(1)? == 10,
            port: register(3)?,
        },
        "masq" => Instruction::Masquerade,
        "counter" => Instruction::Counter,
        "reject" if number(1) == Some(2) && find(2)?.value == [1] => Instruction::Reject,
        "numgen" if number(3) == Some(1) => Instruction::Random {
            to: register(1)?,
            modulus: number(2)?,
            offset: number(4).unwrap_or_default(),
        },
        "hash" if number(7).is_none_or(|kind| kind == 0) => Instruction::Hash {
            from: register(1)?,
            to: register(2)?,
            length: number(3)?,
            modulus: number(4)?,
            seed: number(5).unwrap_or_default(),
        },
        "fib" if number(2) == Some(3) && number(3) == Some(2) => Instruction::FibType { to: register(1)? },
        "notrack" => Instruction::Notrack,
        _ => return None,
    })
}

/// The kernel names a register that begins 16 bytes by a number of its own.
fn plain_register(number: u32) -> Option<u32> {
    match number {
        1..=4 => Some((number - 1) * 4),
        8..=23 => Some(number - REGISTER_FIRST),
        _ => None,
    }
}

fn numbers(m: &mut Messages, values: &[(u16, u32)]) {
    for (kind, value) in values {
        m.be32(*kind, *value);
    }
}

/// A nested constant.
pub(super) fn data(m: &mut Messages, kind: u16, value: &[u8]) {
    m.nest(kind, |m| m.attribute(DATA_VALUE, value));
}

/// A nested verdict, as data.
pub(super) fn encode_verdict(m: &mut Messages, verdict: &Verdict) {
    m.nest(DATA_VERDICT, |m| {
        let (code, chain) = verdict.parts();
        m.be32(1, code.cast_unsigned());
        if let Some(chain) = chain {
            m.string(2, chain);
        }
    });
}

/// Reads data that is a verdict.
pub(super) fn decode_verdict(data: Attribute<'_>) -> Option<Verdict> {
    let verdict = data.nested().find(|a| a.kind == DATA_VERDICT)?;
    let chain = || verdict.nested().find(|a| a.kind == 2).map(Attribute::string);
    let code = verdict.nested().find(|a| a.kind == 1).and_then(Attribute::be32)?;
    Some(match code.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return None,
    })
}
