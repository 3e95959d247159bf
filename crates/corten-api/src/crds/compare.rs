//! Where two CustomResourceDefinitions differ in what they mean.
//!
//! Names, versions, scopes, columns, subresources and schemas count; descriptions, annotations and order do not, nor does
//! what the API server fills in by itself.

use serde_json::{Map, Value};

/// The differences between a generated definition and a published one, a line each.
pub fn differences(generated: &Value, published: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &normal(generated), &normal(published), &mut found);
    found
}

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
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        names
            .entry("listKind")
            .or_insert_with(|| Value::from(format!("{kind}List")));
        names
            .entry("singular")
            .or_insert_with(|| Value::from(kind.to_lowercase()));
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

fn compare(path: &str, generated: &Value, published: &Value, found: &mut Vec<String>) {
    match (generated, published) {
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
    const LONGEST: usize = 300;
    let text = value.to_string();
    if text.len() > LONGEST {
        format!("{}...", text.chars().take(LONGEST).collect::<String>())
    } else {
        text
    }
}
