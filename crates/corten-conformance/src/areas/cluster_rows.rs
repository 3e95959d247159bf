//! Tables of `istio-semantics` about clusters and the services behind them.

use corten_api::{
    codec::{decode, encode_message},
    decode::Node,
    istio::destination_rule::TrafficPolicy,
    validate::mesh_config::over_defaults,
};
use corten_core::Host;
use corten_envoy_gen::{
    cluster::Stat,
    names::{Parsed, with_port},
};
use corten_model::{Object, Reader, Settings};
use corten_routing::{LocalHosts, for_port, merge_policies};
use serde_json::{Value, json};

/// What the product answers; `None`: it does not know the question.
pub(super) fn answer(table: &str, case: &Value) -> Option<Value> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    Some(match table {
        "subset-key" => {
            let parsed = Parsed::of(text("in"))?;
            json!({
                "direction": parsed.direction, "subset": parsed.subset, "hostname": parsed.host, "port": parsed.port,
            })
        }
        "subset-traffic-policy-merge" => merged(case),
        "domain-name" => json!(with_port(text("host"), number(&case["port"]))),
        "cluster-local" => {
            let (mesh, _) = over_defaults(&Node::from_value(&case["meshConfig"]));
            json!(LocalHosts::new(&mesh, &Settings::default()).includes(&Host::from(text("host"))))
        }
        "stat-prefix-outbound" => {
            let of = &case["attributes"];
            let kubernetes = of["serviceRegistry"] == "Kubernetes";
            let stat = Stat {
                host: text("host"),
                service: kubernetes.then(|| (string(&of["name"]), string(&of["namespace"]))),
                subset: text("subset"),
                port: number(&case["port"]["port"]),
                port_name: string(&case["port"]["name"]),
                target_port: number(&case["targetPort"]),
            };
            json!(stat.fill(text("pattern")))
        }
        "stat-prefix-inbound" => {
            let of = &case["filterKey"];
            let name = string(&of["kubernetesServiceName"]);
            let stat = Stat {
                host: string(&of["instanceHostname"]),
                service: (!name.is_empty()).then(|| (name, string(&of["kubernetesServiceNamespace"]))),
                subset: text("subset"),
                port: number(&case["port"]),
                port_name: text("portName"),
                target_port: 0,
            };
            json!(stat.fill(text("pattern")))
        }
        "service-export-to-annotation" => {
            let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": {
                "name": "a", "namespace": "b", "annotations": { "networking.istio.io/exportTo": text("annotation") },
            } });
            match Reader::default().read(&object).object {
                Some(Object::Service(service)) => json!(service.export_to),
                _ => Value::Null,
            }
        }
        _ => return None,
    })
}

/// A subset's policy over the rule's, for a port that neither singles out.
fn merged(case: &Value) -> Value {
    let policy = |key: &str| -> Option<TrafficPolicy> {
        let written = &case[key];
        (!written.is_null()).then(|| decode(&Node::from_value(written)).0.unwrap_or_default())
    };
    let port = number(&case["port"]["port"]);
    let base = policy("original").map(|policy| for_port(&policy, port));
    let merged = match policy("subset") {
        Some(own) => Some(merge_policies(base, &own, port)),
        None => base,
    };
    merged.map_or(Value::Null, |policy| encode_message(&policy))
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u16 {
    value
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .unwrap_or_default()
}
