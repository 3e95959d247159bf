//! Matching of texts, addresses and path templates, as Envoy does it.

use std::net::IpAddr;

use corten_envoy::envoy::config::core::v3::CidrRange;
use corten_envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use ipnet::IpNet;

use crate::regexes::matches_fully;

/// Whether something matches, and what decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Whether it matches.
    pub(crate) yes: bool,
    /// What decided: a half sentence, such as `path "/a" begins with "/"`.
    pub(crate) why: String,
}

impl Judged {
    pub(crate) fn new(yes: bool, why: impl Into<String>) -> Self {
        Self { yes, why: why.into() }
    }
}

/// A text in quotes, cut when it is too long to be read.
pub(crate) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    if text.chars().count() <= CHARACTERS_MAX {
        return format!("{text:?}");
    }
    let cut: String = text.chars().take(CHARACTERS_MAX).collect();
    format!("{cut:?}…")
}

/// How a text is compared with another, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Is,
    BeginsWith,
    EndsWith,
    Contains,
    Matches,
    IsBelow,
}

impl Relation {
    /// A half sentence, such as `does not begin with "/a"`.
    pub(crate) fn say(self, yes: bool, wanted: &str) -> String {
        let words = match (self, yes) {
            (Self::Is, true) => "is",
            (Self::Is, false) => "is not",
            (Self::BeginsWith, true) => "begins with",
            (Self::BeginsWith, false) => "does not begin with",
            (Self::EndsWith, true) => "ends with",
            (Self::EndsWith, false) => "does not end with",
            (Self::Contains, true) => "contains",
            (Self::Contains, false) => "does not contain",
            (Self::Matches, true) => "matches",
            (Self::Matches, false) => "does not match",
            (Self::IsBelow, true) => "is below",
            (Self::IsBelow, false) => "is not below",
        };
        format!("{words} {}", quoted(wanted))
    }
}

/// What a matcher of texts asks for, or what a text that it refuses lacks.
pub(crate) fn say(matcher: &StringMatcher, yes: bool) -> String {
    let said = match &matcher.match_pattern {
        None => return "is matched with nothing".to_owned(),
        Some(MatchPattern::Exact(text)) => Relation::Is.say(yes, text),
        Some(MatchPattern::Prefix(text)) => Relation::BeginsWith.say(yes, text),
        Some(MatchPattern::Suffix(text)) => Relation::EndsWith.say(yes, text),
        Some(MatchPattern::Contains(text)) => Relation::Contains.say(yes, text),
        Some(MatchPattern::SafeRegex(regex)) => Relation::Matches.say(yes, &regex.regex),
        Some(MatchPattern::Custom(custom)) => return format!("is matched by the extension {:?}", custom.name),
    };
    if matcher.ignore_case {
        format!("{said} in any case")
    } else {
        said
    }
}

/// Whether a text matches.
///
/// # Errors
///
/// The matcher cannot be evaluated; why, in words.
pub(crate) fn string_matches(matcher: &StringMatcher, text: &str) -> Result<bool, String> {
    let Some(pattern) = &matcher.match_pattern else {
        return Err("a matcher of texts says nothing".to_owned());
    };
    let folded = |text: &str| {
        if matcher.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    Ok(match pattern {
        MatchPattern::Exact(wanted) => folded(text) == folded(wanted),
        MatchPattern::Prefix(wanted) => folded(text).starts_with(&folded(wanted)),
        MatchPattern::Suffix(wanted) => folded(text).ends_with(&folded(wanted)),
        MatchPattern::Contains(wanted) => folded(text).contains(&folded(wanted)),
        MatchPattern::SafeRegex(regex) => matches_fully(regex, text)?,
        MatchPattern::Custom(custom) => return Err(format!("the matcher {:?} is an extension", custom.name)),
    })
}

/// Judges a text that has a name, such as `path` or `header "a"`.
pub(crate) fn judge_string(name: &str, matcher: &StringMatcher, text: &str) -> Judged {
    match string_matches(matcher, text) {
        Ok(yes) => Judged::new(yes, format!("{name} {} {}", quoted(text), say(matcher, yes))),
        Err(why) => Judged::new(false, why),
    }
}

/// A range of addresses; `None`: it is none. A range without a length is everything, as it is to Envoy.
pub(crate) fn network(range: &CidrRange) -> Option<IpNet> {
    let address: IpAddr = range.address_prefix.parse().ok()?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// Judges an address that has a name.
pub(crate) fn judge_address(name: &str, range: &CidrRange, address: IpAddr) -> Judged {
    match network(range) {
        None => Judged::new(false, format!("{:?} is no range of addresses", range.address_prefix)),
        Some(network) if network.contains(&address) => Judged::new(true, format!("{name} {address} is in {network}")),
        Some(network) => Judged::new(false, format!("{name} {address} is not in {network}")),
    }
}

/// Whether a path (without its query) is of a template.
///
/// # Errors
///
/// The template is none; why, in words.
pub(crate) fn template_matches(template: &str, path: &str) -> Result<bool, String> {
    let pattern = template_pattern(template)?;
    let pattern = RegexMatcher {
        regex: pattern,
        engine_type: None,
    };
    matches_fully(&pattern, path)
}

/// What one segment may hold, as Envoy has it.
const SEGMENT: &str = r"a-zA-Z0-9\-._~%!$&'()+,;:@=";

fn template_pattern(template: &str) -> Result<String, String> {
    let mut pattern = String::new();
    let mut rest = template;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            pattern.push_str(&format!("[{SEGMENT}/]*"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            pattern.push_str(&format!("[{SEGMENT}]+"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((variable, after)) = after.split_once('}') else {
                return Err(format!("the path template {} does not close a brace", quoted(template)));
            };
            let inner = variable.split_once('=').map_or("*", |(_, inner)| inner);
            pattern.push_str(&template_pattern(inner)?);
            rest = after;
        } else {
            pattern.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
            rest = &rest[character.len_utf8()..];
        }
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_segments() {
        for (template, path, expected) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/d/c", false),
            ("/a/*", "/a/", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**/c", "/a/b/b/c", true),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x=b/*}", "/a/b/c", true),
            ("/a.b", "/axb", false),
        ] {
            assert_eq!(template_matches(template, path), Ok(expected), "{template} {path}");
        }
        assert!(template_matches("/{a", "/b").is_err());
    }
}
