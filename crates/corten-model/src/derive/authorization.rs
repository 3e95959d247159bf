//! AuthorizationPolicy to what a node proxy enforces.
//!
//! A node proxy sees connections, not requests. What a rule asks of requests is left out such that an ALLOW never lets
//! more through than was written, and a DENY never less is refused: an ALLOW loses the rule, a DENY only the attribute.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use corten_api::{
    diagnostic::{Code, Diagnostic, Severity},
    istio::authorization_policy::{AuthorizationPolicyAction, Condition, Operation, Rule as Written, Source},
};
use ipnet::IpNet;

use crate::{
    input::{AuthorizationPolicy, ObjectKey, ObjectKind},
    policy::{Action, Clause, Match, Pattern, Policy, PolicyScope, Rule, ServiceAccount},
    settings::Settings,
    status::reason,
    text::Name,
    trust_domain,
};

/// What becomes of an AuthorizationPolicy at node proxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Converted {
    /// What they enforce.
    pub(crate) policy: Option<Policy>,
    /// What is said about it, when it is not enforced as written: reason and message.
    pub(crate) complaint: Option<(&'static str, String)>,
    /// What was left out, field by field.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A code of ours: a field that only a waypoint enforces.
const NEEDS_WAYPOINT: Code = Code("CRT0101");

/// Converts a policy. One with targets is for waypoints, and nothing is said about it here.
pub(crate) fn convert(policy: &AuthorizationPolicy, settings: &Settings) -> Converted {
    let root_namespace = &settings.root_namespace;
    let (meta, spec) = (&policy.meta, &policy.spec);
    let mut converted = Converted::default();
    if policy.dry_run && !settings.dry_run_policies {
        converted.complaint = Some((
            reason::UNSUPPORTED_VALUE,
            format!(
                "found policy \"{}/{}\" using dry-run annotation, but support for ambient dry-run authorizationPolicies isn't enabled",
                meta.namespace, meta.name
            ),
        ));
        return converted;
    }
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return converted;
    }
    let action = match spec.action {
        AuthorizationPolicyAction::Allow => Action::Allow,
        AuthorizationPolicyAction::Deny => Action::Deny,
        AuthorizationPolicyAction::Audit => {
            converted.complaint = Some(unsupported_action("AUDIT"));
            return converted;
        }
        AuthorizationPolicyAction::Custom => {
            converted.complaint = Some(unsupported_action("CUSTOM"));
            return converted;
        }
    };
    let mut notes = Notes {
        object: ObjectKey {
            kind: ObjectKind::AuthorizationPolicy,
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        },
        trust_domains: std::iter::once(&settings.trust_domain)
            .chain(&settings.trust_domain_aliases)
            .cloned()
            .collect(),
        http: BTreeSet::new(),
        diagnostics: Vec::new(),
    };
    let written = spec.rules.as_deref().unwrap_or_default().iter().enumerate();
    let rules = written
        .filter_map(|(i, rule)| convert_rule(action, rule, &meta.namespace, &format!("spec.rules[{i}]"), &mut notes));
    let made = Policy {
        key: Arc::from(format!("{}/{}", meta.namespace, meta.name)),
        namespace: Arc::clone(&meta.namespace),
        name: Arc::clone(&meta.name),
        scope: match &policy.selector {
            Some(_) => PolicyScope::Selector,
            None if meta.namespace == *root_namespace => PolicyScope::Global,
            None => PolicyScope::Namespace,
        },
        action,
        rules: rules.collect(),
        dry_run: policy.dry_run,
    };
    if !notes.http.is_empty() {
        let effect = match action {
            Action::Allow => ALLOW_EFFECT,
            Action::Deny if made.can_match() => DENY_EFFECT,
            Action::Deny => NO_EFFECT,
        };
        let found: Vec<&str> = notes.http.iter().map(String::as_str).collect();
        converted.complaint = Some((
            reason::UNSUPPORTED_VALUE,
            format!(
                "ztunnel does not support HTTP attributes (found: {}). In ambient mode you must use a waypoint proxy to enforce HTTP rules. {effect}",
                found.join(", ")
            ),
        ));
    }
    converted.policy = Some(made);
    converted.diagnostics = notes.diagnostics;
    converted
}

// The words are Istio's: tools and people know them.
const ALLOW_EFFECT: &str =
    "Within an ALLOW policy, rules matching HTTP attributes are omitted. This will be more restrictive than requested.";
const DENY_EFFECT: &str = "DENY policy with HTTP attributes is enforced without the HTTP rules. This will be more restrictive than requested.";
const NO_EFFECT: &str = "After omitting unsupported HTTP attributes, this DENY policy has no enforceable rules at ztunnel and will have no effect. Deploy a waypoint proxy and use a targetRef to enforce this policy.";

