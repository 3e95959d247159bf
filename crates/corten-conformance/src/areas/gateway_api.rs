//! Areas `istio-gateway-api-conversion` (objects of the Gateway API, what they become, and the status of each) and
//! `istio-ingress-conversion`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use corten_api::{decode::SpannedObject, istio::mesh_config::IngressControllerMode};
use corten_gateway_api::{
    Conversion, Inputs, Settings, convert, ingress,
    input::{Namespace, RegistryService, Service},
    route::pool_service,
};
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let index = data::document(&area.dir.join("cases.yaml"))?;
    let world = World::load(area, &index)?;
    let cases = data::rows(&index).into_iter().map(|(name, row)| {
        let outcome = match judge(area, &world, row) {
            Ok(problems) if problems.is_empty() => Outcome::Passed,
            Ok(problems) => Outcome::Failed(problems.join("; ")),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        Case {
            area: area.name.clone(),
            case: name,
            outcome,
        }
    });
    Ok(cases.collect())
}

/// Area `istio-ingress-conversion`: one case for each file.
pub(crate) fn run_ingress(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let mut inputs = ingress::Inputs {
            settings: ingress::Settings {
                domain: "mydomain".to_owned(),
                mode: IngressControllerMode::Default,
                ..ingress::Settings::default()
            },
            ..ingress::Inputs::default()
        };
        for mut object in data::documents(&path)? {
            // Paths without a type are older than the API that asks for one.
            for rule in object["spec"]["rules"].as_array_mut().into_iter().flatten() {
                for path in rule["http"]["paths"].as_array_mut().into_iter().flatten() {
                    if path["pathType"].is_null() {
                        path["pathType"] = json!("ImplementationSpecific");
                    }
                }
            }
            inputs.ingresses.push(Arc::new(serde_json::from_value(object)?));
        }
        let made = ingress::convert(&inputs);
        let gateways = made.gateways.iter().map(|object| object.encode("v1"));
        let routes = made.virtual_services.iter().map(|object| object.encode("v1"));
        let ours: Vec<Value> = gateways.chain(routes).collect();
        let expected = data::documents(&path.with_extension("yaml.golden"))?;
        let problems = compare(&expected, &ours, "spec");
        let outcome = if problems.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(problems.join("; "))
        };
        cases.push(Case {
            area: area.name.clone(),
            case: relative.trim_end_matches(".yaml").to_owned(),
            outcome,
        });
    }
    Ok(cases)
}

/// What is there in every case.
struct World {
    settings: Settings,
    services: Vec<Value>,
    objects: Vec<Value>,
}

impl World {
    fn load(area: &Area, index: &Value) -> Result<World> {
        let named = |key: &str| area.dir.join(index[key].as_str().unwrap_or_default());
        let on = |feature: &str| index["features"][feature].as_bool() == Some(true);
        let pair = rcgen::generate_simple_self_signed(["example.com".to_owned()])?;
        let services = data::document(&named("services"))?;
        let mut objects = data::documents(&named("objects"))?;
        for object in &mut objects {
            for field in ["data", "stringData"] {
                // The data has no private keys: a pair of our own takes the place of a certificate without its key.
                let Some(map) = object.get_mut(field).and_then(Value::as_object_mut) else {
                    continue;
                };
                if map
                    .get("tls.key")
                    .and_then(Value::as_str)
                    .is_some_and(|key| key.contains("@TEST_KEY_PEM@"))
                {
                    map.insert("tls.key".to_owned(), json!(pair.signing_key.serialize_pem()));
                    map.insert("tls.crt".to_owned(), json!(pair.cert.pem()));
                }
            }
        }
        Ok(World {
            settings: Settings {
                domain: index["domainSuffix"].as_str().unwrap_or("cluster.local").to_owned(),
                ambient: false,
                east_west: on("ambientMultiNetwork"),
                experimental: on("PILOT_ENABLE_ALPHA_GATEWAY_API"),
                inference: on("inferenceExtension"),
                cluster_set_host: false,
            },
            services: services["services"].as_array().cloned().unwrap_or_default(),
            objects,
        })
    }

