//! The examples of the RFCs, and what `kubectl apply` sends.

use super::*;
use crate::schema::Schema;
use serde_json::{Value, json};

#[track_caller]
fn check_json(object: Value, patch: Value, expected: Value) {
    assert_eq!(json(&object, &patch), Ok(expected));
}

#[track_caller]
fn check_json_fails(object: Value, patch: Value, expected: &str) {
    assert_eq!(json(&object, &patch).unwrap_err().to_string(), expected);
}

#[test]
fn json_patch_operations() {
    check_json(
        json!({"a": 1}),
        json!([{"op": "add", "path": "/b", "value": 2}]),
        json!({"a": 1, "b": 2}),
    );
    check_json(
        json!({"a": [1, 3]}),
        json!([{"op": "add", "path": "/a/1", "value": 2}]),
        json!({"a": [1, 2, 3]}),
    );
    check_json(
        json!({"a": [1]}),
        json!([{"op": "add", "path": "/a/-", "value": 2}]),
        json!({"a": [1, 2]}),
    );
    check_json(
        json!({"a": {"b": 1}}),
        json!([{"op": "remove", "path": "/a/b"}]),
        json!({"a": {}}),
    );
    check_json(
        json!({"a": 1}),
        json!([{"op": "replace", "path": "/a", "value": null}]),
        json!({"a": null}),
    );
    check_json(
        json!({"a": {"x": 1}}),
        json!([{"op": "move", "from": "/a/x", "path": "/b"}]),
        json!({"a": {}, "b": 1}),
    );
    check_json(
        json!({"a": [1]}),
        json!([{"op": "copy", "from": "/a", "path": "/b"}]),
        json!({"a": [1], "b": [1]}),
    );
    check_json(
        json!({"a/b": {"~": 1}}),
        json!([{"op": "test", "path": "/a~1b/~0", "value": 1.0}]),
        json!({"a/b": {"~": 1}}),
    );
    check_json(
        json!({"a": 1}),
        json!([{"op": "replace", "path": "", "value": {}}]),
        json!({}),
    );
}

#[test]
fn json_patch_failures() {
    check_json_fails(json!({}), json!({}), "a JSON patch must be a list of operations");
    check_json_fails(
        json!({"a": 1}),
        json!([{"op": "test", "path": "/a", "value": 2}]),
        "testing value /a failed: test failed",
    );
    check_json_fails(
        json!({}),
        json!([{"op": "remove", "path": "/a"}]),
        r#"remove operation does not apply: "/a": unable to remove nonexistent key"#,
    );
    check_json_fails(
        json!({}),
        json!([{"op": "add", "path": "/a/b", "value": 1}]),
        r#"add operation does not apply: "/a/b": the parent is missing"#,
    );
    check_json_fails(
        json!({"a": [1]}),
        json!([{"op": "add", "path": "/a/01", "value": 1}]),
        r#"add operation does not apply: "/a/01": invalid index referenced"#,
    );
    check_json_fails(
        json!({"a": {}}),
        json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
        r#"move operation does not apply: "/a": a value cannot be moved into itself"#,
    );
}

#[test]
fn a_json_patch_cannot_grow_without_bound() {
    let doubling = json!({"op": "copy", "from": "", "path": "/x"});
    let wide = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    for (object, operation) in [(json!({"a": 1}), doubling), (json!({"a": [1, 2, 3]}), wide)] {
        let patch = Value::from(vec![operation; 5000]);
        assert!(matches!(json(&object, &patch), Err(PatchError::TooLarge(_))));
    }
}

#[test]
fn merge_patch_of_the_rfc() {
    for (object, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a"]), json!({"a": 1}), json!({"a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!({"a": 1}), json!([1]), json!([1])),
    ] {
        assert_eq!(merge(&object, &patch), expected);
    }
}

fn schema() -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {
        "containers": {"type": "array", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
            "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "image": {"type": "string"},
                "args": {"type": "array", "items": {"type": "string"}},
                "ports": {"type": "array", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port",
                    "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
            }}},
        "finalizers": {"type": "array", "x-kubernetes-patch-strategy": "merge", "items": {"type": "string"}},
        "strategy": {"type": "object", "x-kubernetes-patch-strategy": "retainKeys",
            "properties": {"type": {"type": "string"}, "rollingUpdate": {"type": "object"}}},
        "whole": {"type": "object", "x-kubernetes-patch-strategy": "replace", "additionalProperties": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "plain": {"type": "array", "items": {"type": "string"}},
    }}))
    .unwrap()
}

#[track_caller]
fn check(object: Value, patch: Value, expected: Value) {
    assert_eq!(strategic(&schema(), &object, &patch), Ok(expected));
}

#[test]
fn lists_merge_by_key_or_are_replaced() {
    check(
        json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}),
        json!({"containers": [{"name": "a", "image": "2", "args": ["x"]}, {"name": "c"}, {"name": "b"}]}),
    );
    check(
        json!({"plain": ["a", "b"]}),
        json!({"plain": ["c"]}),
        json!({"plain": ["c"]}),
    );
    check(
        json!({"finalizers": ["a"]}),
        json!({"finalizers": ["b", "a"]}),
        json!({"finalizers": ["b", "a"]}),
    );
    check(
        json!({"whole": {"a": "1"}}),
        json!({"whole": {"b": "2"}}),
        json!({"whole": {"b": "2"}}),
    );
    check(
        json!({"labels": {"a": "1", "b": "2"}}),
        json!({"labels": {"a": null, "c": "3"}}),
        json!({"labels": {"b": "2", "c": "3"}}),
    );
    check(
        json!({}),
        json!({"labels": {"a": null, "c": "3"}}),
        json!({"labels": {"c": "3"}}),
    );
}

#[test]
fn directives() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"$patch": "replace", "b": "2"}}),
        json!({"labels": {"b": "2"}}),
    );
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"$patch": "delete"}}),
        json!({"labels": {}}),
    );
    check(
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
    check(
        json!({"finalizers": ["a", "b", "c"]}),
        json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]}),
        json!({"finalizers": ["c", "a"]}),
    );
    check(
        json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "image": "i"}]}),
        json!({"containers": [{"name": "server"}, {"name": "b"}, {"name": "c", "image": "i"}, {"name": "a"}]}),
    );
    check(
        json!({"containers": [{"name": "a", "ports": [{"port": 1, "n": "x"}, {"port": 2}]}]}),
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a",
            "$setElementOrder/ports": [{"port": 3}, {"port": 1}], "ports": [{"port": 3}, {"port": 2, "$patch": "delete"}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"port": 3}, {"port": 1, "n": "x"}]}]}),
    );
}

#[test]
fn strategic_patches_that_make_no_sense() {
    for (object, patch, expected) in [
        (json!({}), json!([]), "a strategic merge patch must be an object"),
        (
            json!({"labels": {}}),
            json!({"labels": {"$patch": "merge"}}),
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"image": "a"}]}),
            "map: map[image:a] does not contain declared merge key: name",
        ),
        (
            json!({"strategy": {}}),
            json!({"strategy": {"$retainKeys": ["type"], "x": 1}}),
            "invalid patch format of retainKeys",
        ),
    ] {
        assert_eq!(
            strategic(&schema(), &object, &patch),
            Err(PatchError::Malformed(expected.to_owned()))
        );
    }
}