fn unsupported_action(action: &str) -> (&'static str, String) {
    (
        reason::UNSUPPORTED_VALUE,
        format!("ztunnel does not support the {action} action"),
    )
}

/// What is found on the way.
struct Notes {
    object: ObjectKey,
    /// The mesh's trust domain, and those that count as the same.
    trust_domains: Vec<Name>,
    http: BTreeSet<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Notes {
    fn add(&mut self, code: Code, path: String, message: String) {
        self.diagnostics.push(Diagnostic {
            code,
            severity: Severity::Warning,
            object: Some(self.object.reference()),
            path,
            location: None,
            message,
        });
    }

    /// Notes those of some lists that are not empty, whose attribute only a waypoint knows.
    fn http(&mut self, path: &str, action: Action, lists: &[(&str, &[String])]) -> bool {
        let mut found = false;
        for (name, _) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            self.needs_waypoint(format!("{path}.{name}"), name, action);
            found = true;
        }
        found
    }

    fn needs_waypoint(&mut self, path: String, attribute: &str, action: Action) {
        self.http.insert(attribute.to_owned());
        let effect = match action {
            Action::Allow => "the rule is left out, which lets less through",
            Action::Deny => "it is left out of the rule",
        };
        let message = format!(
            "a node proxy sees no requests, and so no {attribute}: where it decides {effect}; sidecars and gateways enforce it as written, and waypoints that the policy is attached to by targetRefs"
        );
        self.add(NEEDS_WAYPOINT, path, message);
    }
}

/// Entries of one list, and whether all that was written is among them.
struct Entries<T> {
    good: Vec<T>,
    whole: bool,
}

fn entries<T>(
    list: &[String],
    path: &str,
    what: &str,
    notes: &mut Notes,
    parse: impl Fn(&str) -> Option<T>,
) -> Entries<T> {
    let mut entries = Entries {
        good: Vec::new(),
        whole: true,
    };
    for (i, text) in list.iter().enumerate() {
        match parse(text) {
            Some(entry) => entries.good.push(entry),
            None => {
                entries.whole = false;
                notes.add(
                    Code::INVALID,
                    format!("{path}[{i}]"),
                    format!("'{}' is not {what}; it is left out", text.escape_debug()),
                );
            }
        }
    }
    entries
}

/// A pair of lists, one to match and one not to. `None`: what is left would let an ALLOW match more than was written.
fn pair<T>(
    action: Action,
    lists: [&[String]; 2],
    paths: [String; 2],
    what: &str,
    notes: &mut Notes,
    parse: impl Fn(&str) -> Option<T> + Copy,
) -> Option<[Vec<T>; 2]> {
    let [path, not_path] = &paths;
    let positive = entries(lists[0], path, what, notes, parse);
    let negative = entries(lists[1], not_path, what, notes, parse);
    let widened = (positive.good.is_empty() && !positive.whole) || !negative.whole;
    (action == Action::Deny || !widened).then_some([positive.good, negative.good])
}

fn convert_rule(action: Action, rule: &Written, namespace: &str, path: &str, notes: &mut Notes) -> Option<Rule> {
    let mut http = false;
    let mut clauses = Vec::new();
    let to = rule.to.as_deref().unwrap_or_default();
    if !to.is_empty() {
        let matches = to.iter().enumerate().map(|(i, to)| {
            let operation = to.operation.clone().unwrap_or_default();
            operation_match(
                action,
                &operation,
                &format!("{path}.to[{i}].operation"),
                notes,
                &mut http,
            )
        });
        let matches = matches.collect();
        clauses.push(Clause { matches });
    }
    let from = rule.from.as_deref().unwrap_or_default();
    if !from.is_empty() {
        let matches = from.iter().enumerate().map(|(i, from)| {
            let source = from.source.clone().unwrap_or_default();
            source_match(
                action,
                &source,
                namespace,
                &format!("{path}.from[{i}].source"),
                notes,
                &mut http,
            )
        });
        let matches = matches.collect();
        clauses.push(Clause { matches });
    }
    for (i, condition) in rule.when.iter().enumerate() {
        let one = condition_match(action, condition, &format!("{path}.when[{i}]"), notes, &mut http);
        clauses.push(Clause { matches: vec![one] });
    }
    (action == Action::Deny || !http).then_some(Rule { clauses })
}

