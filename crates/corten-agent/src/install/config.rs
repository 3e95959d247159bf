//! Edits of CNI configuration files, as values: the mesh's entry goes last into the chain that is there, or is taken out of it.

use serde_json::{Map, Value, json};

/// The plugin's type, and the name of its program.
pub const PLUGIN: &str = "istio-cni";
/// The list that a lone plugin's configuration becomes.
const LIST_NAME: &str = "k8s-pod-network";

/// Why a configuration cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Not JSON.
    #[error("{which} CNI configuration is not JSON: {source}")]
    Json {
        /// The existing or the new one.
        which: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// JSON of another shape.
    #[error("{which} CNI configuration is not {expected}")]
    Shape {
        /// The existing or the new one.
        which: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

fn object(which: &'static str, text: &str) -> Result<Map<String, Value>, EditError> {
    match serde_json::from_str(text).map_err(|source| EditError::Json { which, source })? {
        Value::Object(object) => Ok(object),
        _ => Err(EditError::Shape {
            which,
            expected: "an object",
        }),
    }
}

/// The existing configuration (a list, or one plugin's) with the new plugin at the end, in place of an entry of the same type.
pub fn insert(existing: &str, new: &str) -> Result<Value, EditError> {
    let mut plugin = object("the new", new)?;
    if !plugin.get("type").is_some_and(Value::is_string) {
        return Err(EditError::Shape {
            which: "the new",
            expected: "one plugin's, with a type",
        });
    }
    // A plugin in a chain gets the chain's version.
    let version = plugin.remove("cniVersion");
    let mut existing = object("the existing", existing)?;
    let mut list = if existing.contains_key("plugins") {
        existing
    } else {
        if !existing.get("type").is_some_and(Value::is_string) {
            return Err(EditError::Shape {
                which: "the existing",
                expected: "a list of plugins or one plugin's with a type",
            });
        }
        existing.remove("cniVersion");
        let list = json!({ "name": LIST_NAME, "cniVersion": version, "plugins": [existing] });
        list.as_object().cloned().unwrap_or_default()
    };
    let plugins = plugins(&mut list)?;
    plugins.retain(|other| other["type"] != plugin["type"]);
    plugins.push(Value::Object(plugin));
    Ok(Value::Object(list))
}

/// The existing configuration without the mesh's plugin; `None` if it was not in it.
pub fn remove(existing: &str) -> Result<Option<Value>, EditError> {
    let mut list = object("the existing", existing)?;
    if !list.contains_key("plugins") {
        return Ok(None);
    }
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|other| other["type"] != PLUGIN);
    Ok((plugins.len() != before).then_some(Value::Object(list)))
}

/// Whether a configuration without our entry is what became of an original: the same list, or the lone plugin as a list of one.
pub fn became(original: &str, without: &Value) -> bool {
    let Ok(original) = object("the original", original) else {
        return false;
    };
    if original.contains_key("plugins") {
        return Value::Object(original) == *without;
    }
    let mut alone = original;
    alone.remove("cniVersion");
    without["name"] == LIST_NAME && without["plugins"] == json!([alone])
}

/// Whether the configuration has exactly this entry of the mesh's plugin.
pub fn contains(existing: &str, new: &str) -> bool {
    match (insert(existing, new), serde_json::from_str::<Value>(existing)) {
        (Ok(wanted), Ok(now)) => wanted == now,
        _ => false,
    }
}

fn plugins(list: &mut Map<String, Value>) -> Result<&mut Vec<Value>, EditError> {
    match list.get_mut("plugins") {
        Some(Value::Array(plugins)) if plugins.iter().all(Value::is_object) => Ok(plugins),
        _ => Err(EditError::Shape {
            which: "the existing",
            expected: "a list of plugins",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = r#"{"cniVersion":"0.3.1","name":"istio-cni","type":"istio-cni","ambient_enabled":true}"#;

    #[test]
    fn goes_last_and_only_once() {
        let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"istio-cni","old":1},{"type":"tuning"}]}"#;
        let edited = insert(list, NEW).unwrap();
        assert_eq!(edited["cniVersion"], "1.0.0");
        let types: Vec<&str> = edited["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["type"].as_str())
            .collect();
        assert_eq!(types, ["bridge", "tuning", "istio-cni"]);
        assert!(contains(&edited.to_string(), NEW));
        assert!(!contains(list, NEW));
        assert_eq!(
            insert(&edited.to_string(), NEW).unwrap(),
            edited,
            "again changes nothing"
        );
    }

    #[test]
    fn comes_out_without_a_trace() {
        let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;
        let edited = insert(list, NEW).unwrap().to_string();
        let before: Value = serde_json::from_str(list).unwrap();
        assert_eq!(remove(&edited).unwrap(), Some(before));
        assert_eq!(remove(list).unwrap(), None);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (existing, new) in [
            ("[]", NEW),
            ("{}", NEW),
            ("{", NEW),
            (r#"{"plugins":{}}"#, NEW),
            (r#"{"plugins":[]}"#, "[]"),
        ] {
            assert!(insert(existing, new).is_err(), "{existing} {new}");
        }
    }
}
