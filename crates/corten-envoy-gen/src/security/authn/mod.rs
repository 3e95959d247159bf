//! RequestAuthentications as Envoy's filter for tokens: whose tokens are accepted, where they stand, what is done with them.
//!
//! Requests without a token pass, unless a rule demands one; requests with a token that nobody vouches for do not. Keys
//! are not fetched here: whoever calls says what is known of them. Where nothing is, a key is put in their place that
//! nobody has the private half of, so that every token is refused.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration as StdDuration};

use corten_api::{
    diagnostic::{Code, Diagnostic, ObjectRef, Severity},
    istio::request_authentication::{JWTRule, Presence, RequestAuthenticationSpec},
};
use corten_core::Duration;
use corten_envoy::{
    any, duration,
    envoy::{
        config::{
            core::v3::{DataSource, HttpUri, data_source::Specifier, http_uri::HttpUpstreamType},
            route::v3::{RouteMatch, route_match::PathSpecifier},
        },
        extensions::filters::{
            http::jwt_authn::v3::{
                JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
                JwtRequirementOrList, RemoteJwks, RequirementRule,
                jwt_provider::{JwksSourceSpecifier, NormalizePayload},
                jwt_requirement::RequiresType,
                requirement_rule::RequirementType,
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter},
        },
    },
    google::protobuf::Empty,
    seconds,
};
use corten_routing::Config;

use super::jwks::{Source, TIMEOUT, usable};

/// The filter that looks at tokens.
pub const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where it leaves what tokens say.
pub const JWT_PAYLOAD: &str = "payload";
/// A RequestAuthentication is not enforced as it is written.
pub const NOT_AS_WRITTEN: Code = Code("CRT0303");
/// The keys of an issuer are not known, and all its tokens are refused.
pub const NO_KEYS: Code = Code("CRT0304");

/// A RequestAuthentication as it is written.
pub type Written = Config<RequestAuthenticationSpec>;

/// What is known of the keys of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// These they are.
    Fetched(Arc<str>),
    /// They could not be had, or not yet.
    Unreachable,
    /// The proxy fetches them itself, by this cluster.
    Remote(String),
}

/// The filter of a proxy and what is not as it is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Authentication {
    /// The filter; `None`: nobody asks about tokens.
    pub filter: Option<HttpFilter>,
    /// What is not as it is written.
    pub diagnostics: Vec<Diagnostic>,
}

/// A source of keys that the rules of policies name, and how long it may take to answer.
pub fn sources<'a>(policies: impl IntoIterator<Item = &'a Written>) -> impl Iterator<Item = (Source, StdDuration)> {
    let rules = policies.into_iter().flat_map(|policy| &policy.spec.jwt_rules);
    rules
        .filter(|rule| rule.jwks.is_empty())
        .map(|rule| (source(rule), timeout(rule)))
}

fn source(rule: &JWTRule) -> Source {
    Source {
        issuer: rule.issuer.clone(),
        uri: rule.jwks_uri.clone(),
    }
}

fn timeout(rule: &JWTRule) -> StdDuration {
    let written = rule.timeout.and_then(Duration::to_std);
    written.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT)
}

/// The filter for all policies that apply to a proxy. With `clear_route_cache`, routes are chosen again by what the token
/// says, as gateways and waypoints do.
pub fn filter<'a>(
    policies: impl IntoIterator<Item = &'a Written>,
    keys: &dyn Fn(&Source) -> Keys,
    clear_route_cache: bool,
) -> Authentication {
    let mut diagnostics = Vec::new();
    let mut rules: Vec<(&JWTRule, &Written, usize)> = Vec::new();
    for policy in policies {
        if policy.damaged {
            let message = "it cannot be read as it is written; all tokens of its issuers are refused";
            diagnostics.push(of_policy(
                policy,
                NOT_AS_WRITTEN,
                Severity::Error,
                "spec",
                message.to_owned(),
            ));
        }
        rules.extend(
            policy
                .spec
                .jwt_rules
                .iter()
                .enumerate()
                .map(|(i, rule)| (rule, policy, i)),
        );
    }
    // By issuer, so that the names of providers do not depend on the order of policies.
    rules.sort_by(|(a, ..), (b, ..)| a.issuer.cmp(&b.issuer));
    let mut providers = HashMap::new();
    let (mut optional, mut required) = (Vec::new(), Vec::new());
    for (index, (rule, policy, of_policy)) in rules.into_iter().enumerate() {
        let path = format!("spec.jwtRules[{of_policy}]");
        for (i, copied) in rule.output_claim_to_headers.iter().enumerate() {
            if copied.header.is_empty() || copied.claim.is_empty() {
                let path = format!("{path}.outputClaimToHeaders[{i}]");
                let message = "it needs a header and a claim; it is left out".to_owned();
                diagnostics.push(self::of_policy(policy, NOT_AS_WRITTEN, Severity::Error, &path, message));
            }
        }
        let mut provider = provider(rule, clear_route_cache);
        provider.jwks_source_specifier = Some(source_of(rule, policy, &path, keys, &mut diagnostics));
        let name = format!("origins-{index}");
        match rule.presence {
            Presence::Optional => optional.push(name.clone()),
            Presence::Required => required.push(name.clone()),
        }
        providers.insert(name, provider);
    }
    let Some(requirement) = requirement(&optional, &required) else {
        return Authentication {
            filter: None,
            diagnostics,
        };
    };
    let config = JwtAuthentication {
        providers,
        rules: vec![RequirementRule {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            requirement_type: Some(RequirementType::Requires(requirement)),
        }],
        bypass_cors_preflight: true,
        ..JwtAuthentication::default()
    };
    let filter = HttpFilter {
        name: JWT_FILTER.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&config))),
        ..HttpFilter::default()
    };
    Authentication {
        filter: Some(filter),
        diagnostics,
    }
}

