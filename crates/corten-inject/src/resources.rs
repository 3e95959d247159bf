//! What a proxy asks of its node.

use serde_json::{Map, Value, json};

use crate::object::annotation;

/// The proxy's resources: those of the pod's annotations, all of them, or else the installation's.
pub(crate) fn resources(pod: &Value, installed: &Value) -> Value {
    let of = |name: &str| annotation(pod, &format!("sidecar.istio.io/{name}"));
    let own = [
        ("requests", "cpu", of("proxyCPU")),
        ("requests", "memory", of("proxyMemory")),
        ("limits", "cpu", of("proxyCPULimit")),
        ("limits", "memory", of("proxyMemoryLimit")),
    ];
    if own.iter().all(|(_, _, value)| value.is_none()) {
        return without_nulls(installed);
    }
    let mut made = json!({});
    for (part, name, value) in own {
        if let Some(value) = value {
            made[part][name] = json!(value);
        }
    }
    made
}

/// A null takes a default away; an empty map that is left says nothing.
fn without_nulls(value: &Value) -> Value {
    let Value::Object(map) = value else {
        return value.clone();
    };
    let kept = map.iter().map(|(name, value)| (name.clone(), without_nulls(value)));
    let kept = kept.filter(|(_, value)| !value.is_null() && *value != json!({}));
    Value::Object(kept.collect::<Map<_, _>>())
}
