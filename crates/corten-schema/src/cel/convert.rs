//! JSON to CEL values, as Kubernetes shows them to rules: fields under escaped names, times and durations as such,
//! numbers as the schema says.

use crate::schema::{Schema, Type};
use crate::validate::{date_time, duration};
use base64::Engine as _;
use cel::Value as Cel;
use cel::objects::{Key, Map};
use chrono::{DateTime, FixedOffset, TimeDelta};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The value as a rule sees it.
pub(super) fn to_cel(schema: Option<&Schema>, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(value) => number(schema, value),
        Value::String(value) => string(schema, value),
        Value::Array(items) => {
            let schema = schema.and_then(|schema| schema.items.as_deref());
            Cel::List(Arc::new(items.iter().map(|item| to_cel(schema, item)).collect()))
        }
        Value::Object(fields) => {
            let entry = |(name, value): (&String, &Value)| {
                let declared = schema.is_none_or(|schema| schema.properties.contains_key(name) || !schema.is_map());
                let inner = schema.and_then(|schema| schema.field(name));
                let key = if declared {
                    escape(name)
                } else {
                    Cow::Borrowed(name.as_str())
                };
                (Key::from(&*key), to_cel(inner, value))
            };
            let map: HashMap<Key, Cel> = fields.iter().map(entry).collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

fn number(schema: Option<&Schema>, number: &Number) -> Cel {
    let whole = || {
        number
            .as_i64()
            .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
    };
    match schema.and_then(|schema| schema.type_) {
        Some(Type::Number) => Cel::Float(number.as_f64().unwrap_or_default()),
        Some(Type::Integer) => whole().map_or(Cel::Null, Cel::Int),
        _ => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or_default()),
        },
    }
}

fn string(schema: Option<&Schema>, text: &str) -> Cel {
    let plain = || Cel::String(Arc::new(text.to_owned()));
    let Some(format) = schema
        .filter(|schema| schema.type_ == Some(Type::String))
        .and_then(|s| s.format.as_deref())
    else {
        return plain();
    };
    match format {
        "date-time" | "datetime" => date_time(text)
            .and_then(|time| timestamp(time.as_nanosecond()))
            .map_or_else(plain, Cel::Timestamp),
        "date" => date_time(&format!("{text}T00:00:00Z"))
            .and_then(|time| timestamp(time.as_nanosecond()))
            .map_or_else(plain, Cel::Timestamp),
        "duration" => {
            duration(text).map_or_else(plain, |nanoseconds| Cel::Duration(TimeDelta::nanoseconds(nanoseconds)))
        }
        "byte" => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => Cel::Bytes(Arc::new(bytes)),
            Err(_) => plain(),
        },
        _ => plain(),
    }
}

fn timestamp(nanoseconds: i128) -> Option<DateTime<FixedOffset>> {
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
    let rest = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
    Some(DateTime::from_timestamp(seconds, rest)?.fixed_offset())
}

/// The name under which a rule reaches a field: characters that CEL has no place for are written out.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    const RESERVED: [&str; 18] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ];
    if RESERVED.contains(&name) {
        return Cow::Owned(format!("__{name}__"));
    }
    if !name.contains(['-', '.', '/']) && !name.contains("__") {
        return Cow::Borrowed(name);
    }
    let escaped = name.replace("__", "__underscores__");
    Cow::Owned(
        escaped
            .replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__"),
    )
}
