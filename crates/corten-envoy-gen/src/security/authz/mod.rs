//! AuthorizationPolicies as Envoy's filters: CUSTOM, then AUDIT, DENY and ALLOW, one filter for each action in use.
//!
//! What cannot be had as it is written never lets more through, and is a diagnostic that names the object and the field.

mod attribute;
mod ext_authz;
pub mod matcher;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use corten_api::{
    diagnostic::{Code, Diagnostic, ObjectRef, Severity},
    istio::authorization_policy::{
        AuthorizationPolicyAction, AuthorizationPolicyActionDetail, AuthorizationPolicySpec,
    },
};
use corten_envoy::{
    any,
    envoy::{
        config::{
            listener::v3::{Filter, filter},
            rbac::v3::{
                Permission, Policy, Principal, Rbac, permission::Rule as Allow, principal::Identifier, rbac::Action,
            },
        },
        extensions::filters::{
            http::rbac::v3::Rbac as HttpRbac,
            network::{
                http_connection_manager::v3::{HttpFilter, http_filter},
                rbac::v3::Rbac as TcpRbac,
            },
        },
    },
    google::protobuf::Any,
};
use corten_routing::Config;

use self::rule::{Problem, Target};
pub use self::{
    attribute::Peer,
    ext_authz::{Providers, find},
};

/// A policy is not enforced as it is written.
pub const NOT_AS_WRITTEN: Code = Code("CRT0301");
/// A policy asks about requests where there are none.
pub const NEEDS_REQUESTS: Code = Code("CRT0302");

/// A policy as it is written.
pub type Written = Config<AuthorizationPolicySpec>;

/// How filters are made for a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The mesh's own trust domain, then its aliases.
    pub trust_domains: &'a [String],
    /// Whose identity is asked.
    pub peer: Peer,
    /// Whom CUSTOM policies ask.
    pub providers: &'a Providers,
    /// Policies of several providers may apply to one workload. Where they may not, whatever they apply to is denied.
    pub several_providers: bool,
}

/// Filters of HTTP or of connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters<F> {
    /// Of CUSTOM policies: before requests are authenticated.
    pub custom: Vec<F>,
    /// Of the others, in order.
    pub others: Vec<F>,
    /// What is not as it is written.
    pub diagnostics: Vec<Diagnostic>,
}

/// The filters for requests.
pub fn http<'a>(policies: impl IntoIterator<Item = &'a Written>, options: &Options<'_>) -> Filters<HttpFilter> {
    build(policies, options, false, &mut HttpForm)
}

/// The filters for connections.
pub fn tcp<'a>(policies: impl IntoIterator<Item = &'a Written>, options: &Options<'_>) -> Filters<Filter> {
    build(policies, options, true, &mut TcpForm)
}

/// The filters for connections that are tunnelled: requests to connect, of which nothing but the connection counts.
pub fn tunnels<'a>(policies: impl IntoIterator<Item = &'a Written>, options: &Options<'_>) -> Filters<HttpFilter> {
    build(policies, options, true, &mut HttpForm)
}

