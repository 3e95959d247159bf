//! Areas `istio-install` (rendered objects) and `istio-helm` (values and profiles of Istio's charts).
//!
//! Objects are compared field by field. Where Corten's are meant to differ, the difference is listed here with its reason; anything else
//! that differs is a failure.

use anyhow::{Context, Result, bail};
use corten_install::charts::{Component, Release, platforms, profiles};
use corten_install::operator::{Request, plan};
use corten_install::render::{self, Options};
use corten_install::values::known;
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |_, row| judge(area, row))
}

fn text(area: &Area, name: &Value) -> Result<String> {
    let path = area.dir.join(name.as_str().context("a file is not named")?);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn documents(text: &str) -> Result<Vec<Value>> {
    let (documents, problems) = corten_api::decode::documents("", text);
    if let Some(problem) = problems.first() {
        bail!("{problem}");
    }
    let values = documents.iter().map(corten_api::decode::Node::to_value);
    Ok(values.filter(Value::is_object).collect())
}

fn judge(area: &Area, row: &Value) -> Result<Outcome> {
    let expected = documents(&text(area, &row["expected"])?)?;
    let ours = if row["chartName"].is_string() {
        chart(area, row)?
    } else {
        generated(area, row)?
    };
    let selectors = row["selectResources"].as_str().or_else(|| row["diffSelect"].as_str());
    let selected = |object: &&Value| {
        selectors.is_none_or(|selectors| selectors.split(',').any(|one| is_selected(object, one.trim())))
    };
    let mut problems = Vec::new();
    for object in &expected {
        let same =
            |there: &&Value| there["kind"] == object["kind"] && there["metadata"]["name"] == object["metadata"]["name"];
        let title = format!("{} {}", object["kind"], object["metadata"]["name"]);
        match ours.iter().find(same) {
            None => problems.push(format!("{title} is missing")),
            Some(there) => {
                let mut paths = Vec::new();
                compare(&read(object), &read(there), "", &mut paths);
                problems.extend(paths.into_iter().map(|path| format!("{title}: {path}")));
            }
        }
    }
    for object in ours.iter().filter(selected) {
        let same =
            |there: &&Value| there["kind"] == object["kind"] && there["metadata"]["name"] == object["metadata"]["name"];
        if selectors.is_some() && !expected.iter().any(|there| same(&there)) {
            problems.push(format!("{} {} is too much", object["kind"], object["metadata"]["name"]));
        }
    }
    if !problems.is_empty() {
        return Ok(Outcome::Failed(problems.join("; ")));
    }
    Ok(Outcome::Passed)
}

/// The ConfigMap of injection as what its entries mean; everything else as it is.
fn read(object: &Value) -> Value {
    let mut object = object.clone();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if object["kind"] == "ConfigMap" && name.starts_with("istio-sidecar-injector") {
        for entry in ["values", "config"] {
            let Some(meaning) = scalar(&object["data"][entry]) else {
                continue;
            };
            object["data"][entry] = meaning;
        }
        // The built-in templates are code, which area istio-sidecar-injection judges; those of one's own are as they were given.
        let config = &mut object["data"]["config"];
        if let Some(config) = config.as_object_mut() {
            config.remove("template");
        }
        if let Some(templates) = config["templates"].as_object_mut() {
            templates.retain(|name, _| !BUILT_IN.contains(&name.as_str()));
        }
    }
    object
}

/// The templates that Istio's chart brings.
const BUILT_IN: [&str; 8] = [
    "sidecar",
    "gateway",
    "grpc-simple",
    "grpc-agent",
    "waypoint",
    "kube-gateway",
    "agentgateway",
    "agentgateway-waypoint",
];

/// Whether a value that injection is not told about is one without effect, which users are told who set it.
fn is_reported(path: &str, value: &Value) -> bool {
    let Some(path) = path.strip_prefix(".data.values.") else {
        return false;
    };
    let mut values = value.clone();
    for name in path.rsplit('.') {
        values = json!({ name: values });
    }
    let report = known::check(&json!({ "values": values }));
    report.errors.is_empty() && !report.warnings.is_empty()
}

/// `Kind:namespace:name`, where `*` is any namespace and the name may end with `$`.
fn is_selected(object: &Value, selector: &str) -> bool {
    let mut parts = selector.split(':');
    let (kind, _, name) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    let named = object["metadata"]["name"].as_str().unwrap_or_default();
    object["kind"].as_str() == kind && named == name.trim_end_matches('$')
}

/// The objects of `manifest generate`.
fn generated(area: &Area, row: &Value) -> Result<Vec<Value>> {
    let mut request = Request::default();
    // Image and tag are compared, so they have to be the same to begin with.
    let base = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {hub: registry.istio.io/testing, tag: latest}\n";
    request.files.push(("base".to_owned(), base.to_owned()));
    if row["input"].is_string() {
        request.files.push(("input".to_owned(), text(area, &row["input"])?));
    }
    let mut words = row["flags"].as_str().unwrap_or_default().split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "--force" => request.force = true,
            "--set" => request
                .sets
                .push((words.next().context("--set without a value")?.to_owned(), false)),
            other => bail!("the flag {other:?} is not known to the runner"),
        }
    }
    let plan = plan(&request)?;
    let objects = render::objects(&plan, Options::default())?;
    let objects = objects.into_iter().map(|rendered| rendered.object);
    // Istio leaves the namespace to its command.
    Ok(objects.filter(|object| object["kind"] != "Namespace").collect())
}

