//! The fields of a kind, from the same definition that decodes it: one for each value that can be written.

use std::collections::BTreeMap;

use serde_json::Value;

/// How deep fields are looked for; no kind is deeper.
const DEPTH_MAX: usize = 24;

/// A step on the way to a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A property of this name.
    Name(String),
    /// Every item of a list.
    Item,
    /// Every value of a mapping.
    Entry,
}

/// A field that holds a value: what has fields itself is told by these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The way to it.
    pub(crate) path: Vec<Step>,
    /// What it holds, in a word or two.
    pub(crate) holds: String,
    /// The names that it may have; none: it is not one of names.
    pub(crate) values: Vec<String>,
    /// What absent means, where the schema says so.
    pub(crate) default: Option<String>,
}

impl Leaf {
    /// The path as it is written in tables: `spec.http[].headers{}.exact`.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Item => text.push_str("[]"),
                Step::Entry => text.push_str("{}"),
            }
        }
        text
    }
}

/// The fields of a schema, below `root`, in the order of their paths.
pub(crate) fn leaves(schema: &Value, root: &[&str]) -> Vec<Leaf> {
    let mut path: Vec<Step> = root.iter().map(|name| Step::Name((*name).to_owned())).collect();
    let mut found = BTreeMap::new();
    collect(schema, &mut path, &mut found);
    found.into_values().collect()
}

fn collect(schema: &Value, path: &mut Vec<Step>, found: &mut BTreeMap<Vec<Step>, Leaf>) {
    if path.len() > DEPTH_MAX {
        return;
    }
    if let Some(properties) = schema["properties"].as_object().filter(|all| !all.is_empty()) {
        for (name, property) in properties {
            path.push(Step::Name(name.clone()));
            collect(property, path, found);
            path.pop();
        }
        return;
    }
    for (key, step) in [("items", Step::Item), ("additionalProperties", Step::Entry)] {
        let inner = &schema[key];
        let has_fields = |of: &Value| of["properties"].as_object().is_some_and(|all| !all.is_empty());
        if has_fields(inner) || has_fields(&inner["items"]) {
            path.push(step);
            collect(inner, path, found);
            path.pop();
            return;
        }
    }
    let leaf = Leaf {
        path: path.clone(),
        holds: holds(schema),
        values: names(schema),
        default: schema.get("default").map(ToString::to_string),
    };
    found.insert(path.clone(), leaf);
}

fn names(schema: &Value) -> Vec<String> {
    let names = schema["enum"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn holds(schema: &Value) -> String {
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", holds(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("map to {}", holds(&schema["additionalProperties"]))
        }
        Some("object") if schema["x-kubernetes-preserve-unknown-fields"] == true => "any object".to_owned(),
        Some("object") => "empty object".to_owned(),
        Some("string") if schema["enum"].is_array() => names(schema).join(", "),
        Some(other) => other.to_owned(),
        None if schema["x-kubernetes-int-or-string"] == true => "number or string".to_owned(),
        None => "anything".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_is_a_field_of_its_own() {
        let schema = json!({ "type": "object", "properties": {
            "hosts": { "type": "array", "items": { "type": "string" } },
            "none": { "type": "object" },
            "rules": { "type": "array", "items": { "type": "object", "properties": {
                "mode": { "type": "string", "enum": ["A", "B"] },
                "headers": { "type": "object", "additionalProperties": { "type": "object", "properties": {
                    "exact": { "type": "string" },
                } } },
            } } },
        } });
        let found = leaves(&schema, &["spec"]);
        let shown: Vec<(String, &str)> = found.iter().map(|leaf| (leaf.shown(), &*leaf.holds)).collect();
        let expected = [
            ("spec.hosts", "list of string"),
            ("spec.none", "empty object"),
            ("spec.rules[].headers{}.exact", "string"),
            ("spec.rules[].mode", "A, B"),
        ];
        assert_eq!(shown, expected.map(|(path, holds)| (path.to_owned(), holds)));
    }
}
