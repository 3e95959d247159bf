//! One value against one schema, and what is inside of both. Wording and order follow the validator of the API server.

use super::{formats, lists};
use crate::error::{ErrorKind, FieldError};
use crate::go;
use crate::schema::{AdditionalProperties, Bounds, Schema, Type};
use serde_json::{Map, Number, Value};

/// Errors, and how many checks ran: of several alternatives that fail, the one with the most checks is reported.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<FieldError>,
    checks: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }

    fn error(&mut self, kind: ErrorKind, path: &str, value: impl Into<Value>, detail: impl Into<String>) {
        let (value, detail) = (Some(value.into()), detail.into());
        self.errors.push(FieldError {
            kind,
            path: path.to_owned(),
            value,
            detail,
        });
    }
}

/// Validates `value`, which stands at `path`. What equals `old` is taken as it is.
pub(super) fn validate(schema: &Schema, value: &Value, old: Option<&Value>, path: &mut String, out: &mut Outcome) {
    out.checks += 1;
    if old == Some(value) {
        return;
    }
    type_of(schema, value, path, out);
    if !value.is_null() {
        alternatives(schema, value, old, path, out);
    }
    match value {
        Value::String(text) => string(schema, text, path, out),
        Value::Number(number) => self::number(schema, number, path, out),
        Value::Array(items) => array(schema, items, old, path, out),
        _ => {}
    }
    allowed_values(schema, value, path, out);
    if let Value::Object(fields) = value {
        object(schema, fields, old, path, out);
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_of(schema: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    let (types, int_or_string) = match schema.type_ {
        _ if schema.int_or_string => ("integer,string", true),
        Some(type_) => (type_.name(), false),
        None => return,
    };
    out.checks += 1;
    let whole = matches!(value, Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0));
    let fits = match (schema.type_, value) {
        (_, Value::Null) => schema.nullable,
        (_, Value::Number(_)) if int_or_string => whole,
        (_, Value::String(_)) if int_or_string => true,
        (_, _) if int_or_string => false,
        (Some(Type::Integer), Value::Number(_)) => whole,
        (Some(Type::Number), Value::Number(_)) => true,
        (type_, value) => type_.is_some_and(|type_| type_.name() == type_name(value)),
    };
    if fits {
        return;
    }
    let found = type_name(value);
    // A format of text is named in place of the type, unless what was found is text.
    let format = schema.format.as_deref().filter(|format| {
        let text = schema.type_ == Some(Type::String) && formats::is_known(format);
        text && !matches!(value, Value::String(_) | Value::Null | Value::Array(_))
    });
    let (expected, found) = match format {
        Some(format) if value.is_number() => (format, if whole { "int64" } else { "float64" }),
        Some(format) => (format, ""),
        None => (types, found),
    };
    let detail = format!("{path} in body must be of type {expected}: {}", go::quote(found));
    out.error(ErrorKind::TypeInvalid, path, found, detail);
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn alternatives(schema: &Schema, value: &Value, old: Option<&Value>, path: &mut String, out: &mut Outcome) {
    let quoted = go::quote(path);
    if !schema.any_of.is_empty() {
        let (valid, best) = try_all(&schema.any_of, value, old, path);
        if valid == 0 {
            out.error(
                ErrorKind::Invalid,
                "",
                "",
                format!("{quoted} must validate at least one schema (anyOf)"),
            );
            out.merge(best);
        }
    }
    if !schema.one_of.is_empty() {
        let (valid, best) = try_all(&schema.one_of, value, old, path);
        if valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                count => format!("Found {count} valid alternatives"),
            };
            let detail = format!("{quoted} must validate one and only one schema (oneOf). {found}");
            out.error(ErrorKind::Invalid, "", "", detail);
            if valid == 0 {
                out.merge(best);
            }
        }
    }
    let mut valid = 0;
    for part in &schema.all_of {
        let mut outcome = Outcome::default();
        validate(part, value, old, path, &mut outcome);
        valid += usize::from(outcome.errors.is_empty());
        out.merge(outcome);
    }
    if valid != schema.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        out.error(
            ErrorKind::Invalid,
            "",
            "",
            format!("{quoted} must validate all the schemas (allOf){none}"),
        );
    }
    if let Some(not) = &schema.not {
        let mut outcome = Outcome::default();
        validate(not, value, old, path, &mut outcome);
        if outcome.errors.is_empty() {
            out.error(
                ErrorKind::Invalid,
                "",
                "",
                format!("{quoted} must not validate the schema (not)"),
            );
        }
    }
}

/// How many of the alternatives hold, and what the failing one with the most checks says.
fn try_all(alternatives: &[Schema], value: &Value, old: Option<&Value>, path: &mut String) -> (usize, Outcome) {
    let mut valid = 0;
    let mut best: Option<Outcome> = None;
    for alternative in alternatives {
        let mut outcome = Outcome::default();
        validate(alternative, value, old, path, &mut outcome);
        if outcome.errors.is_empty() {
            valid += 1;
        } else if best.as_ref().is_none_or(|best| outcome.checks > best.checks) {
            best = Some(outcome);
        }
    }
    (valid, best.unwrap_or_default())
}