/// The objects of a chart.
fn chart(area: &Area, row: &Value) -> Result<Vec<Value>> {
    let component = match row["chartName"].as_str() {
        Some("base") => Component::Base,
        Some("istio-control/istio-discovery") => Component::Pilot,
        Some("ztunnel") => Component::Ztunnel,
        Some("gateway") => Component::Gateway,
        other => bail!("the chart {other:?} is not known to the runner"),
    };
    let given = documents(&text(area, &row["values"])?)?;
    let image = json!({"hub": "registry.istio.io/testing", "tag": "latest"});
    let mut values = image.clone();
    values["global"] = image;
    if let Some(own) = given.first().filter(|given| given["spec"]["values"].is_object()) {
        corten_install::values::merge(&mut values, &own["spec"]["values"]);
    }
    let release = Release {
        name: row["releaseName"].as_str().unwrap_or_default(),
        namespace: row["namespace"].as_str().unwrap_or_default(),
        is_upgrade: row["isUpgrade"] == json!(true),
    };
    let rendered = component.render(&values, &release)?;
    let texts: Vec<Vec<Value>> = rendered
        .iter()
        .map(|(_, text)| documents(text))
        .collect::<Result<_>>()?;
    Ok(texts.into_iter().flatten().collect())
}

/// Environment variables that Corten's programs have no use for.
const UNUSED_ENV: [&str; 9] = [
    "PILOT_CERT_PROVIDER",
    "KUBECONFIG",
    "PILOT_TRACE_SAMPLING",
    "PILOT_ENABLE_ANALYSIS",
    "GOMAXPROCS",
    "PLATFORM",
    "RUST_BACKTRACE",
    "INPOD_ENABLED",
    "ZTUNNEL_CPU_LIMIT",
];

/// Why a field that only one side has, or that has another value, is meant to differ.
fn meant(path: &str, theirs: &Value, ours: &Value) -> Option<&'static str> {
    let last = path.rsplit('.').next().unwrap_or_default();
    let is = |value: &Value, text: &str| value == text;
    match last {
        "version" | "chart" if path.contains("labels") => Some("versions are each one's own"),
        "release" | "instance" if is(theirs, "istio") => {
            Some("releases are named as Istio's guides name them for Helm")
        }
        "periodSeconds" | "timeoutSeconds" | "failureThreshold" => {
            Some("Corten's parts are ready sooner, and are asked more often")
        }
        "initialDelaySeconds" if theirs == 1 && ours.is_null() => Some("as above"),
        "cpu" | "memory"
            if path.contains("requests") && ["500m", "2048Mi", "200m", "512Mi"].iter().any(|it| is(theirs, it)) =>
        {
            Some("Corten's parts need less")
        }
        "volumes" | "volumeMounts" if ours.is_null() => Some("the control plane reads Secrets and tokens by the API"),
        "command" if theirs.is_null() => Some("one image has all programs"),
        "runAsUser" | "runAsGroup" if theirs.is_null() => Some("one image has programs of several users"),
        "terminationGracePeriodSeconds" => Some("a proxy that is replaced serves its connections until they end"),
        "namespaceSelector" | "objectSelector" if theirs.is_null() => {
            Some("the control plane's own namespace and other revisions are left out")
        }
        _ => None,
    }
}

