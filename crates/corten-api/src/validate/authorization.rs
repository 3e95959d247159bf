//! AuthorizationPolicy.

use super::{
    Context, Report, Validate,
    selector::Attachment,
    text::{self, shown},
};
use crate::istio::authorization_policy::{
    AuthorizationPolicyAction as Action, AuthorizationPolicyActionDetail, AuthorizationPolicySpec, Condition,
    Operation, Rule, Source,
};

impl Validate for AuthorizationPolicySpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        if !self.validate_dry_run(context, report) {
            return;
        }
        let attachment = Attachment {
            selector: self.selector.as_ref(),
            target_ref: self.target_ref.as_ref(),
            target_refs: &self.target_refs,
        };
        attachment.validate(report);
        self.validate_action(report);
        for (i, rule) in self.rules.iter().flatten().enumerate() {
            let at = format!("spec.rules[{i}]");
            if self.action == Action::Custom {
                custom_rule(&at, rule, report);
            }
            validate_rule(&at, rule, self.action, report);
        }
    }
}

impl AuthorizationPolicySpec {
    fn validate_dry_run(&self, context: Context<'_>, report: &mut Report) -> bool {
        const KEY: &str = "istio.io/dry-run";
        const BOOLEANS: [&str; 12] = [
            "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
        ];
        let Some(value) = context.metadata.annotations.get(KEY) else {
            return true;
        };
        let at = format!("metadata.annotations[{KEY}]");
        if !matches!(self.action, Action::Allow | Action::Deny) {
            report.error(at, "only ALLOW and DENY have a dry run; remove the annotation");
            return false;
        }
        if !BOOLEANS.contains(&value.as_str()) {
            report.error(at, format!("{} is neither true nor false", shown(value)));
            return false;
        }
        true
    }

    fn validate_action(&self, report: &mut Report) {
        let never = "without rules this never applies; for all requests, add an empty rule: {}";
        let provider = self
            .action_detail
            .as_ref()
            .map(|AuthorizationPolicyActionDetail::Provider(provider)| provider);
        match (self.action, &self.rules) {
            (Action::Custom | Action::Deny, None) => report.error("spec.rules", never),
            (Action::Custom, Some(_)) if provider.is_none_or(|provider| provider.name.is_empty()) => {
                report.error("spec.provider.name", "required for action CUSTOM");
            }
            _ => {}
        }
        if provider.is_some() && self.action != Action::Custom {
            report.error("spec.provider", "only for action CUSTOM");
        }
    }
}

/// External authorizers are asked before the identity of the caller is known.
fn custom_rule(at: &str, rule: &Rule, report: &mut Report) {
    let refuse = |report: &mut Report, at: String| report.error(at, "not supported with action CUSTOM");
    for (i, from) in rule.from.iter().flatten().enumerate() {
        let Some(source) = &from.source else { continue };
        let unsupported = [
            ("namespaces", &source.namespaces),
            ("notNamespaces", &source.not_namespaces),
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ];
        for (field, _) in unsupported.iter().filter(|(_, values)| !values.is_empty()) {
            refuse(report, format!("{at}.from[{i}].source.{field}"));
        }
    }
    for (i, condition) in rule.when.iter().enumerate() {
        let key = condition.key.as_str();
        let identity = [
            "source.namespace",
            "source.serviceAccount",
            "source.trustDomain",
            "source.principal",
        ];
        if identity.contains(&key) || key.starts_with("request.auth.") {
            refuse(report, format!("{at}.when[{i}].key"));
        }
    }
}

