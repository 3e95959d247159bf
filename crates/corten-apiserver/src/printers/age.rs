//! How long ago something was, in the few characters Kubernetes' tables have for it.

use jiff::Timestamp;
use serde_json::Value;

/// The age of an object by its creation time.
pub(super) fn of(object: &Value, now: Timestamp) -> Value {
    Value::from(since(&object["metadata"]["creationTimestamp"], now))
}

/// The time since a timestamp value; `<unknown>` when there is none.
pub(super) fn since(at: &Value, now: Timestamp) -> String {
    match at.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(at) => human(now.as_second() - at.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds in at most two units; the finer unit goes as the span grows.
pub fn human(seconds: i64) -> String {
    // A clock that is a little behind gives 0s; one that is further behind is shown as such.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |whole: i64, unit: &str, part: i64, finer: &str| {
        if part == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{part}{finer}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}
