//! What the user asks for: profile, IstioOperator files and settings, to values for each chart.

use serde_json::{Map, Value, json};

use crate::charts::{self, Component};
use crate::values::path::{self, SetError};
use crate::values::{at, known, merge};

/// What was said on the command line.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// IstioOperator files: name and text; later ones count more.
    pub files: Vec<(String, String)>,
    /// `--set` (false) and `--set-string` (true), in order.
    pub sets: Vec<(String, bool)>,
    /// `--revision`.
    pub revision: Option<String>,
    /// `--istioNamespace`.
    pub namespace: Option<String>,
    /// `--force`: what is wrong with values is only warned about.
    pub force: bool,
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The profile.
    pub profile: String,
    /// The control plane's namespace.
    pub namespace: String,
    /// The revision; empty: the default one.
    pub revision: String,
    /// The values of all charts.
    pub values: Value,
    /// The parts, in the order in which they are installed.
    pub parts: Vec<Part>,
    /// What is not honoured, and why.
    pub warnings: Vec<String>,
    /// What was asked for, before profiles: the spec of an IstioOperator.
    pub asked: Value,
}

/// A component of a plan.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which.
    pub component: Component,
    /// Where its objects go.
    pub namespace: String,
    /// What is said of it besides values: the `k8s` of an IstioOperator's component.
    pub k8s: Value,
    /// Values for this part alone, laid over those of all: a gateway's name, say.
    pub own: Value,
}