fn validate_rule(at: &str, rule: &Rule, action: Action, report: &mut Report) {
    for (field, empty) in [
        ("from", rule.from.as_ref().is_some_and(Vec::is_empty)),
        ("to", rule.to.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if empty {
            report.error(format!("{at}.{field}"), "must not be empty; leave it out to match any");
        }
    }
    let (mut has_source, mut has_operation, mut tcp_source, mut tcp_operation) = (false, false, false, false);
    for (i, from) in rule.from.iter().flatten().enumerate() {
        let at = format!("{at}.from[{i}].source");
        match &from.source {
            None => report.error(at, "required"),
            Some(source) => {
                has_source = true;
                tcp_source |= validate_source(&at, source, report);
            }
        }
    }
    for (i, to) in rule.to.iter().flatten().enumerate() {
        let at = format!("{at}.to[{i}].operation");
        match &to.operation {
            None => report.error(at, "required"),
            Some(operation) => {
                has_operation = true;
                tcp_operation |= validate_operation(&at, operation, report);
            }
        }
    }
    for (i, condition) in rule.when.iter().enumerate() {
        validate_condition(&format!("{at}.when[{i}]"), condition, report);
    }
    let only_http = (has_source && !has_operation && !tcp_source) || (has_operation && !tcp_operation);
    if only_http && action == Action::Deny {
        report.warning(
            at,
            "looks at requests only, and so denies all connections to TCP ports; name the ports as well",
        );
    }
}

/// `true` when it looks at something that connections have, not only requests.
fn validate_source(at: &str, source: &Source, report: &mut Report) -> bool {
    let connection = [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
    ];
    let accounts = [
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
    ];
    let addresses = [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    let requests = [
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
    ];
    let domains = [
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ];
    let any = |fields: &[(&str, &Vec<String>)]| fields.iter().any(|(_, values)| !values.is_empty());
    if any(&connection) && any(&accounts) {
        report.error(at, "serviceAccounts cannot be given beside principals or namespaces");
    }
    let on_connections = any(&connection) || any(&accounts) || any(&addresses);
    if !on_connections && !any(&requests) && !any(&domains) {
        report.error(at, "must not be empty; name at least one property of the caller");
    }
    for (field, values) in connection.iter().chain(&requests).chain(&addresses) {
        report.check(format!("{at}.{field}"), not_empty(values));
    }
    for (field, values) in &addresses {
        report.check(format!("{at}.{field}"), ip_blocks(values));
    }
    for (field, values) in &accounts {
        report.check(format!("{at}.{field}"), service_accounts(values));
    }
    for (field, values) in &domains {
        report.check(format!("{at}.{field}"), trust_domains(values));
    }
    on_connections
}

/// `true` when it looks at something that connections have, not only requests.
fn validate_operation(at: &str, operation: &Operation, report: &mut Report) -> bool {
    let fields = [
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
    ];
    if fields.iter().all(|(_, values)| values.is_empty()) {
        report.error(at, "must not be empty; name at least one property of the request");
    }
    for (field, values) in &fields {
        report.check(format!("{at}.{field}"), not_empty(values));
        match *field {
            "ports" | "notPorts" => report.check(format!("{at}.{field}"), ports(values)),
            "paths" | "notPaths" => report.check(format!("{at}.{field}"), path_templates(values)),
            _ => {}
        }
    }
    !operation.ports.is_empty() || !operation.not_ports.is_empty()
}

fn validate_condition(at: &str, condition: &Condition, report: &mut Report) {
    if condition.key.is_empty() {
        report.error(format!("{at}.key"), "required");
        return;
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.error(at, "needs values or notValues");
        return;
    }
    for (field, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        report.check(format!("{at}.{field}"), attribute(&condition.key, values));
    }
}

fn attribute(key: &str, values: &[String]) -> Result<(), String> {
    not_empty(values)?;
    match key {
        _ if key.starts_with("request.headers") => in_brackets(key),
        "source.ip" | "remote.ip" | "destination.ip" => ip_blocks(values),
        "source.serviceAccount" => service_accounts(values),
        "source.trustDomain" => wildcards(values),
        "destination.port" => ports(values),
        "source.namespace"
        | "source.principal"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter"
        | "connection.sni" => Ok(()),
        _ if key.starts_with("request.auth.claims") => in_brackets(key),
        _ if key.starts_with("experimental.envoy.filters.") => in_brackets(key),
        "destination.namespace" => Err("the policy's own namespace decides this; remove the condition".to_owned()),
        _ if key.starts_with("destination.labels") => Err("use the policy's selector instead".to_owned()),
        "destination.name" | "destination.user" => Err(format!("{key} is no longer supported")),
        _ => Err(format!("{} is not an attribute that can be matched", shown(key))),
    }
}

fn in_brackets(key: &str) -> Result<(), String> {
    let good = key
        .strip_suffix(']')
        .and_then(|key| key.split_once('['))
        .is_some_and(|(name, inner)| !name.is_empty() && !inner.is_empty());
    if good {
        Ok(())
    } else {
        Err(format!(
            "{} must name one in brackets, as in request.headers[User-Agent]",
            shown(key)
        ))
    }
}

fn not_empty(values: &[String]) -> Result<(), String> {
    match values.iter().any(String::is_empty) {
        true => Err("must not have an empty value".to_owned()),
        false => Ok(()),
    }
}

fn ip_blocks(values: &[String]) -> Result<(), String> {
    values.iter().try_for_each(|value| text::ip_subnet(value))
}

fn ports(values: &[String]) -> Result<(), String> {
    let bad = values
        .iter()
        .find(|value| value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) || value.parse::<u16>().is_err());
    bad.map_or(Ok(()), |value| Err(format!("{} is not a port number", shown(value))))
}

fn wildcards(values: &[String]) -> Result<(), String> {
    not_empty(values)?;
    for value in values {
        let stars = value.matches('*').count();
        if stars > 1 || (stars == 1 && !value.starts_with('*') && !value.ends_with('*')) {
            return Err(format!(
                "{} may have one wildcard, at its beginning or end",
                shown(value)
            ));
        }
    }
    Ok(())
}

fn trust_domains(values: &[String]) -> Result<(), String> {
    wildcards(values)?;
    let bad = values.iter().find(|value| value.contains('/'));
    bad.map_or(Ok(()), |value| {
        Err(format!("{} is not a trust domain: it has a '/'", shown(value)))
    })
}

fn service_accounts(values: &[String]) -> Result<(), String> {
    const MOST: usize = 16;
    const LONGEST: usize = 320;
    if values.len() > MOST {
        return Err(format!("at most {MOST} service accounts can be listed"));
    }
    for value in values {
        let named = match value.split_once('/') {
            Some((namespace, account)) => !namespace.is_empty() && !account.is_empty() && !account.contains('/'),
            None => !value.is_empty(),
        };
        if !named || value.contains('*') || value.len() > LONGEST {
            return Err(format!(
                "{} must be NAME or NAMESPACE/NAME, without wildcards",
                shown(value)
            ));
        }
    }
    Ok(())
}

/// Paths may use `{*}` for a segment and, as the last of these, `{**}` for any number.
fn path_templates(paths: &[String]) -> Result<(), String> {
    for path in paths {
        let is_template = path.contains("{*}") || path.contains("{**}");
        let mut any_seen = false;
        for segment in path.trim_matches('/').split('/') {
            match segment {
                "{*}" | "{**}" if any_seen => {
                    return Err(format!("{}: {{**}} must be the last operator", shown(path)));
                }
                "{*}" => {}
                "{**}" => any_seen = true,
                _ if segment.contains(['{', '}']) => {
                    return Err(format!(
                        "{}: braces are only for {{*}} and {{**}} as whole segments",
                        shown(path)
                    ));
                }
                _ if is_template && !is_literal(segment) => {
                    return Err(format!(
                        "{}: {} cannot stand in a path template",
                        shown(path),
                        shown(segment)
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_literal(segment: &str) -> bool {
    !segment.is_empty()
        && segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
}
