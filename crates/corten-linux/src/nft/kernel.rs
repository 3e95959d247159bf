//! Carrying transactions to the kernel, and images back.

use std::collections::BTreeSet;
use std::io;

use super::set::{DYNAMIC_MAX, concatenated};
use super::{Data, Element, Family, Image, ImageChain, ImageSet, Instruction, Operation, Rule, Set, Transaction};
use super::{compile, instruction};
use crate::netlink::{Attribute, Messages, NetlinkError, Reply, Socket, attributes};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const GET_SET: u16 = 10;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
const NEW_GENERATION: u16 = 15;
const GET_GENERATION: u16 = 16;

/// A set that keeps changing is not waited for longer than for so many listings.
const LISTINGS_MAX: usize = 20;

/// Elements as the kernel lists them: key, data, comment.
type Elements = BTreeSet<(Vec<u8>, Vec<u8>, Option<String>)>;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const MESSAGE_ERROR: u16 = 2;

const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
/// The kernel's type for verdicts as data.
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// A list attribute's length has 16 bits; an element has at most some 300 bytes.
const ELEMENTS_BYTES_MAX: usize = 32 * 1024;

/// A conversation with the nf_tables of one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens one for the calling thread's namespace. Use [`NetNs::run`](crate::NetNs::run) around this for another.
    pub fn open() -> io::Result<Nft> {
        Ok(Nft {
            socket: Socket::open(Some(rustix::net::netlink::NETFILTER))?,
        })
    }

    /// Makes all changes, or none.
    ///
    /// One send holds them all, which bounds their size (some 400 KB where the caller is not the machine's root): beyond,
    /// the error [is_too_large](NetlinkError::is_too_large); see [`apply_in_parts`](Self::apply_in_parts).
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), NetlinkError> {
        let (mut batch, operations) = encode(transaction, &transaction.operations);
        self.commit(transaction, &mut batch, &operations)
    }

    /// Makes all changes of all transactions, or none.
    pub fn apply_all(&mut self, transactions: &[Transaction]) -> Result<(), NetlinkError> {
        let Some(first) = transactions.first() else {
            return Ok(());
        };
        let (mut batch, described) = encode_all(transactions.iter().map(|t| (t, &t.operations[..])));
        self.commit(first, &mut batch, &described)
    }

    /// Makes the changes in order, in as few atomic steps as fit; an error leaves the steps before it done.
    ///
    /// For filling a table whose every prefix of operations makes sense.
    pub fn apply_in_parts(&mut self, transaction: &Transaction) -> Result<(), NetlinkError> {
        let budget = self.socket.send_max() / 2;
        let mut rest = split_elements(&transaction.operations);
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|operation| {
                let mut alone = Messages::new();
                encode_operation(&mut alone, transaction, operation, 0);
                size += alone.len();
                size <= budget
            });
            let count = fits.count().max(1);
            let part: Vec<Operation> = rest.drain(..count).collect();
            let (mut batch, operations) = encode(transaction, &part);
            self.commit(transaction, &mut batch, &operations)?;
        }
        Ok(())
    }

    /// Sends a batch. The kernel handles it before `send` returns, so its answers are all there then: one for each message that
    /// failed, and one for the last change, which asks for it.
    fn commit(
        &mut self,
        transaction: &Transaction,
        batch: &mut Messages,
        operations: &[String],
    ) -> Result<(), NetlinkError> {
        let error = |action: String, source, detail| NetlinkError { action, source, detail };
        let whole = || format!("change nftables table {}", transaction.table);
        let count = u32::try_from(batch.count()).unwrap_or(u32::MAX);
        let first = self.socket.send(batch).map_err(|source| error(whole(), source, None))?;
        let mut failed = None;
        while self.socket.is_readable() {
            self.socket
                .receive(&mut |kind, flags, sequence, body| {
                    let index = sequence.wrapping_sub(first);
                    if kind != MESSAGE_ERROR || index >= count || failed.is_some() {
                        return;
                    }
                    if let Err((source, detail)) = crate::netlink::error_of(flags, body) {
                        // The batch's own messages surround the changes.
                        let what = (index as usize).checked_sub(1).and_then(|index| operations.get(index));
                        failed = Some((what.cloned().unwrap_or_else(whole), source, detail));
                    }
                })
                .map_err(|source| error(whole(), source, None))?;
        }
        failed.map_or(Ok(()), |(action, source, detail)| Err(error(action, source, detail)))
    }

    /// How many times the namespace's rules have changed, whoever did it: as long as it is the same, nothing needs to be read back.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        let mut messages = Messages::new();
        messages.message(SUBSYSTEM << 8 | GET_GENERATION, REQUEST | ACK, |m| m.raw(&[0; 4]));
        let replies = self
            .socket
            .replies(&mut messages, || "ask for the generation of nftables".into())?;
        let reply = replies
            .iter()
            .find(|reply| reply.kind == SUBSYSTEM << 8 | NEW_GENERATION);
        let id = reply.and_then(|reply| attributes(reply.body.get(4..)?).find(|a| a.kind == 1)?.be32());
        Ok(id.unwrap_or_default())
    }

    /// What the kernel holds under this name; `None` if there is no such table.
    pub fn image(&mut self, family: Family, table: &str) -> Result<Option<Image>, NetlinkError> {
        let mut image = Image::default();
        let chains = self.dump(family, GET_CHAIN, "list chains", |_| {})?;
        for (name, chain) in chains.iter().filter_map(|reply| read_chain(&reply.body, table)) {
            image.chains.insert(name, chain);
        }
        for reply in self.dump(family, GET_RULE, "list rules", |m| m.string(1, table))? {
            if let Some((chain, instructions, comment)) = read_rule(&reply.body, table) {
                image
                    .chains
                    .entry(chain)
                    .or_default()
                    .rules
                    .push((instructions, comment));
            }
        }
        let sets = match self.dump(family, GET_SET, "list sets", |m| m.string(1, table)) {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result?,
        };
        for reply in sets {
            let Some((name, mut set)) = read_set(&reply.body) else {
                continue;
            };
            if !set.dynamic {
                set.elements = self.elements(family, table, &name)?;
            }
            image.sets.insert(name, set);
        }
        Ok(Some(image))
    }

    /// The elements of a set.
    ///
    /// For a while after many were added the kernel moves them to a larger table, and a listing misses some; so the set is listed until two
    /// listings say the same.
    fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Elements, NetlinkError> {
        let mut last = Elements::new();
        for _ in 0..LISTINGS_MAX {
            let replies = self.dump(family, GET_ELEMENT, "list elements", |m| {
                m.string(1, table);
                m.string(2, set);
            })?;
            let mut now = Elements::new();
            for reply in replies {
                read_elements(&reply.body, &mut now);
            }
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    fn dump(
        &mut self,
        family: Family,
        kind: u16,
        action: &str,
        body: impl FnOnce(&mut Messages),
    ) -> Result<Vec<Reply>, NetlinkError> {
        let mut messages = Messages::new();
        messages.message(SUBSYSTEM << 8 | kind, REQUEST | DUMP, |m| {
            m.raw(&[family.number(), 0, 0, 0]);
            body(m);
        });
        let replies = self.socket.replies(&mut messages, || format!("{action} of nftables"))?;
        Ok(replies
            .into_iter()
            .filter(|reply| reply.kind >> 8 == SUBSYSTEM)
            .collect())
    }
}

/// Long element lists as several operations.
fn split_elements(operations: &[Operation]) -> Vec<Operation> {
    let mut all = Vec::with_capacity(operations.len());
    for operation in operations {
        match operation {
            Operation::AddElements(set, elements) => {
                all.extend(
                    elements
                        .chunks(100)
                        .map(|chunk| Operation::AddElements(set.clone(), chunk.to_vec())),
                );
            }
            Operation::DeleteElements(set, elements) => {
                all.extend(
                    elements
                        .chunks(100)
                        .map(|chunk| Operation::DeleteElements(set.clone(), chunk.to_vec())),
                );
            }
            other => all.push(other.clone()),
        }
    }
    all
}

/// The batch, and what each message between its ends does (for errors).
fn encode(transaction: &Transaction, operations: &[Operation]) -> (Messages, Vec<String>) {
    encode_all(std::iter::once((transaction, operations)))
}

/// A batch with the operations of several tables, and what each of its messages does.
fn encode_all<'a>(parts: impl Iterator<Item = (&'a Transaction, &'a [Operation])>) -> (Messages, Vec<String>) {
    let mut batch = Messages::new();
    let mut names = Vec::new();
    let fence = |m: &mut Messages| m.raw(&[0, 0, 0, 10]);
    batch.message(BATCH_BEGIN, REQUEST, fence);
    let mut all = parts
        .flat_map(|(transaction, operations)| operations.iter().map(move |operation| (transaction, operation)))
        .peekable();
    while let Some((transaction, operation)) = all.next() {
        let last = if all.peek().is_none() { ACK } else { 0 };
        encode_operation(&mut batch, transaction, operation, last);
        while names.len() + 1 < batch.count() {
            names.push(transaction.describe(operation));
        }
    }
    batch.message(BATCH_END, REQUEST, fence);
    (batch, names)
}