/// Whether a policy is only to be logged.
pub fn is_dry_run(policy: &Written) -> bool {
    let said = policy.annotations.get("istio.io/dry-run").map(String::as_str);
    matches!(said, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Rules of an action, and who has none.
struct Rules {
    action: Action,
    /// The names begin so.
    prefix: String,
    enforced: Option<Rbac>,
    shadow: Option<Rbac>,
}

impl Rules {
    fn new(action: Action, prefix: String) -> Rules {
        Rules {
            action,
            prefix,
            enforced: None,
            shadow: None,
        }
    }

    fn add(&mut self, policy: &Written, target: Target<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let rules = if is_dry_run(policy) {
            &mut self.shadow
        } else {
            &mut self.enforced
        };
        let rules = rules.get_or_insert_with(|| Rbac {
            action: self.action.into(),
            ..Rbac::default()
        });
        let key = |i: usize| {
            format!(
                "{}ns[{}]-policy[{}]-rule[{i}]",
                self.prefix, policy.namespace, policy.name
            )
        };
        let written = policy.spec.rules.as_deref().unwrap_or_default();
        if policy.damaged {
            diagnostics.push(damaged(policy));
            let all = if self.action == Action::Allow {
                never()
            } else {
                always()
            };
            rules.policies.insert(key(0), all);
            return;
        }
        for (i, rule) in written.iter().enumerate() {
            let path = format!("spec.rules[{i}]");
            let (compiled, problems) = rule::compile(rule, &path, target);
            let kept = compiled.is_some();
            diagnostics.extend(
                problems
                    .into_iter()
                    .map(|problem| of_problem(policy, problem, kept, self.action)),
            );
            if let Some(compiled) = compiled {
                rules.policies.insert(key(i), compiled);
            }
        }
        if written.is_empty() {
            rules.policies.insert(key(0), never());
        }
    }
}

/// What differs between filters of HTTP and of connections.
trait Form {
    type Filter;
    /// Whether it is about connections.
    fn decide(&mut self, rules: Option<Rbac>, shadow: Option<Rbac>, shadow_prefix: &str) -> Self::Filter;
    fn ask(&mut self, provider: &ext_authz::Provider, marked: &str) -> Option<Self::Filter>;
}

struct HttpForm;
struct TcpForm;

impl Form for HttpForm {
    type Filter = HttpFilter;

    fn decide(&mut self, rules: Option<Rbac>, shadow_rules: Option<Rbac>, shadow_prefix: &str) -> HttpFilter {
        let rbac = HttpRbac {
            rules,
            shadow_rules,
            shadow_rules_stat_prefix: shadow_prefix.to_owned(),
            ..HttpRbac::default()
        };
        http_filter("envoy.filters.http.rbac", any(&rbac))
    }

    fn ask(&mut self, provider: &ext_authz::Provider, marked: &str) -> Option<HttpFilter> {
        Some(http_filter("envoy.filters.http.ext_authz", any(&provider.http(marked))))
    }
}

impl Form for TcpForm {
    type Filter = Filter;

    fn decide(&mut self, rules: Option<Rbac>, shadow_rules: Option<Rbac>, shadow_prefix: &str) -> Filter {
        let rbac = TcpRbac {
            rules,
            shadow_rules,
            shadow_rules_stat_prefix: shadow_prefix.to_owned(),
            stat_prefix: "tcp.".to_owned(),
            ..TcpRbac::default()
        };
        tcp_filter("envoy.filters.network.rbac", any(&rbac))
    }

    fn ask(&mut self, provider: &ext_authz::Provider, marked: &str) -> Option<Filter> {
        let asking = provider.tcp(marked)?;
        Some(tcp_filter("envoy.filters.network.ext_authz", any(&asking)))
    }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

fn tcp_filter(name: &str, config: Any) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    }
}

const CUSTOM: &str = "istio-ext-authz";

fn build<'a, F: Form>(
    policies: impl IntoIterator<Item = &'a Written>,
    options: &Options<'_>,
    tcp: bool,
    form: &mut F,
) -> Filters<F::Filter> {
    let mut diagnostics = Vec::new();
    let mut by_action: BTreeMap<u8, Rules> = BTreeMap::new();
    let mut by_provider: BTreeMap<&str, (Rules, &Written)> = BTreeMap::new();
    for policy in policies {
        let (order, action) = match policy.spec.action {
            AuthorizationPolicyAction::Custom => (0, Action::Deny),
            AuthorizationPolicyAction::Audit => (1, Action::Log),
            AuthorizationPolicyAction::Deny => (2, Action::Deny),
            AuthorizationPolicyAction::Allow => (3, Action::Allow),
        };
        let target = Target {
            action,
            tcp,
            peer: options.peer,
            trust_domains: options.trust_domains,
            namespace: &policy.namespace,
        };
        let rules = match policy.spec.action {
            AuthorizationPolicyAction::Custom if is_dry_run(policy) => {
                let message = "a dry run of action CUSTOM would ask its provider in earnest, so it does nothing";
                diagnostics.push(of_policy(
                    policy,
                    "metadata.annotations",
                    Severity::Warning,
                    message.to_owned(),
                ));
                continue;
            }
            AuthorizationPolicyAction::Custom => {
                let provider = provider(policy);
                let prefix = match provider {
                    "" => format!("{CUSTOM}-"),
                    name => format!("{CUSTOM}-{name}-"),
                };
                let new = || (Rules::new(action, prefix), policy);
                &mut by_provider.entry(provider).or_insert_with(new).0
            }
            _ => by_action
                .entry(order)
                .or_insert_with(|| Rules::new(action, String::new())),
        };
        rules.add(policy, target, &mut diagnostics);
    }
    let others = by_action.into_values().map(|rules| {
        // The name of what would have happened; where nothing would, Istio's name is that of ALLOW.
        let shadow_prefix = match rules.shadow.as_ref().map_or(Action::Allow, |_| rules.action) {
            Action::Allow => "istio_dry_run_allow_",
            Action::Deny => "istio_dry_run_deny_",
            Action::Log => "",
        };
        form.decide(rules.enforced, rules.shadow, shadow_prefix)
    });
    let others = others.collect();
    Filters {
        others,
        custom: custom(by_provider, options, form, &mut diagnostics),
        diagnostics,
    }
}

