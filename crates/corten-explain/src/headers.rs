//! Matching of headers, query parameters and cookies.

use corten_envoy::envoy::config::route::v3::{
    CookieMatcher, HeaderMatcher, QueryParameterMatcher, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier,
};

use crate::regexes::matches_fully;
use crate::strings::{Judged, Relation, judge_string, quoted, say, string_matches};

/// Judges a header, by what a lookup says of its values: joined by commas.
pub(crate) fn judge_header(matcher: &HeaderMatcher, lookup: impl Fn(&str) -> Option<String>) -> Judged {
    let name = &matcher.name;
    let found = lookup(name);
    if let None | Some(HeaderMatchSpecifier::PresentMatch(_)) = &matcher.header_match_specifier {
        let wanted = !matches!(
            matcher.header_match_specifier,
            Some(HeaderMatchSpecifier::PresentMatch(false))
        );
        let yes = (found.is_some() == wanted) != matcher.invert_match;
        let state = if found.is_some() { "is there" } else { "is missing" };
        return Judged::new(yes, format!("header {name:?} {state}"));
    }
    let value = match found {
        Some(value) => value,
        None if matcher.treat_missing_header_as_empty => String::new(),
        // Also when it is inverted: a header that is missing is not compared at all.
        None => return Judged::new(false, format!("header {name:?} is missing")),
    };
    match header_value(matcher, &value) {
        Err(why) => Judged::new(false, why),
        Ok((yes, said)) => {
            let inverted = match (matcher.invert_match, yes) {
                (true, true) => ", which it must not",
                (true, false) => ", as it must not",
                (false, _) => "",
            };
            Judged::new(
                yes != matcher.invert_match,
                format!("header {name:?} {} {said}{inverted}", quoted(&value)),
            )
        }
    }
}

fn header_value(matcher: &HeaderMatcher, value: &str) -> Result<(bool, String), String> {
    let told = |yes: bool, relation: Relation, wanted: &str| (yes, relation.say(yes, wanted));
    Ok(match &matcher.header_match_specifier {
        Some(HeaderMatchSpecifier::ExactMatch(wanted)) => told(value == wanted, Relation::Is, wanted),
        Some(HeaderMatchSpecifier::PrefixMatch(wanted)) => {
            told(value.starts_with(wanted), Relation::BeginsWith, wanted)
        }
        Some(HeaderMatchSpecifier::SuffixMatch(wanted)) => told(value.ends_with(wanted), Relation::EndsWith, wanted),
        Some(HeaderMatchSpecifier::ContainsMatch(wanted)) => told(value.contains(wanted), Relation::Contains, wanted),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            told(matches_fully(regex, value)?, Relation::Matches, &regex.regex)
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            let yes = value
                .parse::<i64>()
                .is_ok_and(|number| range.start <= number && number < range.end);
            let is = if yes { "is" } else { "is not" };
            (yes, format!("{is} in {}..{}", range.start, range.end))
        }
        Some(HeaderMatchSpecifier::StringMatch(string)) => {
            let yes = string_matches(string, value)?;
            (yes, say(string, yes))
        }
        None | Some(HeaderMatchSpecifier::PresentMatch(_)) => (true, "is there".to_owned()),
    })
}

/// Judges a query parameter of a path.
pub(crate) fn judge_query(matcher: &QueryParameterMatcher, path: &str) -> Judged {
    let found = query(path)
        .into_iter()
        .find(|(key, _)| *key == matcher.name)
        .map(|(_, value)| value);
    let name = format!("query parameter {:?}", matcher.name);
    match (&matcher.query_parameter_match_specifier, found) {
        (None | Some(QueryParameterMatchSpecifier::PresentMatch(true)), found) => {
            let state = if found.is_some() { "is there" } else { "is missing" };
            Judged::new(found.is_some(), format!("{name} {state}"))
        }
        (Some(QueryParameterMatchSpecifier::PresentMatch(false)), found) => {
            let state = if found.is_some() { "is there" } else { "is missing" };
            Judged::new(found.is_none(), format!("{name} {state}"))
        }
        (Some(QueryParameterMatchSpecifier::StringMatch(_)), None) => Judged::new(false, format!("{name} is missing")),
        (Some(QueryParameterMatchSpecifier::StringMatch(string)), Some(value)) => judge_string(&name, string, &value),
    }
}

