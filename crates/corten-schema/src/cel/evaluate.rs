//! The walk over a value that runs each rule where it stands, and what is said when one does not hold.

use super::convert::to_cel;
use super::program::{self, CompiledRule, ENVIRONMENT};
use super::{Report, has_rules};
use crate::error::{ErrorKind, FieldError};
use crate::kubernetes;
use crate::schema::{AdditionalProperties, Rule, Schema, Type};
use crate::validate::Previous;
use cel::objects::OptionalValue;
use cel::{Context, ExecutionError, Value as Cel};
use serde_json::Value;
use std::sync::Arc;

/// A rule whose loops could run more often than this is not run: the interpreter cannot be stopped.
const ITERATIONS_MAX: u64 = 3_000_000;

/// Runs the rules at `path` and below.
pub(super) fn walk(
    schema: &Schema,
    new: &Value,
    old: Option<&Value>,
    path: &mut String,
    root: bool,
    report: &mut Report,
) {
    if !has_rules(schema) || new.is_null() {
        return;
    }
    if !schema.validations.is_empty() {
        place(schema, new, old, path, root, report);
    }
    let length = path.len();
    match new {
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => {
                        if !path.is_empty() {
                            path.push('.');
                        }
                        path.push_str(name);
                        property
                    }
                    (None, Some(AdditionalProperties::Schema(additional))) => {
                        path.push_str(&format!("[{name}]"));
                        additional
                    }
                    (None, _) => continue,
                };
                walk(inner, value, old.and_then(|old| old.get(name)), path, false, report);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let Some(item_schema) = &schema.items else { return };
            let previous = Previous::new(schema, old);
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item_schema, item, previous.of(item), path, false, report);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Runs the rules of one place.
fn place(schema: &Schema, new: &Value, old: Option<&Value>, path: &str, root: bool, report: &mut Report) {
    let rules = program::compiled(schema);
    let convert = |value: &Value| {
        if root {
            object_to_cel(schema, value)
        } else {
            to_cel(Some(schema), value)
        }
    };
    let old = old.filter(|old| !old.is_null());
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", convert(new));
    let old_self = rules
        .rules
        .iter()
        .any(|rule| rule.uses_old_self)
        .then(|| old.map(convert))
        .flatten();

    let (of_new, of_old) = (longest(new), old.map(longest).unwrap_or_default());
    let lengths = (of_new.0.max(of_old.0), of_new.1.max(of_old.1));
    for (compiled, rule) in rules.rules.iter().zip(schema.validations.iter()) {
        let length = if compiled.splits {
            lengths.0.max(lengths.1)
        } else {
            lengths.0
        };
        if length
            .checked_pow(compiled.loops)
            .is_none_or(|iterations| iterations > ITERATIONS_MAX)
        {
            let problem = format!("it could take too long on {length} items");
            report.warnings.push(program::warning(rule, &problem));
            continue;
        }
        let optional = rule.optional_old_self.unwrap_or_default();
        if compiled.uses_old_self {
            let value = match (&old_self, optional) {
                (Some(old), false) => old.clone(),
                (Some(old), true) => Cel::Opaque(Arc::new(OptionalValue::of(old.clone()))),
                (None, true) => Cel::Opaque(Arc::new(OptionalValue::none())),
                // A rule about a change says nothing when there is nothing to compare with.
                (None, false) => continue,
            };
            context.add_variable_from_value("oldSelf", value);
        } else if old == Some(new) {
            // What did not change is not complained about.
            continue;
        }
        run_rule(compiled, rule, schema, path, &context, report);
    }
}

/// The length of the longest list or map in a value, and that of the longest text.
fn longest(value: &Value) -> (u64, u64) {
    let length = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::String(text) => return (0, length(text.len())),
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => return (0, 0),
    };
    let own = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    inner
        .map(longest)
        .fold((length(own), 0), |(list, text), (l, t)| (list.max(l), text.max(t)))
}

