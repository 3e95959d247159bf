//! Objects inside of objects (`x-kubernetes-embedded-resource`) must say what they are.

use super::node::enter;
use crate::error::FieldError;
use crate::schema::{AdditionalProperties, Schema};
use serde_json::{Map, Value};

/// Reports embedded objects without `apiVersion` or `kind`.
pub(super) fn check(schema: &Schema, value: &Value, path: &mut String, errors: &mut Vec<FieldError>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            if schema.embedded_resource {
                identity(fields, path, errors);
            }
            for (name, value) in fields {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => {
                        enter(path, name);
                        check(property, value, path, errors);
                    }
                    (None, Some(AdditionalProperties::Schema(additional))) => {
                        path.push_str(&format!("[{name}]"));
                        check(additional, value, path, errors);
                    }
                    _ => {}
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let Some(item_schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                check(item_schema, item, path, errors);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn identity(fields: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let path = format!("{path}.{name}");
        match fields.get(name) {
            None => errors.push(FieldError::required(path, "")),
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::String(text)) => errors.push(FieldError::invalid(path, text.as_str(), "must not be empty")),
            Some(value) => errors.push(FieldError::invalid(path, value.clone(), "must be a string")),
        }
    }
}
