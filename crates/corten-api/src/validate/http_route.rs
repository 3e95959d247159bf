//! HTTP routes of a VirtualService.

use std::collections::BTreeMap;

use corten_core::Labels;

use super::{
    Report,
    connection_pool::durations,
    text::{self, shown},
    virtual_service::{destination, gateway_names, total_weight},
};
use crate::istio::virtual_service::{
    AbortErrorType, CorsPolicy, DelayHttpDelayType, HTTPBodySpecifier, HTTPDirectResponse, HTTPFaultInjection,
    HTTPMatchRequest, HTTPRedirect, HTTPRedirectRedirectPort, HTTPRetry, HTTPRewrite, HTTPRoute, HeaderOperations,
    Headers, Percent, StringMatch, StringMatchMatchType,
};

/// What kind of VirtualService a route stands in.
#[derive(Clone, Copy)]
pub(super) struct Within {
    /// One without hosts, to which others delegate.
    pub(super) delegate: bool,
    /// One made from a Gateway API route, whose destinations the control plane has checked.
    pub(super) converted: bool,
}

/// One HTTP route.
pub(super) fn http_route(at: &str, route: &HTTPRoute, within: Within, report: &mut Report) {
    conflicts(at, route, within, report);
    for (i, request) in route.match_.iter().enumerate() {
        matches(&format!("{at}.match[{i}]"), request, report);
    }
    headers(&format!("{at}.headers"), route.headers.as_ref(), report);
    if let Some(policy) = &route.cors_policy {
        cors(&format!("{at}.corsPolicy"), policy, report);
    }
    if let Some(fault) = &route.fault {
        fault_injection(&format!("{at}.fault"), fault, report);
    }
    mirrors(at, route, report);
    if let Some(to) = &route.redirect {
        redirect(&format!("{at}.redirect"), to, &route.match_, report);
    }
    if let Some(response) = &route.direct_response {
        direct_response(&format!("{at}.directResponse"), response, report);
    }
    if let Some(policy) = &route.retries {
        retries(&format!("{at}.retries"), policy, report);
    }
    if let Some(to) = &route.rewrite {
        rewrite(&format!("{at}.rewrite"), to, report);
    }
    one_authority(at, route, report);
    for (i, weighted) in route.route.iter().enumerate() {
        let at = format!("{at}.route[{i}]");
        match &weighted.destination {
            None => report.error(format!("{at}.destination"), "required"),
            Some(to) if !within.converted => destination(&format!("{at}.destination"), to, report),
            Some(_) => {}
        }
        headers(&format!("{at}.headers"), weighted.headers.as_ref(), report);
    }
    total_weight(at, route.route.iter().map(|r| r.weight), report);
    durations(at, &[("timeout", route.timeout)], report);
}

/// What a route can do is mostly one thing.
fn conflicts(at: &str, route: &HTTPRoute, within: Within, report: &mut Report) {
    if route.delegate.is_some() && !within.delegate {
        for (field, given) in [
            ("redirect", route.redirect.is_some()),
            ("route", !route.route.is_empty()),
        ] {
            if given {
                report.error(
                    format!("{at}.{field}"),
                    "the delegate decides this; remove it or delegate",
                );
            }
        }
        return;
    }
    if route.delegate.is_some() {
        report.error(
            format!("{at}.delegate"),
            "this VirtualService has no hosts and so is a delegate itself",
        );
    }
    let action = match (&route.redirect, &route.direct_response) {
        (Some(_), _) => Some("redirect"),
        (None, Some(_)) => Some("directResponse"),
        (None, None) => None,
    };
    if let Some(action) = action {
        let others = [
            ("route", !route.route.is_empty()),
            ("fault", route.fault.is_some()),
            ("rewrite", route.rewrite.is_some()),
            (
                "directResponse",
                action == "redirect" && route.direct_response.is_some(),
            ),
        ];
        for (field, _) in others.iter().filter(|(_, given)| *given) {
            report.error(
                format!("{at}.{field}"),
                format!("cannot be given beside {action}; remove one"),
            );
        }
    } else if route.route.is_empty() {
        report.error(at, "needs route, redirect or directResponse");
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.error(format!("{at}.mirror"), "cannot be given beside mirrors; move it there");
    }
}