fn operation_match(action: Action, operation: &Operation, path: &str, notes: &mut Notes, http: &mut bool) -> Match {
    *http |= notes.http(
        path,
        action,
        &[
            ("hosts", &operation.hosts),
            ("notHosts", &operation.not_hosts),
            ("methods", &operation.methods),
            ("notMethods", &operation.not_methods),
            ("paths", &operation.paths),
            ("notPaths", &operation.not_paths),
        ],
    );
    let paths = [format!("{path}.ports"), format!("{path}.notPorts")];
    // A match that is left empty never holds.
    pair(
        action,
        [&operation.ports, &operation.not_ports],
        paths,
        PORT,
        notes,
        port,
    )
    .map_or_else(Match::default, |[ports, not_ports]| Match {
        destination_ports: ports,
        not_destination_ports: not_ports,
        ..Match::default()
    })
}

fn source_match(
    action: Action,
    source: &Source,
    namespace: &str,
    path: &str,
    notes: &mut Notes,
    http: &mut bool,
) -> Match {
    *http |= notes.http(
        path,
        action,
        &[
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ],
    );
    let paths = [format!("{path}.ipBlocks"), format!("{path}.notIpBlocks")];
    let blocks = pair(
        action,
        [&source.ip_blocks, &source.not_ip_blocks],
        paths,
        ADDRESS,
        notes,
        address,
    );
    let trust_domains = [
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ];
    let asked: Vec<&str> = trust_domains
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, _)| name)
        .collect();
    for name in &asked {
        let effect = match action {
            Action::Allow => "this source never matches",
            Action::Deny => "it is left out of the source",
        };
        let message = format!("a node proxy does not know {name}: {effect}; principals can say the same");
        notes.add(NEEDS_WAYPOINT, format!("{path}.{name}"), message);
    }
    // A match that is left empty never holds.
    let widened = action == Action::Allow && !asked.is_empty();
    let Some([source_ips, not_source_ips]) = blocks.filter(|_| !widened) else {
        return Match::default();
    };
    Match {
        source_ips,
        not_source_ips,
        namespaces: patterns(&source.namespaces),
        not_namespaces: patterns(&source.not_namespaces),
        service_accounts: accounts(&source.service_accounts, namespace),
        not_service_accounts: accounts(&source.not_service_accounts, namespace),
        principals: principals(&source.principals, notes),
        not_principals: principals(&source.not_principals, notes),
        ..Match::default()
    }
}

fn condition_match(action: Action, condition: &Condition, path: &str, notes: &mut Notes, http: &mut bool) -> Match {
    let lists: [&[String]; 2] = [&condition.values, &condition.not_values];
    let paths = [format!("{path}.values"), format!("{path}.notValues")];
    let mut made = Match::default();
    match condition.key.as_str() {
        "source.namespace" => {
            made.namespaces = patterns(&condition.values);
            made.not_namespaces = patterns(&condition.not_values);
        }
        "source.principal" => {
            made.principals = principals(&condition.values, notes);
            made.not_principals = principals(&condition.not_values, notes);
        }
        "source.ip" => {
            if let Some([ips, not_ips]) = pair(action, lists, paths, ADDRESS, notes, address) {
                (made.source_ips, made.not_source_ips) = (ips, not_ips);
            }
        }
        "destination.ip" => {
            if let Some([ips, not_ips]) = pair(action, lists, paths, ADDRESS, notes, address) {
                (made.destination_ips, made.not_destination_ips) = (ips, not_ips);
            }
        }
        "destination.port" => {
            if let Some([ports, not_ports]) = pair(action, lists, paths, PORT, notes, port) {
                (made.destination_ports, made.not_destination_ports) = (ports, not_ports);
            }
        }
        key => {
            *http = true;
            notes.needs_waypoint(format!("{path}.key"), key, action);
        }
    }
    made
}

const PORT: &str = "a port number from 0 to 65535";
const ADDRESS: &str = "an address or a range of addresses";

fn port(text: &str) -> Option<u16> {
    // A sign is not part of a port number, though the parser would take one.
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// An address or a range, as written: the bits behind the prefix stay.
fn address(text: &str) -> Option<IpNet> {
    if text.contains('/') {
        text.parse().ok()
    } else {
        text.parse::<IpAddr>().ok().map(IpNet::from)
    }
}

fn patterns(list: &[String]) -> Vec<Pattern> {
    list.iter().map(|text| Pattern::parse(text)).collect()
}

fn principals(list: &[String], notes: &Notes) -> Vec<Pattern> {
    patterns(&trust_domain::expand(list, &notes.trust_domains))
}

fn accounts(list: &[String], namespace: &str) -> Vec<ServiceAccount> {
    let account = |text: &String| {
        let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
        ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    };
    list.iter().map(account).collect()
}
