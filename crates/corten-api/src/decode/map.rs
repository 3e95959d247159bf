//! Mappings under construction: duplicate keys and YAML's merge keys are settled here.

use std::collections::HashMap;

use super::{
    Problem,
    node::{Data, Entry, Node},
};
use crate::diagnostic::{Code, Position};

/// The entries of a mapping while it is read.
#[derive(Default)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    // Only mappings of some size need an index; most have a handful of keys.
    index: HashMap<String, usize>,
    merges: Vec<Node>,
}

const INDEX_FROM: usize = 16;

impl Entries {
    fn position(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|e| e.key == key);
        }
        self.index.get(key).copied()
    }

    fn push(&mut self, entry: Entry) {
        if !self.index.is_empty() {
            self.index.insert(entry.key.clone(), self.entries.len());
        }
        self.entries.push(entry);
        if self.index.is_empty() && self.entries.len() >= INDEX_FROM {
            self.index = self
                .entries
                .iter()
                .enumerate()
                .map(|(i, e)| (e.key.clone(), i))
                .collect();
        }
    }

    /// Adds an entry. Of a key written twice the later value is kept, as Kubernetes does, and the problem is returned.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Problem> {
        let Some(position) = self.position(&entry.key) else {
            self.push(entry);
            return None;
        };
        let first = self.entries.get_mut(position)?;
        let problem = Problem {
            code: Code::DUPLICATE_KEY,
            at: entry.at,
            message: format!(
                "key '{}' is already given at line {}; remove one of them",
                entry.key.escape_debug(),
                first.at.line
            ),
        };
        *first = entry;
        Some(problem)
    }

    /// Notes the value of a `<<` key; its entries come in when the mapping is finished.
    pub(super) fn merge(&mut self, at: Position, value: Node) -> Option<Problem> {
        let sources = match value.data {
            Data::List(items) => items,
            _ => vec![value],
        };
        let mut problem = None;
        for source in sources {
            if matches!(source.data, Data::Map(_)) {
                self.merges.push(source);
            } else {
                let message = format!("'<<' merges mappings, this is {}", source.described());
                problem = Some(Problem {
                    code: Code::SYNTAX,
                    at,
                    message,
                });
            }
        }
        problem
    }

    /// The finished mapping: keys written here win over merged ones, earlier merges over later ones.
    pub(super) fn finish(mut self) -> Vec<Entry> {
        for source in std::mem::take(&mut self.merges) {
            let Data::Map(entries) = source.data else { continue };
            for entry in entries {
                if self.position(&entry.key).is_none() {
                    self.push(entry);
                }
            }
        }
        self.entries
    }
}
