//! Tokens: which are there, and whether a filter's requirements are met.
//!
//! Signatures are taken to be good: to check them is not a question of configuration. A key that nobody can have signed with is one, so a
//! token that names a key is refused if the keys at hand have no such.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_envoy::envoy::config::core::v3::data_source::Specifier;
use corten_envoy::envoy::config::route::v3::RouteMatch;
use corten_envoy::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtProvider, JwtRequirement, PerRouteConfig, jwt_provider::JwksSourceSpecifier,
    jwt_requirement::RequiresType, per_route_config::RequirementSpecifier, requirement_rule::RequirementType,
};
use serde_json::{Map, Value};

use crate::facts::Facts;
use crate::headers::{cookie, query};
use crate::route;
use crate::strings::{quoted, say, string_matches};
use crate::trace::{FilterVerdict, Verdict};

/// How much clocks may differ, in seconds, unless a provider says otherwise.
const CLOCK_SKEW_SECONDS: u64 = 60;
/// Under what name the filter writes down what tokens say.
const METADATA: &str = "envoy.filters.http.jwt_authn";
/// How deep requirements may be.
const DEPTH_MAX: usize = 32;

/// Why a requirement is not met, as Envoy says it to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    /// What was answered.
    message: String,
    /// Whether there was no token at all.
    missing: bool,
    /// Whether the status is 403 rather than 401.
    forbidden: bool,
}

impl Failed {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            missing: false,
            forbidden: false,
        }
    }
}

/// The filter's verdict, the status if it denies, and whether the route is to be found again.
pub(crate) fn authenticate(
    name: &str,
    config: &JwtAuthentication,
    per_route: Option<&PerRouteConfig>,
    now: Option<u64>,
    facts: &mut Facts,
) -> (FilterVerdict, Option<u16>, bool) {
    let verdict = |verdict: Verdict, why: String| FilterVerdict {
        name: name.to_owned(),
        verdict,
        why,
        policies: Vec::new(),
    };
    let preflight = facts.header(":method").is_some_and(|method| method == "OPTIONS")
        && ["origin", "access-control-request-method"]
            .iter()
            .all(|header| facts.header(header).is_some());
    if config.bypass_cors_preflight && preflight {
        return (
            verdict(Verdict::Passed, "a preflight needs no token".to_owned()),
            None,
            false,
        );
    }
    let requirement = match requirement(config, per_route, facts) {
        Ok(Some(requirement)) => requirement,
        Ok(None) => {
            return (
                verdict(Verdict::Passed, "no rule asks for a token here".to_owned()),
                None,
                false,
            );
        }
        Err(why) => return (verdict(Verdict::Denied, why), Some(403), false),
    };
    let mut check = Check {
        config,
        now,
        facts,
        payloads: Map::new(),
        claims: Vec::new(),
        clears: false,
        overwritten: Vec::new(),
        headers: Vec::new(),
    };
    let result = check.requirement(requirement, &[], 0);
    let Check {
        payloads,
        claims,
        clears,
        overwritten,
        headers,
        ..
    } = check;
    if let Some(request) = &mut facts.request {
        overwritten.iter().for_each(|name| request.remove(name));
        for (name, value) in headers {
            *request = std::mem::take(request).header(&name, &value);
        }
    }
    match result {
        Err(failed) => {
            let status = if failed.forbidden { 403 } else { 401 };
            (verdict(Verdict::Denied, failed.message), Some(status), false)
        }
        Ok(()) if claims.is_empty() => (
            verdict(Verdict::Allowed, "there is no token, and none is needed".to_owned()),
            None,
            false,
        ),
        Ok(()) => {
            let slot = facts
                .metadata
                .entry(METADATA.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(slot) = slot {
                slot.extend(payloads);
            }
            (
                verdict(
                    Verdict::Allowed,
                    format!("{} (signatures are not checked here)", claims.join(", ")),
                ),
                None,
                clears,
            )
        }
    }
}

fn requirement<'a>(
    config: &'a JwtAuthentication,
    per_route: Option<&PerRouteConfig>,
    facts: &Facts,
) -> Result<Option<&'a JwtRequirement>, String> {
    let by_name = |name: &str| {
        let found = config.requirement_map.get(name);
        found
            .map(Some)
            .ok_or_else(|| format!("the requirement {name:?} is not there"))
    };
    match per_route.and_then(|route| route.requirement_specifier.as_ref()) {
        Some(RequirementSpecifier::Disabled(true)) => return Ok(None),
        Some(RequirementSpecifier::RequirementName(name)) => return by_name(name),
        _ => {}
    }
    let all = RouteMatch::default();
    for rule in &config.rules {
        if route::judge(rule.r#match.as_ref().unwrap_or(&all), facts).yes {
            return match &rule.requirement_type {
                None => Ok(None),
                Some(RequirementType::Requires(requirement)) => Ok(Some(requirement)),
                Some(RequirementType::RequirementName(name)) => by_name(name),
            };
        }
    }
    Ok(None)
}

