//! The generated CustomResourceDefinitions beside the published ones.
//!
//! Descriptions are in our own words and not compared. Differences that are meant are listed in
//! `crds-accepted-differences.txt` with their reasons; a listed one that is gone fails as well, so the list only shrinks.

use std::{collections::BTreeSet, path::Path};

use corten_api::{
    crds::{Channel, definitions},
    decode::objects,
};
use serde_json::{Map, Value};

#[test]
fn generated_definitions_equal_the_published_ones() {
    let Some(crds) = corten_testdata("crds") else { return };
    let mut differences = BTreeSet::new();
    for (directory, channel) in [
        ("istio", Channel::Experimental),
        ("gateway-api/standard", Channel::Standard),
        ("gateway-api/experimental", Channel::Experimental),
        ("other", Channel::Experimental),
    ] {
        let ours = definitions(channel);
        let published = published(&crds.join(directory));
        assert!(!published.is_empty(), "no definitions in {directory}");
        for theirs in &published {
            let name = theirs
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let Some(ours) = ours
                .iter()
                .find(|d| d.pointer("/metadata/name").and_then(Value::as_str) == Some(name))
            else {
                differences.insert(format!("{directory} {name}: not generated"));
                continue;
            };
            let mut found = Vec::new();
            compare("", &normal(ours), &normal(theirs), &mut found);
            differences.extend(found.into_iter().map(|d| format!("{directory} {name}{d}")));
        }
        let names: BTreeSet<&str> = published
            .iter()
            .filter_map(|d| d.pointer("/metadata/name")?.as_str())
            .collect();
        if directory == "gateway-api/standard" {
            let group = |d: &&Value| {
                d.pointer("/spec/group")
                    .and_then(Value::as_str)
                    .is_some_and(|g| g.starts_with("gateway.networking"))
            };
            for ours in ours
                .iter()
                .filter(group)
                .filter_map(|d| d.pointer("/metadata/name")?.as_str())
            {
                if !names.contains(ours) {
                    differences.insert(format!("{directory} {ours}: generated, but not published"));
                }
            }
        }
    }
    let accepted: BTreeSet<String> = include_str!("crds-accepted-differences.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let unexpected: Vec<&String> = differences.difference(&accepted).collect();
    let gone: Vec<&String> = accepted.difference(&differences).collect();
    assert!(
        unexpected.is_empty() && gone.is_empty(),
        "{} differences that are not accepted:\n{}\n\n{} accepted ones that are gone (remove their lines):\n{}",
        unexpected.len(),
        unexpected
            .iter()
            .take(200)
            .map(|d| d.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        gone.len(),
        gone.iter().map(|d| d.as_str()).collect::<Vec<_>>().join("\n"),
    );
}

fn published(directory: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| Some((file.display().to_string(), std::fs::read_to_string(file).ok()?)))
        .flat_map(|(file, text)| objects(&file, &text).0)
        .filter(|o| o.reference.kind == "CustomResourceDefinition")
        .map(|o| o.to_value())
        .collect()
}

/// What is compared: no descriptions, no metadata besides the name, no order where order means nothing.
fn normal(definition: &Value) -> Value {
    let mut spec = definition.get("spec").cloned().unwrap_or_default();
    let versions = spec
        .get("versions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut named = Map::new();
    for mut version in versions {
        let name = version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if let Some(root) = version
            .pointer_mut("/schema/openAPIV3Schema/properties")
            .and_then(Value::as_object_mut)
        {
            // Part of every object whether the definition says so or not.
            for implied in ["apiVersion", "kind", "metadata"] {
                root.remove(implied);
            }
        }
        named.insert(name, version);
    }
    if let Some(map) = spec.as_object_mut() {
        map.insert("versions".to_owned(), Value::Object(named));
        map.remove("preserveUnknownFields");
        map.remove("conversion");
    }
    tidy(&mut spec, false);
    spec
}

fn tidy(value: &mut Value, inside_properties: bool) {
    match value {
        Value::Object(map) => {
            if !inside_properties {
                map.remove("description");
                for key in ["required", "x-kubernetes-validations"] {
                    if let Some(Value::Array(items)) = map.get_mut(key) {
                        items.sort_by_key(Value::to_string);
                    }
                }
            }
            for (key, value) in map.iter_mut() {
                tidy(value, key == "properties" && !inside_properties);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, false)),
        _ => {}
    }
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&path, a, b, found),
                    (Some(a), None) => found.push(format!("{path}: generated {}, not published", brief(a))),
                    (None, Some(b)) => found.push(format!("{path}: published {}, not generated", brief(b))),
                    (None, None) => {}
                }
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: generated {}, published {}", brief(a), brief(b))),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 300 {
        format!("{}...", text.chars().take(300).collect::<String>())
    } else {
        text
    }
}

fn corten_testdata(area: &str) -> Option<std::path::PathBuf> {
    let shared = std::env::var_os("CORTEN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    let directory = shared.join("testdata").join(area);
    if directory.is_dir() {
        return Some(directory);
    }
    skip(&format!("no test data at {}", directory.display()));
    None
}

fn skip(reason: &str) {
    assert!(
        std::env::var_os("CORTEN_TEST_REQUIRE").is_none_or(|v| v != "all"),
        "SKIPPED: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
