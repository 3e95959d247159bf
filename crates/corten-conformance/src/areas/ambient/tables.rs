//! The tables of `istio-ambient-model`.

use std::sync::Arc;

use anyhow::Result;
use corten_api::{decode::document, istio::mesh_config::MeshConfig};
use corten_model::{AllowedNamespaces, Labels, Mesh, ObjectKind, Reader, ServiceScope, Settings, rules, status};
use corten_xds_gen::{service_message, workload_message};
use serde_json::{Map, Value, json};

use super::{
    mesh,
    objects::{Made, made, network_gateways},
    settings, shown, text,
};
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs the tables.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let table = data::document(&path)?;
        let name = text(&table["table"]);
        let rows = data::rows(&table);
        for (i, (row, case)) in rows.iter().enumerate() {
            let earlier = rows.iter().take(i).map(|(_, case)| *case).collect::<Vec<_>>();
            let outcome = match judged(name, case, &earlier, &table["context"]) {
                None => Outcome::Skipped(format!("no runner for table {name}")),
                Some((ours, theirs)) if ours == theirs => Outcome::Passed,
                Some((ours, theirs)) => Outcome::Failed(format!("{ours}, expected {theirs}")),
            };
            cases.push(Case {
                area: area.name.clone(),
                case: format!("{relative}: {row}"),
                outcome,
            });
        }
    }
    Ok(cases)
}

/// What the product says, and what is expected; `None`: there is no such table. `earlier` are the rows above, whose
/// objects are still there in some tables.
fn judged(table: &str, case: &Value, earlier: &[&Value], context: &Value) -> Option<(Value, Value)> {
    let expected = || case["expected"].clone();
    Some(match table {
        "pod-to-workload"
        | "workloadentry-to-workload"
        | "serviceentry-to-workloads"
        | "endpointslice-to-workloads" => workloads(case, context),
        "service-to-service" | "serviceentry-to-services" => services(case, context),
        "service-scope" => (service_scope(case, context), expected()),
        "authorizationpolicy-ztunnel-status" => ztunnel_status(case, context),
        "waypoint-policy-status" => (waypoint_policy_status(case, earlier, context), expected()),
        "waypoint-allowed-routes" => (allowed_routes(case, context), expected()),
        "use-waypoint-canary" => {
            let namespace = Arc::from(text(&case["namespace"]));
            let found = rules::canary(
                &labels(&case["labels"]),
                Some(&labels(&case["namespaceLabels"])),
                &namespace,
            );
            let ours = found
                .as_deref()
                .and_then(|key| key.split_once('/'))
                .map(|(namespace, name)| json!({ "name": name, "namespace": namespace }));
            (json!(ours), expected())
        }
        "waypoint-canary-weight" => {
            const KEY: &str = "istio.io/use-waypoint-canary-weight";
            let written = case["annotations"][KEY]
                .as_str()
                .or_else(|| case["namespaceAnnotations"][KEY].as_str());
            let weight = rules::canary_weight(written);
            let ours = json!([weight.unwrap_or_default(), weight.is_some()]);
            (ours, json!([case["expectedWeight"], case["expectedValid"]]))
        }
        "ingress-use-waypoint" => {
            let found =
                rules::ingress_use_waypoint(&labels(&case["serviceLabels"]), Some(&labels(&case["namespaceLabels"])));
            let ours = json!([found.is_some(), found.unwrap_or_default()]);
            (ours, json!([case["expectedPresent"], case["expectedUseWaypoint"]]))
        }
        "parse-cidr-or-ip" => {
            let expected = if case["expectError"].as_bool() == Some(true) {
                Value::Null
            } else {
                expected()
            };
            (
                json!(rules::parse_range(text(&case["in"])).map(|range| range.to_string())),
                expected,
            )
        }
        _ => return None,
    })
}

fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    Labels::new(pairs.map(|(key, value)| (Arc::from(key.as_str()), Arc::from(text(value)))))
}