fn matches(at: &str, request: &HTTPMatchRequest, report: &mut Report) {
    for (name, value) in &request.headers {
        let at = format!("{at}.headers[{name}]");
        report.check(&at, text::matched_header_name(name));
        string_match(&at, value, report);
    }
    for (name, value) in &request.without_headers {
        let at = format!("{at}.withoutHeaders[{name}]");
        report.check(&at, text::matched_header_name(name));
        // `*` is no regular expression, but long since means any value here.
        if !matches!(&value.match_type, Some(StringMatchMatchType::Regex(regex)) if regex == "*") {
            string_match(&at, value, report);
        }
    }
    if let Some(uri) = &request.uri {
        regex_match(&format!("{at}.uri"), uri, report);
    }
    for (field, value) in [
        ("scheme", &request.scheme),
        ("method", &request.method),
        ("authority", &request.authority),
    ] {
        if let Some(value) = value {
            string_match(&format!("{at}.{field}"), value, report);
        }
    }
    for (name, value) in &request.query_params {
        string_match(&format!("{at}.queryParams[{name}]"), value, report);
    }
    report.check(format!("{at}.sourceLabels"), Labels(&request.source_labels).check());
    gateway_names(&format!("{at}.gateways"), &request.gateways, false, report, false);
    if !request.source_namespace.is_empty() {
        report.check(
            format!("{at}.sourceNamespace"),
            text::label(&request.source_namespace, "namespace"),
        );
    }
}

fn string_match(at: &str, value: &StringMatch, report: &mut Report) {
    if matches!(&value.match_type, Some(StringMatchMatchType::Prefix(prefix)) if prefix.is_empty()) {
        report.error(
            format!("{at}.prefix"),
            "must not be empty; to match any value, write an empty match: {}",
        );
    }
    regex_match(at, value, report);
}

fn regex_match(at: &str, value: &StringMatch, report: &mut Report) {
    if let Some(StringMatchMatchType::Regex(regex)) = &value.match_type {
        if regex.is_empty() {
            report.error(format!("{at}.regex"), "must not be empty");
        } else {
            report.check(format!("{at}.regex"), text::regex(regex));
        }
    }
}

/// Changes of headers.
fn headers(at: &str, headers: Option<&Headers>, report: &mut Report) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        operations(&format!("{at}.request"), request, text::changed_request_header, report);
    }
    if let Some(response) = &headers.response {
        operations(&format!("{at}.response"), response, text::changed_header, report);
    }
}

fn operations(at: &str, operations: &HeaderOperations, may_change: fn(&str) -> text::Refusal, report: &mut Report) {
    for (field, headers) in [("add", &operations.add), ("set", &operations.set)] {
        for (name, value) in headers {
            let at = format!("{at}.{field}[{name}]");
            report.check(&at, may_change(name));
            report.check(&at, text::header_value(value));
        }
    }
    for (i, name) in operations.remove.iter().enumerate() {
        report.check(format!("{at}.remove[{i}]"), text::changed_header(name));
    }
}

/// The authority can be set in three places; only one may do so.
fn one_authority(at: &str, route: &HTTPRoute, report: &mut Report) {
    let rewritten = route
        .rewrite
        .as_ref()
        .is_some_and(|rewrite| !rewrite.authority.is_empty());
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let changes = request
        .into_iter()
        .flat_map(|request| request.set.iter().chain(&request.add));
    // Setting it to nothing does not count.
    let mut set = rewritten;
    for (name, value) in changes.filter(|(name, _)| text::is_authority(name)) {
        if set {
            report.error(
                format!("{at}.headers.request"),
                format!("the authority is set a second time, by {}", shown(name)),
            );
            return;
        }
        set = !value.is_empty();
    }
}

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

