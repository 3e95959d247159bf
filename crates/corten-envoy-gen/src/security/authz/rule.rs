//! One rule of an AuthorizationPolicy as one policy of Envoy's RBAC.
//!
//! What cannot be had is left out so that an ALLOW never lets more through than was written, and any other action never
//! applies to less: an ALLOW loses the rule, the others lose the condition.

use corten_api::istio::authorization_policy::{Condition, Operation, Rule as Written, Source};
use corten_envoy::envoy::config::rbac::v3::{
    Permission, Policy, Principal, permission::Rule, principal::Identifier, rbac::Action,
};
use corten_model::trust_domain;

use super::{
    attribute::{self, Attribute, Node, Peer, allow, identity, of},
    matcher,
};

/// What a rule is compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) action: Action,
    /// Connections, which have no requests.
    pub(super) tcp: bool,
    pub(super) peer: Peer,
    /// The mesh's own, then its aliases.
    pub(super) trust_domains: &'a [String],
    /// The policy's namespace.
    pub(super) namespace: &'a str,
}

/// Something that could not be had as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The field.
    pub(super) path: String,
    /// What is wrong; `None`: nothing, but only requests have it.
    pub(super) message: Option<String>,
}

/// The rule must not be used at all.
#[derive(Debug)]
struct Dropped;

/// Values that are wanted and values that are not.
struct Field<'a> {
    /// Where they stand.
    path: &'a str,
    names: (&'a str, &'a str),
    values: (&'a [String], &'a [String]),
}

/// Compiles a rule; `None`: it must not be used.
pub(super) fn compile(rule: &Written, path: &str, target: Target<'_>) -> (Option<Policy>, Vec<Problem>) {
    let mut compiler = Compiler {
        target,
        problems: Vec::new(),
    };
    let policy = compiler.rule(rule, path).ok();
    (policy, compiler.problems)
}

