//! Role-based access control: the policies of a filter, judged one by one.

use corten_envoy::envoy::config::core::v3::TypedExtensionConfig;
use corten_envoy::envoy::config::rbac::v3::{
    MetadataSource, Permission, Policy, Principal, Rbac, SourcedMetadata, permission::Rule, principal::Identifier,
    rbac::Action,
};
use corten_envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use corten_envoy::envoy::r#type::matcher::v3::{FilterStateMatcher, PathMatcher, filter_state_matcher, path_matcher};
use serde_json::{Map, Value};

use crate::facts::Facts;
use crate::headers::judge_header;
use crate::strings::{Judged, judge_address, judge_string, quoted, template_matches};
use crate::trace::{FilterVerdict, PolicyVerdict, Verdict};
use crate::values::judge_metadata;

/// How many alternatives an explanation names.
const NAMED_MAX: usize = 3;

/// The rules of a filter, for HTTP or for connections.
pub(crate) struct Rules<'a> {
    /// The filter's name.
    pub(crate) name: &'a str,
    /// What is enforced.
    pub(crate) enforced: Option<&'a Rbac>,
    /// What is only tried out.
    pub(crate) shadow: Option<&'a Rbac>,
    /// What the names of shadow results begin with.
    pub(crate) shadow_prefix: &'a str,
    /// The name under which results are written down.
    pub(crate) metadata_name: &'a str,
}

/// What the filter does with the call. Shadow results are written down in the facts, where other filters look for them.
pub(crate) fn enforce(rules: &Rules<'_>, facts: &mut Facts) -> FilterVerdict {
    let mut policies = Vec::new();
    if let Some(shadow) = rules.shadow {
        let (allowed, decider, verdicts) = judge_all(shadow, facts, true);
        policies.extend(verdicts);
        let result = if allowed { "allowed" } else { "denied" };
        let mut noted = Map::new();
        noted.insert(
            format!("{}shadow_engine_result", rules.shadow_prefix),
            Value::String(result.to_owned()),
        );
        if let Some(decider) = decider {
            noted.insert(
                format!("{}shadow_effective_policy_id", rules.shadow_prefix),
                Value::String(decider),
            );
        }
        write_down(facts, rules.metadata_name, noted);
    }
    let Some(enforced) = rules.enforced else {
        return FilterVerdict {
            name: rules.name.to_owned(),
            verdict: Verdict::Passed,
            why: "it enforces nothing".to_owned(),
            policies,
        };
    };
    let (allowed, decider, verdicts) = judge_all(enforced, facts, false);
    policies.extend(verdicts);
    let why = match (enforced.action(), decider) {
        (Action::Allow, Some(decider)) => format!("{decider} allows it"),
        (Action::Allow, None) if enforced.policies.is_empty() => "nothing is allowed".to_owned(),
        (Action::Allow, None) => "no policy allows it".to_owned(),
        (Action::Deny, Some(decider)) => format!("{decider} denies it"),
        (Action::Deny, None) => "no policy denies it".to_owned(),
        (Action::Log, Some(decider)) => format!("{decider} has it logged"),
        (Action::Log, None) => "no policy has it logged".to_owned(),
    };
    let verdict = match (allowed, enforced.action()) {
        (_, Action::Log) => Verdict::Passed,
        (true, _) => Verdict::Allowed,
        (false, _) => Verdict::Denied,
    };
    FilterVerdict {
        name: rules.name.to_owned(),
        verdict,
        why,
        policies,
    }
}