fn encode_operation(batch: &mut Messages, transaction: &Transaction, operation: &Operation, flags: u16) {
    let family = transaction.family;
    let table = transaction.table.as_str();
    let mut message = |kind: u16, more: u16, body: &dyn Fn(&mut Messages)| {
        batch.message(SUBSYSTEM << 8 | kind, REQUEST | flags | more, |m| {
            m.raw(&[family.number(), 0, 0, 0]);
            m.string(1, table);
            body(m);
        });
    };
    match operation {
        Operation::AddTable => message(NEW_TABLE, CREATE, &|m| m.be32(2, 0)),
        Operation::DeleteTable => message(DELETE_TABLE, 0, &|_| {}),
        Operation::AddSet(set) => message(NEW_SET, CREATE, &|m| encode_set(m, set)),
        Operation::DeleteSet(name) => message(DELETE_SET, 0, &|m| m.string(2, name)),
        Operation::AddChain(chain) => message(NEW_CHAIN, CREATE, &|m| {
            m.string(3, &chain.name);
            if let Some(base) = chain.base {
                m.nest(4, |m| {
                    m.be32(1, base.hook.number());
                    m.be32(2, base.priority.cast_unsigned());
                });
                m.be32(5, 1);
                m.string(7, base.kind.name());
            }
        }),
        Operation::FlushChain(name) => message(DELETE_RULE, 0, &|m| m.string(2, name)),
        Operation::DeleteChain(name) => message(DELETE_CHAIN, 0, &|m| m.string(3, name)),
        Operation::AddRule(chain, rule) => message(NEW_RULE, CREATE | APPEND, &|m| encode_rule(m, family, chain, rule)),
        Operation::AddElements(set, elements) => {
            for chunk in chunks(elements) {
                message(NEW_ELEMENT, CREATE, &|m| encode_elements(m, set, chunk, true));
            }
        }
        Operation::DeleteElements(set, elements) => {
            for chunk in chunks(elements) {
                message(DELETE_ELEMENT, 0, &|m| encode_elements(m, set, chunk, false));
            }
        }
    }
}

