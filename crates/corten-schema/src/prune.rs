//! Undeclared fields: found (for `fieldValidation`) and dropped.
//!
//! `apiVersion`, `kind` and `metadata` of an object belong to every kind and are known without being declared.

use crate::kubernetes;
use crate::schema::{AdditionalProperties, Schema};
use serde_json::Value;

/// The fields that every object has.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The undeclared fields of an object as `spec.containers[0].foo`, sorted.
pub fn unknown_fields(schema: &Schema, value: &Value) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        found: Vec::new(),
    };
    let mut value = Node::Read(value);
    walk.root(schema, &mut value);
    walk.sorted()
}

/// Removes the undeclared fields of an object; returns them as [`unknown_fields`] does.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        found: Vec::new(),
    };
    walk.root(schema, &mut Node::Write(value));
    walk.sorted()
}

/// Removes the undeclared fields of a value that is not an object of its own.
pub(crate) fn prune_value(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        found: Vec::new(),
    };
    walk.node(schema, &mut Node::Write(value), false);
    walk.sorted()
}

/// A value that is only looked at, or one that is changed: one walk serves both.
enum Node<'a> {
    Read(&'a Value),
    Write(&'a mut Value),
}

impl Node<'_> {
    fn value(&self) -> &Value {
        match self {
            Node::Read(value) => value,
            Node::Write(value) => value,
        }
    }

    fn keys(&self) -> Vec<String> {
        self.value()
            .as_object()
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn remove(&mut self, key: &str) {
        if let Node::Write(Value::Object(fields)) = self {
            fields.remove(key);
        }
    }

    fn with_field(&mut self, key: &str, work: impl FnOnce(&mut Node<'_>)) {
        let _absent: Option<()> = match self {
            Node::Read(value) => value.get(key).map(|value| work(&mut Node::Read(value))),
            Node::Write(value) => value.get_mut(key).map(|value| work(&mut Node::Write(value))),
        };
    }

    fn with_item(&mut self, index: usize, work: impl FnOnce(&mut Node<'_>)) {
        let _absent: Option<()> = match self {
            Node::Read(value) => value.get(index).map(|value| work(&mut Node::Read(value))),
            Node::Write(value) => value.get_mut(index).map(|value| work(&mut Node::Write(value))),
        };
    }
}

struct Walk {
    path: String,
    found: Vec<String>,
}

impl Walk {
    fn sorted(mut self) -> Vec<String> {
        self.found.sort();
        self.found
    }

    fn root(&mut self, schema: &Schema, node: &mut Node<'_>) {
        self.node(schema, node, true);
    }

    fn with_key(&mut self, key: &str, work: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        work(self);
        self.path.truncate(length);
    }

    fn node(&mut self, schema: &Schema, node: &mut Node<'_>, resource: bool) {
        match node.value() {
            Value::Object(_) => self.object(schema, node, resource || schema.embedded_resource),
            Value::Array(items) => {
                let Some(item) = &schema.items else { return };
                for index in 0..items.len() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    node.with_item(index, |node| self.node(item, node, false));
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &Schema, node: &mut Node<'_>, resource: bool) {
        for key in node.keys() {
            let declared = schema.properties.get(&key);
            if resource && META.contains(&key.as_str()) {
                // A custom resource declares `metadata` as a mere object, if at all.
                let meta = match declared {
                    Some(meta) if !meta.properties.is_empty() => Some(&**meta),
                    _ => kubernetes::object_meta(),
                };
                if let Some(meta) = meta.filter(|_| key == "metadata") {
                    self.with_key(&key, |walk| {
                        node.with_field("metadata", |node| walk.node(meta, node, false))
                    });
                }
                continue;
            }
            match (declared, &schema.additional_properties) {
                (Some(property), _) | (None, Some(AdditionalProperties::Schema(property))) => {
                    self.with_key(&key, |walk| {
                        node.with_field(&key, |node| walk.node(property, node, false))
                    });
                }
                (None, Some(AdditionalProperties::Allowed(true))) => {}
                (None, _) if schema.preserve_unknown_fields => {}
                (None, _) => {
                    self.with_key(&key, |walk| walk.found.push(walk.path.clone()));
                    node.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "known": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"strict": {"type": "object"}}},
                "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "properties": {"spec": {"type": "object"}}},
            }}
        }}))
        .unwrap()
    }

    #[test]
    fn undeclared_fields_are_found_and_dropped() {
        let mut value = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "labels": {"x": "y"}}, "other": 1,
            "spec": {"known": "a", "foo": 1, "list": [{"a": "x"}, {"b": 1}], "map": {"k": {"a": 1, "b": 2}},
                "any": {"x": {"y": 1}, "strict": {"z": 1}},
                "embedded": {"kind": "E", "metadata": {"name": "e"}, "spec": {"x": 1}, "status": 1}}
        });
        let expected = [
            "other",
            "spec.any.strict.z",
            "spec.embedded.spec.x",
            "spec.embedded.status",
            "spec.foo",
            "spec.list[1].b",
            "spec.map.k.b",
        ];
        assert_eq!(unknown_fields(&schema(), &value), expected);
        assert_eq!(prune(&schema(), &mut value), expected);
        assert_eq!(
            value,
            json!({
                "apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "labels": {"x": "y"}},
                "spec": {"known": "a", "list": [{"a": "x"}, {}], "map": {"k": {"a": 1}},
                    "any": {"x": {"y": 1}, "strict": {}}, "embedded": {"kind": "E", "metadata": {"name": "e"}, "spec": {}}}
            })
        );
        assert!(unknown_fields(&schema(), &value).is_empty());
    }
}
