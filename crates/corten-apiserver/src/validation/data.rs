//! Config maps and secrets: keys, size, what a type of secret needs, and those that never change.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, immutable, names, text};

const BYTES_MAX: usize = 1024 * 1024;

/// What is wrong with a config map.
pub(crate) fn config_map(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let bytes = entries(&mut faults, new, "data") + entries(&mut faults, new, "binaryData");
    for (key, _) in new["binaryData"].as_object().into_iter().flatten() {
        if !new["data"][key.as_str()].is_null() {
            let path = std::format!("data[{key}]");
            faults.push(FieldError::invalid(
                path,
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
    }
    if bytes > BYTES_MAX {
        // The real API names no field here, and prints it so.
        faults.push(FieldError::too_long("[]", 1024 * 1024));
    }
    frozen(&mut faults, new, old);
    faults
}

/// What is wrong with a secret.
pub(crate) fn secret(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    if entries(&mut faults, new, "data") > BYTES_MAX {
        faults.push(FieldError::too_long("data", 1024 * 1024));
    }
    typed(&mut faults, new);
    if let Some(old) = old {
        immutable(&mut faults, "type", &new["type"], &old["type"]);
    }
    frozen(&mut faults, new, old);
    faults
}

/// Judges the keys; returns how much data there is.
fn entries(faults: &mut Faults, object: &Value, field: &str) -> usize {
    let mut bytes = 0;
    for (key, value) in object[field].as_object().into_iter().flatten() {
        super::format(faults, &std::format!("{field}[{key}]"), key, names::config_key);
        let value = value.as_str().unwrap_or("");
        let encoded = field == "binaryData" || object["kind"] == "Secret";
        bytes += if encoded { value.len() / 4 * 3 } else { value.len() };
    }
    bytes
}

fn typed(faults: &mut Faults, secret: &Value) {
    let data = &secret["data"];
    let mut need = |keys: &[&str]| {
        for key in keys.iter().filter(|key| data[**key].is_null()) {
            faults.push(FieldError::required(std::format!("data[{key}]"), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        "kubernetes.io/dockerconfigjson" => document(faults, data, ".dockerconfigjson"),
        "kubernetes.io/dockercfg" => document(faults, data, ".dockercfg"),
        "kubernetes.io/ssh-auth" => need(&["ssh-privatekey"]),
        // Either of the two is enough.
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            need(&["username", "password"]);
        }
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if text(&secret["metadata"]["annotations"], key).is_empty() {
                faults.push(FieldError::required(std::format!("metadata.annotations[{key}]"), ""));
            }
        }
        _ => {}
    }
}

/// A key that holds a JSON document.
fn document(faults: &mut Faults, data: &Value, key: &str) {
    use base64::Engine;
    let path = std::format!("data[{key}]");
    let Some(encoded) = data[key].as_str() else {
        faults.push(FieldError::required(path, ""));
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap_or_default();
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_ok() {
        return;
    }
    let first = String::from_utf8_lossy(&bytes).trim_start().chars().next();
    let why = match first {
        None => "unexpected end of JSON input".to_owned(),
        Some('{') => "invalid JSON".to_owned(),
        Some(first) => std::format!("invalid character '{first}' looking for beginning of value"),
    };
    faults.push(FieldError::invalid(path, "<secret contents redacted>", why));
}

fn frozen(faults: &mut Faults, new: &Value, old: Option<&Value>) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else {
        return;
    };
    let why = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        faults.push(FieldError::forbidden("immutable", why));
    }
    for field in ["data", "binaryData"] {
        if new[field] != old[field] {
            faults.push(FieldError::forbidden(field, why));
        }
    }
}