/// Claims that are lists separated by blanks, whatever rules say.
const SPACED: [&str; 2] = ["permission", "scope"];

fn provider(rule: &JWTRule, clear_route_cache: bool) -> JwtProvider {
    let mut spaced: Vec<String> = rule.space_delimited_claims.clone();
    spaced.extend(SPACED.map(str::to_owned));
    spaced.sort();
    spaced.dedup();
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        forward_payload_header: rule.output_payload_to_header.clone(),
        payload_in_metadata: JWT_PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: spaced,
        }),
        clear_route_cache,
        claim_to_headers: rule
            .output_claim_to_headers
            .iter()
            .filter(|copied| !copied.header.is_empty() && !copied.claim.is_empty())
            .map(|copied| JwtClaimToHeader {
                header_name: copied.header.clone(),
                claim_name: copied.claim.clone(),
                ..JwtClaimToHeader::default()
            })
            .collect(),
        from_headers: rule
            .from_headers
            .iter()
            .map(|header| JwtHeader {
                name: header.name.clone(),
                value_prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        ..JwtProvider::default()
    }
}

fn source_of(
    rule: &JWTRule,
    policy: &Written,
    path: &str,
    keys: &dyn Fn(&Source) -> Keys,
    diagnostics: &mut Vec<Diagnostic>,
) -> JwksSourceSpecifier {
    let inline = |keys: &str| {
        JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(keys.to_owned())),
            ..DataSource::default()
        })
    };
    if policy.damaged {
        return inline(NOBODYS_KEY);
    }
    if !rule.jwks.is_empty() {
        let usable = usable(&rule.jwks);
        if !usable.problems.is_empty() {
            let effect = if usable.keys.is_some() {
                "it is left out"
            } else {
                "all tokens are refused"
            };
            let message = format!("{}; {effect}", usable.problems.join("; "));
            let severity = if usable.keys.is_some() {
                Severity::Warning
            } else {
                Severity::Error
            };
            diagnostics.push(of_policy(policy, NO_KEYS, severity, &format!("{path}.jwks"), message));
        }
        return inline(usable.keys.as_deref().unwrap_or(NOBODYS_KEY));
    }
    let source = source(rule);
    match keys(&source) {
        Keys::Fetched(keys) => inline(&keys),
        Keys::Remote(cluster) => JwksSourceSpecifier::RemoteJwks(RemoteJwks {
            http_uri: Some(HttpUri {
                uri: rule.jwks_uri.clone(),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
                timeout: Some(duration(timeout(rule))),
            }),
            cache_duration: Some(seconds(5 * 60)),
            ..RemoteJwks::default()
        }),
        Keys::Unreachable => {
            let message = format!("the keys of {source} are not known; all its tokens are refused");
            diagnostics.push(of_policy(policy, NO_KEYS, Severity::Warning, path, message));
            inline(NOBODYS_KEY)
        }
    }
}

/// What requests need; `None`: nothing.
fn requirement(optional: &[String], required: &[String]) -> Option<JwtRequirement> {
    let one = |name: &String| requires(RequiresType::ProviderName(name.clone()));
    let or_missing = |name: &String| any_of(vec![one(name), requires(RequiresType::AllowMissing(Empty {}))]);
    if !required.is_empty() {
        // Each of these, and whatever else is valid is taken as well.
        let mut all: Vec<JwtRequirement> = required.iter().map(one).collect();
        if !optional.is_empty() {
            let mut taken: Vec<JwtRequirement> = optional.iter().map(one).collect();
            taken.push(requires(RequiresType::AllowMissingOrFailed(Empty {})));
            all.push(any_of(taken));
        }
        return Some(all_of(all));
    }
    match optional {
        [] => None,
        [single] => Some(or_missing(single)),
        several => {
            // One that is valid is enough, because several may look at the same place. Otherwise none may be there that is not.
            let mut any: Vec<JwtRequirement> = several.iter().map(one).collect();
            any.push(all_of(several.iter().map(or_missing).collect()));
            Some(any_of(any))
        }
    }
}

fn requires(what: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(what),
    }
}

fn any_of(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    requires(RequiresType::RequiresAny(JwtRequirementOrList { requirements }))
}

fn all_of(mut requirements: Vec<JwtRequirement>) -> JwtRequirement {
    match (requirements.len(), requirements.pop()) {
        (1, Some(single)) => single,
        (_, last) => {
            requirements.extend(last);
            requires(RequiresType::RequiresAll(JwtRequirementAndList { requirements }))
        }
    }
}

fn of_policy(policy: &Written, code: Code, severity: Severity, path: &str, message: String) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        object: Some(ObjectRef {
            api_version: "security.istio.io/v1".to_owned(),
            kind: "RequestAuthentication".to_owned(),
            namespace: policy.namespace.to_string(),
            name: policy.name.to_string(),
        }),
        path: path.to_owned(),
        location: None,
        message,
    }
}

/// A public key whose private half was thrown away when it was made. It has a name, so that who only looks at names refuses
/// tokens, too.
pub const NOBODYS_KEY: &str = include_str!("nobodys-key.json");
