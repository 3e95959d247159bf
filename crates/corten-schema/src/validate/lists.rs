//! Lists whose items must differ: `x-kubernetes-list-type` set and map; and which item of an older list is meant.

use super::node::enter;
use crate::error::FieldError;
use crate::schema::{AdditionalProperties, ListType, Schema};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Reports items that occur twice, everywhere in a value.
pub(super) fn check(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &mut String,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) {
        return;
    }
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => {
                        enter(path, name);
                        check(property, value, old.and_then(|old| old.get(name)), path, errors);
                    }
                    (None, Some(AdditionalProperties::Schema(additional))) => {
                        path.push_str(&format!("[{name}]"));
                        check(additional, value, old.and_then(|old| old.get(name)), path, errors);
                    }
                    _ => {}
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            duplicates(schema, items, path, errors);
            let Some(item_schema) = &schema.items else { return };
            let previous = Previous::new(schema, old);
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                check(item_schema, item, previous.of(item), path, errors);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn duplicates(schema: &Schema, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let identity = |item: &Value| match schema.list_type {
        Some(ListType::Map) => keys(schema, item),
        _ => item.clone(),
    };
    if !matches!(schema.list_type, Some(ListType::Set | ListType::Map)) || items.len() < 2 {
        return;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let identity = identity(item);
        let times = seen.entry(identity.to_string()).or_default();
        *times += 1;
        // The second occurrence is reported, further ones are not.
        if *times == 2 {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), identity));
        }
    }
}

fn keys(schema: &Schema, item: &Value) -> Value {
    let keys = schema.list_map_keys.iter();
    let keys: Map<String, Value> = keys
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
        .collect();
    Value::Object(keys)
}

/// The items of an older list, found by what identifies them. Only lists of type map have identities.
pub(crate) struct Previous<'a> {
    schema: &'a Schema,
    items: HashMap<String, &'a Value>,
}

impl<'a> Previous<'a> {
    pub(crate) fn new(schema: &'a Schema, old: Option<&'a Value>) -> Previous<'a> {
        let mut items = HashMap::new();
        if schema.list_type == Some(ListType::Map) {
            for item in old.and_then(Value::as_array).into_iter().flatten() {
                items.insert(keys(schema, item).to_string(), item);
            }
        }
        Previous { schema, items }
    }

    pub(crate) fn of(&self, item: &Value) -> Option<&'a Value> {
        if self.items.is_empty() {
            return None;
        }
        self.items.get(&keys(self.schema, item).to_string()).copied()
    }
}
