//! Schemas that an API server refuses, with what it says. The messages were compared with a real one.

use super::*;
use serde_json::json;

const PATH: &str = "s";

#[track_caller]
fn check_property(property: Value, expected: &[&str]) {
    check_schema(json!({"type": "object", "properties": {"a": property}}), expected);
}

#[track_caller]
fn check_schema(openapi: Value, expected: &[&str]) {
    let mut errors = match Schema::parse_at(&openapi, PATH) {
        Ok(schema) => [check(&schema, PATH), check_defaults(&schema, PATH)].concat(),
        Err(errors) => errors,
    };
    errors.dedup();
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn types_are_required() {
    check_property(
        json!({"description": "x"}),
        &["s.properties[a].type: Required value: must not be empty for specified object fields"],
    );
    check_property(
        json!({"type": "array", "items": {}}),
        &["s.properties[a].items.type: Required value: must not be empty for specified array items"],
    );
    check_schema(
        json!({"type": "string"}),
        &[r#"s.type: Invalid value: "string": must be object at the root"#],
    );
    check_property(
        json!({"type": "array"}),
        &["s.properties[a].items: Required value: must be specified"],
    );
    check_property(json!({"x-kubernetes-preserve-unknown-fields": true}), &[]);
    check_property(json!({"x-kubernetes-int-or-string": true}), &[]);
    check_property(
        json!({"type": "text"}),
        &[
            r#"s.properties[a].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ],
    );
}

#[test]
fn keywords_that_are_not_structural() {
    for (keyword, value) in [
        ("definitions", json!({})),
        ("dependencies", json!({})),
        ("patternProperties", json!({})),
    ] {
        check_property(
            json!({"type": "object", keyword: value}),
            &[&format!(
                "s.properties[a].{keyword}: Forbidden: {keyword} is not supported"
            )],
        );
    }
    check_property(
        json!({"$ref": "#/x"}),
        &["s.properties[a].$ref: Forbidden: $ref is not supported"],
    );
    check_property(
        json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
        &[
            "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    check_property(
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
        &["s.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
    );
}

#[test]
fn conditions_have_no_structure() {
    check_property(
        json!({"type": "object", "properties": {"b": {"type": "string"}},
            "anyOf": [{"type": "object", "properties": {"b": {"default": "x", "nullable": true}}}]}),
        &[
            "s.properties[a].anyOf[0].properties[b].default: Forbidden: must be undefined to be structural",
            "s.properties[a].anyOf[0].properties[b].nullable: Forbidden: must be false to be structural",
            "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
        ],
    );
    check_property(
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        &[],
    );
    check_schema(
        json!({"type": "object", "oneOf": [{"properties": {"b": {"minLength": 1}}}]}),
        &["s.properties[b]: Required value: because it is defined in s.oneOf[0].properties[b]"],
    );
}

#[test]
fn maps() {
    check_schema(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        &["s.additionalProperties: Forbidden: must not be used at the root"],
    );
    check_property(
        json!({"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        &["s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
    );
    check_property(
        json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
        &[r#"s.properties[a].type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#],
    );
}

#[test]
fn lists() {
    let map = |keys: Value, items: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": items});
    let item = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}});
    check_property(map(json!(["k"]), item.clone()), &[]);
    check_property(
        map(json!([]), item.clone()),
        &[
            "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ],
    );
    check_property(
        map(json!(["z"]), item.clone()),
        &[
            r#"s.properties[a].x-kubernetes-list-map-keys: Invalid value: ["z"]: entries must all be names of item properties"#,
        ],
    );
    check_property(
        map(json!(["k", "k"]), item),
        &[
            r#"s.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: must not contain duplicate entries"#,
        ],
    );
    check_property(
        map(json!(["k"]), json!({"type": "string"})),
        &[
            r#"s.properties[a].items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#,
        ],
    );
    check_property(
        map(
            json!(["k"]),
            json!({"type": "object", "properties": {"k": {"type": "string"}}}),
        ),
        &[
            "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    check_property(
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
        &[
            "s.properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ],
    );
}

#[test]
fn embedded_objects_and_metadata() {
    check_property(
        json!({"type": "string", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        &[r#"s.properties[a].type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true"#],
    );
    check_schema(
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}}),
        &[],
    );
    check_schema(
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
}

#[test]
fn defaults_are_values() {
    check_property(
        json!({"type": "string", "default": 1}),
        &[r#"s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#],
    );
    check_property(
        json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}),
        &[r#"s.properties[a].default: Invalid value: {"c":1}: must not have unknown fields"#],
    );
}

#[test]
fn rules_are_checked_for_form() {
    let rule = |rule: Value| json!({"type": "object", "properties": {"b": {"type": "string"}}, "x-kubernetes-validations": [rule]});
    let at = "s.properties[a].x-kubernetes-validations[0]";
    check_property(
        rule(json!({"rule": " "})),
        &[&format!("{at}.rule: Required value: rule is not specified")],
    );
    check_property(rule(json!({"rule": "true", "fieldPath": ".b"})), &[]);
    check_property(
        rule(json!({"rule": "true", "fieldPath": ".c"})),
        &[&format!(r#"{at}.fieldPath: Invalid value: ".c": must be a valid path"#)],
    );
    check_property(
        rule(json!({"rule": "true", "reason": "X"})),
        &[&format!(
            r#"{at}.reason: Unsupported value: "X": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#
        )],
    );
    check_property(
        rule(json!({"rule": "true\n&& true"})),
        &[&format!(
            "{at}.message: Required value: message must be specified if rule contains line breaks"
        )],
    );
}
