//! Looking into JSON values: what is absent or of another type is as if it were not written.

use std::net::IpAddr;

use serde_json::Value;

/// The text at a path; empty when there is none.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(value, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

/// The items of the list at a path.
pub(super) fn items<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// The truth at a path; false when there is none.
pub(super) fn truth(value: &Value, path: &[&str]) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The port number at a path.
pub(super) fn port(value: &Value, path: &[&str]) -> Option<u16> {
    at(value, path)
        .and_then(Value::as_u64)
        .and_then(|number| u16::try_from(number).ok())
}

/// The pairs of texts at a path.
pub(super) fn pairs<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let members = at(value, path).and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// Seconds since 1970 of the time at a path; without one, later than any: what has no age yet is new.
pub(super) fn seconds(value: &Value, path: &[&str]) -> i64 {
    text(value, path)
        .parse::<jiff::Timestamp>()
        .map_or(i64::MAX, |time| time.as_second())
}

/// Addresses of texts; `None`: one of them is none.
pub(super) fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Box<[IpAddr]>> {
    texts.map(|text| text.parse().ok()).collect()
}
