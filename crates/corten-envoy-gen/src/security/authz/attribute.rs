//! What policies can ask about: the attributes of connections and requests, and how Envoy sees them.

use corten_envoy::{
    any,
    envoy::{
        config::{
            core::v3::TypedExtensionConfig,
            rbac::v3::{
                Permission, Principal,
                permission::{self, Rule},
                principal::{self, Authenticated, Identifier},
            },
        },
        extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig,
        r#type::matcher::v3::{
            FilterStateMatcher, MetadataMatcher, PathMatcher, StringMatcher, ValueMatcher,
            filter_state_matcher::Matcher, path_matcher,
        },
    },
};

use super::matcher;
use crate::security::authn::{JWT_FILTER, JWT_PAYLOAD};

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Host,
    Method,
    Path,
    DestinationIp,
    DestinationPort,
    ServerName,
    /// What a filter has left under a key.
    Metadata(String, String),
    SourceIp,
    RemoteIp,
    Namespace,
    TrustDomain,
    ServiceAccount,
    Principal,
    RequestPrincipal,
    Header(String),
    /// The path to a claim.
    Claim(Vec<String>),
}

impl Attribute {
    /// The attribute that a condition names.
    pub(super) fn of_key(key: &str) -> Result<Attribute, String> {
        let exact = match key {
            "destination.ip" => Some(Attribute::DestinationIp),
            "destination.port" => Some(Attribute::DestinationPort),
            "connection.sni" => Some(Attribute::ServerName),
            "source.ip" => Some(Attribute::SourceIp),
            "remote.ip" => Some(Attribute::RemoteIp),
            "source.namespace" => Some(Attribute::Namespace),
            "source.trustDomain" => Some(Attribute::TrustDomain),
            "source.serviceAccount" => Some(Attribute::ServiceAccount),
            "source.principal" => Some(Attribute::Principal),
            "request.auth.principal" => Some(Attribute::RequestPrincipal),
            "request.auth.audiences" => Some(Attribute::Claim(vec!["aud".to_owned()])),
            "request.auth.presenter" => Some(Attribute::Claim(vec!["azp".to_owned()])),
            _ => None,
        };
        if let Some(attribute) = exact {
            return Ok(attribute);
        }
        if let Some(rest) = key.strip_prefix("request.headers") {
            return match bracketed(rest) {
                Some(name) if !name.contains(['\0', '\r', '\n']) => Ok(Attribute::Header(name.to_owned())),
                _ => Err(format!("'{key}' is not of the form request.headers[name]")),
            };
        }
        if let Some(rest) = key.strip_prefix("request.auth.claims") {
            let claims = nested(rest).or_else(|| bracketed(rest).map(|name| vec![name.to_owned()]));
            return claims
                .filter(|claims| claims.iter().all(|claim| !claim.is_empty()))
                .map(Attribute::Claim)
                .ok_or_else(|| format!("'{key}' is not of the form request.auth.claims[name][name]"));
        }
        if let Some(rest) = key.strip_prefix("experimental.envoy.filters.") {
            let parts = rest.strip_suffix(']').and_then(|rest| rest.split_once('['));
            return match parts {
                Some((filter, name)) if !filter.is_empty() && !name.is_empty() => {
                    Ok(Attribute::Metadata(format!("envoy.filters.{filter}"), name.to_owned()))
                }
                _ => Err(format!(
                    "'{key}' is not of the form experimental.envoy.filters.filter[name]"
                )),
            };
        }
        Err(format!("'{key}' is not an attribute that conditions can be about"))
    }

    /// Whether only requests have it.
    pub(super) fn is_of_requests(&self) -> bool {
        matches!(
            self,
            Attribute::Host
                | Attribute::Method
                | Attribute::Path
                | Attribute::RequestPrincipal
                | Attribute::Header(_)
                | Attribute::Claim(_)
        )
    }

    /// Whether it is about what is called, and not about who calls.
    pub(super) fn is_of_destination(&self) -> bool {
        matches!(
            self,
            Attribute::Host
                | Attribute::Method
                | Attribute::Path
                | Attribute::DestinationIp
                | Attribute::DestinationPort
                | Attribute::ServerName
                | Attribute::Metadata(..)
        )
    }
}

/// The name in `[name]`.
fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?
        .strip_suffix(']')
        .filter(|name| !name.is_empty())
}

/// The names in `[a][b]`; `None`: it is something else.
fn nested(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<String> = inner.split("][").map(str::to_owned).collect();
    names.iter().all(|name| !name.contains(['[', ']'])).then_some(names)
}

/// Whose identity is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Peer {
    /// That of the connection's own certificate.
    #[default]
    Certificate,
    /// That which a listener before this one has seen at the end of the tunnel.
    Tunnel,
}

/// A principal whose identity matches.
pub(super) fn identity(name: StringMatcher, peer: Peer) -> Principal {
    of(match peer {
        Peer::Certificate => Identifier::Authenticated(Authenticated {
            principal_name: Some(name),
        }),
        Peer::Tunnel => Identifier::FilterState(FilterStateMatcher {
            key: "io.istio.peer_principal".to_owned(),
            matcher: Some(Matcher::StringMatch(name)),
        }),
    })
}

/// Identities of a namespace, in which `*` stands for any text.
pub(super) fn namespace(pattern: &str) -> StringMatcher {
    let literal: Vec<String> = pattern.split('*').map(matcher::quoted).collect();
    matcher::regex(format!(".*/ns/{}/.*", literal.join(".*")))
}

