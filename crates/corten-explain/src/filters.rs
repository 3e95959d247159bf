//! What each HTTP filter does with a request.

use corten_envoy::envoy::config::core::v3::{GrpcService, grpc_service::TargetSpecifier};
use corten_envoy::envoy::config::rbac::v3::Rbac as Rules;
use corten_envoy::envoy::config::route::v3::{FilterConfig, Route, RouteConfiguration, VirtualHost};
use corten_envoy::envoy::extensions::filters::http::{
    cors::v3::CorsPolicy,
    ext_authz::v3::{ExtAuthz, ext_authz::Services},
    fault::v3::{HttpFault, fault_abort::ErrorType},
    jwt_authn::v3::{JwtAuthentication, PerRouteConfig},
    local_ratelimit::v3::LocalRateLimit,
    ratelimit::v3::RateLimit,
    rbac::v3::{Rbac, RbacPerRoute},
    set_filter_state::v3::Config as SetFilterState,
};
use corten_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use corten_envoy::google::protobuf::Any;
use corten_envoy::prost::{Message, Name};

use crate::facts::Facts;
use crate::headers::judge_header;
use crate::route::share_of;
use crate::strings::string_matches;
use crate::trace::{Answer, FilterVerdict, HeaderChange, Refusal, Verdict};
use crate::values::judge_metadata;
use crate::{jwt, listener, rbac};

/// Where a filter's settings for a route are looked for: the most specific first.
#[derive(Clone, Copy, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) route: Option<&'a Route>,
    pub(crate) host: Option<&'a VirtualHost>,
    pub(crate) config: Option<&'a RouteConfiguration>,
}

impl<'a> Scope<'a> {
    fn any(&self, filter: &str) -> Option<&'a Any> {
        let maps = [
            self.route.map(|route| &route.typed_per_filter_config),
            self.host.map(|host| &host.typed_per_filter_config),
            self.config.map(|config| &config.typed_per_filter_config),
        ];
        maps.into_iter().flatten().find_map(|map| map.get(filter))
    }

    /// The filter's settings here, and whether it is switched off.
    fn settings<M: Message + Name + Default>(&self, filter: &str) -> Result<(Option<M>, bool), String> {
        let broken = |error| format!("the settings of {filter} for the route are broken: {error}");
        let Some(any) = self.any(filter) else {
            return Ok((None, false));
        };
        let Some(wrapped) = corten_envoy::decode::<FilterConfig>(any).map_err(broken)? else {
            return Ok((corten_envoy::decode(any).map_err(broken)?, false));
        };
        let inner = wrapped
            .config
            .as_ref()
            .map(corten_envoy::decode)
            .transpose()
            .map_err(broken)?;
        Ok((inner.flatten(), wrapped.disabled))
    }
}

/// How a filter leaves a request.
pub(crate) enum Left {
    /// It goes on.
    On,
    /// It goes on, and its route is to be found again.
    Again,
    /// The filter answers.
    Answered(Answer),
    /// The filter ends it.
    Ended(Refusal, Option<u16>),
}

/// Runs one filter.
///
/// # Errors
///
/// Its configuration is broken; in words.
pub(crate) fn run(
    filter: &HttpFilter,
    scope: Scope<'_>,
    now: Option<u64>,
    facts: &mut Facts,
) -> Result<(FilterVerdict, Left), String> {
    let said = |verdict: Verdict, why: &str| FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why: why.to_owned(),
        policies: Vec::new(),
    };
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        let why = match &filter.config_type {
            Some(ConfigType::ConfigDiscovery(_)) => "its configuration comes by itself and is not here",
            _ => "",
        };
        return Ok((said(Verdict::Passed, why), Left::On));
    };
    let (_, off) = scope.settings::<FilterConfig>(&filter.name)?;
    if off || (filter.disabled && scope.any(&filter.name).is_none()) {
        return Ok((said(Verdict::Passed, "switched off here"), Left::On));
    }
    let decoder = Decoder { filter, any };
    if let Some(config) = decoder.decode::<Rbac>()? {
        return access(filter, &config, scope, facts);
    }
    if let Some(config) = decoder.decode::<JwtAuthentication>()? {
        let (per_route, _) = scope.settings::<PerRouteConfig>(&filter.name)?;
        let (verdict, status, again) = jwt::authenticate(&filter.name, &config, per_route.as_ref(), now, facts);
        let left = match status {
            Some(status) => Left::Ended(Refusal::Unauthenticated, Some(status)),
            None if again => Left::Again,
            None => Left::On,
        };
        return Ok((verdict, left));
    }
    if let Some(config) = decoder.decode::<HttpFault>()? {
        let (per_route, _) = scope.settings::<HttpFault>(&filter.name)?;
        return Ok(fault(filter, &per_route.unwrap_or(config), facts));
    }
    if let Some(config) = decoder.decode::<ExtAuthz>()? {
        return Ok((external(&filter.name, &config, facts), Left::On));
    }
    if let Some(config) = decoder.decode::<RateLimit>()? {
        let asks = config
            .rate_limit_service
            .as_ref()
            .and_then(|service| service.grpc_service.as_ref())
            .map_or_else(|| "nobody".to_owned(), grpc_name);
        return Ok((
            said(
                Verdict::Depends,
                &format!("asks {asks} about the limits of {:?}", config.domain),
            ),
            Left::On,
        ));
    }
    if let Some(config) = decoder.decode::<LocalRateLimit>()? {
        let (per_route, _) = scope.settings::<LocalRateLimit>(&filter.name)?;
        return Ok((local_limit(filter, &per_route.unwrap_or(config)), Left::On));
    }
    if let Some(config) = decoder.decode::<SetFilterState>()? {
        let noted: Vec<String> = config
            .on_request_headers
            .iter()
            .filter_map(|value| listener::note(value, facts))
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        return Ok((
            said(Verdict::Passed, &noted.join(", ")),
            if config.clear_route_cache {
                Left::Again
            } else {
                Left::On
            },
        ));
    }
    if corten_envoy::type_name(&any.type_url) == "envoy.extensions.filters.http.cors.v3.Cors" {
        let (policy, _) = scope.settings::<CorsPolicy>(&filter.name)?;
        return Ok(cors(filter, policy.as_ref(), facts));
    }
    Ok((said(Verdict::Passed, ""), Left::On))
}

