//! Labels and what selects by them.

use std::collections::BTreeMap;

use crate::host::has_label_form;

/// Labels of a workload, or those a selector wants.
pub type LabelMap = BTreeMap<String, String>;

/// Labels, seen as a set of pairs.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a>(pub &'a LabelMap);

/// Why a label is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key is not one.
    #[error(
        "label key '{0}' must be letters, digits, '-', '_' and '.', at most 63, optionally after a DNS name and '/'"
    )]
    Key(String),
    /// The value is not one.
    #[error(
        "label value '{0}' must be empty, or letters, digits, '-', '_' and '.' with a letter or digit at both ends"
    )]
    Value(String),
}

impl Labels<'_> {
    /// Whether `other` has all of these.
    pub fn is_subset_of(self, other: &LabelMap) -> bool {
        self.0.iter().all(|(key, value)| other.get(key) == Some(value))
    }

    /// Whether these, as a service's selector, select `workload`; an empty selector selects nothing.
    pub fn selects(self, workload: &LabelMap) -> bool {
        !self.0.is_empty() && self.is_subset_of(workload)
    }

    /// Checks keys and values.
    pub fn check(self) -> Result<(), LabelError> {
        for (key, value) in self.0 {
            check_key(key)?;
            if !value.is_empty() && !is_qualified_name(value) {
                return Err(LabelError::Value(value.escape_debug().to_string()));
            }
        }
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), LabelError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_good = prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(has_label_form));
    if prefix_good && name.len() <= 63 && is_qualified_name(name) {
        return Ok(());
    }
    Err(LabelError::Key(key.escape_debug().to_string()))
}

fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
