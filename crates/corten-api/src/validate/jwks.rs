//! JSON Web Key Sets, as far as their form goes: the keys themselves are the proxy's to use.

use serde_json::{Map, Value};

/// Reads a set of keys, or a single key; for each, whether it is private.
pub(super) fn parse(text: &str) -> Result<Vec<bool>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(set) = &value else {
        return Err("a key set is a JSON object with the member keys".to_owned());
    };
    match set.get("keys") {
        None => Ok(vec![key(set)?]),
        Some(Value::Array(keys)) => keys
            .iter()
            .enumerate()
            .map(|(i, value)| match value {
                Value::Object(members) => key(members).map_err(|problem| format!("key {i}: {problem}")),
                _ => Err(format!("key {i}: a key is a JSON object")),
            })
            .collect(),
        Some(_) => Err("the member keys must be a list".to_owned()),
    }
}

fn key(members: &Map<String, Value>) -> Result<bool, String> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let required: &[&str] = match text("kty") {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("oct") => &["k"],
        Some(other) => {
            return Err(format!(
                "key type '{}' is not one of RSA, EC, OKP, oct",
                other.escape_debug()
            ));
        }
        None => return Err("needs the member kty: RSA, EC, OKP or oct".to_owned()),
    };
    for name in required {
        let Some(value) = text(name) else {
            return Err(format!("needs the member {name}"));
        };
        if *name != "crv" && crate::base64::decode(value).is_none() {
            return Err(format!("the member {name} is not base64"));
        }
    }
    Ok(members.contains_key("d") || text("kty") == Some("oct"))
}