struct Decoder<'a> {
    filter: &'a HttpFilter,
    any: &'a Any,
}

impl Decoder<'_> {
    fn decode<M: Message + Name + Default>(&self) -> Result<Option<M>, String> {
        corten_envoy::decode(self.any)
            .map_err(|error| format!("the HTTP filter {:?} is broken: {error}", self.filter.name))
    }
}

fn access(
    filter: &HttpFilter,
    config: &Rbac,
    scope: Scope<'_>,
    facts: &mut Facts,
) -> Result<(FilterVerdict, Left), String> {
    let (per_route, _) = scope.settings::<RbacPerRoute>(&filter.name)?;
    let config = match &per_route {
        None => config,
        Some(RbacPerRoute { rbac: Some(config) }) => config,
        Some(RbacPerRoute { rbac: None }) => &Rbac::default(),
    };
    if config.matcher.is_some() {
        return Err(format!(
            "the HTTP filter {:?} has a tree of matchers, which is not followed here",
            filter.name
        ));
    }
    let rules = |rules: &'_ Option<Rules>| rules.clone();
    let (enforced, shadow) = (rules(&config.rules), rules(&config.shadow_rules));
    let verdict = rbac::enforce(
        &rbac::Rules {
            name: &filter.name,
            enforced: enforced.as_ref(),
            shadow: shadow.as_ref(),
            shadow_prefix: &config.shadow_rules_stat_prefix,
            metadata_name: "envoy.filters.http.rbac",
        },
        facts,
    );
    let left = if verdict.verdict == Verdict::Denied {
        Left::Ended(Refusal::Denied, Some(403))
    } else {
        Left::On
    };
    Ok((verdict, left))
}

fn fault(filter: &HttpFilter, config: &HttpFault, facts: &Facts) -> (FilterVerdict, Left) {
    let said = |verdict: Verdict, why: String| FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why,
        policies: Vec::new(),
    };
    if let Some(no) = config
        .headers
        .iter()
        .map(|matcher| judge_header(matcher, |name| facts.header(name)))
        .find(|judged| !judged.yes)
    {
        return (said(Verdict::Passed, no.why), Left::On);
    }
    let percent = |share: f64| format!("{} %", crate::text::percent(share));
    let mut parts = Vec::new();
    if let Some(delay) = &config.delay {
        use corten_envoy::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
        let share = delay.percentage.as_ref().map_or(0.0, share_of);
        if let Some(FaultDelaySecifier::FixedDelay(time)) = &delay.fault_delay_secifier
            && share > 0.0
        {
            parts.push(format!(
                "delays {} of them by {}",
                percent(share),
                crate::text::duration(time)
            ));
        }
    }
    if let Some(abort) = &config.abort {
        let share = abort.percentage.as_ref().map_or(0.0, share_of);
        let (what, status) = match &abort.error_type {
            Some(ErrorType::HttpStatus(status)) => (format!("HTTP {status}"), u16::try_from(*status).ok()),
            Some(ErrorType::GrpcStatus(status)) => (format!("gRPC status {status}"), Some(200)),
            Some(ErrorType::HeaderAbort(_)) => ("what a header says".to_owned(), None),
            None => return (said(Verdict::Passed, parts.join("; ")), Left::On),
        };
        if share >= 1.0 {
            parts.push(format!("aborts all of them with {what}"));
            return (
                said(Verdict::Denied, parts.join("; ")),
                Left::Ended(Refusal::Aborted, status),
            );
        }
        if share > 0.0 {
            parts.push(format!("aborts {} of them with {what}", percent(share)));
        }
    }
    let verdict = if parts.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Depends
    };
    (said(verdict, parts.join("; ")), Left::On)
}

