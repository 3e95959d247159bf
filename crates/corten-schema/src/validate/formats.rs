//! The string formats that the API server checks. Others are allowed in a schema and mean nothing.

use base64::Engine as _;
use jiff::{Timestamp, civil};
use regex::Regex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Whether `text` has the format; true for formats that are not known.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => date_time(text).is_some(),
        "date" => text.parse::<civil::Date>().is_ok() && text.len() == 10,
        "duration" => duration(text).is_some(),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text.replace(['\r', '\n'], ""))
            .is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID.is_match(text) && version(text) == Some('3'),
        "uuid4" => UUID.is_match(text) && version(text) == Some('4'),
        "uuid5" => UUID.is_match(text) && version(text) == Some('5'),
        "hostname" => HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63),
        "email" => EMAIL.is_match(text),
        "uri" => is_uri(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "k8sshortname" => is_dns_label(text),
        "k8slongname" => is_dns_subdomain(text),
        _ => true,
    }
}

/// Whether the API server checks the format at all.
pub(super) fn is_known(format: &str) -> bool {
    const KNOWN: [&str; 21] = [
        "datetime",
        "date",
        "duration",
        "byte",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "hostname",
        "email",
        "uri",
        "hexcolor",
        "bsonobjectid",
        "k8sshortname",
        "k8slongname",
        "password",
        "rgbcolor",
    ];
    KNOWN.contains(&format.replace('-', "").as_str())
}

macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a constant pattern"));
    };
}

pattern!(
    UUID,
    "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
);
pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.?$"
);
pattern!(EMAIL, r#"^[^\s@<>"]+@[^\s@<>"]+$"#);
pattern!(HEX_COLOR, "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(DNS_LABEL, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");

fn version(uuid: &str) -> Option<char> {
    uuid.chars().filter(|c| *c != '-').nth(12)
}

/// A label of a DNS name, RFC 1123.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && DNS_LABEL.is_match(text)
}

/// A DNS name, RFC 1123.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| DNS_LABEL.is_match(label))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    address.parse::<Ipv4Addr>().is_ok() && bits <= 32 || address.parse::<Ipv6Addr>().is_ok() && bits <= 128
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(hex)
}

/// An absolute URI or an absolute path.
fn is_uri(text: &str) -> bool {
    if text.starts_with('/') {
        return !text.contains(char::is_whitespace);
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let first = scheme.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    first
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && !rest.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// A time of RFC 3339.
pub(crate) fn date_time(text: &str) -> Option<Timestamp> {
    let plausible = text.len() >= 20 && text.as_bytes().get(4) == Some(&b'-');
    text.parse().ok().filter(|_| plausible)
}

/// A duration as Go reads it (`1h30m`, `-1.5s`), or a number with a word (`3 days`), in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    go_duration(text).or_else(|| {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let (number, unit) = text.split_at(digits);
        let unit: i64 = match unit.trim() {
            "weeks" | "week" | "wks" | "wk" | "w" => 7 * 86_400_000_000_000,
            "days" | "day" | "d" => 86_400_000_000_000,
            "hours" | "hour" | "hrs" | "hr" => 3_600_000_000_000,
            "minutes" | "minute" | "mins" | "min" => 60_000_000_000,
            "seconds" | "second" | "secs" | "sec" => 1_000_000_000,
            "milliseconds" | "millis" | "msecs" | "msec" | "milli" => 1_000_000,
            _ => return None,
        };
        number.parse::<i64>().ok()?.checked_mul(unit)
    })
}

/// A duration as Go's `time.ParseDuration` reads it, in nanoseconds.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match rest.get(..unit_end)? {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = rest.get(unit_end..)?;
    }
    if total > 9.223_372_036_854_775e18 {
        return None;
    }
    let nanoseconds = total.round() as i64;
    Some(if negative { -nanoseconds } else { nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        for (format, good, bad) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date-time", "2026-01-02T03:04:05.123+01:00", "yesterday"),
            ("date", "2026-01-02", "2026-13-02"),
            ("duration", "1h30m", "1x"),
            ("duration", "3 days", "days"),
            ("byte", "YQ==", "Y"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11"),
            ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7"),
            ("uri", "https://a/b", "a b"),
            ("email", "a@b", "a"),
            ("hostname", "a.b-c", "a..b"),
        ] {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("unheard-of", "x"));
    }
}