/// Identities of a trust domain.
pub(super) fn trust_domain(pattern: &str) -> StringMatcher {
    match pattern.split_once('*') {
        Some(("", "")) => matcher::prefix("spiffe://"),
        None => matcher::prefix(&format!("spiffe://{pattern}/")),
        Some((start, end)) => matcher::regex(format!(
            "spiffe://{}[^/]*{}/.*",
            matcher::quoted(start),
            matcher::quoted(end)
        )),
    }
}

/// Identities of a service account, `account` or `namespace/account`. Identities may have further parts between these
/// and after them.
pub(super) fn service_account(written: &str, own_namespace: &str) -> StringMatcher {
    let (namespace, account) = written.split_once('/').unwrap_or((own_namespace, written));
    matcher::regex(format!(
        "spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?",
        matcher::quoted(namespace),
        matcher::quoted(account)
    ))
}

/// A principal of tokens, `issuer/subject`. Issuers have slashes of their own, so the last one counts.
pub(super) fn request_principal(written: &str) -> Result<Principal, String> {
    let anything = || matcher::regex(".+".to_owned());
    let parts = written.rsplit_once('/');
    let (issuer, subject) = match (parts, written.strip_prefix('*'), written.strip_suffix('*')) {
        (_, Some(""), _) => (anything(), anything()),
        (Some((issuer, subject)), Some(_), _) => {
            let issuer = match issuer.strip_prefix('*') {
                None | Some("") => anything(),
                Some(end) => matcher::suffix(end),
            };
            (issuer, matcher::exact(subject))
        }
        (None, Some(end), _) => (anything(), matcher::suffix(end)),
        (Some((issuer, subject)), None, Some(_)) => {
            let subject = match subject.strip_suffix('*') {
                None | Some("") => anything(),
                Some(start) => matcher::prefix(start),
            };
            (matcher::exact(issuer), subject)
        }
        (None, None, Some(start)) => (matcher::prefix(start), anything()),
        (Some((issuer, subject)), None, None) => (matcher::exact(issuer), matcher::exact(subject)),
        (None, None, None) => (matcher::exact(written), matcher::exact("")),
    };
    let one = |name: &str, text: StringMatcher| {
        matcher::metadata(JWT_FILTER, &[JWT_PAYLOAD, name], matcher::value(text)).map(metadata)
    };
    Ok(<Principal as Node>::and(vec![
        one("iss", issuer)?,
        one("sub", subject)?,
    ]))
}

/// A claim of a token: a text, or a list with such a text.
pub(super) fn claim(path: &[String], wanted: ValueMatcher) -> Result<Principal, String> {
    let keys: Vec<&str> = std::iter::once(JWT_PAYLOAD)
        .chain(path.iter().map(String::as_str))
        .collect();
    let value = matcher::any_value(vec![matcher::list_with(wanted.clone()), wanted]);
    matcher::metadata(JWT_FILTER, &keys, value).map(metadata)
}

#[expect(
    deprecated,
    reason = "Envoy's newer form is not in the versions that are still in use"
)]
fn metadata(matcher: MetadataMatcher) -> Principal {
    of(Identifier::Metadata(matcher))
}

/// What a filter has left: `[x]` is a list with x.
pub(super) fn filter_value(written: &str) -> ValueMatcher {
    match written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(_) => matcher::list_with(matcher::value(matcher::text(written.trim_matches(['[', ']'])))),
        None => matcher::value(matcher::text(written)),
    }
}

#[expect(
    deprecated,
    reason = "Envoy's newer form is not in the versions that are still in use"
)]
pub(super) fn filter_metadata(matcher: MetadataMatcher) -> Permission {
    allow(Rule::Metadata(matcher))
}

pub(super) fn path(pattern: &str) -> Result<Permission, String> {
    if matcher::is_template(pattern) {
        let template = UriTemplateMatchConfig {
            path_template: matcher::template(pattern)?,
        };
        return Ok(allow(Rule::UriTemplate(TypedExtensionConfig {
            name: "uri-template".to_owned(),
            typed_config: Some(any(&template)),
        })));
    }
    Ok(allow(Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(matcher::text(pattern))),
    })))
}

/// A permission of one rule.
pub(super) fn allow(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// A principal of one identifier.
pub(super) fn of(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

/// What permissions and principals have in common.
pub(super) trait Node: Sized {
    fn anything() -> Self;
    fn and(all: Vec<Self>) -> Self;
    fn or(any: Vec<Self>) -> Self;
    fn negated(self) -> Self;
}

impl Node for Permission {
    fn anything() -> Permission {
        allow(Rule::Any(true))
    }
    fn and(rules: Vec<Permission>) -> Permission {
        allow(Rule::AndRules(permission::Set { rules }))
    }
    fn or(rules: Vec<Permission>) -> Permission {
        allow(Rule::OrRules(permission::Set { rules }))
    }
    fn negated(self) -> Permission {
        allow(Rule::NotRule(Box::new(self)))
    }
}

impl Node for Principal {
    fn anything() -> Principal {
        of(Identifier::Any(true))
    }
    fn and(ids: Vec<Principal>) -> Principal {
        of(Identifier::AndIds(principal::Set { ids }))
    }
    fn or(ids: Vec<Principal>) -> Principal {
        of(Identifier::OrIds(principal::Set { ids }))
    }
    fn negated(self) -> Principal {
        of(Identifier::NotId(Box::new(self)))
    }
}
