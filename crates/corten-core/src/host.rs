//! Host names with wildcards: which names a pattern covers, which of two is more specific, and what counts as a name.
//!
//! A `Host` may hold any text, because configuration may; the checks say whether it is a fully qualified name or a
//! wildcard. Matching is by exact letters: whoever compares with what came over the network lowers it first.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A host name, or a pattern that begins with `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Host(String);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was given.
    #[error("a host name must not be empty")]
    Empty,
    /// Longer than DNS has room for.
    #[error("'{0}...' is longer than the 255 characters of a host name")]
    TooLong(String),
    /// One of its labels is none.
    #[error(
        "'{label}' in '{host}' is not a DNS label: letters, digits and '-', at most 63, not beginning or ending with '-'"
    )]
    Label {
        /// The whole name.
        host: String,
        /// The label.
        label: String,
    },
    /// A wildcard where none is allowed, or not at the beginning.
    #[error("'{0}': a wildcard may only be the whole first label, or begin it as in '*-x'")]
    Wildcard(String),
    /// The last label is a number, which only addresses have.
    #[error("'{0}': the last label of a host name has a letter")]
    NumericTop(String),
}

impl From<String> for Host {
    fn from(text: String) -> Host {
        Host(text)
    }
}

impl From<&str> for Host {
    fn from(text: &str) -> Host {
        Host(text.to_owned())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Host {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// What must follow when this is a wildcard.
    fn suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether some name is covered by both.
    pub fn matches(&self, other: &Host) -> bool {
        match (self.suffix(), other.suffix()) {
            (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
            (Some(a), None) => other.0.ends_with(a),
            (None, Some(b)) => self.0.ends_with(b),
            (None, None) => self.0 == other.0,
        }
    }

    /// Whether `other` covers every name this covers.
    pub fn is_subset_of(&self, other: &Host) -> bool {
        match (self.suffix(), other.suffix()) {
            (Some(a), Some(b)) => a.ends_with(b),
            (Some(_), None) => false,
            (None, Some(b)) => self.0.ends_with(b),
            (None, None) => self.0 == other.0,
        }
    }

    /// Orders the most specific first: names before wildcards, longer before shorter, then by letter.
    pub fn specificity(&self, other: &Host) -> Ordering {
        self.is_wildcard()
            .cmp(&other.is_wildcard())
            .then_with(|| other.0.len().cmp(&self.0.len()))
            .then_with(|| self.0.cmp(&other.0))
    }

    /// Whether this is more specific than `other`.
    pub fn is_more_specific_than(&self, other: &Host) -> bool {
        self.specificity(other) == Ordering::Less
    }

    /// Checks for a fully qualified name: DNS labels, without a wildcard; a dot at the end is allowed.
    pub fn check_fqdn(&self) -> Result<(), HostError> {
        self.check_length()?;
        self.check_labels(&self.0)
    }

    /// As [`Host::check_fqdn`], but the first label may be or begin with `*`.
    pub fn check_wildcard(&self) -> Result<(), HostError> {
        self.check_length()?;
        let (first, rest) = match self.0.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (self.0.as_str(), None),
        };
        if !is_wildcard_dns_label(first) {
            return Err(self.bad_label(first));
        }
        rest.map_or(Ok(()), |rest| self.check_labels(rest))
    }

    fn check_length(&self) -> Result<(), HostError> {
        match self.0.len() {
            0 => Err(HostError::Empty),
            1..=255 => Ok(()),
            _ => Err(HostError::TooLong(self.0.chars().take(40).collect())),
        }
    }

    fn check_labels(&self, name: &str) -> Result<(), HostError> {
        let labels: Vec<&str> = name.split('.').collect();
        if labels.last().is_some_and(|top| top.parse::<i64>().is_ok()) {
            return Err(HostError::NumericTop(self.0.clone()));
        }
        for (i, label) in labels.iter().enumerate() {
            // A dot at the end makes the name absolute.
            let end = i + 1 == labels.len() && label.is_empty();
            if !end && !is_dns_label(label) {
                return Err(self.bad_label(label));
            }
        }
        Ok(())
    }

    fn bad_label(&self, label: &str) -> HostError {
        if label.contains('*') {
            return HostError::Wildcard(self.0.escape_debug().to_string());
        }
        HostError::Label {
            host: self.0.escape_debug().to_string(),
            label: label.escape_debug().to_string(),
        }
    }
}

/// Whether this is a label as DNS has them (RFC 1123), in either case.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && has_label_form(text)
}

/// Letters, digits and inner hyphens, of any length.
pub(crate) fn has_label_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// As [`is_dns_label`], or `*`, or a label after `*` or `*-`.
pub fn is_wildcard_dns_label(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let rest = text
        .strip_prefix("*-")
        .or_else(|| text.strip_prefix('*'))
        .unwrap_or(text);
    text.len() <= 63 && is_dns_label(rest)
}

/// The names covered by both lists, each once, in the order of the first.
pub fn intersection(ours: &[Host], theirs: &[Host]) -> Vec<Host> {
    let mut common: Vec<Host> = Vec::new();
    for our in ours {
        for their in theirs {
            let narrower = if our.is_subset_of(their) {
                our
            } else if their.is_subset_of(our) {
                their
            } else {
                continue;
            };
            if !common.contains(narrower) {
                common.push(narrower.clone());
            }
        }
    }
    common
}

/// A host that may be limited to a namespace: `ns/host`, `*/host`, `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespacedHost<'a> {
    /// The namespace; `None` when the text has no slash.
    pub namespace: Option<&'a str>,
    /// The host.
    pub host: &'a str,
}

impl<'a> NamespacedHost<'a> {
    /// Splits a text at its first slash.
    pub fn parse(text: &'a str) -> NamespacedHost<'a> {
        match text.split_once('/') {
            Some((namespace, host)) => NamespacedHost {
                namespace: Some(namespace),
                host,
            },
            None => NamespacedHost {
                namespace: None,
                host: text,
            },
        }
    }
}

/// The hosts of a list that are meant for a namespace.
pub fn hosts_for_namespace<'a>(hosts: impl IntoIterator<Item = &'a str>, namespace: &str) -> Vec<Host> {
    let parsed = hosts.into_iter().map(NamespacedHost::parse);
    parsed
        .filter(|h| h.namespace.is_none_or(|n| n == "*" || n == namespace))
        .map(|h| Host::from(h.host))
        .collect()
}