/// Settings with what a `MeshConfig` in JSON says.
fn with_mesh_config(settings: Settings, config: &Value) -> Settings {
    if !config.is_object() {
        return settings;
    }
    let (node, _) = document("mesh", &config.to_string());
    let decoded: Option<MeshConfig> = node.and_then(|node| corten_api::codec::decode(&node).0);
    decoded.map_or_else(|| settings.clone(), |config| settings.clone().with_mesh_config(&config))
}

fn derived(case: &Value, context: &Value) -> (Mesh, Made) {
    let mut made = made(case, context);
    made.objects.extend(network_gateways());
    let config = if case["meshConfig"].is_object() {
        &case["meshConfig"]
    } else {
        &made.mesh_config
    };
    let settings = with_mesh_config(settings(context), config);
    (mesh(settings, &made.objects), made)
}

/// Several things sorted by a member that is unique, or the one, or nothing; as the row has it.
fn as_expected(mut ours: Vec<Value>, expected: Value, unique: &str) -> (Value, Value) {
    let sorted = |list: &mut Vec<Value>| list.sort_by_key(|one| one[unique].to_string());
    sorted(&mut ours);
    match expected {
        Value::Array(mut theirs) => {
            sorted(&mut theirs);
            (Value::Array(ours), Value::Array(theirs))
        }
        Value::Null => (
            if ours.is_empty() {
                Value::Null
            } else {
                Value::Array(ours)
            },
            Value::Null,
        ),
        one => (ours.pop().unwrap_or_default(), one),
    }
}

fn workloads(case: &Value, context: &Value) -> (Value, Value) {
    let mut case = case.clone();
    case["of"] = json!("workloads");
    let (mesh, made) = derived(&case, context);
    let source = Reader::default()
        .read(&case["object"])
        .object
        .map(|object| object.key());
    let snapshot = mesh.snapshot();
    let of_object = snapshot
        .workloads()
        .filter(|workload| Some(&workload.source) == source.as_ref());
    let ours = of_object.map(|workload| shown::workload_of(&workload_message(workload)));
    as_expected(
        ours.collect(),
        shown::normalized(&made.renamed(&case["expected"])),
        "uid",
    )
}

fn services(case: &Value, context: &Value) -> (Value, Value) {
    let (mesh, made) = derived(case, context);
    let source = Reader::default()
        .read(&case["object"])
        .object
        .map(|object| object.key());
    let snapshot = mesh.snapshot();
    let of_object = snapshot
        .services()
        .filter(|service| Some(&service.source) == source.as_ref());
    let expected = shown::normalized(&made.renamed(&case["expected"]));
    let ours = of_object.map(|service| {
        let mut ours = shown::service_of(&service_message(service));
        // The rows for entries show them before it is known which of a host's is canonical.
        if service.source.kind == ObjectKind::ServiceEntry
            && let Value::Object(members) = &mut ours
        {
            members.remove("canonical");
        }
        ours
    });
    as_expected(ours.collect(), expected, "hostname")
}

fn service_scope(case: &Value, context: &Value) -> Value {
    let (mesh, _) = derived(case, context);
    let snapshot = mesh.snapshot();
    let name = text(&case["object"]["metadata"]["name"]);
    let service = snapshot.services().find(|service| service.name.as_ref() == name);
    json!(match service.map(|service| service.scope) {
        Some(ServiceScope::Global) => "GLOBAL",
        Some(ServiceScope::Local) => "LOCAL",
        None => "no service",
    })
}

/// An object with what the rows leave out.
fn completed(object: &Value, api_version: &str, kind: &str) -> Value {
    let mut object = object.clone();
    for (key, value) in [("apiVersion", api_version), ("kind", kind)] {
        if object.get(key).is_none() {
            object[key] = json!(value);
        }
    }
    for (key, value) in [("name", "x"), ("namespace", "ns")] {
        if object["metadata"].get(key).is_none() {
            object["metadata"][key] = json!(value);
        }
    }
    object
}

