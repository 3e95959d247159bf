//! Parsing and printing.

use super::*;
use serde_json::json;

#[test]
fn a_schema_prints_as_it_was_read() {
    let openapi = json!({
        "type": "object",
        "description": "a thing",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z]+$"},
            "size": {"type": "number", "minimum": 0.5, "exclusiveMinimum": true, "maximum": 10, "multipleOf": 2},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "list": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "maxItems": 3,
                "items": {"type": "object", "x-kubernetes-map-type": "atomic", "required": ["a"],
                    "properties": {"a": {"type": "string", "enum": ["x", "y"], "default": "x"}}}
            },
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "nullable": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}}
        },
        "x-kubernetes-validations": [{"rule": "self.size > 1", "message": "too small", "reason": "FieldValueInvalid",
            "fieldPath": ".size", "optionalOldSelf": true, "messageExpression": "'x'"}],
        "not": {"required": ["x"]},
        "oneOf": [{"required": ["name"]}, {"required": ["size"]}],
    });
    assert_eq!(Schema::parse(&openapi).unwrap().to_openapi(), openapi);
}

#[test]
fn malformed_schemas_are_reported_with_paths() {
    let check = |openapi: serde_json::Value, expected: &[&str]| {
        let errors: Vec<String> = Schema::parse(&openapi)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, expected);
    };
    check(
        json!({"properties": {"a": {"type": "text"}}}),
        &[
            r#"properties[a].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ],
    );
    check(
        json!({"items": {"x-kubernetes-list-type": "bag", "maxItems": "3"}}),
        &[
            r#"items.maxItems: Invalid value: "3": must be a whole number"#,
            r#"items.x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#,
        ],
    );
    check(
        json!("text"),
        &[r#"<nil>: Invalid value: "text": a schema must be an object"#],
    );
}

#[test]
fn a_schema_that_is_too_deep_is_refused() {
    let mut openapi = json!({"type": "string"});
    for _ in 0..100 {
        openapi = json!({"type": "array", "items": openapi});
    }
    assert!(Schema::parse(&openapi).is_err());
}

#[test]
fn references_are_followed_and_recursion_is_cut() {
    let components = json!({
        "Tree": {"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array",
            "items": {"allOf": [{"$ref": "#/components/schemas/Tree"}], "default": {}}}}}
    });
    let schema = Schema::parse_resolved(&json!({"$ref": "#/components/schemas/Tree"}), &components).unwrap();
    assert_eq!(schema.at(&["name"]).and_then(|schema| schema.type_), Some(Type::String));
    let inner = schema
        .at(&["children"])
        .and_then(|schema| schema.items.as_deref())
        .unwrap();
    assert!(inner.preserve_unknown_fields);
    assert_eq!(inner.default, Some(json!({})));
}