/// Whom a gRPC service names.
pub(crate) fn grpc_name(service: &GrpcService) -> String {
    match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(grpc)) => grpc.cluster_name.clone(),
        Some(TargetSpecifier::GoogleGrpc(grpc)) => grpc.target_uri.clone(),
        None => "nobody".to_owned(),
    }
}

fn external(name: &str, config: &ExtAuthz, facts: &Facts) -> FilterVerdict {
    let said = |verdict: Verdict, why: String| FilterVerdict {
        name: name.to_owned(),
        verdict,
        why,
        policies: Vec::new(),
    };
    if let Some(matcher) = &config.filter_enabled_metadata {
        let judged = judge_metadata(matcher, &facts.metadata);
        if !judged.yes {
            return said(Verdict::Passed, "no policy sends this request to it".to_owned());
        }
    }
    let asks = match &config.services {
        Some(Services::GrpcService(service)) => grpc_name(service),
        Some(Services::HttpService(service)) => {
            use corten_envoy::envoy::config::core::v3::http_uri::HttpUpstreamType;
            let uri = service.server_uri.as_ref();
            match uri.and_then(|uri| uri.http_upstream_type.as_ref()) {
                Some(HttpUpstreamType::Cluster(cluster)) => format!(
                    "{cluster} at {}{}",
                    uri.map_or("", |uri| &*uri.uri),
                    service.path_prefix
                ),
                None => "nobody".to_owned(),
            }
        }
        None => "nobody".to_owned(),
    };
    let otherwise = if config.failure_mode_allow {
        "lets the call pass if it does not answer"
    } else {
        "denies if it does not answer"
    };
    said(Verdict::Depends, format!("asks {asks}; {otherwise}"))
}

fn local_limit(filter: &HttpFilter, config: &LocalRateLimit) -> FilterVerdict {
    let enforced = config
        .filter_enforced
        .as_ref()
        .and_then(|fraction| fraction.default_value.as_ref())
        .map_or(0.0, share_of);
    let why = match &config.token_bucket {
        Some(bucket) if enforced > 0.0 => {
            let every = bucket
                .fill_interval
                .as_ref()
                .map_or_else(|| "never".to_owned(), crate::text::duration);
            let fill = bucket.tokens_per_fill.as_ref().map_or(1, |fill| fill.value);
            format!("allows {} at once, and {fill} more every {every}", bucket.max_tokens)
        }
        _ => String::new(),
    };
    let verdict = if why.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Depends
    };
    FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why,
        policies: Vec::new(),
    }
}

fn cors(filter: &HttpFilter, policy: Option<&CorsPolicy>, facts: &mut Facts) -> (FilterVerdict, Left) {
    let said = |verdict: Verdict, why: String| FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why,
        policies: Vec::new(),
    };
    let Some(policy) = policy else {
        return (said(Verdict::Passed, String::new()), Left::On);
    };
    let Some(origin) = facts.header("origin").filter(|origin| !origin.is_empty()) else {
        return (said(Verdict::Passed, "the request has no origin".to_owned()), Left::On);
    };
    let known = policy
        .allow_origin_string_match
        .iter()
        .any(|matcher| string_matches(matcher, &origin).unwrap_or(false));
    let preflight = facts.header(":method").is_some_and(|method| method == "OPTIONS")
        && facts
            .header("access-control-request-method")
            .is_some_and(|method| !method.is_empty());
    let is = if known { "is" } else { "is not" };
    let why = format!("the origin {origin} {is} one of those that are allowed");
    let forwards = policy
        .forward_not_matching_preflights
        .as_ref()
        .is_none_or(|value| value.value);
    let header = |name: &str, value: &str| (format!("access-control-{name}"), value.to_owned());
    let mut headers = vec![header("allow-origin", &origin)];
    if policy.allow_credentials.as_ref().is_some_and(|value| value.value) {
        headers.push(header("allow-credentials", "true"));
    }
    if preflight && (known || !forwards) {
        let given = [
            ("allow-methods", &policy.allow_methods),
            ("allow-headers", &policy.allow_headers),
            ("max-age", &policy.max_age),
        ];
        let given = given.iter().filter(|(_, value)| !value.is_empty());
        headers.extend(given.map(|(name, value)| header(name, value)));
        let answer = Answer {
            status: 200,
            headers: if known { headers } else { Vec::new() },
            ..Answer::default()
        };
        return (
            said(Verdict::Allowed, format!("{why}; the preflight is answered here")),
            Left::Answered(answer),
        );
    }
    if !known {
        return (said(Verdict::Passed, why), Left::On);
    }
    if !policy.expose_headers.is_empty() {
        headers.push(header("expose-headers", &policy.expose_headers));
    }
    let changes = headers.into_iter().map(|(name, value)| HeaderChange::Set(name, value));
    facts.response.extend(changes);
    (said(Verdict::Allowed, why), Left::On)
}

#[cfg(test)]
mod tests;
