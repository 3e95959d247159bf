//! Which requests a route takes.

use corten_api::istio::virtual_service::{HTTPMatchRequest, StringMatch, StringMatchMatchType};
use corten_envoy::{
    boolean,
    envoy::{
        config::route::v3::{
            HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
        },
        r#type::matcher::v3::{
            ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
            metadata_matcher::{PathSegment, path_segment},
            string_matcher::MatchPattern,
            value_matcher,
        },
    },
};
use corten_routing::Semantics;

/// Where a validated token's claims are.
const CLAIMS: (&str, &str) = ("envoy.filters.http.jwt_authn", "payload");

/// The beginning of the names of headers that stand for claims.
const CLAIM_HEADER: &str = "@request.auth.claims";

/// What everything matches.
pub(crate) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

/// The condition of a route for a match; `None`: it takes everything.
pub(crate) fn route_match(semantics: Semantics, wanted: Option<&HTTPMatchRequest>) -> RouteMatch {
    let mut made = everything();
    let Some(wanted) = wanted else {
        return made;
    };
    for (name, value) in &wanted.headers {
        match routing_claim(name) {
            Some(claims) => made.dynamic_metadata.push(claim(claims, value, false)),
            None => made.headers.push(header(name, value)),
        }
    }
    for (name, value) in &wanted.without_headers {
        match routing_claim(name) {
            Some(claims) => made.dynamic_metadata.push(claim(claims, value, true)),
            None => made.headers.push(HeaderMatcher {
                invert_match: true,
                treat_missing_header_as_empty: !means_present(value),
                ..header(name, value)
            }),
        }
    }
    made.headers.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(uri) = wanted.uri.as_ref().and_then(|uri| uri.match_type.as_ref()) {
        made.path_specifier = Some(path(semantics, uri));
    }
    made.case_sensitive = boolean(!wanted.ignore_uri_case);
    for (name, value) in [
        (":method", &wanted.method),
        (":authority", &wanted.authority),
        (":scheme", &wanted.scheme),
    ] {
        made.headers.extend(value.as_ref().map(|value| header(name, value)));
    }
    made.query_parameters = wanted
        .query_params
        .iter()
        .map(|(name, value)| query(name, value))
        .collect();
    made
}

fn path(semantics: Semantics, uri: &StringMatchMatchType) -> PathSpecifier {
    match uri {
        StringMatchMatchType::Exact(path) => PathSpecifier::Path(path.clone()),
        StringMatchMatchType::Prefix(prefix) => {
            let trimmed = prefix.trim_end_matches('/');
            if semantics == Semantics::Istio || trimmed.is_empty() {
                PathSpecifier::Prefix(if semantics == Semantics::Istio {
                    prefix.clone()
                } else {
                    "/".to_owned()
                })
            } else {
                PathSpecifier::PathSeparatedPrefix(trimmed.to_owned())
            }
        }
        StringMatchMatchType::Regex(regex) => PathSpecifier::SafeRegex(expression(regex)),
    }
}

pub(super) fn expression(regex: &str) -> RegexMatcher {
    RegexMatcher {
        regex: regex.to_owned(),
        ..RegexMatcher::default()
    }
}

/// Whether it is enough that there is a value: nothing is said about it, or only that which holds for all.
fn means_present(value: &StringMatch) -> bool {
    match &value.match_type {
        None => true,
        Some(StringMatchMatchType::Regex(regex)) => regex == "*",
        Some(StringMatchMatchType::Prefix(prefix)) => prefix.is_empty(),
        Some(StringMatchMatchType::Exact(_)) => false,
    }
}

/// A condition on a text; `None`: all texts hold.
pub(crate) fn text(value: &StringMatch) -> Option<StringMatcher> {
    let pattern = match value.match_type.as_ref()? {
        StringMatchMatchType::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatchMatchType::Prefix(prefix) => MatchPattern::Prefix(prefix.clone()),
        StringMatchMatchType::Regex(regex) => MatchPattern::SafeRegex(expression(regex)),
    };
    Some(StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    })
}

fn header(name: &str, value: &StringMatch) -> HeaderMatcher {
    let specifier = match text(value).filter(|_| !means_present(value)) {
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

fn query(name: &str, value: &StringMatch) -> QueryParameterMatcher {
    let specifier = match text(value).filter(|_| !means_present(value)) {
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(specifier),
    }
}

/// The path of a claim that a header's name stands for: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`; `None`: it is
/// a header.
pub fn routing_claim(header: &str) -> Option<Vec<&str>> {
    let (start, path) = header.split_at_checked(CLAIM_HEADER.len())?;
    if !start.eq_ignore_ascii_case(CLAIM_HEADER) {
        return None;
    }
    let dotted = path.strip_prefix('.').map(|path| (path, "."));
    let bracketed = || {
        let path = path.strip_prefix('[')?.strip_suffix(']')?;
        Some((path, "]["))
    };
    let (path, between) = dotted.or_else(bracketed)?;
    (!path.is_empty()).then(|| path.split(between).collect())
}

fn claim(path: Vec<&str>, value: &StringMatch, invert: bool) -> MetadataMatcher {
    let (filter, payload) = CLAIMS;
    // A claim is a text, or a list of texts of which one is enough; that one is there at all is said by a text that all are.
    let wanted = text(value).unwrap_or_else(|| StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(expression(".*"))),
        ..StringMatcher::default()
    });
    let wanted = ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(wanted)),
    };
    let one_of = ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(ListMatcher {
            match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(wanted.clone()))),
        }))),
    };
    let either = OrMatcher {
        value_matchers: vec![one_of, wanted],
    };
    let key = |key: &str| PathSegment {
        segment: Some(path_segment::Segment::Key(key.to_owned())),
    };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: std::iter::once(payload).chain(path).map(key).collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::OrMatch(either)),
        }),
        invert,
    }
}
