//! Laws that hold for whatever is patched and applied: applying again changes nothing, what a manager gives up goes
//! unless others own it, merging follows RFC 7386, and no patch makes the engine panic.

use corten_schema::{Schema, apply, defaults, patch, prune};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn schema() -> Schema {
    let text = json!({"type": "string"});
    Schema::parse(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "text": text, "count": {"type": "integer", "default": 1},
        "atomic": {"type": "array", "items": text},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge", "items": text},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "k",
            "items": {"type": "object", "required": ["k"], "properties": {
                "k": text, "p": {"type": "string", "default": "tcp"}, "v": {"type": "integer"},
                "map": {"type": "object", "additionalProperties": text}}}},
        "map": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "inner": {"type": "object", "properties": {"text": text, "deep": {"type": "object", "properties": {"text": text}}}},
    }}}}))
    .expect("a well-formed schema")
}

const NOW: &str = "2026-01-02T03:04:05Z";

fn word() -> impl Strategy<Value = Value> {
    prop_oneof!["a", "b", "c"].prop_map(Value::from)
}

fn words() -> impl Strategy<Value = Value> {
    proptest::collection::vec(word(), 0..3).prop_map(Value::from)
}

fn word_map() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[abc]", word(), 0..3).prop_map(|map| map.into_iter().collect())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        word()
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[abc]", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[abc]", json_value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// Items of the list of type map, each key once.
fn items() -> impl Strategy<Value = Value> {
    let item = (proptest::option::of(0..3), proptest::option::of(word_map()));
    proptest::collection::btree_map("[abc]", item, 0..3).prop_map(|items| {
        let item = |(key, (number, map)): (String, (Option<i32>, Option<Value>))| {
            let mut fields = Map::from_iter([("k".to_owned(), Value::from(key))]);
            fields.extend(number.map(|number| ("v".to_owned(), number.into())));
            fields.extend(map.map(|map| ("map".to_owned(), map)));
            Value::Object(fields)
        };
        items.into_iter().map(item).collect()
    })
}

/// Drops all but the first of equal items.
fn distinct(list: Value) -> Value {
    let mut seen = Vec::new();
    for item in list.as_array().into_iter().flatten() {
        if !seen.contains(item) {
            seen.push(item.clone());
        }
    }
    Value::from(seen)
}

/// What somebody applies: some of the fields of the schema.
fn config() -> impl Strategy<Value = Value> {
    let some = |values: BoxedStrategy<Value>| proptest::option::weighted(0.4, values);
    let fields = (
        some(word().boxed()),
        some((0..3).prop_map(Value::from).boxed()),
        some(words().boxed()),
        some(words().prop_map(distinct).boxed()),
        some(items().boxed()),
        some(word_map().boxed()),
        some(word_map().boxed()),
        some(object().boxed()),
        some(
            word()
                .prop_map(|text| json!({"text": text, "deep": {"text": text}}))
                .boxed(),
        ),
    );
    fields.prop_map(|(text, count, atomic, set, list, map, whole, any, inner)| {
        let names = ["text", "count", "atomic", "set", "list", "map", "whole", "any", "inner"];
        let values = [text, count, atomic, set, list, map, whole, any, inner];
        let spec = names
            .into_iter()
            .zip(values)
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        resource(spec.collect())
    })
}

fn resource(spec: Value) -> Value {
    json!({"apiVersion": "e.io/v1", "kind": "E", "metadata": {"name": "a"}, "spec": spec})
}

fn force(live: Option<&Value>, config: &Value, manager: &str) -> Value {
    apply::apply(&schema(), live, config, manager, "", true, NOW).expect("a forced apply of a valid object")
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["manager"].as_str())
        .collect()
}