/// Judges a cookie.
pub(crate) fn judge_cookie(matcher: &CookieMatcher, cookies: Option<&str>) -> Judged {
    let name = format!("cookie {:?}", matcher.name);
    let found = cookie(cookies, &matcher.name);
    let judged = match (found, &matcher.string_match) {
        (None, _) => Judged::new(false, format!("{name} is missing")),
        (Some(_), None) => Judged::new(true, format!("{name} is there")),
        (Some(value), Some(string)) => judge_string(&name, string, &value),
    };
    Judged::new(judged.yes != matcher.invert_match, judged.why)
}

/// A cookie's value.
pub(crate) fn cookie(cookies: Option<&str>, name: &str) -> Option<String> {
    cookies?
        .split([';', ','])
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// The query parameters of a path, decoded.
pub(crate) fn query(path: &str) -> Vec<(String, String)> {
    let without_fragment = path.split('#').next().unwrap_or_default();
    let Some((_, query)) = without_fragment.split_once('?') else {
        return Vec::new();
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// A text with `%41` and the like as what they stand for; what is no such code stays.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(matcher: &Value, value: Option<&str>, expected: bool) {
        let matcher: HeaderMatcher = corten_envoy::message_from_json(matcher).unwrap();
        let judged = judge_header(&matcher, |_| value.map(str::to_owned));
        assert_eq!(judged.yes, expected, "{}", judged.why);
    }

    #[test]
    fn headers_of_every_kind() {
        let exact = json!({ "name": "a", "stringMatch": { "exact": "x" } });
        check(&exact, Some("x"), true);
        check(&exact, Some("x,x"), false);
        check(&exact, None, false);
        let inverted = json!({ "name": "a", "stringMatch": { "exact": "x" }, "invertMatch": true });
        check(&inverted, Some("y"), true);
        check(&inverted, Some("x"), false);
        check(&inverted, None, false);
        let inverted = json!({ "name": "a", "stringMatch": { "exact": "x" }, "invertMatch": true, "treatMissingHeaderAsEmpty": true });
        check(&inverted, None, true);
        let present = json!({ "name": "a", "presentMatch": true });
        check(&present, Some(""), true);
        check(&present, None, false);
        let absent = json!({ "name": "a", "presentMatch": true, "invertMatch": true });
        check(&absent, None, true);
        check(&absent, Some("x"), false);
        check(&json!({ "name": "a" }), Some("x"), true);
        let range = json!({ "name": "a", "rangeMatch": { "start": "1", "end": "10" } });
        check(&range, Some("9"), true);
        check(&range, Some("10"), false);
        check(&range, Some("9a"), false);
        let regex = json!({ "name": "a", "safeRegexMatch": { "regex": "x+" } });
        check(&regex, Some("xx"), true);
        check(&regex, Some("xxy"), false);
    }

    #[test]
    fn queries_and_cookies() {
        assert_eq!(
            query("/a?x=1&y&z=%41b#f?w=2"),
            [("x", "1"), ("y", ""), ("z", "Ab")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert_eq!(query("/a"), []);
        assert_eq!(cookie(Some("a=1; b=\"2\""), "b").as_deref(), Some("2"));
        let matcher: QueryParameterMatcher =
            corten_envoy::message_from_json(&json!({ "name": "x", "stringMatch": { "exact": "1" } })).unwrap();
        assert!(judge_query(&matcher, "/a?x=1").yes);
        assert!(!judge_query(&matcher, "/a?x=2&x=1").yes);
        assert!(!judge_query(&matcher, "/a").yes);
    }
}