fn cors(at: &str, policy: &CorsPolicy, report: &mut Report) {
    for (i, origin) in policy.allow_origins.iter().enumerate() {
        let at = format!("{at}.allowOrigins[{i}]");
        use StringMatchMatchType::{Exact, Prefix, Regex};
        match &origin.match_type {
            Some(Exact(text) | Prefix(text) | Regex(text)) if !text.is_empty() => regex_match(&at, origin, report),
            _ => report.error(at, "needs exact, prefix or regex with a value"),
        }
    }
    for (i, method) in policy.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("{} is not one of {}", shown(method), METHODS.join(", "));
            report.error(format!("{at}.allowMethods[{i}]"), message);
        }
    }
    for (field, names) in [
        ("allowHeaders", &policy.allow_headers),
        ("exposeHeaders", &policy.expose_headers),
    ] {
        for (i, name) in names.iter().enumerate() {
            report.check(format!("{at}.{field}[{i}]"), text::cors_header_name(name));
        }
    }
    durations(at, &[("maxAge", policy.max_age)], report);
    if policy.max_age.is_some_and(|age| age.subsec_nanos() > 0) {
        report.error(format!("{at}.maxAge"), "must be whole seconds");
    }
}

fn percentage(at: &str, percentage: Option<&Percent>, report: &mut Report) {
    if let Some(Percent { value }) = percentage
        && !(*value == 0.0 || (0.0001..=100.0).contains(value))
    {
        report.error(
            format!("{at}.percentage.value"),
            format!("{value} is neither 0 nor between 0.0001 and 100"),
        );
    }
}

const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn fault_injection(at: &str, fault: &HTTPFaultInjection, report: &mut Report) {
    if fault.abort.is_none() && fault.delay.is_none() {
        report.error(at, "needs abort or delay");
    }
    if let Some(abort) = &fault.abort {
        let at = format!("{at}.abort");
        percentage(&at, abort.percentage.as_ref(), report);
        match &abort.error_type {
            Some(AbortErrorType::HttpStatus(status)) => {
                report.check(format!("{at}.httpStatus"), text::http_status((*status).into()));
            }
            Some(AbortErrorType::GrpcStatus(status)) if !GRPC_CODES.contains(&status.as_str()) => {
                report.error(
                    format!("{at}.grpcStatus"),
                    format!("{} is not one of {}", shown(status), GRPC_CODES.join(", ")),
                );
            }
            Some(AbortErrorType::Http2Error(_)) => {
                report.error(format!("{at}.http2Error"), "not supported; use httpStatus")
            }
            Some(AbortErrorType::GrpcStatus(_)) | None => {}
        }
    }
    if let Some(delay) = &fault.delay {
        let at = format!("{at}.delay");
        percentage(&at, delay.percentage.as_ref(), report);
        match delay.http_delay_type {
            Some(DelayHttpDelayType::FixedDelay(duration)) => {
                report.check(format!("{at}.fixedDelay"), text::duration(duration));
            }
            Some(DelayHttpDelayType::ExponentialDelay(_)) => {
                report.error(format!("{at}.exponentialDelay"), "not supported; use fixedDelay");
            }
            None => {}
        }
    }
}

fn mirrors(at: &str, route: &HTTPRoute, report: &mut Report) {
    if let Some(percent) = route.mirror_percent {
        if percent > 100 {
            report.error(format!("{at}.mirrorPercent"), format!("{percent} is more than 100"));
        }
        report.warning(format!("{at}.mirrorPercent"), "deprecated; use mirrorPercentage");
    }
    let mut part = |at: String, percentage: Option<&Percent>| {
        if let Some(Percent { value }) = percentage.filter(|p| !(0.0..=100.0).contains(&p.value)) {
            report.error(format!("{at}.value"), format!("{value} is not between 0 and 100"));
        }
    };
    part(format!("{at}.mirrorPercentage"), route.mirror_percentage.as_ref());
    for (i, mirror) in route.mirrors.iter().enumerate() {
        part(format!("{at}.mirrors[{i}].percentage"), mirror.percentage.as_ref());
    }
    if let Some(mirror) = &route.mirror {
        destination(&format!("{at}.mirror"), mirror, report);
    }
    for (i, mirror) in route.mirrors.iter().enumerate() {
        let at = format!("{at}.mirrors[{i}].destination");
        match &mirror.destination {
            Some(to) => destination(&at, to, report),
            None => report.error(at, "required"),
        }
    }
}

