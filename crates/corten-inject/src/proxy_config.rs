//! How a proxy runs: the mesh's `defaultConfig`, and what a pod changes of it.

use serde_json::{Map, Value, json};

pub use corten_bootstrap::defaults;

/// One configuration over another, as [`corten_bootstrap::merge`] does it.
pub fn merge(lower: &Value, upper: &Value) -> Value {
    let mut merged = lower.clone();
    corten_bootstrap::merge(&mut merged, upper);
    merged
}

/// A ProxyConfig of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfigOf {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was made, as metadata has it; empty: not known.
    pub created: String,
    /// What it says.
    pub spec: Value,
}

/// How the proxy of a pod runs, its own annotation aside, which stands between what holds for its namespace (first) and what names its
/// labels (second). `mesh` is the mesh's own, `root` the namespace of what holds for all, `pod` the pod's namespace and labels.
pub fn proxy_config_of<'a>(
    mesh: &Value,
    configs: impl IntoIterator<Item = &'a ProxyConfigOf>,
    root: &str,
    pod: (&str, &Value),
) -> (Value, Value) {
    let (namespace, labels) = pod;
    let selects = |spec: &Value| {
        let selector = spec["selector"]["matchLabels"].as_object();
        selector.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
    };
    // Of several that are for the same pods, the oldest counts.
    let mut configs: Vec<&ProxyConfigOf> = configs.into_iter().collect();
    configs.sort_by_key(|config| (&config.created, &config.namespace, &config.name));
    let oldest = |place: &str, wanted: &dyn Fn(&Value) -> bool| {
        let mut here = configs.iter().filter(|config| config.namespace == place);
        here.find(|config| wanted(&config.spec))
            .map(|config| as_proxy_config(&config.spec))
    };
    let mut below = mesh.clone();
    for place in [root, namespace] {
        if let Some(config) = oldest(place, &|spec| spec["selector"].is_null()) {
            below = merge(&below, &config);
        }
    }
    (below, oldest(namespace, &selects).unwrap_or_else(|| json!({})))
}

/// A ProxyConfig's own words as those of the mesh's configuration.
fn as_proxy_config(spec: &Value) -> Value {
    let mut config = json!({});
    for (from, to) in [
        ("concurrency", "concurrency"),
        ("environmentVariables", "proxyMetadata"),
        ("image", "image"),
    ] {
        if !spec[from].is_null() {
            config[to] = spec[from].clone();
        }
    }
    config
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