/// The request cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A file is no YAML.
    #[error("{file}: {problem}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A file is of another kind.
    #[error(
        "{file} is {found}, not an IstioOperator (install.istio.io/v1alpha1); Helm values go under spec.values of one"
    )]
    Kind {
        /// Its name.
        file: String,
        /// What it is.
        found: String,
    },
    /// A setting.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A setting points where nothing can be put.
    #[error("--set {setting}: {problem}")]
    Place {
        /// The argument.
        setting: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such profile.
    #[error("unknown profile {name:?}{hint}; there are {}", charts::profiles().collect::<Vec<_>>().join(", "))]
    Profile {
        /// Its name.
        name: String,
        /// The nearest one.
        hint: String,
    },
    /// Values that nobody knows, or of a wrong type.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// Which components a profile brings, where they are, and further settings.
fn profile(name: &str) -> Option<Value> {
    let on = |list: &[Component]| {
        let parts = list.iter().map(|c| (c.key().to_owned(), json!({"enabled": true})));
        Value::Object(parts.collect())
    };
    use Component::{Base, Cni, Pilot, Ztunnel};
    let mut spec = json!({ "components": match name {
        "empty" => on(&[]),
        "ambient" | "openshift-ambient" => on(&[Base, Pilot, Cni, Ztunnel]),
        "openshift" => on(&[Base, Pilot, Cni]),
        _ if charts::profiles().any(|known| known == name) => on(&[Base, Pilot]),
        _ => return None,
    }});
    let gateways: &[&str] = match name {
        "default" | "preview" | "stable" | "openshift" => &["ingressGateways"],
        "demo" => &["ingressGateways", "egressGateways"],
        _ => &[],
    };
    for kind in gateways {
        let gateway = format!("istio-{}gateway", kind.trim_end_matches("Gateways"));
        spec["components"][*kind] = json!([{"name": gateway, "enabled": true}]);
    }
    if name.starts_with("openshift") {
        spec["values"] = json!({"global": {"platform": "openshift"}});
        for part in [Cni, Ztunnel] {
            if spec["components"][part.key()].is_object() {
                spec["components"][part.key()]["namespace"] = json!("kube-system");
            }
        }
    }
    Some(spec)
}

/// What is to be installed for a request.
pub fn plan(request: &Request) -> Result<Plan, RequestError> {
    let mut asked = json!({});
    for (file, text) in &request.files {
        for spec in specs(file, text)? {
            merge_spec(&mut asked, &spec);
        }
    }
    for (setting, text) in &request.sets {
        let (steps, value) = path::setting(setting, *text)?;
        known::spec_path(setting, &steps).map_err(|problem| RequestError::Values(vec![problem]))?;
        path::put(&mut asked, &steps, value).map_err(|problem| RequestError::Place {
            setting: setting.clone(),
            problem,
        })?;
    }
    if let Some(revision) = &request.revision {
        asked["revision"] = json!(revision);
    }
    let report = known::check(&asked);
    let mut warnings = report.warnings;
    if !report.errors.is_empty() {
        if !request.force {
            return Err(RequestError::Values(report.errors));
        }
        warnings.extend(report.errors);
    }

    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let name = text(&asked["profile"])
        .or_else(|| text(at(&asked, &["values", "profile"])))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let Some(mut spec) = profile(&name) else {
        return Err(RequestError::Profile {
            hint: known::hint(&name, charts::profiles()),
            name,
        });
    };
    merge_spec(&mut spec, &asked);

    let mut values = match spec["values"].take() {
        Value::Object(values) => Value::Object(values),
        _ => json!({}),
    };
    if spec["unvalidatedValues"].is_object() {
        merge(&mut values, &spec["unvalidatedValues"]);
    }
    values["profile"] = json!(name);
    let said = |spec: &Value, key: &str| text(&spec[key]).filter(|value| !value.is_empty());
    for (key, path) in [("hub", "hub"), ("tag", "tag")] {
        if let Some(value) = said(&spec, key) {
            ensure_map(&mut values, "global")[path] = json!(value);
        }
    }
    if let Some(platform) = text(at(&values, &["global", "platform"]))
        && !platform.is_empty()
        && !charts::platforms().any(|known| known == platform)
    {
        let hint = known::hint(&platform, charts::platforms());
        let there = charts::platforms().collect::<Vec<_>>().join(", ");
        return Err(RequestError::Values(vec![format!(
            "values.global.platform is {platform:?}, which is unknown{hint}; there are {there}"
        )]));
    }
    if spec["meshConfig"].is_object() {
        let mesh = spec["meshConfig"].take();
        merge(ensure_map(&mut values, "meshConfig"), &mesh);
    }
    let revision = said(&spec, "revision")
        .or_else(|| text(&values["revision"]))
        .filter(|revision| revision != "default")
        .unwrap_or_default();
    if !revision.is_empty() {
        values["revision"] = json!(revision);
    }
    let namespace = request
        .namespace
        .clone()
        .or_else(|| said(&spec, "namespace"))
        .or_else(|| text(at(&values, &["global", "istioNamespace"])))
        .unwrap_or_else(|| "istio-system".to_owned());
    if request.namespace.is_some() || spec["namespace"].is_string() {
        ensure_map(&mut values, "global")["istioNamespace"] = json!(namespace);
    }

    let mut parts = Vec::new();
    for component in Component::ALL {
        let Some(key) = component.gateway() else {
            let part = &mut spec["components"][component.key()];
            if part["enabled"] != json!(true) {
                continue;
            }
            for key in ["hub", "tag"] {
                if let Some(value) = text(&part[key]) {
                    let place = if component == Component::Base {
                        "global"
                    } else {
                        component.key()
                    };
                    ensure_map(&mut values, place)[key] = json!(value);
                }
            }
            parts.push(Part {
                component,
                namespace: text(&part["namespace"]).unwrap_or_else(|| namespace.clone()),
                k8s: part["k8s"].take(),
                own: Value::Null,
            });
            continue;
        };
        for gateway in gateways(&spec["components"][component.key()], at(&values, &["gateways", key])) {
            let said = |name: &str| text(&gateway[name]).filter(|value| !value.is_empty());
            parts.push(Part {
                component,
                namespace: said("namespace").unwrap_or_else(|| namespace.clone()),
                own: json!({"gateways": {key: gateway_values(&gateway, key)}}),
                k8s: gateway_k8s(&gateway),
            });
        }
    }
    warnings.extend(twice(&parts));
    Ok(Plan {
        profile: name,
        namespace,
        revision,
        values,
        parts,
        warnings,
        asked,
    })
}

/// The gateways of one kind that are wanted, of those that are listed: they are unless they say no, and a value turns all of them on.
fn gateways(listed: &Value, values: &Value) -> Vec<Value> {
    let by_value = values["enabled"] == json!(true);
    let listed = listed.as_array().cloned().unwrap_or_default();
    if listed.is_empty() && by_value {
        return vec![json!({})];
    }
    let wanted = |gateway: &Value| by_value || gateway["enabled"] != json!(false);
    listed.into_iter().filter(wanted).collect()
}

/// What a gateway says of itself, as the chart's values.
fn gateway_values(gateway: &Value, key: &str) -> Value {
    let mut own = json!({});
    let name = gateway["name"].as_str().filter(|name| !name.is_empty());
    own["name"] = json!(name.unwrap_or(key));
    if gateway["label"].is_object() {
        own["labels"] = gateway["label"].clone();
    }
    for name in ["hub", "tag"] {
        if !gateway[name].is_null() {
            own[name] = gateway[name].clone();
        }
    }
    // Ports are the pods' as well. How many replicas there are decides whether there is a PodDisruptionBudget.
    let k8s = &gateway["k8s"];
    for (name, value) in [
        ("ports", &k8s["service"]["ports"]),
        ("autoscaleMin", &k8s["hpaSpec"]["minReplicas"]),
        ("autoscaleMax", &k8s["hpaSpec"]["maxReplicas"]),
        ("replicaCount", &k8s["replicaCount"]),
    ] {
        if !value.is_null() {
            own[name] = value.clone();
        }
    }
    own
}

/// What else it says.
fn gateway_k8s(gateway: &Value) -> Value {
    let mut k8s = gateway["k8s"].clone();
    if let Some(service) = k8s["service"].as_object_mut() {
        service.remove("ports");
    }
    if k8s["service"].is_null()
        && let Some(k8s) = k8s.as_object_mut()
    {
        k8s.remove("service");
    }
    k8s
}

/// Two gateways would be one object.
fn twice(parts: &[Part]) -> Option<String> {
    let of = |part: &Part| {
        let key = part.component.gateway()?;
        let name = at(&part.own, &["gateways", key])["name"].as_str()?.to_owned();
        Some((part.namespace.clone(), name))
    };
    let mut names: Vec<(String, String)> = parts.iter().filter_map(of).collect();
    names.sort();
    let same = names.windows(2).find(|pair| pair[0] == pair[1])?;
    let (namespace, name) = &same[0];
    Some(format!(
        "there are two gateways {name} in namespace {namespace}, and the later one counts; give one another name"
    ))
}

/// The specs in a file.
fn specs(file: &str, text: &str) -> Result<Vec<Value>, RequestError> {
    let (documents, problems) = corten_api::decode::documents(file, text);
    if let Some(problem) = problems.first() {
        return Err(RequestError::File {
            file: file.to_owned(),
            problem: problem.to_string(),
        });
    }
    documents
        .iter()
        .map(|document| {
            let document = document.to_value();
            let word = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            let (group, kind) = (word("apiVersion"), word("kind"));
            if kind != "IstioOperator" || !group.starts_with("install.istio.io/") {
                return Err(RequestError::Kind {
                    file: file.to_owned(),
                    found: match (kind.as_str(), group.as_str()) {
                        ("", _) => "of no kind".to_owned(),
                        (kind, "") => format!("a {kind}"),
                        (kind, group) => format!("a {kind} of {group}"),
                    },
                });
            }
            let mut spec = document["spec"].clone();
            if spec.is_null() {
                spec = json!({});
            }
            let metadata = &document["metadata"]["namespace"];
            if metadata.is_string() && spec["namespace"].is_null() {
                spec["namespace"] = metadata.clone();
            }
            Ok(spec)
        })
        .collect()
}

/// Lays a spec over another. Gateways are lists whose elements are told apart by name, or by their place if they say none.
fn merge_spec(base: &mut Value, over: &Value) {
    let mut over = over.clone();
    for kind in ["ingressGateways", "egressGateways"] {
        let Value::Array(gateways) = over["components"][kind].take() else {
            continue;
        };
        let list = &mut base["components"][kind];
        if !list.is_array() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else { continue };
        for (place, gateway) in gateways.into_iter().enumerate() {
            let same = |there: &Value| there["name"] == gateway["name"];
            let at = match list.iter().position(same) {
                None if gateway["name"].is_null() => Some(place),
                known => known,
            };
            match at.and_then(|at| list.get_mut(at)) {
                Some(there) => merge(there, &gateway),
                None => list.push(gateway),
            }
        }
    }
    prune(&mut over);
    merge(base, &over);
}

/// Takes nulls away that indexing left behind.
fn prune(spec: &mut Value) {
    if let Some(components) = spec.get_mut("components") {
        if let Value::Object(map) = components {
            map.retain(|_, value| !value.is_null());
        }
        let empty = components.is_null() || components.as_object().is_some_and(Map::is_empty);
        if let (true, Value::Object(map)) = (empty, spec) {
            map.remove("components");
        }
    }
}

fn ensure_map<'a>(values: &'a mut Value, key: &str) -> &'a mut Value {
    if !values[key].is_object() {
        values[key] = json!({});
    }
    &mut values[key]
}
