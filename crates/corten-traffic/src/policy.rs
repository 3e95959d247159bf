//! An authorization policy, compiled from its message, and whether it matches a connection.
//!
//! What cannot be compiled is never left out: an entry dropped from a list would widen an ALLOW or narrow a DENY.
//! Such a policy is refused as a whole, and the tables then hold one in its place that denies (see `TablesWriter`).

use std::net::{IpAddr, SocketAddr};

use corten_core::Identity;
use corten_proto::security as proto;
use ipnet::IpNet;

use crate::{
    address::parse_net,
    name::{Interner, Name},
    resource::Invalid,
};

/// A policy as the tables keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its resource name, by which workloads refer to it.
    pub key: Name,
    /// Name of the policy.
    pub name: Name,
    /// Namespace of the policy.
    pub namespace: Name,
    /// Whom it applies to.
    pub scope: Scope,
    /// What a match means.
    pub action: Action,
    /// Matches are only logged.
    pub dry_run: bool,
    /// Alternatives; none: it never matches.
    pub rules: Box<[Rule]>,
    /// It could not be compiled, for this reason, and denies all that it would apply to.
    pub broken: Option<Box<str>>,
}

/// Whom a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every workload.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that list it.
    WorkloadSelector,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The connection may pass.
    Allow,
    /// The connection is refused.
    Deny,
}

/// Clauses that must all hold; none: everything matches.
pub type Rule = Box<[Clause]>;
/// Matches of which one must hold; none: the clause holds.
pub type Clause = Box<[Match]>;

/// Fields that must all hold; with all lists empty it never holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The caller's namespace; empty without an identity.
    pub namespaces: Lists<Pattern>,
    /// The caller's identity without its scheme.
    pub principals: Lists<Pattern>,
    /// The caller's namespace and service account, whatever the trust domain.
    pub service_accounts: Lists<(Name, Name)>,
    /// The caller's address.
    pub source_ips: Lists<IpNet>,
    /// The address of the application.
    pub destination_ips: Lists<IpNet>,
    /// The port of the application.
    pub destination_ports: Lists<u16>,
}

/// What a field is one of, and what it is none of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists<T> {
    /// One of these; empty: anything.
    pub any_of: Box<[T]>,
    /// None of these.
    pub none_of: Box<[T]>,
}

impl<T> Default for Lists<T> {
    fn default() -> Lists<T> {
        Lists {
            any_of: Box::default(),
            none_of: Box::default(),
        }
    }
}

/// A pattern for text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The whole text.
    Exact(Name),
    /// Its beginning.
    Prefix(Name),
    /// Its end.
    Suffix(Name),
    /// Any text that is not empty.
    Presence,
}

/// What of a connection policies look at.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The caller's address: the other end of the TCP connection.
    pub source: IpAddr,
    /// The caller's identity, from its certificate.
    pub identity: Option<&'a Identity>,
    /// Where the application is reached, after any translation of ports.
    pub destination: SocketAddr,
}

impl Policy {
    /// Whether any rule matches.
    pub fn matches(&self, peer: &Peer<'_>) -> bool {
        self.broken.is_some()
            || self
                .rules
                .iter()
                .any(|rule| rule.iter().all(|clause| clause_holds(clause, peer)))
    }

    /// The deny-all that stands for a policy that could not be compiled.
    pub(crate) fn broken(key: &str, message: &proto::Authorization, reason: &str, interner: &mut Interner) -> Policy {
        let scope = match parse_scope(message) {
            Ok(scope) => scope,
            // Whom it was meant for is not known: its namespace is the widest that such a policy may speak for.
            Err(_) if message.namespace.is_empty() => Scope::Global,
            Err(_) => Scope::Namespace,
        };
        Policy {
            key: interner.name(key),
            name: interner.name(&message.name),
            namespace: interner.name(&message.namespace),
            scope,
            action: Action::Deny,
            dry_run: message.dry_run,
            rules: Box::default(),
            broken: Some(reason.into()),
        }
    }
}

fn clause_holds(clause: &Clause, peer: &Peer<'_>) -> bool {
    clause.is_empty() || clause.iter().any(|m| !m.is_empty() && m.holds(peer))
}

impl Match {
    fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.principals.is_empty()
            && self.service_accounts.is_empty()
            && self.source_ips.is_empty()
            && self.destination_ips.is_empty()
            && self.destination_ports.is_empty()
    }

    fn holds(&self, peer: &Peer<'_>) -> bool {
        let namespace = peer.identity.map_or("", |identity| &identity.namespace);
        let is_account = |(namespace, account): &(Name, Name)| {
            peer.identity
                .is_some_and(|id| **namespace == *id.namespace && **account == *id.service_account)
        };
        self.destination_ports.hold(|port| *port == peer.destination.port())
            && self
                .principals
                .hold(|pattern| peer.identity.is_some_and(|id| pattern.matches_principal(id)))
            && self.namespaces.hold(|pattern| pattern.matches(namespace))
            && self.service_accounts.hold(is_account)
            && self.source_ips.hold(|net| net.contains(&peer.source))
            && self.destination_ips.hold(|net| net.contains(&peer.destination.ip()))
    }
}

impl<T> Lists<T> {
    /// Whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    fn hold(&self, is: impl Fn(&T) -> bool) -> bool {
        (self.any_of.is_empty() || self.any_of.iter().any(&is)) && !self.none_of.iter().any(&is)
    }
}

