//! Tables and chains, and the image of a table as the kernel holds it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Data, Element, Instruction, Rule, Set, compile};

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }

    /// `inet`, `ip`, `ip6`
    pub fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Decide.
    Filter,
    /// Translate addresses; sees the first packet of a connection.
    Nat,
    /// Like filter, and routes again when the mark changed.
    Route,
}

impl ChainKind {
    /// `filter`, `nat`, `route`
    pub fn name(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        }
    }
}

/// Where a base chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

impl Hook {
    pub(super) fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }

    /// `prerouting`, ...
    pub fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        }
    }
}

/// How a base chain hangs in the packet path; its policy is accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What for.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// In which order among others there.
    pub priority: i32,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// For a base chain: where it hangs. Others are jumped to.
    pub base: Option<Base>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain to be jumped to.
    pub fn regular(name: impl Into<String>, rules: impl IntoIterator<Item = Rule>) -> Chain {
        Chain {
            name: name.into(),
            base: None,
            rules: rules.into_iter().collect(),
        }
    }

    /// A chain that packets enter.
    pub fn base(
        name: impl Into<String>,
        kind: ChainKind,
        hook: Hook,
        priority: i32,
        rules: impl IntoIterator<Item = Rule>,
    ) -> Chain {
        Chain {
            base: Some(Base { kind, hook, priority }),
            ..Chain::regular(name, rules)
        }
    }
}

/// A table with all it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which packets.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// A table in the kernel's terms, so that what is there can be compared with what should be.
///
/// Leaves out what packets change: counters, and the elements of dynamic sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// By name.
    pub chains: BTreeMap<String, ImageChain>,
    /// By name.
    pub sets: BTreeMap<String, ImageSet>,
}

/// A chain of an [`Image`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageChain {
    /// Where it hangs: type, hook number, priority.
    pub base: Option<(String, u32, i32)>,
    /// Instructions and comment of each rule.
    pub rules: Vec<(Vec<Instruction>, Option<String>)>,
}

/// A set of an [`Image`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Length of a key.
    pub key_bytes: u32,
    /// Length of the data, absent for plain sets; 16 for verdicts.
    pub data_bytes: Option<u32>,
    /// Whether packets fill it.
    pub dynamic: bool,
    /// Key, data (a verdict's code and chain, or bytes) and comment.
    pub elements: BTreeSet<(Vec<u8>, Vec<u8>, Option<String>)>,
}

impl Table {
    /// What the kernel should hold for this table.
    pub fn image(&self) -> Image {
        let chains = self.chains.iter().map(|chain| {
            let base = chain
                .base
                .map(|base| (base.kind.name().to_owned(), base.hook.number(), base.priority));
            let rules = chain
                .rules
                .iter()
                .map(|rule| (compile::rule(self.family, rule), rule.comment.clone()));
            (
                chain.name.clone(),
                ImageChain {
                    base,
                    rules: rules.collect(),
                },
            )
        });
        let sets = self.sets.iter().map(|set| (set.name.clone(), set.image()));
        Image {
            chains: chains.collect(),
            sets: sets.collect(),
        }
    }
}

impl Set {
    fn image(&self) -> ImageSet {
        let (_, key_bytes) = super::set::concatenated(&self.key);
        ImageSet {
            key_bytes,
            data_bytes: match &self.data {
                Data::None => None,
                Data::Verdict => Some(16),
                Data::Values(types) => Some(super::set::concatenated(types).1),
            },
            dynamic: self.dynamic,
            elements: if self.dynamic {
                BTreeSet::new()
            } else {
                self.elements.iter().map(Element::image).collect()
            },
        }
    }
}

impl Element {
    fn image(&self) -> (Vec<u8>, Vec<u8>, Option<String>) {
        let data = match &self.verdict {
            Some(verdict) => verdict.image(),
            None => compile::fields(&self.values),
        };
        (compile::fields(&self.key), data, self.comment.clone())
    }
}
