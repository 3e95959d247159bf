//! Tables of `istio-semantics` about injection: each row is a pod (or the path of a webhook) that goes through the injector.

use corten_inject::{Config, Decision, Injector, Subject, variables_of_path, with_network};
use serde_json::{Value, json};

/// The path of the webhook that says nothing.
const PATH: &str = "/inject";

/// What the product answers; `None`: it does not know the question.
pub(super) fn answer(table: &str, case: &Value) -> Option<Value> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    Some(match table {
        "injection-envs-parse" => json!(variables_of_path(text("in").strip_prefix(PATH).unwrap_or_default())),
        "injection-required" => {
            let injector = injector(&case["config"], &Value::Null);
            let pod = json!({ "metadata": case["metadata"], "spec": case["podSpec"] });
            let namespace = case["metadata"]["namespace"].as_str().unwrap_or_default();
            json!(injector.decide(&pod, namespace) == Decision::Inject)
        }
        "injection-prometheus-aggregation" => {
            let injected = inject(&case["meshConfig"], &case["annotations"]);
            // Scrapers are led to the port where the metrics of both are.
            json!(injected.is_ok_and(|pod| pod["metadata"]["annotations"]["prometheus.io/port"] == "15020"))
        }
        "injection-multus-annotation" => json!(with_network(text("in"), "istio-cni")),
        "injection-resource-quantity" => {
            let annotations = json!({ "sidecar.istio.io/proxyCPU": case["in"] });
            json!(inject(&Value::Null, &annotations).is_err())
        }
        "injection-validate-annotations" => {
            json!(inject(&Value::Null, &case["annotations"]).is_err())
        }
        _ => return None,
    })
}

/// What a row expects, in the form of [`answer`]; `None`: as it is written.
pub(super) fn expected(table: &str, case: &Value) -> Option<Value> {
    let errors = ["injection-resource-quantity", "injection-validate-annotations"].contains(&table);
    errors.then(|| case["expectError"].clone())
}

fn injector(config: &Value, mesh: &Value) -> Injector {
    Injector {
        config: Config::new(&json!({}), config),
        mesh: mesh.clone(),
        revision: String::new(),
        compliance_policy: None,
    }
}

/// A pod with these annotations and its proxy, or why it gets none.
fn inject(mesh: &Value, annotations: &Value) -> Result<Value, String> {
    let mut metadata = json!({ "name": "pod", "namespace": "test" });
    if annotations.is_object() {
        metadata["annotations"] = annotations.clone();
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    });
    let subject = Subject {
        namespace: "test",
        ..Subject::default()
    };
    let injected = injector(&json!({}), mesh).inject(&pod, &subject);
    injected.map_err(|error| error.to_string())
}
