//! Files of patches and what becomes of what is patched.

use serde_json::{Value, json};

use crate::{
    accepted::sent,
    generate,
    testing::{Case, cases},
};

/// What differs between what a proxy is sent with the EnvoyFilters of a file and without them, and what is said of them.
fn answer(case: &Case) -> Value {
    let mut bare = case.snapshot.clone();
    let mut catalog = (*bare.catalog).clone();
    let mut configs = (*catalog.configs).clone();
    configs.envoy_filters = std::sync::Arc::default();
    catalog.configs = std::sync::Arc::new(configs);
    bare.catalog = std::sync::Arc::new(catalog);
    let (before, after) = (generate(&bare, &case.proxy), generate(&case.snapshot, &case.proxy));
    let (before_sent, after_sent) = (sent(&before), sent(&after));
    let mut shown = json!({});
    let mut kinds = vec![
        ("clusters", named(&before_sent.clusters), named(&after_sent.clusters)),
        ("listeners", named(&before_sent.listeners), named(&after_sent.listeners)),
    ];
    let tables = |of: &std::collections::BTreeMap<String, Value>| of.clone().into_iter().collect();
    kinds.push(("routes", tables(&before_sent.routes), tables(&after_sent.routes)));
    kinds.push((
        "extensions",
        tables(&before_sent.extensions),
        tables(&after_sent.extensions),
    ));
    for (kind, before, after) in kinds {
        for (name, value) in &after {
            match before.iter().find(|(held, _)| held == name) {
                Some((_, held)) => {
                    let mut found = Vec::new();
                    differ("", held, value, &mut found);
                    if !found.is_empty() {
                        shown[kind][name] = json!(found);
                    }
                }
                None => shown[kind][name] = json!({ "added": value }),
            }
        }
        for (name, _) in before
            .iter()
            .filter(|(name, _)| !after.iter().any(|(held, _)| held == name))
        {
            shown[kind][name] = json!("removed");
        }
    }
    let said = super::diagnostics(&case.snapshot.catalog)
        .into_iter()
        .chain(after.notices);
    shown["said"] = said.map(|found| json!(found.to_string())).collect();
    shown
}

fn named(all: &[Value]) -> Vec<(String, Value)> {
    all.iter()
        .map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), one.clone()))
        .collect()
}

/// Lines `PATH: BEFORE -> AFTER`; items of lists that have names are compared by them.
fn differ(path: &str, before: &Value, after: &Value, into: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(held), Value::Object(now)) => {
            let keys: std::collections::BTreeSet<&String> = held.keys().chain(now.keys()).collect();
            for key in keys {
                let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                differ(&format!("{path}.{key}"), &value(held), &value(now), into);
            }
        }
        (Value::Array(held), Value::Array(now)) if held.len() == now.len() && names(held) == names(now) => {
            for (index, (held, now)) in held.iter().zip(now).enumerate() {
                differ(&format!("{path}[{index}]"), held, now, into);
            }
        }
        (Value::Array(held), Value::Array(now)) if !names(now).is_empty() => {
            into.push(format!(
                "{path}: {} -> {}",
                names(held).join(", "),
                names(now).join(", ")
            ));
            for item in now.iter().filter(|item| !held.contains(item)) {
                into.push(format!("{path}: + {item}"));
            }
        }
        (before, after) => into.push(format!("{path}: {before} -> {after}")),
    }
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(|item| item["name"].as_str()).collect()
}

#[test]
fn what_becomes_of_what_is_patched() {
    let mut compared = 0;
    for (file, case) in cases("patches") {
        let expected = file.with_extension("expected.yaml");
        expect_test::expect_file![expected].assert_eq(&corten_api::yaml::document(&answer(&case)));
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn patched_resources_are_the_same_bytes_every_time() {
    for (_, case) in cases("patches") {
        let bytes = || {
            let made = generate(&case.snapshot, &case.proxy);
            let listeners = made.listeners.iter().map(corten_envoy::encode);
            let clusters = made.clusters.iter().map(corten_envoy::encode);
            listeners.chain(clusters).collect::<Vec<_>>()
        };
        let first = bytes();
        for _ in 0..5 {
            assert_eq!(bytes(), first);
        }
    }
}
