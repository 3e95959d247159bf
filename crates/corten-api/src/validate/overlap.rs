//! Routes of a VirtualService that can never be chosen, because others before them match all that they would.

use std::collections::{BTreeMap, HashMap};

use super::Report;
use crate::{
    codec::{Field, Json},
    istio::virtual_service::{HTTPMatchRequest, StringMatch, StringMatchMatchType, VirtualServiceSpec},
};

/// Warns of routes and matches that are never used.
pub(super) fn routes(service: &VirtualServiceSpec, report: &mut Report) {
    let http = service.http.iter().map(|route| {
        let nameless = |request: &HTTPMatchRequest| {
            HTTPMatchRequest {
                name: String::new(),
                ..request.clone()
            }
            .encode()
        };
        route.match_.iter().map(nameless).collect()
    });
    unreachable("http", http, report);
    covered_prefixes(service, report);
    unreachable(
        "tcp",
        service
            .tcp
            .iter()
            .map(|route| route.match_.iter().map(Field::encode).collect()),
        report,
    );
    unreachable(
        "tls",
        service
            .tls
            .iter()
            .map(|route| route.match_.iter().map(Field::encode).collect()),
        report,
    );
}

fn unreachable(protocol: &str, routes: impl Iterator<Item = Vec<Json>>, report: &mut Report) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut matches_all: Option<usize> = None;
    for (i, matches) in routes.enumerate() {
        let at = format!("spec.{protocol}[{i}]");
        if let Some(before) = matches_all {
            report.warning(
                &at,
                format!("never used: {protocol}[{before}] before it has no match and so takes everything"),
            );
        }
        if matches.is_empty() {
            matches_all = Some(i);
            continue;
        }
        if matches_all.is_some() {
            continue;
        }
        let count = matches.len();
        let mut duplicates = 0;
        for (j, request) in matches.into_iter().enumerate() {
            match seen.get(&request.to_string()) {
                Some(before) => {
                    duplicates += 1;
                    report.warning(
                        format!("{at}.match[{j}]"),
                        format!("never used: {protocol}[{before}] has the same match"),
                    );
                }
                None => _ = seen.insert(request.to_string(), i),
            }
        }
        if duplicates == count {
            report.warning(at, "never used: all its matches are in routes before it");
        }
    }
}

/// What two matches by prefix are compared by.
struct Prefixed<'a> {
    at: String,
    prefix: &'a str,
    request: &'a HTTPMatchRequest,
}

fn covered_prefixes(service: &VirtualServiceSpec, report: &mut Report) {
    let mut found: Vec<Prefixed<'_>> = Vec::new();
    let mut seen: Vec<Json> = Vec::new();
    for (i, route) in service.http.iter().enumerate() {
        if route.match_.is_empty() {
            break;
        }
        for (j, request) in route.match_.iter().enumerate() {
            let Some(StringMatchMatchType::Prefix(prefix)) =
                request.uri.as_ref().and_then(|uri| uri.match_type.as_ref())
            else {
                continue;
            };
            let key = HTTPMatchRequest {
                name: String::new(),
                ..request.clone()
            }
            .encode();
            if prefix.is_empty() || seen.contains(&key) {
                continue;
            }
            seen.push(key);
            found.push(Prefixed {
                at: format!("spec.http[{i}].match[{j}]"),
                prefix,
                request,
            });
        }
    }
    for (i, earlier) in found.iter().enumerate() {
        for later in found.iter().skip(i + 1) {
            if later.prefix != earlier.prefix && covers(earlier, later) {
                let message = format!(
                    "may never be used: {} matches the shorter prefix '{}'",
                    earlier.at, earlier.prefix
                );
                report.warning(&later.at, message);
            }
        }
    }
}

/// Whether whatever `later` matches, `earlier` matches.
fn covers(earlier: &Prefixed<'_>, later: &Prefixed<'_>) -> bool {
    let (a, b) = (earlier.request, later.request);
    let method = |request: &HTTPMatchRequest| match written(request.method.as_ref()) {
        unset if unset.is_empty() => "exact:GET".to_owned(),
        method => method,
    };
    later.prefix.starts_with(earlier.prefix)
        && a.port == b.port
        && method(a).starts_with(&method(b))
        && written(a.authority.as_ref()).starts_with(&written(b.authority.as_ref()))
        && all_cover(&a.headers, &b.headers)
        && all_cover(&a.query_params, &b.query_params)
        && all_cover(&a.without_headers, &b.without_headers)
}

fn all_cover(earlier: &BTreeMap<String, StringMatch>, later: &BTreeMap<String, StringMatch>) -> bool {
    earlier.len() == later.len()
        && earlier.iter().all(|(name, a)| {
            later
                .get(name)
                .is_some_and(|b| written(Some(a)).starts_with(&written(Some(b))))
        })
}

/// Exact and prefix matches in a comparable form; regular expressions cannot be compared.
fn written(value: Option<&StringMatch>) -> String {
    match value.and_then(|value| value.match_type.as_ref()) {
        Some(StringMatchMatchType::Exact(text)) if !text.is_empty() => format!("exact:{text}"),
        Some(StringMatchMatchType::Prefix(text)) if !text.is_empty() => format!("prefix:{text}"),
        _ => String::new(),
    }
}
