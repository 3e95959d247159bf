//! Spans of time as configuration writes them: Go's form (`1h30m`, `250ms`), which covers protobuf's (`1.5s`) and the
//! Gateway API's (`10s`), which is narrower.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A span of time, in nanoseconds; it can be negative, since the formats can say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i128);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration such as 5s, 1m30s or 250ms")]
pub struct ParseDurationError(String);

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3600 * NANOS),
];
const NANOS: i128 = 1_000_000_000;
/// Protobuf's bound: about ten thousand years.
const SECONDS_MAX: i128 = 315_576_000_000;

impl Duration {
    /// No time.
    pub const ZERO: Duration = Duration(0);

    /// Of whole seconds.
    pub const fn from_secs(seconds: i64) -> Duration {
        Duration(seconds as i128 * NANOS)
    }

    /// Of whole milliseconds.
    pub const fn from_millis(millis: i64) -> Duration {
        Duration(millis as i128 * 1_000_000)
    }

    /// The nanoseconds.
    pub const fn as_nanos(self) -> i128 {
        self.0
    }

    /// The part below a second, in nanoseconds, with the sign of the whole.
    pub const fn subsec_nanos(self) -> i128 {
        self.0 % NANOS
    }

    /// As the standard library has it; `None` when negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        let seconds = u64::try_from(self.0 / NANOS).ok()?;
        let nanos = u32::try_from(self.0 % NANOS).ok()?;
        Some(std::time::Duration::new(seconds, nanos))
    }

    /// Reads Go's form: an optional sign, then numbers with units, or `0`.
    pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
        Self::go(text).ok_or_else(|| ParseDurationError(text.escape_debug().take(80).collect()))
    }

    /// Reads what people write on command lines: Go's form, or a bare number of seconds; never negative.
    pub fn parse_argument(text: &str) -> Result<std::time::Duration, ParseDurationError> {
        let bare = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let parsed = if bare(text) {
            Self::go(&format!("{text}s"))
        } else {
            Self::go(text)
        };
        parsed
            .and_then(Self::to_std)
            .ok_or_else(|| ParseDurationError(text.escape_debug().take(80).collect()))
    }

    /// Reads the Gateway API's form (GEP-2257): up to four whole numbers of at most five digits with h, m, s or ms.
    pub fn parse_gateway_api(text: &str) -> Result<Duration, ParseDurationError> {
        let mut parts = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let after = rest.get(digits..).unwrap_or_default();
            let unit = ["ms", "h", "m", "s"].into_iter().find(|unit| after.starts_with(unit));
            match unit {
                Some(unit) if (1..=5).contains(&digits) => rest = after.get(unit.len()..).unwrap_or_default(),
                _ => return Err(ParseDurationError(text.to_owned())),
            }
            parts += 1;
        }
        if (1..=4).contains(&parts) {
            Self::parse(text)
        } else {
            Err(ParseDurationError(text.to_owned()))
        }
    }

    fn go(text: &str) -> Option<Duration> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Duration::ZERO);
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let (number, after) = rest.split_at(number_end);
            let unit_end = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(scaled(number, scale)?)?;
            rest = after;
        }
        (total <= SECONDS_MAX * NANOS).then_some(Duration(if negative { -total } else { total }))
    }
}

/// A decimal number times a unit; digits below a nanosecond are dropped.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 24 {
        return None;
    }
    let mut value = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?.checked_mul(scale)?
    };
    let mut step = scale;
    for digit in fraction.chars() {
        step /= 10;
        value += i128::from(digit.to_digit(10)?) * step;
    }
    Some(value)
}

impl fmt::Display for Duration {
    /// Protobuf's form: seconds with no, 3, 6 or 9 digits after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, magnitude) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (seconds, nanos) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
        match nanos {
            0 => write!(f, "{sign}{seconds}s"),
            _ if nanos % 1_000_000 == 0 => write!(f, "{sign}{seconds}.{:03}s", nanos / 1_000_000),
            _ if nanos % 1_000 == 0 => write!(f, "{sign}{seconds}.{:06}s", nanos / 1_000),
            _ => write!(f, "{sign}{seconds}.{nanos:09}s"),
        }
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;
    fn from_str(text: &str) -> Result<Duration, ParseDurationError> {
        Duration::parse(text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    #[test]
    fn arguments() {
        let seconds = |text: &str| Duration::parse_argument(text).map(|span| span.as_secs_f64());
        for (text, expected) in [
            ("30s", 30.0),
            ("1h30m", 5400.0),
            ("500ms", 0.5),
            ("250us", 0.000_25),
            ("7", 7.0),
            ("1.5", 1.5),
            ("0", 0.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "s", "1y", "-1s", "-1", "1e400s", "1e3", "1m30", "."] {
            let message = seconds(text).expect_err(text).to_string();
            assert_eq!(
                message,
                format!("'{text}' is not a duration such as 5s, 1m30s or 250ms")
            );
        }
    }

    #[test]
    fn go_and_protobuf_forms() {
        for (text, expected) in [
            ("5s", "5s"),
            ("1h30m", "5400s"),
            ("1.5s", "1.500s"),
            ("250ms", "0.250s"),
            ("1us", "0.000001s"),
            ("1µs2ns", "0.000001002s"),
            (".5s", "0.500s"),
            ("-3m", "-180s"),
            ("+2s", "2s"),
            ("0", "0s"),
            ("315576000000s", "315576000000s"),
        ] {
            assert_eq!(
                Duration::parse(text).map(|d| d.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "1d",
            "1s 2s",
            "1..5s",
            ".s",
            "-",
            "5 s",
            "999999999999999999999999999s",
            "١s",
        ] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn gateway_api_form() {
        for text in ["10s", "1h30m", "0s", "99999ms", "1h1m1s1ms"] {
            assert!(Duration::parse_gateway_api(text).is_ok(), "{text}");
        }
        for text in ["1.5s", "100000s", "-1s", "1us", "", "1h1m1s1ms1s", "10"] {
            assert!(Duration::parse_gateway_api(text).is_err(), "{text}");
        }
    }
}
