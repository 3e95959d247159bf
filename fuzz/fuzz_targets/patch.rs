//! The patch engine on anything: no panic, no endless loop, no stack overflow, and applying twice changes nothing.
//!
//! The input is an object and a patch, two JSON documents with a zero byte between them.
#![no_main]

use corten_schema::{Schema, apply, defaults, kubernetes, patch, prune, structural, validate};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

const NOW: &str = "2026-01-02T03:04:05Z";

/// A custom kind with one field of every way of merging.
static CUSTOM: LazyLock<Schema> = LazyLock::new(|| {
    let openapi = serde_json::json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "atomic": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge", "items": {"type": "string"}},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "k",
            "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}, "v": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    Schema::parse(&openapi).expect("a well-formed schema")
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let mut parse = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let (Some(object), Some(patch)) = (parse(), parse()) else {
        return;
    };

    let _ = patch::json(&object, &patch);
    let merged = patch::merge(&object, &patch);
    assert_eq!(patch::merge(&merged, &patch), merged);

    let deployment = kubernetes::schema("apps", "v1", "Deployment").expect("a built-in kind");
    for schema in [&*CUSTOM, deployment] {
        let _ = patch::strategic(schema, &object, &patch);
        for live in [None, Some(&object)] {
            let _ = apply::apply(schema, live, &patch, "fuzz", "", false, NOW);
            let Ok(applied) = apply::apply(schema, live, &patch, "fuzz", "", true, NOW) else {
                continue;
            };
            // What has no metadata to keep managers in, or items nobody can tell apart, is not worth a second look.
            if live.is_none() && applied.pointer("/metadata/managedFields").is_some() {
                let again = apply::apply(schema, Some(&applied), &patch, "fuzz", "", true, NOW);
                assert_eq!(again.as_ref(), Ok(&applied));
            }
        }
        let mut new = patch.clone();
        apply::track(schema, Some(&object), &mut new, "fuzz", "Update", "", NOW);
        let mut pruned = patch.clone();
        prune::prune(schema, &mut pruned);
        assert!(prune::unknown_fields(schema, &pruned).is_empty());
        defaults::apply(schema, &mut pruned);
        let _ = validate::validate(schema, &pruned, Some(&object));
    }
    let mut completed = patch.clone();
    kubernetes::set_defaults("apps", "v1", "Deployment", &mut completed);
    if let Ok(schema) = Schema::parse(&object) {
        let _ = structural::check(&schema, "");
        let _ = structural::check_defaults(&schema, "");
        let _ = validate::validate(&schema, &patch, None);
    }
});