    fn inputs(&self, objects: &[Value]) -> Result<Inputs> {
        let mut inputs = Inputs {
            settings: self.settings.clone(),
            ..Inputs::default()
        };
        for service in &self.services {
            let text = |key: &str| service[key].as_str().unwrap_or_default();
            let listed = service["ports"].as_array().into_iter().flatten();
            let ports: Vec<u16> = listed
                .filter_map(|port| u16::try_from(port["port"].as_u64()?).ok())
                .collect();
            // The first port leads to another port of the workload, so that mixing them up shows.
            let endpoints = ports
                .iter()
                .enumerate()
                .map(|(i, port)| (*port, vec![if i == 0 { 8080 } else { 0 }]));
            let external = service["externalAddresses"].as_array().into_iter().flatten();
            inputs.registry.push(Arc::new(RegistryService {
                hostname: text("hostname").to_owned(),
                namespace: text("namespace").to_owned(),
                endpoints: endpoints.collect(),
                ports: ports.clone(),
                external_addresses: external.filter_map(Value::as_str).map(str::to_owned).collect(),
                ..RegistryService::default()
            }));
            if text("hostname").ends_with(&self.settings.domain) {
                let first = text("hostname").split('.').next().unwrap_or_default();
                inputs.services.push(Arc::new(Service {
                    namespace: text("namespace").to_owned(),
                    name: Some(text("name"))
                        .filter(|name| !name.is_empty())
                        .unwrap_or(first)
                        .to_owned(),
                    ports: [("http", 80), ("tcp", 34000), ("tcp-other", 34001)]
                        .map(|(name, port)| (name.to_owned(), port))
                        .to_vec(),
                    ..Service::default()
                }));
            }
        }
        let mut namespaces = BTreeSet::new();
        for object in objects {
            namespaces.insert(object["metadata"]["namespace"].as_str().unwrap_or_default());
        }
        for name in namespaces {
            let part = name.split('-').next().unwrap_or_default().to_owned();
            inputs.namespaces.push(Arc::new(Namespace {
                name: name.to_owned(),
                labels: BTreeMap::from([("istio.io/test-name-part".to_owned(), part)]),
            }));
        }
        for object in objects.iter().chain(&self.objects) {
            let object = SpannedObject::from_value(object);
            let problems = inputs
                .add(&object)
                .with_context(|| format!("nothing reads {}", object.reference))?;
            if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
                bail!("{problem}");
            }
        }
        // Services of pools have names with digests, which the data leaves to whoever reads it.
        let pools = [
            ("infpool-gen", "ext-proc-svc"),
            ("infpool-gen2", "ext-proc-svc-2"),
            ("infpool-model1", "model1-epp"),
            ("infpool-model2", "model2-epp"),
        ];
        for (pool, picker) in pools {
            let labels = [("service", picker), ("port", "9002"), ("failure-mode", "FailClose")];
            let labels =
                labels.map(|(key, value)| (format!("istio.io/inferencepool-extension-{key}"), value.to_owned()));
            let port = if pool.contains("gen") { 54321 } else { 80 };
            inputs.registry.push(Arc::new(RegistryService {
                hostname: format!("{}.default.svc.{}", pool_service(pool), self.settings.domain),
                namespace: "default".to_owned(),
                labels: BTreeMap::from(labels),
                ports: vec![port],
                ..RegistryService::default()
            }));
        }
        Ok(inputs)
    }
}

fn judge(area: &Area, world: &World, row: &Value) -> Result<Vec<String>> {
    let documents = |key: &str| data::documents(&area.dir.join(row[key].as_str().context("a file is not named")?));
    let objects = documents("input")?;
    let mut inputs = world.inputs(&objects)?;
    let made = convert(&inputs);
    let mut problems = compare(&documents("expectedConfig")?, &configuration(&made), "spec");
    problems.extend(compare(&documents("expectedStatus")?, &statuses(&made), "status"));
    // The order of the inputs must not matter.
    inputs.gateways.reverse();
    inputs.listener_sets.reverse();
    inputs.http_routes.reverse();
    inputs.grpc_routes.reverse();
    inputs.backend_tls_policies.reverse();
    inputs.registry.reverse();
    let again = convert(&inputs);
    if configuration(&again) != configuration(&made) || statuses(&again) != statuses(&made) {
        problems.push("another order of the same objects becomes something else".to_owned());
    }
    Ok(problems)
}

/// The generated objects as JSON.
fn configuration(made: &Conversion) -> Vec<Value> {
    let gateways = made.gateways.iter().map(|object| object.encode("v1"));
    let routes = made.virtual_services.iter().map(|routes| routes.object.encode("v1"));
    let rules = made.destination_rules.iter().map(|object| object.encode("v1"));
    gateways.chain(routes).chain(rules).collect()
}

/// The statuses as objects with nothing else.
fn statuses(made: &Conversion) -> Vec<Value> {
    let object = |status: &corten_gateway_api::ObjectStatus| {
        json!({
            "kind": status.status.kind(),
            "metadata": { "name": status.key.name, "namespace": status.key.namespace },
            "status": status.status.encode(),
        })
    };
    made.statuses.iter().map(object).collect()
}

/// Compares lists of objects by kind, namespace and name.
fn compare(expected: &[Value], ours: &[Value], part: &str) -> Vec<String> {
    let named = |objects: &[Value]| -> BTreeMap<String, Value> {
        let entry = |object: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
            let key = format!("{kind} {}/{}", text(&meta["namespace"]), text(&meta["name"]));
            let compared = json!({ "annotations": meta["annotations"], part: object[part] });
            (key, plain(&compared))
        };
        objects.iter().map(entry).collect()
    };
    let (expected, ours) = (named(expected), named(ours));
    let mut problems = Vec::new();
    for (key, theirs) in &expected {
        match ours.get(key) {
            None => problems.push(format!("{key} {part} is missing")),
            Some(our) => differences(our, theirs, key, &mut problems),
        }
    }
    let extra = ours.keys().filter(|key| !expected.contains_key(*key));
    problems.extend(extra.map(|key| format!("{key} {part} is not expected")));
    problems
}

/// A value without times, which no case fixes, and without what says nothing.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| *key != "lastTransitionTime");
            let kept = kept.map(|(key, value)| (key.clone(), plain(value)));
            // A destination that is none has no host, which protobuf's JSON leaves out.
            let kept = kept.filter(|(key, value)| !(says_nothing(value) || key == "host" && value == ""));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| json!(number)),
        other => other.clone(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The places where two values differ.
pub(super) fn differences(ours: &Value, theirs: &Value, path: &str, problems: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differences(
                    &ours[key.as_str()],
                    &theirs[key.as_str()],
                    &format!("{path}.{key}"),
                    problems,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (ours, theirs)) in a.iter().zip(b).enumerate() {
                differences(ours, theirs, &format!("{path}[{i}]"), problems);
            }
        }
        _ if ours != theirs => problems.push(format!("{path}: {ours}, expected {theirs}")),
        _ => {}
    }
}