fn run_rule(
    compiled: &CompiledRule,
    rule: &Rule,
    schema: &Schema,
    path: &str,
    context: &Context<'_, '_>,
    report: &mut Report,
) {
    let program = match &compiled.program {
        Ok(program) => program,
        Err(problem) => return report.warnings.push(program::warning(rule, problem)),
    };
    let type_ = schema.type_.map(Type::name).unwrap_or_default();
    match program::run(program, context) {
        Ok(Cel::Bool(true)) => {}
        Ok(Cel::Bool(false)) => {
            let path = match &rule.field_path {
                Some(field) => join(path, field, schema),
                None => path.to_owned(),
            };
            report
                .errors
                .push(refusal(rule, path, type_, message(compiled, rule, context)));
        }
        Ok(other) => {
            let problem = format!("it gives {} instead of true or false", other.type_of());
            report.warnings.push(program::warning(rule, &problem));
        }
        Err(error) => match fault(&error) {
            Some(text) => {
                let name = rule.message.as_deref().unwrap_or(&rule.rule).trim();
                report.errors.push(FieldError::invalid(
                    path,
                    type_,
                    format!("{text} evaluating rule: {name}"),
                ));
            }
            None => report.warnings.push(program::warning(rule, &error.to_string())),
        },
    }
}

/// What went wrong, if the value is to blame. Everything else is the rule's or the interpreter's fault.
fn fault(error: &ExecutionError) -> Option<String> {
    match error {
        ExecutionError::NoSuchKey(key) => Some(format!("no such key: {key}")),
        ExecutionError::IndexOutOfBounds(index) => Some(match index {
            Cel::Int(index) => format!("index out of bounds: {index}"),
            _ => "index out of bounds".to_owned(),
        }),
        ExecutionError::FunctionError { message, .. } => Some(message.clone()),
        ExecutionError::DivisionByZero(_) => Some("division by zero".to_owned()),
        ExecutionError::RemainderByZero(_) => Some("modulus by zero".to_owned()),
        ExecutionError::Overflow(..) => Some("integer overflow".to_owned()),
        _ => None,
    }
}

fn message(compiled: &CompiledRule, rule: &Rule, context: &Context<'_, '_>) -> String {
    if let Some(Ok(program)) = &compiled.message
        && let Ok(Cel::String(text)) = program::run(program, context)
        && !text.trim().is_empty()
        && !text.contains('\n')
    {
        return text.trim().to_owned();
    }
    match &rule.message {
        Some(message) => message.trim().to_owned(),
        None => format!("failed rule: {}", rule.rule.trim()),
    }
}

fn refusal(rule: &Rule, path: String, type_: &str, detail: String) -> FieldError {
    match rule.reason.as_deref() {
        Some("FieldValueForbidden") => FieldError::forbidden(path, detail),
        Some("FieldValueRequired") => FieldError::required(path, detail),
        Some("FieldValueDuplicate") => FieldError::duplicate(path, type_),
        _ => FieldError {
            kind: ErrorKind::Invalid,
            path,
            value: Some(type_.into()),
            detail,
        },
    }
}

/// A rule's `fieldPath` (`.a.b`, `['c']`) below the place of the rule.
fn join(path: &str, field: &str, schema: &Schema) -> String {
    let mut joined = path.to_owned();
    let mut schema = Some(schema);
    for name in segments(field).unwrap_or_default() {
        if schema.is_some_and(Schema::is_map) {
            joined.push_str(&format!("[{name}]"));
        } else {
            if !joined.is_empty() {
                joined.push('.');
            }
            joined.push_str(&name);
        }
        schema = schema.and_then(|schema| schema.field(&name));
    }
    joined
}

/// Whether a rule's `fieldPath` names a field of the schema.
pub(super) fn is_field_path(schema: &Schema, field: &str) -> bool {
    let found = |segments: Vec<String>| {
        let last = segments.iter().try_fold(schema, |schema, name| schema.field(name));
        !segments.is_empty() && last.is_some()
    };
    segments(field).is_some_and(found)
}

fn segments(field: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let end = quoted.find("']")?;
            segments.push(quoted.get(..end)?.replace("\\'", "'"));
            rest = quoted.get(end + 2..)?;
        } else {
            let plain = rest.strip_prefix('.')?;
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            segments.push(plain.get(..end).filter(|name| !name.is_empty())?.to_owned());
            rest = plain.get(end..)?;
        }
    }
    Some(segments)
}

/// A whole object: its metadata has a shape of its own.
fn object_to_cel(schema: &Schema, value: &Value) -> Cel {
    let (Cel::Map(mut map), Some(metadata)) = (to_cel(Some(schema), value), value.get("metadata")) else {
        return to_cel(Some(schema), value);
    };
    let fields = Arc::make_mut(&mut map.map);
    fields.insert("metadata".into(), to_cel(kubernetes::object_meta(), metadata));
    Cel::Map(map)
}
