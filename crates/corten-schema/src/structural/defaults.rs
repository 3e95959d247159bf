//! Defaults of a schema must be values of it.

use crate::error::FieldError;
use crate::schema::{AdditionalProperties, Schema};
use serde_json::Value;

/// Defaults of a schema must be valid values of it, without undeclared fields.
pub fn check_defaults(schema: &Schema, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    defaults(schema, path, &mut errors);
    errors
}

fn defaults(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let path = format!("{path}.default");
        let mut pruned = default.clone();
        if !crate::prune::prune_value(schema, &mut pruned).is_empty() {
            errors.push(FieldError::invalid(
                &path,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        for mut problem in crate::validate::validate_value(schema, &completed(schema, default)) {
            let separator = if problem.path.is_empty() || problem.path.starts_with('[') {
                ""
            } else {
                "."
            };
            problem.path = format!("{path}{separator}{}", problem.path);
            errors.push(problem);
        }
    }
    for (name, property) in &schema.properties {
        defaults(property, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(items) = &schema.items {
        defaults(items, &format!("{path}.items"), errors);
    }
    if let Some(AdditionalProperties::Schema(additional)) = &schema.additional_properties {
        defaults(additional, &format!("{path}.additionalProperties"), errors);
    }
}

fn completed(schema: &Schema, default: &Value) -> Value {
    let mut default = default.clone();
    crate::defaults::apply(schema, &mut default);
    default
}