fn ztunnel_status(case: &Value, context: &Value) -> (Value, Value) {
    let object = completed(&case["object"], "security.istio.io/v1", "AuthorizationPolicy");
    let mesh = mesh(settings(context), &[object]);
    let snapshot = mesh.snapshot();
    let conditions = snapshot.statuses().flat_map(|(_, status)| &status.conditions);
    let complaint = conditions
        .filter(|condition| condition.kind == status::ZTUNNEL_ACCEPTED && condition.reason != status::reason::ACCEPTED)
        .map(|condition| json!({ "reason": condition.reason, "message": condition.message }))
        .next();
    let mut ours = json!({ "status": complaint });
    let mut theirs = json!({ "status": case["expected"] });
    if let Some(effective) = case["expectEffectiveRules"].as_bool() {
        ours["effective"] = json!(snapshot.policies().any(|policy| policy.can_match()));
        theirs["effective"] = json!(effective);
    }
    (ours, theirs)
}

fn waypoint_policy_status(case: &Value, earlier: &[&Value], context: &Value) -> Value {
    let policy = &case["policy"];
    let (namespace, name) = (
        text(&policy["metadata"]["namespace"]),
        text(&policy["metadata"]["name"]),
    );
    let mut objects = vec![policy.clone()];
    for case in earlier.iter().chain([&case]) {
        for key in ["services", "serviceEntries", "gatewayClasses", "gateways", "namespaces"] {
            objects.extend(case[key].as_array().into_iter().flatten().cloned());
        }
    }
    // The rows' namespaces all use a waypoint of theirs.
    objects.push(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "ns1", "labels": { "istio.io/use-waypoint": "waypoint" } },
    }));
    objects.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "waypoint", "namespace": "ns1", "labels": { "istio.io/waypoint-for": "all" } },
        "spec": { "gatewayClassName": "istio-waypoint", "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
        "status": { "addresses": [{ "type": "Hostname", "value": "waypoint.ns1.svc" }] },
    }));
    let no_hosts = |object: &Value| text(&object["kind"]) == "ServiceEntry" && object["spec"].get("hosts").is_none();
    for object in objects.iter_mut().filter(|object| no_hosts(object)) {
        object["spec"]["hosts"] = json!([format!("{}.example.com", text(&object["metadata"]["name"]))]);
    }
    let mesh = mesh(settings(context), &objects);
    let conditions = mesh.target_conditions(namespace, name);
    Value::Array(
        conditions
            .iter()
            .map(|condition| {
                json!({
                    "ancestor": condition.ancestor, "bound": condition.holds, "observedGeneration": condition.generation,
                    "status": { "reason": condition.reason, "message": condition.message },
                })
            })
            .collect(),
    )
}

fn allowed_routes(case: &Value, context: &Value) -> Value {
    let mut gateway = completed(&case["object"], "gateway.networking.k8s.io/v1", "Gateway");
    gateway["status"] = json!({ "addresses": [{ "type": "IPAddress", "value": "1.2.3.4" }] });
    let class = &case["gatewayClass"];
    if gateway["spec"].get("gatewayClassName").is_none() {
        gateway["spec"]["gatewayClassName"] = class["metadata"]["name"].clone();
    }
    let mesh = mesh(settings(context), &[class.clone(), gateway]);
    let snapshot = mesh.snapshot();
    let allowed = snapshot.waypoints().next().map(|waypoint| waypoint.allowed.clone());
    match allowed {
        Some(AllowedNamespaces::All) => json!({ "fromNamespaces": "All" }),
        Some(AllowedNamespaces::Same) => json!({ "fromNamespaces": "Same" }),
        Some(AllowedNamespaces::None) => json!({ "fromNamespaces": "None" }),
        Some(AllowedNamespaces::Selected(selector)) => {
            let labels: Map<String, Value> = selector
                .labels
                .iter()
                .map(|(key, value)| (key.to_string(), json!(value.as_ref())))
                .collect();
            json!({ "fromNamespaces": "Selector", "selector": labels })
        }
        None => Value::Null,
    }
}