fn chunks(elements: &[Element]) -> std::slice::Chunks<'_, Element> {
    elements.chunks(ELEMENTS_BYTES_MAX / 320)
}

fn encode_set(m: &mut Messages, set: &Set) {
    let (key_type, key_bytes) = concatenated(&set.key);
    let map = if set.data == Data::None { 0 } else { SET_MAP };
    let dynamic = if set.dynamic { SET_TIMEOUT | SET_EVAL } else { 0 };
    m.string(2, &set.name);
    m.be32(3, map | dynamic);
    m.be32(4, key_type);
    m.be32(5, key_bytes);
    match &set.data {
        Data::None => {}
        Data::Verdict => {
            m.be32(6, TYPE_VERDICT);
            m.be32(7, 16);
        }
        Data::Values(types) => {
            let (data_type, data_bytes) = concatenated(types);
            m.be32(6, data_type);
            m.be32(7, data_bytes);
        }
    }
    if set.dynamic {
        m.nest(9, |m| m.be32(1, DYNAMIC_MAX));
    }
    // Unique within a transaction; rules of ours name sets instead.
    m.be32(10, 1);
}

fn encode_rule(m: &mut Messages, family: Family, chain: &str, rule: &Rule) {
    m.string(2, chain);
    m.nest(4, |m| {
        for instruction in compile::rule(family, rule) {
            instruction.encode(m);
        }
    });
    encode_comment(m, 7, rule.comment.as_deref());
}

