//! Policies as node proxies evaluate them: what of AuthorizationPolicy and PeerAuthentication can be told from a
//! connection.

use ipnet::IpNet;

use crate::text::Name;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its key: `namespace/name`.
    pub key: Name,
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
    /// Whom it applies to.
    pub scope: PolicyScope,
    /// What a match means.
    pub action: Action,
    /// Alternatives; none: the policy never matches.
    pub rules: Vec<Rule>,
    /// Matches are only logged.
    pub dry_run: bool,
}

/// Whom a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyScope {
    /// Every workload.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that list it.
    Selector,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The connection may pass.
    Allow,
    /// The connection is refused.
    Deny,
}

/// Clauses that must all hold; none: everything matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Matches of which one must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clause {
    /// The matches.
    pub matches: Vec<Match>,
}

/// Fields that must all hold; a match without any never holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The caller's namespace.
    pub namespaces: Vec<Pattern>,
    /// Namespaces the caller is not of.
    pub not_namespaces: Vec<Pattern>,
    /// The caller's identity, without `spiffe://`.
    pub principals: Vec<Pattern>,
    /// Identities the caller has not.
    pub not_principals: Vec<Pattern>,
    /// The caller's address.
    pub source_ips: Vec<IpNet>,
    /// Addresses the caller has not.
    pub not_source_ips: Vec<IpNet>,
    /// The address called.
    pub destination_ips: Vec<IpNet>,
    /// Addresses not called.
    pub not_destination_ips: Vec<IpNet>,
    /// The workload's port.
    pub destination_ports: Vec<u16>,
    /// Ports not called.
    pub not_destination_ports: Vec<u16>,
    /// The caller's service account.
    pub service_accounts: Vec<ServiceAccount>,
    /// Service accounts the caller has not.
    pub not_service_accounts: Vec<ServiceAccount>,
}

impl Match {
    /// Whether it has no field, and so never holds.
    pub fn is_empty(&self) -> bool {
        *self == Match::default()
    }
}

impl Policy {
    /// Whether some connection can match: a rule without clauses, or with a match that asks something in every clause.
    pub fn can_match(&self) -> bool {
        let holds = |clause: &Clause| clause.matches.iter().any(|m| !m.is_empty());
        self.rules.iter().any(|rule| rule.clauses.iter().all(holds))
    }
}

/// A pattern for text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any text that is not empty.
    Present,
}

impl Pattern {
    /// From the form with `*` at the beginning or the end.
    pub fn parse(text: &str) -> Pattern {
        if text == "*" {
            Pattern::Present
        } else if let Some(suffix) = text.strip_prefix('*') {
            Pattern::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Pattern::Prefix(prefix.to_owned())
        } else {
            Pattern::Exact(text.to_owned())
        }
    }
}

impl Pattern {
    /// Whether a text fits; without a text nothing does.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(whole) => text == whole,
            Pattern::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Pattern::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Pattern::Present => !text.is_empty(),
        }
    }
}

/// A service account of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}
