//! The built-in kinds of Kubernetes: their schemas and their defaulting.
//!
//! The facts stand in two text files: `kinds.txt`, generated from Kubernetes' OpenAPI documents, and `additions.txt`,
//! written by hand, with the defaults and allowed values that those documents do not tell. A definition is read when it
//! is first needed, so kinds that nobody uses cost nothing but their text.

mod defaulting;
mod facts;
#[cfg(test)]
mod tests;

use crate::schema::{Named, Schema};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

pub use defaulting::{admit_pod, set_defaults};

/// The schema of a built-in kind; the group of core kinds is empty.
pub fn schema(group: &str, version: &str, kind: &str) -> Option<&'static Schema> {
    definition_of(group, version, kind).map(Named::schema)
}

/// The schema of `metadata`, which all kinds share.
pub fn object_meta() -> Option<&'static Schema> {
    definition("meta.v1.ObjectMeta").map(Named::schema)
}

/// All built-in kinds as (group, version, kind), sorted.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    registry().kinds.keys().copied()
}

/// The definition of a built-in kind, with the name that OpenAPI documents refer to.
pub fn definition_of(group: &str, version: &str, kind: &str) -> Option<&'static Named> {
    let registry = registry();
    // The borrowed key has another lifetime than the stored ones, which a map lookup does not allow for tuples.
    let (_, name) = registry.kinds.iter().find(|(key, _)| **key == (group, version, kind))?;
    registry.definitions.get(name)
}

/// All definitions that a kind consists of, itself first, as `components.schemas` of an OpenAPI document needs them.
pub fn closure(named: &'static Named) -> Vec<&'static Named> {
    let mut found: Vec<&'static Named> = vec![named];
    let mut next = 0;
    while let Some(named) = found.get(next) {
        next += 1;
        for inner in named.schema().references() {
            if !found.iter().any(|known| known.name == inner.name) {
                found.push(inner);
            }
        }
    }
    found
}

struct Registry {
    definitions: HashMap<&'static str, Named>,
    kinds: BTreeMap<(&'static str, &'static str, &'static str), &'static str>,
    additions: HashMap<&'static str, Vec<&'static str>>,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| facts::index(include_str!("kinds.txt"), include_str!("additions.txt")))
}

fn definition(name: &str) -> Option<&'static Named> {
    registry().definitions.get(name)
}
