//! Regular expressions as Envoy reads them, which is RE2's way.
//!
//! The package `regex` has the same engine in mind and nearly the same language; what differs is rewritten: classes such as `\d` are
//! those of ASCII, a brace that repeats nothing is a brace, and within brackets only RE2's signs have a meaning.

use corten_envoy::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::strings::quoted;

/// What a compiled expression may need, in bytes: more than what Envoy accepts, little enough to bound what a bad one costs.
const PROGRAM_BYTES_MAX: usize = 4 << 20;

fn compile(pattern: &str) -> Result<Regex, String> {
    build(&translated(pattern), pattern)
}

/// Compiles what was translated; errors name the pattern as it was written.
fn build(translated: &str, pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(translated).size_limit(PROGRAM_BYTES_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the expression {} is too big", quoted(pattern)),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let last = last.trim_start_matches("error: ").trim();
            format!("{} is no regular expression: {last}", quoted(pattern))
        }
    })
}

/// Whether an expression matches the whole text.
///
/// # Errors
///
/// It is no expression, or too big; in words.
pub(crate) fn matches_fully(matcher: &RegexMatcher, text: &str) -> Result<bool, String> {
    // Alone first: only then is it sure that it cannot leave the group that it is put in.
    compile(&matcher.regex)?;
    let whole = build(&format!(r"\A(?:{})\z", translated(&matcher.regex)), &matcher.regex)?;
    Ok(whole.is_match(text.as_bytes()))
}

/// A text with every match of an expression replaced.
///
/// # Errors
///
/// It is no expression, or too big; in words.
pub(crate) fn substitute(rule: &RegexMatchAndSubstitute, text: &str) -> Result<String, String> {
    let pattern = rule.pattern.as_ref().map_or("", |pattern| &*pattern.regex);
    let expression = compile(pattern)?;
    let replaced = expression.replace_all(text.as_bytes(), |captures: &Captures<'_>| {
        expand(&rule.substitution, captures)
    });
    Ok(String::from_utf8_lossy(&replaced).into_owned())
}

/// RE2's rewriting: a backslash and a digit is a group, two backslashes are one.
fn expand(substitution: &str, captures: &Captures<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let push =
        |out: &mut Vec<u8>, character: char| out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            push(&mut out, character);
            continue;
        }
        match characters.next() {
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                out.extend_from_slice(captures.get(group).map_or(&[][..], |group| group.as_bytes()));
            }
            Some(other) => push(&mut out, other),
            None => {}
        }
    }
    out
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = match character {
            '\\' => escape(after, in_class, &mut out),
            '[' if in_class => named_class(after, &mut out),
            '[' => {
                in_class = true;
                out.push('[');
                // The first bracket of a class, also after a negation, is a member.
                let (negation, members) = after.strip_prefix('^').map_or(("", after), |members| ("^", members));
                out.push_str(negation);
                members.strip_prefix(']').map_or(members, |after| {
                    out.push_str(r"\]");
                    after
                })
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
                after
            }
            '{' if !in_class && !repeats(after) => {
                out.push_str(r"\{");
                after
            }
            _ => {
                out.push(character);
                after
            }
        };
    }
    out
}

/// What follows a backslash; what is left after it.
fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(escaped) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let left = &after[escaped.len_utf8()..];
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' if !in_class => out.push_str(r"(?-u:\b)"),
        'C' if !in_class => out.push_str("(?s-u:.)"),
        'Q' if !in_class => {
            let (literal, left) = left.split_once(r"\E").unwrap_or((left, ""));
            out.push_str(&regex::escape(literal));
            return left;
        }
        other => {
            out.push('\\');
            out.push(other);
        }
    }
    left
}

/// A bracket within a class: `[:alpha:]`, or just a bracket; what is left after it.
fn named_class<'a>(after: &'a str, out: &mut String) -> &'a str {
    if after.starts_with(':')
        && let Some(end) = after.find(":]")
    {
        out.push('[');
        out.push_str(&after[..end + 2]);
        return &after[end + 2..];
    }
    out.push_str(r"\[");
    after
}

/// Whether what follows a brace is a count: `3}`, `3,}` or `3,5}`.
fn repeats(after: &str) -> bool {
    let Some((inner, _)) = after.split_once('}') else {
        return false;
    };
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    !low.is_empty()
        && [low, high]
            .iter()
            .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> RegexMatcher {
        RegexMatcher {
            regex: pattern.to_owned(),
            engine_type: None,
        }
    }

    #[test]
    fn expressions_match_the_whole_text_as_re2_does() {
        for (pattern, text, expected) in [
            ("/a", "/ab", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            (r"\d+", "12", true),
            (r"\d+", "١٢", false),
            (r"[^\d]+", "١٢", true),
            (r"\w{2}", "ab", true),
            ("/{id}", "/{id}", true),
            ("a{,2}", "a{,2}", true),
            ("[[]", "[", true),
            ("[]a]+", "]a", true),
            ("[a&&b]", "&", true),
            ("[[:alpha:]]+", "ab", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b", "axb", false),
            (".*", "a/b", true),
            (".*", "a\nb", false),
            ("", "", true),
            ("(?i)ABC", "abc", true),
        ] {
            assert_eq!(matches_fully(&regex(pattern), text), Ok(expected), "{pattern} {text}");
        }
    }

    #[test]
    fn bad_expressions_are_named() {
        assert!(matches_fully(&regex("a)|(b"), "a").is_err());
        assert!(matches_fully(&regex("(?=a)b"), "b").is_err());
        assert!(matches_fully(&regex(r"(a)\1"), "aa").is_err());
        assert_eq!(
            matches_fully(&regex("(a"), "a"),
            Err(r#""(a" is no regular expression: unclosed group"#.to_owned())
        );
        let error = matches_fully(&regex("((a{100}){100}){100}"), "a").unwrap_err();
        assert!(error.ends_with("is too big"), "{error}");
    }

    #[test]
    fn substitution_is_that_of_re2() {
        let rule = |pattern: &str, substitution: &str| RegexMatchAndSubstitute {
            pattern: Some(regex(pattern)),
            substitution: substitution.to_owned(),
        };
        for (pattern, substitution, text, expected) in [
            ("^/api(/?)(.*)", r"/\2", "/api/v1", "/v1"),
            ("/a", "/b", "/a/a", "/b/b"),
            ("(.)(.)", r"\2\1", "abcd", "badc"),
            ("a", r"\0\\", "a", r"a\"),
            ("x", "y", "a", "a"),
        ] {
            assert_eq!(
                substitute(&rule(pattern, substitution), text),
                Ok(expected.to_owned()),
                "{pattern}"
            );
        }
    }
}