fn provider(policy: &Written) -> &str {
    match &policy.spec.action_detail {
        Some(AuthorizationPolicyActionDetail::Provider(provider)) => &provider.name,
        None => "",
    }
}

/// A filter that marks what policies are about, and one that asks about what is marked, for each provider.
fn custom<F: Form>(
    by_provider: BTreeMap<&str, (Rules, &Written)>,
    options: &Options<'_>,
    form: &mut F,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<F::Filter> {
    let several = by_provider.len() > 1;
    let mut filters = Vec::new();
    for (name, (rules, policy)) in by_provider {
        let Some(marking) = rules.enforced else { continue };
        let provider = if several && !options.several_providers {
            Err("policies of several providers apply to one workload".to_owned())
        } else {
            options.providers.get(name)
        };
        let provider = match provider {
            Ok(provider) => provider,
            Err(message) => {
                let message = format!("{message}; what it applies to is denied");
                diagnostics.push(of_policy(policy, "spec.provider", Severity::Error, message));
                filters.push(form.decide(Some(denying(marking)), None, ""));
                continue;
            }
        };
        // Another provider's name may begin with this one's.
        let marked = if several {
            rules.prefix
        } else {
            format!("{CUSTOM}-{name}")
        };
        match form.ask(provider, &marked) {
            Some(asking) => {
                filters.push(form.decide(None, Some(marking), "istio_ext_authz_"));
                filters.push(asking);
            }
            None => {
                let message = format!(
                    "extension provider '{name}' speaks HTTP, and is not asked about connections without requests"
                );
                diagnostics.push(Diagnostic {
                    code: NEEDS_REQUESTS,
                    ..of_policy(policy, "spec.provider", Severity::Info, message)
                });
            }
        }
    }
    filters
}

/// The same policies, denied outright.
fn denying(rules: Rbac) -> Rbac {
    let policies: HashMap<String, Policy> = rules
        .policies
        .into_iter()
        .map(|(key, policy)| (format!("{key}-deny-due-to-bad-CUSTOM-action"), policy))
        .collect();
    Rbac { policies, ..rules }
}

/// Matches nothing. A filter without policies would do as well, but this one has a name.
fn never() -> Policy {
    let not_any = Permission {
        rule: Some(Allow::NotRule(Box::new(Permission {
            rule: Some(Allow::Any(true)),
        }))),
    };
    let nobody = Principal {
        identifier: Some(Identifier::NotId(Box::new(Principal {
            identifier: Some(Identifier::Any(true)),
        }))),
    };
    Policy {
        permissions: vec![not_any],
        principals: vec![nobody],
        ..Policy::default()
    }
}

/// Matches everything.
fn always() -> Policy {
    Policy {
        permissions: vec![Permission {
            rule: Some(Allow::Any(true)),
        }],
        principals: vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
        ..Policy::default()
    }
}

fn of_problem(policy: &Written, problem: Problem, kept: bool, action: Action) -> Diagnostic {
    let effect = match (kept, action) {
        (false, _) => "the rule allows nothing",
        (true, Action::Deny) => "the rule is applied without it, to more than is written",
        (true, _) => "the rule is applied without it",
    };
    match problem.message {
        Some(message) => {
            let message = format!("{message}; {effect}");
            of_policy(policy, &problem.path, Severity::Error, message)
        }
        None => {
            let message = format!("connections without requests do not have this; there {effect}");
            Diagnostic {
                code: NEEDS_REQUESTS,
                ..of_policy(policy, &problem.path, Severity::Info, message)
            }
        }
    }
}

fn damaged(policy: &Written) -> Diagnostic {
    let message = match policy.spec.action {
        AuthorizationPolicyAction::Allow => "it cannot be read as it is written; it allows nothing",
        _ => "it cannot be read as it is written; it applies to everything",
    };
    of_policy(policy, "spec", Severity::Error, message.to_owned())
}

fn of_policy(policy: &Written, path: &str, severity: Severity, message: String) -> Diagnostic {
    Diagnostic {
        code: NOT_AS_WRITTEN,
        severity,
        object: Some(ObjectRef {
            api_version: "security.istio.io/v1".to_owned(),
            kind: "AuthorizationPolicy".to_owned(),
            namespace: policy.namespace.to_string(),
            name: policy.name.to_string(),
        }),
        path: path.to_owned(),
        location: None,
        message,
    }
}