struct Check<'a> {
    config: &'a JwtAuthentication,
    now: Option<u64>,
    facts: &'a Facts,
    /// What is to be written down.
    payloads: Map<String, Value>,
    /// Who issued the good tokens, and for whom.
    claims: Vec<String>,
    clears: bool,
    /// Headers that do not go on as they came: tokens, and what tells what tokens say, which clients cannot say for them.
    overwritten: Vec<String>,
    /// Such headers with what tokens say.
    headers: Vec<(String, String)>,
}

impl<'a> Check<'a> {
    fn requirement(&mut self, requirement: &'a JwtRequirement, beside: &[&'a str], depth: usize) -> Result<(), Failed> {
        if depth > DEPTH_MAX {
            return Err(Failed::new(format!("the requirements are deeper than {DEPTH_MAX}")));
        }
        match &requirement.requires_type {
            None => Ok(()),
            Some(RequiresType::ProviderName(name)) => self.provider(name, None),
            Some(RequiresType::ProviderAndAudiences(provider)) => {
                self.provider(&provider.provider_name, Some(&provider.audiences))
            }
            Some(RequiresType::RequiresAny(list)) => self.any(&list.requirements, depth),
            Some(RequiresType::RequiresAll(list)) => {
                for inner in &list.requirements {
                    self.requirement(inner, &[], depth + 1)?;
                }
                Ok(())
            }
            Some(RequiresType::AllowMissing(_)) => self.allow_missing(beside),
            Some(RequiresType::AllowMissingOrFailed(_)) => {
                // What fails here is as if it were not there.
                let _ = self.allow_missing(beside);
                Ok(())
            }
            Some(RequiresType::ExtractOnlyWithoutValidation(_)) => Ok(()),
        }
    }

    fn any(&mut self, list: &'a [JwtRequirement], depth: usize) -> Result<(), Failed> {
        let provider = |requirement: &'a JwtRequirement| match &requirement.requires_type {
            Some(RequiresType::ProviderName(name)) => Some(&**name),
            Some(RequiresType::ProviderAndAudiences(provider)) => Some(&*provider.provider_name),
            _ => None,
        };
        let beside: Vec<&str> = list.iter().filter_map(provider).collect();
        let is_lenient = |requirement: &&'a JwtRequirement| {
            matches!(
                requirement.requires_type,
                Some(RequiresType::AllowMissing(_) | RequiresType::AllowMissingOrFailed(_))
            )
        };
        // What is lenient is asked last.
        let ordered = list
            .iter()
            .filter(|requirement| !is_lenient(requirement))
            .chain(list.iter().filter(is_lenient));
        let mut last = Ok(());
        for inner in ordered {
            last = self.requirement(inner, &beside, depth + 1);
            if last.is_ok() {
                return Ok(());
            }
        }
        last
    }

    fn provider(&mut self, name: &str, audiences: Option<&[String]>) -> Result<(), Failed> {
        let Some(provider) = self.config.providers.get(name) else {
            return Err(Failed::new(format!("the provider {name:?} is not there")));
        };
        self.overwrite(provider);
        let tokens = tokens(provider, self.facts);
        if tokens.is_empty() {
            return Err(Failed {
                message: "Jwt is missing".to_owned(),
                missing: true,
                forbidden: false,
            });
        }
        for token in tokens {
            self.verify(provider, audiences.unwrap_or(&provider.audiences), &token)?;
        }
        Ok(())
    }

    /// No token where these providers look for one, or one that any provider vouches for.
    fn allow_missing(&mut self, beside: &[&str]) -> Result<(), Failed> {
        let mut found = Vec::new();
        for provider in beside.iter().filter_map(|name| self.config.providers.get(*name)) {
            self.overwrite(provider);
            for token in tokens(provider, self.facts) {
                if !found.contains(&token) {
                    found.push(token);
                }
            }
        }
        let mut last = Ok(());
        for token in found {
            last = match decode(&token) {
                None => Err(Failed::new("Jwt is not in the form of Header.Payload.Signature")),
                Some((_, claims)) => {
                    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
                    let mut names: Vec<&String> = self.config.providers.keys().collect();
                    names.sort();
                    let provider = names
                        .into_iter()
                        .map(|name| &self.config.providers[name])
                        .find(|provider| provider.issuer == issuer);
                    match provider {
                        None => Err(Failed::new("Jwt issuer is not configured")),
                        Some(provider) => self.verify(provider, &provider.audiences, &token),
                    }
                }
            };
        }
        last
    }

    fn overwrite(&mut self, provider: &JwtProvider) {
        let of_claims = provider.claim_to_headers.iter().map(|told| &told.header_name);
        let names = of_claims.chain([&provider.forward_payload_header]);
        self.overwritten.extend(names.filter(|name| !name.is_empty()).cloned());
    }

    fn verify(&mut self, provider: &JwtProvider, audiences: &[String], token: &str) -> Result<(), Failed> {
        let Some((header, claims)) = decode(token) else {
            return Err(Failed::new("Jwt is not in the form of Header.Payload.Signature"));
        };
        let text = |key: &str| claims.get(key).and_then(Value::as_str);
        let issuer = text("iss").unwrap_or_default();
        if !provider.issuer.is_empty() && issuer != provider.issuer {
            return Err(Failed::new("Jwt issuer is not configured"));
        }
        if let Some(wanted) = &provider.subjects
            && !string_matches(wanted, text("sub").unwrap_or_default()).unwrap_or(false)
        {
            return Err(Failed::new(format!(
                "Jwt subject {} {}",
                quoted(text("sub").unwrap_or_default()),
                say(wanted, false)
            )));
        }
        if let Some(now) = self.now {
            let skew = match provider.clock_skew_seconds {
                0 => CLOCK_SKEW_SECONDS,
                seconds => u64::from(seconds),
            };
            let time = |key: &str| claims.get(key).and_then(Value::as_f64);
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far from the limit")]
            let (early, late) = (now.saturating_add(skew) as f64, now.saturating_sub(skew) as f64);
            if time("nbf").is_some_and(|begins| begins > early) {
                return Err(Failed::new("Jwt not yet valid"));
            }
            if time("exp").is_some_and(|ends| ends < late) {
                return Err(Failed::new("Jwt is expired"));
            }
        }
        if provider.require_expiration && !claims.contains_key("exp") {
            return Err(Failed::new("Jwt has no expiration"));
        }
        let has = list(claims.get("aud"));
        if !audiences.is_empty() && !has.iter().any(|audience| audiences.contains(audience)) {
            return Err(Failed {
                forbidden: true,
                ..Failed::new("Audiences in Jwt are not allowed")
            });
        }
        check_key(provider, &header)?;
        self.claims
            .push(format!("a token of {issuer} for {}", text("sub").unwrap_or("nobody")));
        self.clears |= provider.clear_route_cache;
        for told in &provider.claim_to_headers {
            if let Some(value) = find(&claims, &told.claim_name) {
                self.headers.push((told.header_name.clone(), header_value(value)));
            }
        }
        if !provider.forward {
            let nowhere = provider.from_headers.is_empty() && provider.from_params.is_empty();
            let usual = (nowhere && provider.from_cookies.is_empty()).then(|| "authorization".to_owned());
            self.overwritten
                .extend(provider.from_headers.iter().map(|from| from.name.clone()).chain(usual));
        }
        if !provider.forward_payload_header.is_empty() {
            let payload = token.split('.').nth(1).unwrap_or_default();
            self.headers
                .push((provider.forward_payload_header.clone(), payload.to_owned()));
        }
        if !provider.payload_in_metadata.is_empty() {
            let mut payload = claims.clone();
            for claim in provider
                .normalize_payload_in_metadata
                .iter()
                .flat_map(|normalize| &normalize.space_delimited_claims)
            {
                if let Some(Value::String(text)) = claims.get(claim) {
                    payload.insert(claim.clone(), text.split(' ').filter(|word| !word.is_empty()).collect());
                }
            }
            self.payloads
                .insert(provider.payload_in_metadata.clone(), Value::Object(payload));
        }
        Ok(())
    }
}

