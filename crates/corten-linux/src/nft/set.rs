//! Named sets and maps, whose elements change without the rules.

use std::time::Duration;

use super::{Value, Verdict};

/// What a key or data field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`
    V4,
    /// `ipv6_addr`
    V6,
    /// `inet_proto`
    Protocol,
    /// `inet_service`
    Port,
    /// `mark`: any 32-bit number
    Mark,
    /// `ifname`
    Interface,
}

impl Type {
    /// The name that `nft` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Type::V4 => "ipv4_addr",
            Type::V6 => "ipv6_addr",
            Type::Protocol => "inet_proto",
            Type::Port => "inet_service",
            Type::Mark => "mark",
            Type::Interface => "ifname",
        }
    }

    /// The number that `nft` stores in the kernel, so that it can list our sets.
    pub(super) fn number(self) -> u32 {
        match self {
            Type::V4 => 7,
            Type::V6 => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Mark => 19,
            Type::Interface => 41,
        }
    }

    pub(super) fn bytes(self) -> u32 {
        match self {
            Type::V4 | Type::Mark => 4,
            Type::V6 | Type::Interface => 16,
            Type::Protocol => 1,
            Type::Port => 2,
        }
    }
}

/// The number and the length of a concatenation: each field takes whole registers of 4 bytes.
pub(super) fn concatenated(types: &[Type]) -> (u32, u32) {
    match types {
        [one] => (one.number(), one.bytes()),
        many => many.iter().fold((0, 0), |(number, bytes), field| {
            (number << 6 | field.number(), bytes + field.bytes().next_multiple_of(4))
        }),
    }
}

/// How many elements packets may add to a dynamic set; then updates fail and the rule goes on without.
pub(super) const DYNAMIC_MAX: u32 = 65535;

/// A named set, map or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The fields of a key.
    pub key: Vec<Type>,
    /// What a key leads to.
    pub data: Data,
    /// Packets may add elements ([`Statement::Update`](super::Statement::Update)), which expire.
    pub dynamic: bool,
    /// What is in it.
    pub elements: Vec<Element>,
}

/// What a set's elements lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: a plain set.
    None,
    /// A verdict.
    Verdict,
    /// These values.
    Values(Vec<Type>),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// One value a field.
    pub key: Vec<Value>,
    /// In a verdict map.
    pub verdict: Option<Verdict>,
    /// In a map of values.
    pub values: Vec<Value>,
    /// Kept by the kernel for readers.
    pub comment: Option<String>,
}

impl Element {
    /// An element of a plain set.
    pub fn new(key: impl IntoIterator<Item = Value>) -> Element {
        Element {
            key: key.into_iter().collect(),
            verdict: None,
            values: Vec::new(),
            comment: None,
        }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl IntoIterator<Item = Value>, verdict: Verdict) -> Element {
        Element {
            verdict: Some(verdict),
            ..Element::new(key)
        }
    }

    /// An element of a map.
    pub fn values(key: impl IntoIterator<Item = Value>, values: impl IntoIterator<Item = Value>) -> Element {
        Element {
            values: values.into_iter().collect(),
            ..Element::new(key)
        }
    }
}

impl Set {
    /// A plain set.
    pub fn plain(name: impl Into<String>, key: &[Type]) -> Set {
        Set {
            name: name.into(),
            key: key.to_vec(),
            data: Data::None,
            dynamic: false,
            elements: Vec::new(),
        }
    }

    /// A map to verdicts.
    pub fn vmap(name: impl Into<String>, key: &[Type]) -> Set {
        Set {
            data: Data::Verdict,
            ..Set::plain(name, key)
        }
    }

    /// A map to values.
    pub fn map(name: impl Into<String>, key: &[Type], data: &[Type]) -> Set {
        Set {
            data: Data::Values(data.to_vec()),
            ..Set::plain(name, key)
        }
    }

    /// A set that rules fill; elements expire after the time their rule gives.
    pub fn dynamic(name: impl Into<String>, key: &[Type]) -> Set {
        Set {
            dynamic: true,
            ..Set::plain(name, key)
        }
    }
}

/// The longest time an element can be kept; the kernel counts milliseconds in jiffies of limited width.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
