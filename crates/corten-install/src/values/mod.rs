//! Values: trees that are laid over one another, and paths into them.

pub mod known;
pub mod path;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// Lays `over` over `base`: maps are merged key by key, everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(there) => merge(there, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// The value at a path of plain names; null where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |at, name| &at[*name])
}