fn operation() -> impl Strategy<Value = Value> {
    let path = "(/[abc01-]|/~0|/){0,4}";
    let kind = prop_oneof!["add", "remove", "replace", "move", "copy", "test", "other"];
    (kind, path, path, json_value())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

/// Anything, with directives of strategic merge patches among the keys.
fn directive_patch() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "text|set|list|map|whole|any|inner",
        r"\$patch|\$retainKeys",
        r"\$setElementOrder/(set|list)",
        r"\$deleteFromPrimitiveList/(set|list)",
        "[kpv]"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        word(),
        Just("replace".into()),
        Just("delete".into()),
        Just(json!({"k": "a"}))
    ];
    let inner = leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = key.clone();
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    inner.prop_map(|spec| json!({"spec": spec}))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn merging_twice_is_merging_once(object in object(), patch in json_value()) {
        let once = patch::merge(&object, &patch);
        prop_assert_eq!(patch::merge(&once, &patch), once);
    }

    #[test]
    fn merging_nothing_changes_nothing(object in object()) {
        prop_assert_eq!(patch::merge(&object, &json!({})), object);
    }

    #[test]
    fn a_merged_null_is_gone(object in object(), key in "[abc]") {
        let merged = patch::merge(&object, &json!({ key.clone(): null }));
        prop_assert_eq!(merged.get(&key), None);
    }

    #[test]
    fn a_json_patch_does_all_or_nothing_and_never_panics(object in object(), operations in proptest::collection::vec(operation(), 0..6)) {
        let before = object.clone();
        if let Ok(patched) = patch::json(&object, &Value::from(operations)) {
            let test = json!([{"op": "test", "path": "", "value": patched}]);
            prop_assert_eq!(patch::json(&patched, &test), Ok(patched));
        }
        prop_assert_eq!(before, object);
    }

    #[test]
    fn a_strategic_patch_never_panics(object in config(), patch in directive_patch()) {
        // Refusing is fine; what comes out otherwise is an object without directives of ours at the top.
        if let Ok(patched) = patch::strategic(&schema(), &object, &patch) {
            prop_assert!(patched.is_object());
        }
    }

    #[test]
    fn a_strategic_patch_without_directives_is_idempotent(object in config(), patch in config()) {
        // Nulls delete what is there, but are dropped or kept where nothing or something is replaced.
        prop_assume!(!patch.to_string().contains("null"));
        let once = patch::strategic(&schema(), &object, &patch);
        prop_assert!(once.is_ok());
        let once = once.unwrap_or_default();
        prop_assert_eq!(patch::strategic(&schema(), &once, &patch), Ok(once));
    }

    #[test]
    fn applying_again_changes_nothing(first in config(), second in config()) {
        let live = force(None, &first, "one");
        let live = force(Some(&live), &second, "two");
        prop_assert_eq!(force(Some(&live), &second, "two"), live);
    }

    #[test]
    fn what_is_applied_is_there(first in config(), second in config()) {
        let live = force(None, &first, "one");
        let live = force(Some(&live), &second, "two");
        for name in ["text", "count", "atomic", "whole"] {
            if let Some(wanted) = second["spec"].get(name) {
                prop_assert_eq!(live["spec"].get(name), Some(wanted));
            }
        }
        for item in second["spec"]["set"].as_array().into_iter().flatten() {
            prop_assert!(live["spec"]["set"].as_array().is_some_and(|set| set.contains(item)));
        }
    }

    #[test]
    fn a_manager_that_gives_everything_up_leaves_no_trace(first in config(), second in config()) {
        let live = force(None, &first, "one");
        let both = force(Some(&live), &second, "two");
        // Without the conflicts that were forced, the first one's object is what it was.
        prop_assume!(apply::apply(&schema(), Some(&live), &second, "two", "", false, NOW).is_ok());
        let mut nothing = resource(json!({}));
        nothing.as_object_mut().expect("an object").remove("spec");
        let left = force(Some(&both), &nothing, "two");
        prop_assert!(!managers(&left).contains(&"two"));
        // An empty set has no members that somebody could own; it goes with the struct around it, or stays as null as in Kubernetes.
        let own = |object: &Value, name: &str| {
            let value = object["spec"].get(name);
            let mut value = value.filter(|value| **value != json!([]) && !value.is_null()).cloned();
            // Applying may have put a set into another order.
            if let Some(Value::Array(items)) = &mut value {
                items.sort_by_key(Value::to_string);
            }
            value
        };
        for name in ["text", "count", "set", "inner"] {
            prop_assert_eq!(own(&left, name), own(&live, name), "{}", name);
        }
    }

    #[test]
    fn co_owned_fields_outlive_one_owner(config in config()) {
        let live = force(None, &config, "one");
        let both = force(Some(&live), &config, "two");
        let left = force(Some(&both), &resource(json!({})), "one");
        prop_assert_eq!(&left["spec"], &both["spec"]);
    }

    #[test]
    fn tracking_a_write_that_changes_nothing_changes_nothing(config in config()) {
        let mut object = config;
        apply::track(&schema(), None, &mut object, "one", "Update", "", NOW);
        let mut again = object.clone();
        apply::track(&schema(), Some(&object), &mut again, "two", "Update", "", "2027-01-01T00:00:00Z");
        prop_assert_eq!(again, object);
    }

    #[test]
    fn pruned_objects_have_nothing_undeclared(object in object()) {
        let mut object = resource(object);
        prune::prune(&schema(), &mut object);
        prop_assert_eq!(prune::unknown_fields(&schema(), &object), Vec::<String>::new());
    }

    #[test]
    fn defaulting_twice_is_defaulting_once(object in config()) {
        let mut once = object;
        defaults::apply(&schema(), &mut once);
        let mut twice = once.clone();
        defaults::apply(&schema(), &mut twice);
        prop_assert_eq!(twice, once);
    }
}
