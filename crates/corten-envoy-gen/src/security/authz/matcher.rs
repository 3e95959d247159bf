//! The values of policies as matchers of Envoy: `*` for presence, `x*`, `*x`, addresses, templates of paths.

use std::net::IpAddr;

use corten_envoy::{
    envoy::{
        config::{
            core::v3::CidrRange,
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        r#type::matcher::v3::{
            ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
            metadata_matcher::{PathSegment, path_segment::Segment},
            string_matcher::MatchPattern,
            value_matcher,
        },
    },
    uint32,
};

/// A text: `*` is any that is not empty, `x*` begins and `*x` ends so.
pub fn text(pattern: &str) -> StringMatcher {
    text_after("", pattern)
}

/// A text that is a prefix and then what a pattern says; `*` alone still is any that is not empty. The prefix may become
/// part of a regular expression as it is.
pub fn text_after(prefix: &str, pattern: &str) -> StringMatcher {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => regex(".+".to_owned()),
        (Some(suffix), _) if prefix.is_empty() => of(MatchPattern::Suffix(suffix.to_owned()), false),
        (Some(suffix), _) => regex(format!("{prefix}.*{}", quoted(suffix))),
        (None, Some(stem)) => of(MatchPattern::Prefix(format!("{prefix}{stem}")), false),
        (None, None) => of(MatchPattern::Exact(format!("{prefix}{pattern}")), false),
    }
}

/// Exactly this text.
pub fn exact(text: &str) -> StringMatcher {
    of(MatchPattern::Exact(text.to_owned()), false)
}

/// A text that begins so.
pub fn prefix(text: &str) -> StringMatcher {
    of(MatchPattern::Prefix(text.to_owned()), false)
}

/// A text that ends so.
pub fn suffix(text: &str) -> StringMatcher {
    of(MatchPattern::Suffix(text.to_owned()), false)
}

/// A whole text by a regular expression.
pub fn regex(expression: String) -> StringMatcher {
    let matcher = RegexMatcher {
        regex: expression,
        ..RegexMatcher::default()
    };
    of(MatchPattern::SafeRegex(matcher), false)
}

fn of(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher {
        ignore_case,
        match_pattern: Some(pattern),
    }
}

/// A text as a part of a regular expression.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for char in text.chars() {
        if r"\.+*?()|[]{}^$".contains(char) {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted
}

/// A header: `*` is any, even an empty one.
pub fn header(name: &str, pattern: &str, ignore_case: bool) -> HeaderMatcher {
    let specifier = match pattern {
        "*" => HeaderMatchSpecifier::PresentMatch(true),
        pattern => HeaderMatchSpecifier::StringMatch(StringMatcher {
            ignore_case,
            ..text(pattern)
        }),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

/// A range of addresses, or one address.
///
/// # Errors
///
/// The text is neither.
pub fn range(text: &str) -> Result<CidrRange, String> {
    let (address, length) = text
        .split_once('/')
        .map_or((text, None), |(address, length)| (address, Some(length)));
    let parsed = address.parse::<IpAddr>().ok();
    let longest = parsed.map_or(0, |address| if address.is_ipv4() { 32 } else { 128 });
    let length = match length {
        None => Some(longest),
        Some(length) => number(length).filter(|length| *length <= longest),
    };
    match (parsed, length) {
        (Some(address), Some(length)) => Ok(CidrRange {
            address_prefix: address.to_string(),
            prefix_len: uint32(length),
        }),
        _ => Err(format!("'{text}' is neither an address nor a range such as 10.0.0.0/8")),
    }
}

/// A port.
///
/// # Errors
///
/// The text is no number of a port.
pub fn port(text: &str) -> Result<u32, String> {
    number(text)
        .filter(|port| *port <= u32::from(u16::MAX))
        .ok_or_else(|| format!("'{text}' is not a port"))
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

/// Whether a path is a template.
pub fn is_template(path: &str) -> bool {
    path.contains("{*}") || path.contains("{**}")
}

/// A template of a path as Envoy writes it: `{*}` is a segment, `{**}` any number of them.
///
/// # Errors
///
/// Envoy would not take it.
pub fn template(path: &str) -> Result<String, String> {
    let mut ended = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if ended => return Err(format!("in '{path}' nothing but names may follow {{**}}")),
            "{*}" => {}
            "{**}" => ended = true,
            _ if segment.is_empty() || !segment.chars().all(is_literal) => {
                return Err(format!(
                    "'{segment}' in '{path}' is neither a name nor {{*}} nor {{**}}"
                ));
            }
            _ => {}
        }
    }
    if !path.starts_with('/') || path.contains("//") {
        return Err(format!("'{path}' does not begin with a single /"));
    }
    Ok(path.replace("{*}", "*").replace("{**}", "**"))
}

fn is_literal(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(char)
}

/// Metadata that a filter has left: at a path of keys, any of some values.
///
/// # Errors
///
/// The filter or a key has no name.
pub fn metadata(filter: &str, keys: &[&str], value: ValueMatcher) -> Result<MetadataMatcher, String> {
    if filter.is_empty() || keys.iter().any(|key| key.is_empty()) {
        return Err("an empty name in brackets".to_owned());
    }
    Ok(MetadataMatcher {
        filter: filter.to_owned(),
        path: keys
            .iter()
            .map(|key| PathSegment {
                segment: Some(Segment::Key((*key).to_owned())),
            })
            .collect(),
        value: Some(value),
        invert: false,
    })
}

/// A value that is a text.
pub fn value(text: StringMatcher) -> ValueMatcher {
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(text)),
    }
}

/// A value that is a list with such a member.
pub fn list_with(member: ValueMatcher) -> ValueMatcher {
    let list = ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(member))),
    };
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(list))),
    }
}

/// A value that is any of these; of one, that one.
pub fn any_value(mut values: Vec<ValueMatcher>) -> ValueMatcher {
    match values.pop() {
        Some(single) if values.is_empty() => single,
        last => {
            values.extend(last);
            ValueMatcher {
                match_pattern: Some(value_matcher::MatchPattern::OrMatch(OrMatcher {
                    value_matchers: values,
                })),
            }
        }
    }
}