fn compare(theirs: &Value, ours: &Value, path: &str, problems: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                // Dots in keys would look like steps.
                let here = format!("{path}.{}", key.rsplit(['.', '/']).next().unwrap_or(key));
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&at(left), &at(right), &here, problems);
            }
        }
        // Helm leaves maps empty that hold nothing.
        (left, right) if is_nothing(left) && is_nothing(right) => {}
        (left, right) if meant(path, left, right).is_some() => {}
        (left, Value::Null) if is_reported(path, left) => {}
        // What only ours says to injection is ours to honour.
        (Value::Null, _) if path.starts_with(".data.values.") => {}
        (Value::Array(left), Value::Array(right)) if path.ends_with("apiGroups") => {
            // Ours judges the Gateway API as well.
            if !left.iter().all(|group| right.contains(group)) {
                problems.push(format!("{path}: {theirs} is not within {ours}"));
            }
        }
        (Value::Array(left), Value::Array(right)) if named(left) || named(right) => {
            for element in left {
                let name = element["name"].as_str().unwrap_or_default();
                let there = right.iter().find(|there| there["name"] == name);
                let unused = path.ends_with("env") && UNUSED_ENV.contains(&name)
                    || path.ends_with("volumes")
                    || path.ends_with("volumeMounts");
                match there {
                    // How long it may take is said beside the period itself.
                    Some(_) if name == "TERMINATION_GRACE_PERIOD_SECONDS" => {}
                    Some(there) => compare(element, there, &format!("{path}[{name}]"), problems),
                    None if unused => {}
                    None => problems.push(format!("{path}: {name} is missing")),
                }
            }
            for element in right {
                let name = element["name"].as_str().unwrap_or_default();
                let ours_only = path.ends_with("env")
                    || path.ends_with("volumes")
                    || path.ends_with("volumeMounts")
                    || name.starts_with("system.");
                if !ours_only && !left.iter().any(|there| there["name"] == name) {
                    problems.push(format!("{path}: {name} is too much"));
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left, right, &format!("{path}[{index}]"), problems);
            }
        }
        // One image has all programs but the proxy's.
        (Value::String(left), Value::String(right)) if path.ends_with("image") => {
            let name = |image: &str| image.replace("/pilot:", "/corten:").replace("/ztunnel:", "/corten:");
            if name(left) != *right {
                problems.push(format!("{path}: {left} is {right}"));
            }
        }
        (left, right) if left == right => {}
        (left, right) if scalar(left).is_some() && scalar(left) == scalar(right) => {}
        (left, right) => problems.push(format!("{path}: {left} is {right}")),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|element| element["name"].is_string())
}

/// Texts that are YAML are compared as what they mean.
fn scalar(value: &Value) -> Option<Value> {
    let (documents, problems) = corten_api::decode::documents("", value.as_str()?);
    (problems.is_empty())
        .then(|| documents.first().map(corten_api::decode::Node::to_value))
        .flatten()
}

/// Area `istio-helm`: every value of Istio's charts is honoured or named in a warning, and every profile loads.
pub(crate) fn run_helm(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |case: &str, outcome: Outcome| {
        cases.push(Case {
            area: area.name.clone(),
            case: case.to_owned(),
            outcome,
        });
    };
    for (chart, place) in [
        ("base", ""),
        ("default", ""),
        ("istio-control/istio-discovery", "pilot"),
        ("istio-cni", "cni"),
        ("ztunnel", "ztunnel"),
        ("gateways/istio-ingress", ""),
        ("gateways/istio-egress", ""),
    ] {
        let path = area.dir.join("charts").join(chart).join("values.yaml");
        let values = data::document(&path)?["_internal_defaults_do_not_set"].clone();
        let mut errors = known::check(&json!({ "values": values })).errors;
        // What is a component's own is also said under its name.
        let mut own = json!({});
        if !place.is_empty() {
            let shared = [
                "global",
                "base",
                "gateways",
                "meshConfig",
                "telemetry",
                "revision",
                "istiodRemote",
            ];
            for (key, value) in values.as_object().into_iter().flatten() {
                if !shared.contains(&key.as_str()) {
                    own[key] = value.clone();
                }
            }
            errors.extend(known::check(&json!({"values": {place: own}})).errors);
        }
        let outcome = if errors.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(errors.join("; "))
        };
        add(&format!("charts/{chart}"), outcome);
    }
    let path = area.dir.join("charts/gateway/values.yaml");
    let values = data::document(&path)?["_internal_defaults_do_not_set"].clone();
    let errors = known::check_chart(Component::Gateway, &values).errors;
    let outcome = if errors.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(errors.join("; "))
    };
    add("charts/gateway", outcome);
    let mut files: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(area.dir.join("profiles"))? {
        files.push(entry?.file_name().to_string_lossy().into_owned());
    }
    files.sort();
    for file in files {
        let values = data::document(&area.dir.join("profiles").join(&file))?;
        let name = file.trim_start_matches("profile-").trim_end_matches(".yaml");
        let there = match name.strip_prefix("platform-") {
            Some(platform) => platforms().any(|known| known == platform),
            // Defaults of earlier versions concern what Corten does one way.
            None => name.starts_with("compatibility-version-") || profiles().any(|known| known == name),
        };
        let mut problems = known::check(&json!({ "values": values })).errors;
        if !there {
            problems.push(format!("there is no profile {name}"));
        }
        let outcome = if problems.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(problems.join("; "))
        };
        add(&format!("profiles/{name}"), outcome);
    }
    Ok(cases)
}
