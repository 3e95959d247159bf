//! Messages as the API server prints them.

use super::*;
use serde_json::json;

#[track_caller]
fn check_spec(property: Value, value: Value, expected: &[&str]) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"f": property}}}});
    let schema = Schema::parse(&schema).unwrap();
    let errors: Vec<String> = validate(&schema, &json!({"spec": {"f": value}}), None)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors, expected);
}

#[test]
fn types() {
    check_spec(
        json!({"type": "integer"}),
        json!("x"),
        &[r#"spec.f: Invalid value: "string": spec.f in body must be of type integer: "string""#],
    );
    check_spec(
        json!({"type": "string"}),
        json!(1),
        &[r#"spec.f: Invalid value: "integer": spec.f in body must be of type string: "integer""#],
    );
    check_spec(
        json!({"type": "string"}),
        json!(null),
        &[r#"spec.f: Invalid value: "null": spec.f in body must be of type string: "null""#],
    );
    check_spec(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check_spec(json!({"type": "integer"}), json!(1.0), &[]);
    check_spec(
        json!({"type": "integer"}),
        json!(1.5),
        &[r#"spec.f: Invalid value: "number": spec.f in body must be of type integer: "number""#],
    );
    check_spec(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &[r#"spec.f: Invalid value: "boolean": spec.f in body must be of type integer,string: "boolean""#],
    );
    check_spec(json!({"x-kubernetes-int-or-string": true}), json!("80"), &[]);
    check_spec(
        json!({"type": "array", "items": {"type": "string"}}),
        json!(["a", 1]),
        &[r#"spec.f[1]: Invalid value: "integer": spec.f[1] in body must be of type string: "integer""#],
    );
}

#[test]
fn limits() {
    check_spec(
        json!({"type": "integer", "minimum": 0}),
        json!(-1),
        &["spec.f: Invalid value: -1: spec.f in body should be greater than or equal to 0"],
    );
    check_spec(
        json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
        json!(1.5),
        &["spec.f: Invalid value: 1.5: spec.f in body should be less than 1.5"],
    );
    check_spec(
        json!({"type": "integer", "multipleOf": 2}),
        json!(3),
        &["spec.f: Invalid value: 3: spec.f in body should be a multiple of 2"],
    );
    check_spec(
        json!({"type": "string", "maxLength": 2}),
        json!("äöü"),
        &["spec.f: Too long: may not be more than 2 bytes"],
    );
    check_spec(
        json!({"type": "string", "minLength": 1}),
        json!(""),
        &[r#"spec.f: Invalid value: "": spec.f in body should be at least 1 chars long"#],
    );
    check_spec(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &[r#"spec.f: Invalid value: "b": spec.f in body should match '^a+$'"#],
    );
    check_spec(
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
        json!(["a", "b"]),
        &["spec.f: Too many: 2: must have at most 1 item"],
    );
    check_spec(
        json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        json!([]),
        &["spec.f: Invalid value: 0: spec.f in body should have at least 1 items"],
    );
    check_spec(
        json!({"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}),
        json!({}),
        &["spec.f: Invalid value: 0: spec.f in body should have at least 1 properties"],
    );
    check_spec(
        json!({"type": "string", "enum": ["A", "B"]}),
        json!("C"),
        &[r#"spec.f: Unsupported value: "C": supported values: "A", "B""#],
    );
    check_spec(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({}),
        &["spec.f.a: Required value"],
    );
    check_spec(
        json!({"type": "string", "format": "date-time"}),
        json!("x"),
        &[r#"spec.f: Invalid value: "x": spec.f in body must be of type date-time: "x""#],
    );
}

#[test]
fn alternatives() {
    let one_of = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check_spec(
        one_of.clone(),
        json!({}),
        &[
            r#"<nil>: Invalid value: "": "spec.f" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.f.a: Required value",
        ],
    );
    check_spec(
        one_of,
        json!({"a": 1, "b": 1}),
        &[
            r#"<nil>: Invalid value: "": "spec.f" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    check_spec(
        json!({"type": "object", "not": {"required": ["a"]}}),
        json!({"a": 1}),
        &[r#"<nil>: Invalid value: "": "spec.f" must not validate the schema (not)"#],
    );
}

#[test]
fn lists_with_identities() {
    check_spec(
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
        json!(["a", "b", "a", "a"]),
        &[r#"spec.f[2]: Duplicate value: "a""#],
    );
    check_spec(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object"}}),
        json!([{"n": "a", "v": 1}, {"n": "a"}]),
        &[r#"spec.f[1]: Duplicate value: {"n":"a"}"#],
    );
}

#[test]
fn embedded_objects() {
    check_spec(
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        json!({"kind": ""}),
        &[
            "spec.f.apiVersion: Required value",
            r#"spec.f.kind: Invalid value: "": must not be empty"#,
        ],
    );
}

#[test]
fn what_did_not_change_is_not_complained_about() {
    let schema = Schema::parse(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1}}}))
    .unwrap();
    let old = json!({"a": "long", "b": "x"});
    assert!(validate(&schema, &json!({"a": "long", "b": "y"}), Some(&old)).is_empty());
    assert_eq!(validate(&schema, &json!({"a": "long!", "b": "y"}), Some(&old)).len(), 1);
}
