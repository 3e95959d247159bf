//! Tables of `istio-semantics` about the names of credentials.

use corten_envoy_gen::security::secret::{Keeper, Location, resource_name};
use serde_json::{Value, json};

/// What the product answers; `None`: it does not know the question.
pub(super) fn answer(table: &str, case: &Value) -> Option<Value> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    Some(match table {
        "credential-to-resource-name" => json!(resource_name(text("in"))),
        "credential-resource-name" => match Location::parse(text("in"), text("defaultNamespace")) {
            None => json!("an error"),
            Some(place) => {
                let (kind, of) = match place.keeper {
                    Keeper::Gateway => ("Secret", "kubernetes-gateway"),
                    Keeper::Secret => ("Secret", "kubernetes"),
                    Keeper::ConfigMap => ("ConfigMap", "configmap"),
                };
                json!({ "resourceType": of, "resourceKind": kind, "name": place.name, "namespace": place.namespace })
            }
        },
        _ => return None,
    })
}

/// What a row expects, in the form of [`answer`]; `None`: as it is written.
pub(super) fn expected(table: &str, case: &Value) -> Option<Value> {
    if table != "credential-resource-name" {
        return None;
    }
    if case["error"] == true {
        return Some(json!("an error"));
    }
    // A resource keeps the name that it was asked for by, and all of them are read from the one cluster that there is.
    let mut expected = case["expected"].clone();
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("resourceName");
        fields.remove("cluster");
    }
    Some(expected)
}
