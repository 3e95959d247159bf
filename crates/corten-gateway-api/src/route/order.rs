//! The order of HTTP routes: the Gateway API has a precedence of matches, a VirtualService takes the first that fits.

use corten_api::istio::virtual_service::{HTTPRoute, StringMatchMatchType as Text};

/// Sorts routes, of which each has at most one match: exact paths before prefixes before regular expressions, longer
/// before shorter, those with a method, with more headers, with more query parameters; those that match everything last.
/// What is equal stays in order.
pub fn sort(routes: &mut [HTTPRoute]) {
    routes.sort_by_key(|route| std::cmp::Reverse(precedence(route)));
}

/// What a route is ordered by; `None`: it matches everything.
fn precedence(route: &HTTPRoute) -> Option<(u8, usize, bool, usize, usize)> {
    let first = route.match_.first()?;
    let (rank, length) = match first.uri.as_ref().and_then(|uri| uri.match_type.as_ref()) {
        Some(Text::Exact(path)) => (3, path.len()),
        Some(Text::Prefix(path)) => (2, path.len()),
        Some(Text::Regex(path)) => (1, path.len()),
        None => (0, 0),
    };
    let (headers, parameters) = (first.headers.len(), first.query_params.len());
    Some((rank, length, first.method.is_some(), headers, parameters))
}