impl Pattern {
    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(exact) => **exact == *text,
            Pattern::Prefix(prefix) => text.starts_with(&**prefix),
            Pattern::Suffix(suffix) => text.ends_with(&**suffix),
            Pattern::Presence => !text.is_empty(),
        }
    }

    /// Whether an identity, written without its scheme, matches. It is compared in its parts, so that nothing need be written.
    pub fn matches_principal(&self, id: &Identity) -> bool {
        let parts = [&*id.trust_domain, "/ns/", &id.namespace, "/sa/", &id.service_account];
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        match self {
            Pattern::Exact(exact) => exact.len() == whole && ends_at(&parts, exact, 0),
            Pattern::Prefix(prefix) => prefix.len() <= whole && ends_at(&parts, prefix, 0),
            Pattern::Suffix(suffix) => suffix.len() <= whole && ends_at(&parts, suffix, whole - suffix.len()),
            Pattern::Presence => true,
        }
    }
}

/// Whether `text` is found in the parts, strung together, at `from`; it must fit.
fn ends_at(parts: &[&str], text: &str, from: usize) -> bool {
    let mut wanted = parts.iter().flat_map(|part| part.bytes()).skip(from);
    text.bytes().all(|byte| wanted.next() == Some(byte))
}

/// From the message.
pub(crate) fn parse(key: &str, message: &proto::Authorization, interner: &mut Interner) -> Result<Policy, Invalid> {
    let scope = parse_scope(message)?;
    let action = match proto::Action::try_from(message.action) {
        Ok(proto::Action::Allow) => Action::Allow,
        Ok(proto::Action::Deny) => Action::Deny,
        Err(_) => return Err(Invalid::unknown("action", message.action)),
    };
    let mut rules = Vec::with_capacity(message.rules.len());
    for rule in &message.rules {
        let mut clauses: Vec<Clause> = Vec::with_capacity(rule.clauses.len());
        for clause in &rule.clauses {
            let matches: Result<_, Invalid> = clause.matches.iter().map(|m| parse_match(m, interner)).collect();
            clauses.push(matches?);
        }
        rules.push(clauses.into());
    }
    Ok(Policy {
        key: interner.name(key),
        name: interner.name(&message.name),
        namespace: interner.name(&message.namespace),
        scope,
        action,
        dry_run: message.dry_run,
        rules: rules.into(),
        broken: None,
    })
}

fn parse_scope(message: &proto::Authorization) -> Result<Scope, Invalid> {
    match proto::Scope::try_from(message.scope) {
        Ok(proto::Scope::Global) => Ok(Scope::Global),
        Ok(proto::Scope::Namespace) => Ok(Scope::Namespace),
        Ok(proto::Scope::WorkloadSelector) => Ok(Scope::WorkloadSelector),
        Err(_) => Err(Invalid::unknown("scope", message.scope)),
    }
}

fn parse_match(message: &proto::Match, interner: &mut Interner) -> Result<Match, Invalid> {
    Ok(Match {
        namespaces: Lists {
            any_of: parse_patterns("namespaces", &message.namespaces, interner)?,
            none_of: parse_patterns("not_namespaces", &message.not_namespaces, interner)?,
        },
        principals: Lists {
            any_of: parse_patterns("principals", &message.principals, interner)?,
            none_of: parse_patterns("not_principals", &message.not_principals, interner)?,
        },
        service_accounts: Lists {
            any_of: parse_accounts(&message.service_accounts, interner),
            none_of: parse_accounts(&message.not_service_accounts, interner),
        },
        source_ips: Lists {
            any_of: parse_nets("source_ips", &message.source_ips)?,
            none_of: parse_nets("not_source_ips", &message.not_source_ips)?,
        },
        destination_ips: Lists {
            any_of: parse_nets("destination_ips", &message.destination_ips)?,
            none_of: parse_nets("not_destination_ips", &message.not_destination_ips)?,
        },
        destination_ports: Lists {
            any_of: parse_ports("destination_ports", &message.destination_ports)?,
            none_of: parse_ports("not_destination_ports", &message.not_destination_ports)?,
        },
    })
}

fn parse_patterns(
    field: &'static str,
    patterns: &[proto::StringMatch],
    interner: &mut Interner,
) -> Result<Box<[Pattern]>, Invalid> {
    use proto::string_match::MatchType;
    let parse = |pattern: &proto::StringMatch| match &pattern.match_type {
        Some(MatchType::Exact(text)) => Ok(Pattern::Exact(interner.name(text))),
        Some(MatchType::Prefix(text)) => Ok(Pattern::Prefix(interner.name(text))),
        Some(MatchType::Suffix(text)) => Ok(Pattern::Suffix(interner.name(text))),
        Some(MatchType::Presence(())) => Ok(Pattern::Presence),
        None => Err(Invalid::new(
            field,
            "has a pattern of a form that this version does not know",
        )),
    };
    patterns.iter().map(parse).collect()
}

fn parse_accounts(accounts: &[proto::ServiceAccountMatch], interner: &mut Interner) -> Box<[(Name, Name)]> {
    let parse = |account: &proto::ServiceAccountMatch| {
        (
            interner.name(&account.namespace),
            interner.name(&account.service_account),
        )
    };
    accounts.iter().map(parse).collect()
}

fn parse_nets(field: &'static str, nets: &[proto::Address]) -> Result<Box<[IpNet]>, Invalid> {
    let parse = |net: &proto::Address| {
        parse_net(&net.address, net.length).ok_or_else(|| {
            Invalid::new(
                field,
                format!(
                    "has {} bytes with prefix length {}, which is no range",
                    net.address.len(),
                    net.length
                ),
            )
        })
    };
    nets.iter().map(parse).collect()
}

fn parse_ports(field: &'static str, ports: &[u32]) -> Result<Box<[u16]>, Invalid> {
    let parse =
        |port: &u32| u16::try_from(*port).map_err(|_| Invalid::new(field, format!("has {port}, which is no port")));
    ports.iter().map(parse).collect()
}