fn write_down(facts: &mut Facts, filter: &str, noted: Map<String, Value>) {
    let slot = facts
        .metadata
        .entry(filter.to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(slot) = slot {
        slot.extend(noted);
    }
}

/// Whether the rules allow it, the policy that decided, and what each policy said.
fn judge_all(rules: &Rbac, facts: &Facts, shadow: bool) -> (bool, Option<String>, Vec<PolicyVerdict>) {
    let action = rules.action();
    let mut names: Vec<&String> = rules.policies.keys().collect();
    names.sort();
    let mut verdicts = Vec::new();
    let mut decider = None;
    for name in names {
        let judged = judge_policy(&rules.policies[name], facts);
        if judged.yes && decider.is_none() {
            decider = Some(name.clone());
        }
        verdicts.push(PolicyVerdict {
            name: name.clone(),
            action: action.as_str_name().to_owned(),
            shadow,
            matched: judged.yes,
            why: judged.why,
        });
    }
    let allowed = match action {
        Action::Allow => decider.is_some(),
        Action::Deny => decider.is_none(),
        Action::Log => true,
    };
    (allowed, decider, verdicts)
}

fn judge_policy(policy: &Policy, facts: &Facts) -> Judged {
    if policy.condition.is_some() || policy.checked_condition.is_some() {
        return Judged::new(false, "it has a condition in CEL, which is not evaluated here");
    }
    let permission = any(
        policy
            .permissions
            .iter()
            .map(|permission| judge_permission(permission, facts)),
        "no permission",
    );
    if !permission.yes {
        return permission;
    }
    let principal = any(
        policy
            .principals
            .iter()
            .map(|principal| judge_principal(principal, facts)),
        "no principal",
    );
    if !principal.yes {
        return principal;
    }
    let whys = [permission.why, principal.why];
    let said: Vec<&str> = whys.iter().map(String::as_str).filter(|why| *why != ANY).collect();
    Judged::new(
        true,
        if said.is_empty() {
            ANY.to_owned()
        } else {
            said.join("; ")
        },
    )
}

/// What is said of a rule that asks for nothing.
const ANY: &str = "it is for all";

/// The first that holds; else what they lack.
fn any(judged: impl Iterator<Item = Judged>, nothing: &str) -> Judged {
    let mut lacks = Vec::new();
    for judged in judged {
        if judged.yes {
            return judged;
        }
        if !lacks.contains(&judged.why) {
            lacks.push(judged.why);
        }
    }
    if lacks.is_empty() {
        return Judged::new(false, nothing);
    }
    let more = lacks.len().saturating_sub(NAMED_MAX);
    lacks.truncate(NAMED_MAX);
    if more > 0 {
        lacks.push(format!("{more} more"));
    }
    Judged::new(false, lacks.join(", and "))
}

/// All must hold; else the first that does not.
fn all(judged: impl Iterator<Item = Judged>) -> Judged {
    let mut has = Vec::new();
    for judged in judged {
        if !judged.yes {
            return judged;
        }
        if judged.why != ANY && !has.contains(&judged.why) {
            has.push(judged.why);
        }
    }
    Judged::new(true, if has.is_empty() { ANY.to_owned() } else { has.join("; ") })
}

fn not(judged: Judged) -> Judged {
    Judged::new(
        !judged.yes,
        if judged.yes {
            format!("{}, which must not be", judged.why)
        } else {
            judged.why
        },
    )
}

fn of_any(any: bool) -> Judged {
    Judged::new(any, if any { ANY } else { "it is for none" })
}

fn judge_permission(permission: &Permission, facts: &Facts) -> Judged {
    match &permission.rule {
        None => Judged::new(false, "a permission says nothing"),
        Some(Rule::AndRules(set)) => all(set.rules.iter().map(|rule| judge_permission(rule, facts))),
        Some(Rule::OrRules(set)) => any(set.rules.iter().map(|rule| judge_permission(rule, facts)), "no rule"),
        Some(Rule::NotRule(inner)) => not(judge_permission(inner, facts)),
        Some(Rule::Any(truth)) => of_any(*truth),
        Some(Rule::Header(matcher)) => judge_header(matcher, |name| facts.header(name)),
        Some(Rule::UrlPath(matcher)) => judge_path(matcher, facts),
        Some(Rule::UriTemplate(template)) => judge_template(template, facts),
        Some(Rule::DestinationIp(range)) => judge_address("destination", range, facts.destination.ip()),
        Some(Rule::DestinationPort(port)) => {
            let yes = u32::from(facts.destination.port()) == *port;
            let is = if yes { "is" } else { "is not" };
            Judged::new(yes, format!("port {} {is} {port}", facts.destination.port()))
        }
        Some(Rule::DestinationPortRange(range)) => {
            let port = facts.destination.port();
            let yes = (range.start..range.end).contains(&i32::from(port));
            let is = if yes { "is" } else { "is not" };
            Judged::new(yes, format!("port {port} {is} in {}..{}", range.start, range.end))
        }
        Some(Rule::Metadata(matcher)) => judge_metadata(matcher, &facts.metadata),
        Some(Rule::SourcedMetadata(sourced)) => judge_sourced(sourced, facts),
        Some(Rule::RequestedServerName(matcher)) => judge_string("server name", matcher, &facts.server_name),
        Some(Rule::Matcher(extension)) => extension_unknown(extension),
    }
}

fn judge_principal(principal: &Principal, facts: &Facts) -> Judged {
    match &principal.identifier {
        None => Judged::new(false, "a principal says nothing"),
        Some(Identifier::AndIds(set)) => all(set.ids.iter().map(|id| judge_principal(id, facts))),
        Some(Identifier::OrIds(set)) => any(set.ids.iter().map(|id| judge_principal(id, facts)), "no principal"),
        Some(Identifier::NotId(inner)) => not(judge_principal(inner, facts)),
        Some(Identifier::Any(truth)) => of_any(*truth),
        Some(Identifier::Authenticated(wanted)) => {
            let Some(tls) = &facts.tls else {
                return Judged::new(false, "the client is not authenticated");
            };
            let Some(matcher) = &wanted.principal_name else {
                return Judged::new(true, "the client is authenticated");
            };
            let certificate = tls.certificate.clone().unwrap_or_default();
            let names = if certificate.uris.is_empty() {
                certificate.dns
            } else {
                certificate.uris
            };
            match names.first() {
                None => judge_string("client", matcher, ""),
                Some(_) => any(
                    names.iter().map(|name| judge_string("client", matcher, name)),
                    "no client",
                ),
            }
        }
        // What is called the source is the connection's own, too.
        Some(Identifier::SourceIp(range) | Identifier::DirectRemoteIp(range)) => {
            judge_address("source", range, facts.source.ip())
        }
        Some(Identifier::RemoteIp(range)) => judge_address("remote address", range, facts.remote),
        Some(Identifier::Header(matcher)) => judge_header(matcher, |name| facts.header(name)),
        Some(Identifier::UrlPath(matcher)) => judge_path(matcher, facts),
        Some(Identifier::Metadata(matcher)) => judge_metadata(matcher, &facts.metadata),
        Some(Identifier::SourcedMetadata(sourced)) => judge_sourced(sourced, facts),
        Some(Identifier::FilterState(matcher)) => judge_state(matcher, facts),
        Some(Identifier::Custom(extension)) => extension_unknown(extension),
    }
}

fn judge_path(matcher: &PathMatcher, facts: &Facts) -> Judged {
    if facts.request.is_none() {
        return Judged::new(false, "there is no request");
    }
    match &matcher.rule {
        Some(path_matcher::Rule::Path(string)) => judge_string("path", string, facts.path()),
        None => Judged::new(false, "a matcher of paths says nothing"),
    }
}

fn judge_template(extension: &TypedExtensionConfig, facts: &Facts) -> Judged {
    let template = extension
        .typed_config
        .as_ref()
        .and_then(|any| corten_envoy::decode::<UriTemplateMatchConfig>(any).ok().flatten());
    let Some(template) = template else {
        return extension_unknown(extension);
    };
    judge_uri_template(&template.path_template, facts)
}

/// Judges the path by a template.
pub(crate) fn judge_uri_template(template: &str, facts: &Facts) -> Judged {
    match template_matches(template, facts.path()) {
        Err(why) => Judged::new(false, why),
        Ok(true) => Judged::new(
            true,
            format!("path {} is of the template {}", quoted(facts.path()), quoted(template)),
        ),
        Ok(false) => Judged::new(
            false,
            format!(
                "path {} is not of the template {}",
                quoted(facts.path()),
                quoted(template)
            ),
        ),
    }
}

fn judge_sourced(sourced: &SourcedMetadata, facts: &Facts) -> Judged {
    match (&sourced.metadata_matcher, sourced.metadata_source()) {
        (Some(matcher), MetadataSource::Dynamic) => judge_metadata(matcher, &facts.metadata),
        _ => Judged::new(false, "the metadata of routes is not looked at here"),
    }
}

/// Judges what is written down about the connection.
pub(crate) fn judge_state(matcher: &FilterStateMatcher, facts: &Facts) -> Judged {
    let Some(noted) = facts.state.get(&matcher.key) else {
        return Judged::new(false, format!("{} is not known", matcher.key));
    };
    match &matcher.matcher {
        Some(filter_state_matcher::Matcher::StringMatch(string)) => judge_string(&matcher.key, string, &noted.value),
        Some(filter_state_matcher::Matcher::AddressMatch(addresses)) => {
            let address = noted.value.parse().ok().or_else(|| {
                noted
                    .value
                    .parse::<std::net::SocketAddr>()
                    .ok()
                    .map(|socket| socket.ip())
            });
            let Some(address) = address else {
                return Judged::new(false, format!("{} {} is no address", matcher.key, quoted(&noted.value)));
            };
            let ranges = addresses.ranges.iter().map(|range| {
                let range = corten_envoy::envoy::config::core::v3::CidrRange {
                    address_prefix: range.address_prefix.clone(),
                    prefix_len: range.prefix_len,
                };
                judge_address(&matcher.key, &range, address)
            });
            let judged = any(ranges, "no range");
            if addresses.invert_match { not(judged) } else { judged }
        }
        None => Judged::new(false, "a matcher of notes says nothing"),
    }
}

fn extension_unknown(extension: &TypedExtensionConfig) -> Judged {
    Judged::new(
        false,
        format!("{:?} is an extension that is not evaluated here", extension.name),
    )
}

#[cfg(test)]
mod tests;
