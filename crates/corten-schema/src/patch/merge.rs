//! JSON merge patch, RFC 7386: objects merge, null deletes, everything else replaces.

use serde_json::{Map, Value};

/// The object with the patch merged into it.
pub fn merge(object: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match object {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(key);
        } else {
            let value = merge(merged.get(key).unwrap_or(&Value::Null), value);
            merged.insert(key.clone(), value);
        }
    }
    Value::Object(merged)
}
