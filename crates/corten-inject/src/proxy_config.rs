//! How a proxy runs: the mesh's `defaultConfig`, and what a pod changes of it.

use serde_json::{Map, Value, json};

pub use corten_bootstrap::defaults;

/// One configuration over another, as [`corten_bootstrap::merge`] does it.
pub fn merge(lower: &Value, upper: &Value) -> Value {
    let mut merged = lower.clone();
    corten_bootstrap::merge(&mut merged, upper);
    merged
}

/// What differs from the defaults, as one line of JSON: pods carry it, so it is kept short.
pub(crate) fn brief(config: &Value) -> String {
    let usual = defaults();
    let differs = |(name, value): &(&String, &Value)| {
        let empty = value.is_null() || **value == json!("") || (*name == "proxyMetadata" && **value == json!({}));
        !empty && usual[name.as_str()] != **value
    };
    let kept: Map<String, Value> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(differs)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept).to_string()
}

/// How connections are taken: as the pod says, else as the configuration does.
pub(crate) fn interception(pod: &Value, config: &Value) -> String {
    crate::object::annotation(pod, "sidecar.istio.io/interceptionMode")
        .or_else(|| config["interceptionMode"].as_str())
        .unwrap_or("REDIRECT")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_carried_and_metadata_adds_up() {
        let mesh = merge(
            &defaults(),
            &json!({"proxyMetadata": {"A": "1", "B": "1"}, "concurrency": 0}),
        );
        let merged = merge(
            &mesh,
            &json!({"proxyMetadata": {"B": "2"}, "drainDuration": "45s", "tracing": {}}),
        );
        assert_eq!(
            brief(&merged),
            r#"{"concurrency":0,"proxyMetadata":{"A":"1","B":"2"},"tracing":{}}"#
        );
        assert_eq!(brief(&defaults()), "{}");
    }
}