fn redirect(at: &str, redirect: &HTTPRedirect, matches: &[HTTPMatchRequest], report: &mut Report) {
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        report.error(at, "only one of uri and prefixRewrite may be given");
        return;
    }
    if !redirect.prefix_rewrite.is_empty() {
        let uris = matches.iter().filter_map(|m| m.uri.as_ref());
        if uris
            .into_iter()
            .any(|uri| !matches!(uri.match_type, Some(StringMatchMatchType::Prefix(_))))
        {
            report.error(
                format!("{at}.prefixRewrite"),
                "all matches of the route must match the uri by prefix",
            );
        }
    }
    let given = [
        &redirect.uri,
        &redirect.prefix_rewrite,
        &redirect.authority,
        &redirect.scheme,
    ]
    .iter()
    .any(|f| !f.is_empty());
    if !given && redirect.redirect_port.is_none() {
        report.error(at, "needs uri, authority, scheme or port");
    }
    if redirect.redirect_code != 0 && !(300..=399).contains(&redirect.redirect_code) {
        report.error(
            format!("{at}.redirectCode"),
            format!("{} is not between 300 and 399", redirect.redirect_code),
        );
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        report.error(
            format!("{at}.scheme"),
            format!("{} is neither http nor https", shown(&redirect.scheme)),
        );
    }
    if let Some(HTTPRedirectRedirectPort::Port(port)) = redirect.redirect_port
        && port.is_given()
    {
        report.check(format!("{at}.port"), text::port(port.0));
    }
}

fn direct_response(at: &str, response: &HTTPDirectResponse, report: &mut Report) {
    const LARGE: usize = 100 << 10;
    const TOO_LARGE: usize = 1 << 20;
    let bytes = match response.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        Some(HTTPBodySpecifier::String(text)) => text.len(),
        Some(HTTPBodySpecifier::Bytes(bytes)) => bytes.0.len(),
        None => 0,
    };
    if bytes > TOO_LARGE {
        report.error(format!("{at}.body"), format!("{bytes} bytes are more than {TOO_LARGE}"));
    } else if bytes > LARGE {
        report.warning(
            format!("{at}.body"),
            "large bodies slow down the whole control plane; serve this elsewhere",
        );
    }
    report.check(format!("{at}.status"), text::http_status(response.status.into()));
}

fn rewrite(at: &str, rewrite: &HTTPRewrite, report: &mut Report) {
    if !rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_some() {
        report.error(at, "only one of uri and uriRegexRewrite may be given");
        return;
    }
    if rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_none() && rewrite.authority.is_empty() {
        report.error(at, "needs uri, uriRegexRewrite or authority");
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        let at = format!("{at}.uriRegexRewrite");
        if regex.match_.is_empty() || regex.rewrite.is_empty() {
            report.error(at, "needs both match and rewrite");
        } else {
            report.check(format!("{at}.match"), text::regex(&regex.match_));
        }
    }
}

const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// The status codes with a name in RFC 9110 and the RFCs around it.
fn is_known_status(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451
        | 500..=508 | 510 | 511)
}

/// When and how often a request is tried again.
pub(super) fn retries(at: &str, retries: &HTTPRetry, report: &mut Report) {
    if retries.attempts < 0 {
        report.error(format!("{at}.attempts"), "must not be negative");
    }
    let configured =
        retries.per_try_timeout.is_some() || !retries.retry_on.is_empty() || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && configured {
        report.error(
            at,
            "0 attempts mean no retries; remove the other fields or set attempts",
        );
    }
    durations(
        at,
        &[("perTryTimeout", retries.per_try_timeout), ("backoff", retries.backoff)],
        report,
    );
    if !retries.retry_on.is_empty() {
        for policy in retries.retry_on.split(',') {
            if !RETRY_ON.contains(&policy) && !policy.parse().is_ok_and(is_known_status) {
                let message = format!(
                    "{} is neither a status code nor one of {}",
                    shown(policy),
                    RETRY_ON.join(", ")
                );
                report.error(format!("{at}.retryOn"), message);
            }
        }
    }
}

/// The headers a match looks at.
pub(super) fn matched_headers(request: &HTTPMatchRequest) -> impl Iterator<Item = (&'static str, &String)> {
    let with = |headers| -> std::collections::btree_map::Keys<'_, String, StringMatch> { BTreeMap::keys(headers) };
    with(&request.headers)
        .map(|h| ("headers", h))
        .chain(with(&request.without_headers).map(|h| ("withoutHeaders", h)))
}