fn encode_elements(m: &mut Messages, set: &str, elements: &[Element], with_data: bool) {
    m.string(2, set);
    m.nest(3, |m| {
        for element in elements {
            m.nest(1, |m| {
                instruction::data(m, 1, &compile::fields(&element.key));
                if !with_data {
                    return;
                }
                match &element.verdict {
                    Some(verdict) => m.nest(2, |m| instruction::encode_verdict(m, verdict)),
                    None if element.values.is_empty() => {}
                    None => instruction::data(m, 2, &compile::fields(&element.values)),
                }
                encode_comment(m, 6, element.comment.as_deref());
            });
        }
    });
}

/// User data as `nft` writes it: type 0, length, text with a NUL.
fn encode_comment(m: &mut Messages, kind: u16, comment: Option<&str>) {
    if let Some(comment) = comment {
        let text = &comment.as_bytes()[..comment.len().min(127)];
        let length = u8::try_from(text.len() + 1).unwrap_or(128);
        m.attribute(kind, &[&[0, length], text, &[0]].concat());
    }
}

fn read_comment(data: Attribute<'_>) -> Option<String> {
    match data.value {
        [0, length, rest @ ..] => {
            let text = rest.get(..usize::from(*length))?;
            Some(String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).into_owned())
        }
        _ => None,
    }
}

/// The attributes after the four bytes that begin every message, found by type.
fn find(body: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(body.get(4..)?).find(|attribute| attribute.kind == kind)
}

fn read_chain(body: &[u8], table: &str) -> Option<(String, ImageChain)> {
    if find(body, 1)?.string() != table {
        return None;
    }
    let base = find(body, 4).and_then(|hook| {
        let number = |kind| hook.nested().find(|a| a.kind == kind).and_then(Attribute::be32);
        Some((find(body, 7)?.string(), number(1)?, number(2)?.cast_signed()))
    });
    Some((
        find(body, 3)?.string(),
        ImageChain {
            base,
            rules: Vec::new(),
        },
    ))
}

fn read_rule(body: &[u8], table: &str) -> Option<(String, Vec<Instruction>, Option<String>)> {
    if find(body, 1)?.string() != table {
        return None;
    }
    let instructions = find(body, 4)?.nested().map(Instruction::decode).collect();
    Some((
        find(body, 2)?.string(),
        instructions,
        find(body, 7).and_then(read_comment),
    ))
}

fn read_set(body: &[u8]) -> Option<(String, ImageSet)> {
    let flags = find(body, 3).and_then(Attribute::be32).unwrap_or_default();
    let set = ImageSet {
        key_bytes: find(body, 5).and_then(Attribute::be32)?,
        data_bytes: (flags & SET_MAP != 0)
            .then(|| find(body, 7).and_then(Attribute::be32))
            .flatten(),
        dynamic: flags & SET_EVAL != 0,
        elements: BTreeSet::new(),
    };
    Some((find(body, 2)?.string(), set))
}

fn read_elements(body: &[u8], into: &mut Elements) {
    for element in find(body, 3).iter().flat_map(|list| list.nested()) {
        let field = |kind| element.nested().find(|a| a.kind == kind);
        let bytes = |data: Attribute<'_>| data.nested().find(|a| a.kind == 1).map(|a| a.value.to_vec());
        let Some(key) = field(1).and_then(bytes) else { continue };
        let data = field(2).and_then(|data| {
            instruction::decode_verdict(data)
                .map(|verdict| verdict.image())
                .or_else(|| bytes(data))
        });
        into.insert((key, data.unwrap_or_default(), field(6).and_then(read_comment)));
    }
}