/// A token that names a key must find it among those at hand.
fn check_key(provider: &JwtProvider, header: &Map<String, Value>) -> Result<(), Failed> {
    let (Some(kid), Some(JwksSourceSpecifier::LocalJwks(source))) = (
        header.get("kid").and_then(Value::as_str),
        &provider.jwks_source_specifier,
    ) else {
        return Ok(());
    };
    let text = match &source.specifier {
        Some(Specifier::InlineString(text)) => text.clone(),
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => return Ok(()),
    };
    let keys: Value = serde_json::from_str(&text).unwrap_or_default();
    let keys = keys["keys"].as_array().cloned().unwrap_or_default();
    // A key without a name may be any.
    let fits = keys
        .iter()
        .any(|key| key["kid"].as_str().is_none_or(|found| found == kid));
    if fits {
        Ok(())
    } else {
        Err(Failed::new("Jwks doesn't have key to match kid or alg from Jwt"))
    }
}

/// The tokens where a provider looks for them.
fn tokens(provider: &JwtProvider, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let mut push = |token: &str| {
        if !token.is_empty() && !found.iter().any(|known| known == token) {
            found.push(token.to_owned());
        }
    };
    let parameter = |name: &str| {
        query(facts.path_and_query())
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let nowhere =
        provider.from_headers.is_empty() && provider.from_params.is_empty() && provider.from_cookies.is_empty();
    if nowhere {
        if let Some(value) = facts.header("authorization")
            && let Some(token) = value.strip_prefix("Bearer ")
        {
            push(token.trim());
        }
        push(&parameter("access_token").unwrap_or_default());
        return found;
    }
    for header in &provider.from_headers {
        let Some(value) = facts.header(&header.name.to_ascii_lowercase()) else {
            continue;
        };
        // The prefix may be anywhere; the token is what follows it up to where tokens end.
        let Some((_, after)) = value.split_once(&header.value_prefix) else {
            continue;
        };
        let is_token = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '=' | '+' | '/')
        };
        let after = after.trim_start();
        push(after.split(|character| !is_token(character)).next().unwrap_or_default());
    }
    for name in &provider.from_params {
        push(&parameter(name).unwrap_or_default());
    }
    for name in &provider.from_cookies {
        push(&cookie(facts.header("cookie").as_deref(), name).unwrap_or_default());
    }
    found
}

/// A token's header and claims.
fn decode(token: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let mut parts = token.split('.');
    let mut part = || -> Option<Map<String, Value>> {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let (header, claims) = (part()?, part()?);
    parts.next()?;
    Some((header, claims))
}

/// A claim by its name, or by the names that lead to it.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// A claim as a header has it: what is more than one value is packed.
fn header_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => URL_SAFE_NO_PAD.encode(value.to_string()),
        other => other.to_string(),
    }
}

fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
