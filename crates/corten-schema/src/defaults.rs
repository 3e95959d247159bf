//! Defaulting as the API server does it: absent fields get their default, and a null where null is not allowed counts
//! as absent.

use crate::schema::Schema;
use serde_json::Value;

/// Fills in the defaults of `schema`, after dropping nulls that are neither allowed nor have a default.
pub fn apply(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| !(value.is_null() && schema.field(key).is_some_and(drops_null)));
            for (key, property) in &schema.properties {
                if let Some(default) = &property.default
                    && fields
                        .get(key)
                        .is_none_or(|value| value.is_null() && !property.nullable)
                {
                    fields.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in fields.iter_mut() {
                if let Some(property) = schema.field(key) {
                    nested(property, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                items.iter_mut().for_each(|value| nested(item, value));
            }
        }
        _ => {}
    }
}

fn nested(schema: &Schema, value: &mut Value) {
    if let (Value::Null, false, Some(default)) = (&*value, schema.nullable, &schema.default) {
        *value = default.clone();
    }
    apply(schema, value);
}

/// Untyped content (no type at all) keeps its nulls: nothing says that they are not meant.
fn drops_null(schema: &Schema) -> bool {
    let untyped = schema.type_.is_none() && schema.preserve_unknown_fields;
    !schema.nullable && schema.default.is_none() && !untyped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: Value, mut value: Value, expected: Value) {
        apply(&Schema::parse(&schema).unwrap(), &mut value);
        assert_eq!(value, expected);
    }

    #[test]
    fn absent_fields_get_their_default() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "a": {"type": "integer", "default": 1},
                "b": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "boolean", "default": true}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"d": {"default": "x"}}}}
            }}
        }});
        check(schema.clone(), json!({}), json!({"spec": {"a": 1}}));
        check(
            schema,
            json!({"spec": {"a": 2, "list": [{}, {"c": false}], "map": {"k": {}}}}),
            json!({"spec": {"a": 2, "list": [{"c": true}, {"c": false}], "map": {"k": {"d": "x"}}}}),
        );
    }

    #[test]
    fn nulls_are_dropped_defaulted_or_kept() {
        let schema = json!({"type": "object", "properties": {
            "dropped": {"type": "string"},
            "defaulted": {"type": "string", "default": "x"},
            "kept": {"type": "string", "nullable": true, "default": "x"},
            "any": {"x-kubernetes-preserve-unknown-fields": true}
        }});
        check(
            schema,
            json!({"dropped": null, "defaulted": null, "kept": null, "any": null, "undeclared": null}),
            json!({"defaulted": "x", "kept": null, "any": null, "undeclared": null}),
        );
    }
}
