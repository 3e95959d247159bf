//! What a YAML scalar means, as Kubernetes reads it: YAML 1.2 documents, but the booleans, octal numbers and
//! underscores of YAML 1.1 still count, because `sigs.k8s.io/yaml` lets them.
//!
//! Knows nothing of structure; a scalar is resolved from its text, quoting and tag alone.

use serde_json::Number;

use super::node::Data;
use crate::base64;

/// Resolves a scalar without a tag.
pub(super) fn plain(text: &str) -> Result<Data, String> {
    // Nearly every scalar is a word; only these first characters can begin anything else.
    let first = text.as_bytes().first().copied().unwrap_or(b'~');
    match first {
        b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'o' | b'O' => {
            if let Some(data) = word(text) {
                return Ok(data);
            }
        }
        b'0'..=b'9' | b'-' | b'+' | b'.' => {
            if let Some(number) = number(text)? {
                return Ok(Data::Number(number));
            }
        }
        _ => {}
    }
    Ok(Data::String(text.to_owned()))
}

/// Resolves a scalar that carries one of YAML's own tags (`!!str`, `!!int`, ...); `None`: not a tag of YAML's.
pub(super) fn tagged(tag: &str, text: &str) -> Option<Result<Data, String>> {
    let wrong = |what: &str| Err(format!("'{text}' is tagged !!{tag} but is not {what}"));
    Some(match tag {
        "str" => Ok(Data::String(text.to_owned())),
        "null" => Ok(Data::Null),
        "bool" => match word(text) {
            Some(Data::Bool(b)) => Ok(Data::Bool(b)),
            _ => wrong("a boolean"),
        },
        "int" => match number(text) {
            Ok(Some(n)) if !n.is_f64() => Ok(Data::Number(n)),
            _ => wrong("an integer"),
        },
        "float" => match number(text) {
            Ok(Some(n)) => Ok(Data::Number(n)),
            _ => wrong("a number"),
        },
        "binary" => match base64::decode(text).and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => Ok(Data::String(text)),
            None => wrong("base64 of a text"),
        },
        _ => return None,
    })
}

fn word(text: &str) -> Option<Data> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Data::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Data::Bool(false),
        _ => return None,
    })
}

/// A number, if it is written as one; an error for those that JSON cannot say (`.inf`, `.nan`).
fn number(text: &str) -> Result<Option<Number>, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!(
            "{text} cannot be represented in JSON; quote it if a string is meant"
        ));
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(None);
    }
    let digits: String = unsigned.chars().filter(|c| *c != '_').collect();
    let negative = text.starts_with('-');
    if let Some(magnitude) = integer(&digits) {
        if !negative {
            return Ok(Some(magnitude.into()));
        }
        if let Some(value) = 0i64.checked_sub_unsigned(magnitude) {
            return Ok(Some(value.into()));
        }
    }
    if !float_form(&digits) {
        return Ok(None);
    }
    let value: f64 = digits.parse().map_err(|_| format!("{text} is not a number"))?;
    let value = if negative { -value } else { value };
    Number::from_f64(value)
        .map(Some)
        .ok_or_else(|| format!("{text} is too large for a number"))
}

fn integer(digits: &str) -> Option<u64> {
    let lower = digits.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(bits) = lower.strip_prefix("0b") {
        return u64::from_str_radix(bits, 2).ok();
    }
    if let Some(octal) = lower.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok();
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.is_empty() {
        return None;
    }
    if digits.len() > 1
        && let Some(octal) = digits.strip_prefix('0')
    {
        // `08` is not octal: YAML 1.1 readers take it for a float, that is, eight.
        return u64::from_str_radix(octal, 8).ok();
    }
    digits.parse().ok()
}

/// `12`, `1.5`, `.5`, `1.`, `1e3`: what counts as a float.
fn float_form(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['-', '+']).unwrap_or(e);
            !e.is_empty() && all_digits(e)
        })
}
