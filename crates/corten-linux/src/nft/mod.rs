//! nf_tables: rules as values, as text, and as kernel state.
//!
//! A [`Table`] is a typed value. [`Display`](std::fmt::Display) renders it as `nft` would list it, which is what golden tests read;
//! [`Transaction`] changes the kernel's state atomically; [`Nft::image`] reads back what the kernel holds, to be compared with
//! [`Table::image`], what it should hold. Knows nothing of services or meshes.
//!
//! The encoder is our own: the crates there are for it link GPL code or run the `nft` program.

mod compile;
mod instruction;
mod kernel;
mod rule;
mod set;
mod table;
mod text;
mod transaction;

pub use instruction::Instruction;
pub use kernel::Nft;
pub use rule::{Comparison, Expression, Nat, Rule, Side, Statement, Transport, Value, Verdict, ct_state, tcp_flags};
pub use set::{Data, Element, Set, Type};
pub use table::{Base, Chain, ChainKind, Family, Hook, Image, ImageChain, ImageSet, Table};
pub use transaction::{Operation, Transaction};

pub use crate::netlink::NetlinkError;

#[cfg(test)]
mod tests;