fn string(schema: &Schema, text: &str, path: &str, out: &mut Outcome) {
    out.checks += 1;
    let bounds = schema.bounds.as_deref();
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = bounds
        .and_then(|bounds| bounds.max_length)
        .filter(|max| length() > *max)
    {
        out.errors.push(FieldError::too_long(path, max));
    } else if let Some(min) = bounds
        .and_then(|bounds| bounds.min_length)
        .filter(|min| length() < *min)
    {
        let detail = format!("{path} in body should be at least {min} chars long");
        out.error(ErrorKind::Invalid, path, text, detail);
    } else if let Some(pattern) = &schema.pattern {
        let source = pattern.source();
        let problem = match pattern.regex() {
            Ok(regex) if regex.is_match(text) => None,
            Ok(_) => Some(source.to_owned()),
            Err(error) => Some(format!("{source}, but pattern is invalid: {error}")),
        };
        if let Some(problem) = problem {
            out.error(
                ErrorKind::Invalid,
                path,
                text,
                format!("{path} in body should match '{problem}'"),
            );
        }
    }
    if let Some(format) = &schema.format
        && !formats::matches(format, text)
    {
        let detail = format!("{path} in body must be of type {format}: {}", go::quote(text));
        out.error(ErrorKind::TypeInvalid, path, text, detail);
    }
}

fn number(schema: &Schema, number: &Number, path: &str, out: &mut Outcome) {
    out.checks += 1;
    let value = number.as_f64().unwrap_or_default();
    let Some(bounds) = schema.bounds.as_deref() else { return };
    let mut fails = |detail: String| {
        out.error(
            ErrorKind::Invalid,
            path,
            Value::Number(number.clone()),
            format!("{path} in body {detail}"),
        );
    };
    if let Some(factor) = bounds
        .multiple_of
        .filter(|factor| *factor > 0.0 && (value / factor).fract() != 0.0)
    {
        fails(format!("should be a multiple of {}", go::float(factor)));
    }
    // Whole numbers are compared with the whole part of a limit, as the API server does it.
    let limit = |limit: Option<f64>| limit.map(|limit| if number.is_f64() { limit } else { limit.trunc() });
    match limit(bounds.minimum) {
        Some(min) if bounds.exclusive_minimum && value <= min => {
            fails(format!("should be greater than {}", go::float(min)));
        }
        Some(min) if value < min => fails(format!("should be greater than or equal to {}", go::float(min))),
        _ => {}
    }
    match limit(bounds.maximum) {
        Some(max) if bounds.exclusive_maximum && value >= max => {
            fails(format!("should be less than {}", go::float(max)))
        }
        Some(max) if value > max => fails(format!("should be less than or equal to {}", go::float(max))),
        _ => {}
    }
}

fn allowed_values(schema: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    if schema.enum_.is_empty() || schema.enum_.contains(value) {
        return;
    }
    let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // An absent value has no message of its own; null counts as one.
    out.errors.push(FieldError::not_supported(
        path,
        value.clone(),
        schema.enum_.iter().map(as_text),
    ));
}

fn array(schema: &Schema, items: &[Value], old: Option<&Value>, path: &mut String, out: &mut Outcome) {
    if let Some(item_schema) = &schema.items {
        let previous = lists::Previous::new(schema, old);
        for (index, item) in items.iter().enumerate() {
            let length = path.len();
            path.push_str(&format!("[{index}]"));
            validate(item_schema, item, previous.of(item), path, out);
            path.truncate(length);
        }
    }
    out.checks += 1;
    let Some(bounds) = schema.bounds.as_deref() else { return };
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = bounds.min_items.filter(|min| count < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        out.error(ErrorKind::Invalid, path, count, detail);
    }
    if let Some(max) = bounds.max_items.filter(|max| count > *max) {
        out.errors.push(FieldError::too_many(path.as_str(), items.len(), max));
    }
    if bounds.unique_items
        && items
            .iter()
            .enumerate()
            .any(|(index, item)| items[..index].contains(item))
    {
        out.error(
            ErrorKind::Invalid,
            path,
            "",
            format!("{path} in body shouldn't contain duplicates"),
        );
    }
}

fn object(schema: &Schema, fields: &Map<String, Value>, old: Option<&Value>, path: &mut String, out: &mut Outcome) {
    property_counts(schema.bounds.as_deref(), fields.len(), path, out);
    let length = path.len();
    for (name, value) in fields {
        let inner = match (schema.properties.get(name), &schema.additional_properties) {
            (Some(property), _) => property,
            (None, Some(AdditionalProperties::Schema(additional))) => additional,
            (None, Some(AdditionalProperties::Allowed(false))) => {
                let detail = format!("{path}.{name} in body is a forbidden property");
                out.error(ErrorKind::Invalid, path, name.as_str(), detail);
                continue;
            }
            (None, _) => continue,
        };
        enter(path, name);
        validate(inner, value, old.and_then(|old| old.get(name)), path, out);
        path.truncate(length);
    }
    for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
        enter(path, name);
        out.errors.push(FieldError::required(path.as_str(), ""));
        path.truncate(length);
    }
}

fn property_counts(bounds: Option<&Bounds>, count: usize, path: &str, out: &mut Outcome) {
    let Some(bounds) = bounds else { return };
    let found = i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(min) = bounds.min_properties.filter(|min| found < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        out.error(ErrorKind::Invalid, path, found, detail);
    }
    if let Some(max) = bounds.max_properties.filter(|max| found > *max) {
        out.errors.push(FieldError::too_many(path, count, max));
    }
}

/// Appends a field to a path.
pub(super) fn enter(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