struct Compiler<'a> {
    target: Target<'a>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn rule(&mut self, rule: &Written, path: &str) -> Result<Policy, Dropped> {
        let (mut of_destination, mut of_source) = (Vec::new(), Vec::new());
        for (i, condition) in rule.when.iter().enumerate() {
            self.condition(
                condition,
                &format!("{path}.when[{i}]"),
                &mut of_destination,
                &mut of_source,
            )?;
        }
        let mut principals = Vec::new();
        for (i, from) in rule.from.iter().flatten().enumerate() {
            let path = format!("{path}.from[{i}].source");
            let mut all = Vec::new();
            match &from.source {
                Some(source) if *source != Source::default() => self.source(source, &path, &mut all)?,
                _ => self.missing(&path)?,
            }
            all.extend(of_source.iter().cloned());
            principals.push(joined(all));
        }
        let mut permissions = Vec::new();
        for (i, to) in rule.to.iter().flatten().enumerate() {
            let path = format!("{path}.to[{i}].operation");
            let mut all = Vec::new();
            match &to.operation {
                Some(operation) if *operation != Operation::default() => self.operation(operation, &path, &mut all)?,
                _ => self.missing(&path)?,
            }
            all.extend(of_destination.iter().cloned());
            permissions.push(joined(all));
        }
        if principals.is_empty() {
            principals.push(joined(of_source));
        }
        if permissions.is_empty() {
            permissions.push(joined(of_destination));
        }
        Ok(Policy {
            permissions,
            principals,
            ..Policy::default()
        })
    }

    fn condition(
        &mut self,
        condition: &Condition,
        path: &str,
        of_destination: &mut Vec<Permission>,
        of_source: &mut Vec<Principal>,
    ) -> Result<(), Dropped> {
        let attribute = match Attribute::of_key(&condition.key) {
            Ok(attribute) => attribute,
            Err(message) => return self.note(format!("{path}.key"), Some(message)),
        };
        if condition.values.is_empty() && condition.not_values.is_empty() {
            return self.missing(path);
        }
        let field = Field {
            path,
            names: ("values", "notValues"),
            values: (&condition.values, &condition.not_values),
        };
        if attribute.is_of_destination() {
            self.permission(&attribute, &field, of_destination)
        } else {
            self.principal(&attribute, &field, of_source)
        }
    }

    fn source(&mut self, source: &Source, path: &str, all: &mut Vec<Principal>) -> Result<(), Dropped> {
        let s = source;
        for (attribute, name, not_name, values, not_values) in [
            (
                Attribute::Principal,
                "principals",
                "notPrincipals",
                &s.principals,
                &s.not_principals,
            ),
            (
                Attribute::RequestPrincipal,
                "requestPrincipals",
                "notRequestPrincipals",
                &s.request_principals,
                &s.not_request_principals,
            ),
            (
                Attribute::ServiceAccount,
                "serviceAccounts",
                "notServiceAccounts",
                &s.service_accounts,
                &s.not_service_accounts,
            ),
            (
                Attribute::TrustDomain,
                "trustDomains",
                "notTrustDomains",
                &s.trust_domains,
                &s.not_trust_domains,
            ),
            (
                Attribute::Namespace,
                "namespaces",
                "notNamespaces",
                &s.namespaces,
                &s.not_namespaces,
            ),
            (
                Attribute::RemoteIp,
                "remoteIpBlocks",
                "notRemoteIpBlocks",
                &s.remote_ip_blocks,
                &s.not_remote_ip_blocks,
            ),
            (
                Attribute::SourceIp,
                "ipBlocks",
                "notIpBlocks",
                &s.ip_blocks,
                &s.not_ip_blocks,
            ),
        ] {
            let field = Field {
                path,
                names: (name, not_name),
                values: (values, not_values),
            };
            self.principal(&attribute, &field, all)?;
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation, path: &str, all: &mut Vec<Permission>) -> Result<(), Dropped> {
        let o = operation;
        for (attribute, name, not_name, values, not_values) in [
            (Attribute::Host, "hosts", "notHosts", &o.hosts, &o.not_hosts),
            (Attribute::Method, "methods", "notMethods", &o.methods, &o.not_methods),
            (Attribute::Path, "paths", "notPaths", &o.paths, &o.not_paths),
            (Attribute::DestinationPort, "ports", "notPorts", &o.ports, &o.not_ports),
        ] {
            let field = Field {
                path,
                names: (name, not_name),
                values: (values, not_values),
            };
            self.permission(&attribute, &field, all)?;
        }
        Ok(())
    }

    fn permission(
        &mut self,
        attribute: &Attribute,
        field: &Field<'_>,
        all: &mut Vec<Permission>,
    ) -> Result<(), Dropped> {
        if let Attribute::Metadata(filter, key) = attribute {
            let join = |values| {
                let value = matcher::any_value(values);
                matcher::metadata(filter, &[key], value).map(attribute::filter_metadata)
            };
            return self.values(attribute, field, all, |text| Ok(attribute::filter_value(text)), join);
        }
        let make = |text: &str| match attribute {
            Attribute::Host => Ok(allow(Rule::Header(matcher::header(":authority", text, true)))),
            Attribute::Method => Ok(allow(Rule::Header(matcher::header(":method", text, false)))),
            Attribute::Path => attribute::path(text),
            Attribute::DestinationIp => matcher::range(text).map(|range| allow(Rule::DestinationIp(range))),
            Attribute::DestinationPort => matcher::port(text).map(|port| allow(Rule::DestinationPort(port))),
            _ => Ok(allow(Rule::RequestedServerName(matcher::text(text)))),
        };
        self.values(attribute, field, all, make, |any| Ok(Permission::or(any)))
    }

    fn principal(&mut self, attribute: &Attribute, field: &Field<'_>, all: &mut Vec<Principal>) -> Result<(), Dropped> {
        let target = self.target;
        if let Attribute::Claim(path) = attribute {
            let join = |values| attribute::claim(path, matcher::any_value(values));
            return self.values(
                attribute,
                field,
                all,
                |text| Ok(matcher::value(matcher::text(text))),
                join,
            );
        }
        if *attribute == Attribute::RequestPrincipal {
            let join = |mut any: Vec<Principal>| match (any.len(), any.pop()) {
                (1, Some(single)) => Ok(single),
                (_, last) => {
                    any.extend(last);
                    Ok(Principal::or(any))
                }
            };
            return self.values(attribute, field, all, attribute::request_principal, join);
        }
        let expanded: (Vec<String>, Vec<String>);
        let field = match attribute {
            Attribute::Principal | Attribute::TrustDomain => {
                let expand = |values: &[String]| match attribute {
                    Attribute::Principal => trust_domain::expand(values, target.trust_domains),
                    _ => aliases(values, target.trust_domains),
                };
                expanded = (expand(field.values.0), expand(field.values.1));
                &Field {
                    values: (&expanded.0, &expanded.1),
                    ..*field
                }
            }
            _ => field,
        };
        let make = |text: &str| match attribute {
            Attribute::Principal => Ok(identity(matcher::text_after("spiffe://", text), target.peer)),
            Attribute::ServiceAccount => Ok(identity(
                attribute::service_account(text, target.namespace),
                target.peer,
            )),
            Attribute::TrustDomain => Ok(identity(attribute::trust_domain(text), target.peer)),
            Attribute::Namespace => Ok(identity(attribute::namespace(text), target.peer)),
            Attribute::Header(name) => Ok(of(Identifier::Header(matcher::header(name, text, false)))),
            Attribute::RemoteIp => matcher::range(text).map(|range| of(Identifier::RemoteIp(range))),
            _ => matcher::range(text).map(|range| of(Identifier::DirectRemoteIp(range))),
        };
        self.values(attribute, field, all, make, |any| Ok(Principal::or(any)))
    }

    /// Adds what a field asks: one of its values, and none of those that are not wanted.
    fn values<N: Node, T>(
        &mut self,
        attribute: &Attribute,
        field: &Field<'_>,
        all: &mut Vec<N>,
        make: impl Fn(&str) -> Result<T, String>,
        join: impl Fn(Vec<T>) -> Result<N, String>,
    ) -> Result<(), Dropped> {
        let lists = [
            (field.names.0, field.values.0, false),
            (field.names.1, field.values.1, true),
        ];
        for (name, values, negated) in lists {
            if values.is_empty() {
                continue;
            }
            if self.target.tcp && attribute.is_of_requests() {
                self.note(format!("{}.{name}", field.path), None)?;
                continue;
            }
            let mut made = Vec::new();
            let mut complete = true;
            for (i, value) in values.iter().enumerate() {
                let one = match value.as_str() {
                    "" => Err("an empty value".to_owned()),
                    value => make(value),
                };
                match one {
                    Ok(one) => made.push(one),
                    Err(message) => {
                        self.note(format!("{}.{name}[{i}]", field.path), Some(message))?;
                        complete = false;
                    }
                }
            }
            // With a value missing, one of the values would be asked of less, and none of the others of more.
            if made.is_empty() || !(complete || negated) {
                continue;
            }
            match join(made) {
                Ok(node) if negated => all.push(node.negated()),
                Ok(node) => all.push(node),
                Err(message) => self.note(format!("{}.{name}", field.path), Some(message))?,
            }
        }
        Ok(())
    }

    fn missing(&mut self, path: &str) -> Result<(), Dropped> {
        self.note(path.to_owned(), Some("nothing is asked here".to_owned()))
    }

    /// Takes note of something that cannot be had, after which an ALLOW ends.
    fn note(&mut self, path: String, message: Option<String>) -> Result<(), Dropped> {
        self.problems.push(Problem { path, message });
        match self.target.action {
            Action::Allow => Err(Dropped),
            Action::Deny | Action::Log => Ok(()),
        }
    }
}

/// All of these, or anything where there are none.
fn joined<N: Node>(mut all: Vec<N>) -> N {
    if all.is_empty() {
        all.push(N::anything());
    }
    N::and(all)
}

/// Trust domains, each with those that count as the same.
fn aliases(values: &[String], trust_domains: &[String]) -> Vec<String> {
    let mut expanded: Vec<String> = Vec::new();
    for value in values {
        let same = if trust_domains.contains(value) {
            trust_domains
        } else {
            std::slice::from_ref(value)
        };
        for name in same {
            if !expanded.contains(name) {
                expanded.push(name.clone());
            }
        }
    }
    expanded
}
