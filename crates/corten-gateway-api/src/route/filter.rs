//! Filters of HTTP and gRPC routes.

use std::collections::BTreeMap;

use corten_api::{
    gateway_api::http_route::{
        HTTPCORSFilter, HTTPHeader, HTTPHeaderFilter, HTTPPathModifier, HTTPPathReplacement, HTTPRequestMirrorFilter,
        HTTPRequestRedirectFilter, HTTPRouteRetry, HTTPURLRewriteFilter,
    },
    istio::virtual_service::{
        CorsPolicy, Destination, HTTPMirrorPolicy, HTTPRedirect, HTTPRedirectRedirectPort, HTTPRetry, HTTPRewrite,
        HeaderOperations, Percent, RedirectPortSelection, RegexRewrite, StringMatch, StringMatchMatchType as Text,
        UnmatchedPreflights,
    },
};
use corten_core::Duration;

use super::matching::name;
use crate::condition::Problem;

/// The reason of everything that is wrong with filters.
const INVALID: &str = "InvalidFilter";

/// A filter that is not known.
pub(crate) fn unsupported(kind: &str) -> Problem {
    Problem::new(INVALID, format!("unsupported filter type \"{kind}\""))
}

/// Changes of headers.
pub(crate) fn headers(filter: &HTTPHeaderFilter) -> Result<HeaderOperations, Problem> {
    let is_valid = |value: &str| value.bytes().all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f));
    if let Some(header) = filter.set.iter().chain(&filter.add).find(|h| !is_valid(&h.value)) {
        let message = format!("header \"{}\" value contains invalid characters", header.name);
        return Err(Problem::new(INVALID, message));
    }
    Ok(HeaderOperations {
        set: by_name(&filter.set),
        add: by_name(&filter.add),
        remove: filter.remove.clone(),
    })
}

/// Headers by name in lower case; the first of several counts.
fn by_name(headers: &[HTTPHeader]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for header in headers {
        map.entry(header.name.to_ascii_lowercase())
            .or_insert_with(|| header.value.clone());
    }
    map
}

/// A redirect. The Gateway API's default is 302 where Istio's is 301.
pub(crate) fn redirect(filter: &HTTPRequestRedirectFilter) -> HTTPRedirect {
    let port = match (filter.port, &filter.scheme) {
        (Some(port), _) => HTTPRedirectRedirectPort::Port(port),
        (None, Some(_)) => HTTPRedirectRedirectPort::DerivePort(RedirectPortSelection::FromProtocolDefault),
        (None, None) => HTTPRedirectRedirectPort::DerivePort(RedirectPortSelection::FromRequestPort),
    };
    let (uri, prefix_rewrite) = match replacement(filter.path.as_ref()) {
        Some(HTTPPathReplacement::ReplaceFullPath(path)) => (path.clone(), String::new()),
        Some(HTTPPathReplacement::ReplacePrefixMatch(prefix)) => (String::new(), prefix.clone()),
        None => (String::new(), String::new()),
    };
    HTTPRedirect {
        uri,
        authority: filter.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        redirect_port: Some(port),
        scheme: filter.scheme.as_ref().map(name).unwrap_or_default(),
        redirect_code: filter
            .status_code
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(302),
        prefix_rewrite,
    }
}

fn replacement(path: Option<&HTTPPathModifier>) -> Option<&HTTPPathReplacement> {
    path.and_then(|path| path.replacement.as_ref())
}

/// A rewrite; `None`: nothing is rewritten.
pub(crate) fn rewrite(filter: &HTTPURLRewriteFilter) -> Option<HTTPRewrite> {
    let mut rewrite = HTTPRewrite {
        authority: filter.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..HTTPRewrite::default()
    };
    match replacement(filter.path.as_ref()) {
        Some(HTTPPathReplacement::ReplacePrefixMatch(prefix)) => {
            let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
            // "/" takes the prefix away.
            rewrite.uri = if trimmed.is_empty() { "/" } else { trimmed }.to_owned();
        }
        Some(HTTPPathReplacement::ReplaceFullPath(path)) => {
            rewrite.uri_regex_rewrite = Some(RegexRewrite {
                match_: "/.*".to_owned(),
                rewrite: path.clone(),
            });
        }
        None => {}
    }
    (rewrite != HTTPRewrite::default()).then_some(rewrite)
}

/// A mirror towards a destination.
pub(crate) fn mirror(filter: &HTTPRequestMirrorFilter, destination: Destination) -> HTTPMirrorPolicy {
    let value = match (&filter.fraction, filter.percent) {
        (Some(fraction), _) => {
            let denominator = fraction.denominator.unwrap_or(100);
            Some(100.0 * f64::from(fraction.numerator) / f64::from(denominator))
        }
        (None, percent) => percent.map(f64::from),
    };
    HTTPMirrorPolicy {
        destination: Some(destination),
        percentage: value.map(|value| Percent { value }),
    }
}

/// Cross-origin rules.
pub(crate) fn cors(filter: &HTTPCORSFilter) -> CorsPolicy {
    let origins = filter.allow_origins.iter().filter(|origin| !origin.is_empty());
    let max_age = filter.max_age.filter(|seconds| *seconds > 0);
    CorsPolicy {
        allow_origins: origins
            .map(|origin| StringMatch {
                match_type: Some(self::origin(origin)),
            })
            .collect(),
        allow_methods: filter.allow_methods.iter().map(name).collect(),
        allow_headers: filter.allow_headers.clone(),
        expose_headers: filter.expose_headers.clone(),
        max_age: max_age.map(|seconds| Duration::from_secs(i64::from(seconds))),
        allow_credentials: filter.allow_credentials.filter(|allowed| *allowed),
        unmatched_preflights: UnmatchedPreflights::Ignore,
        ..CorsPolicy::default()
    }
}

/// What an origin must look like.
fn origin(origin: &str) -> Text {
    if origin == "*" {
        // Whatever has the form of an origin (RFC 6454): scheme, host, perhaps a port, and no path.
        return Text::Regex(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$".to_owned());
    }
    if !origin.contains('*') {
        return Text::Exact(origin.to_owned());
    }
    if let Some(prefix) = origin.strip_suffix('*').filter(|prefix| !prefix.contains('*')) {
        return Text::Prefix(prefix.to_owned());
    }
    let mut pattern = String::from("^");
    for letter in origin.chars() {
        match letter {
            '*' => pattern.push_str(".*"),
            '\\' | '.' | '+' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '?' => {
                pattern.push('\\');
                pattern.push(letter);
            }
            plain => pattern.push(plain),
        }
    }
    pattern.push('$');
    Text::Regex(pattern)
}

/// Retries. What cannot have reached the backend is always tried again.
pub(crate) fn retry(retry: &HTTPRouteRetry) -> HTTPRetry {
    let attempts = retry.attempts.unwrap_or(2);
    let mut on: Vec<String> = ["connect-failure", "refused-stream", "unavailable", "cancelled"]
        .map(str::to_owned)
        .to_vec();
    on.extend(retry.codes.iter().map(ToString::to_string));
    HTTPRetry {
        attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
        retry_on: if attempts == 0 { String::new() } else { on.join(",") },
        backoff: retry.backoff,
        ..HTTPRetry::default()
    }
}
