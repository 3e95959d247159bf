//! Area `istio-sidecar-injection`: manifests of workloads, and what they are with their proxies.
//!
//! Compared is what the objects mean: what Go writes for absent fields, the order of what is found by name, spellings of one quantity, and
//! JSON within strings do not count as differences.

use anyhow::{Context, Result, bail};
use corten_inject::{Config, Injector, Outcome as Injected, Subject, objects, openshift_ids};
use serde_json::{Value, json};

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |_, row| judge(area, row))
}

fn judge(area: &Area, row: &Value) -> Result<Outcome> {
    let file = |key: &str| row[key].as_str().map(|name| area.dir.join(name));
    let injector = injector(area, row)?;
    let native = row["nativeSidecars"] != false && row["nodes"].is_null();
    let namespace = if row["platform"] == "openshift" {
        json!({"openshift.io/sa.scc.uid-range": "1000620000/10000", "openshift.io/sa.scc.supplemental-groups": "1000620000/10000"})
    } else {
        json!({})
    };
    let prepare = |subject: &mut Subject<'_>| {
        subject.native_sidecars = native;
        (subject.proxy_user, subject.proxy_group) = openshift_ids(&namespace);
    };
    let mut made = Vec::new();
    for object in data::documents(&file("input").context("there is no input")?)? {
        match objects(&injector, &object, &prepare) {
            Ok(Injected::Injected(injected)) => made.push(injected),
            Ok(Injected::Unchanged(_)) => made.push(object),
            Err(error) => {
                return Ok(match row["expectedErrorContains"].as_str() {
                    Some(part) if error.to_string().to_lowercase().contains(&part.to_lowercase()) => Outcome::Passed,
                    Some(part) => Outcome::Failed(format!("the error {error} does not contain {part}")),
                    None => Outcome::Failed(format!("was refused: {error}")),
                });
            }
        }
    }
    if let Some(part) = row["expectedErrorContains"].as_str() {
        return Ok(Outcome::Failed(format!("was not refused with {part}")));
    }
    let expected = data::documents(&file("expected").context("there is nothing expected")?)?;
    let plain = |all: Vec<Value>| Value::Array(all.into_iter().map(|one| normal("", one)).collect());
    Ok(match difference("", &plain(expected), &plain(made)) {
        None => Outcome::Passed,
        Some(difference) => Outcome::Failed(difference),
    })
}

/// The injector of an installation as the row describes it.
fn injector(area: &Area, row: &Value) -> Result<Injector> {
    let mut values = json!({"global": {"hub": "registry.istio.io/testing", "tag": "latest"}});
    let mut mesh = json!({});
    if let Some(name) = row["istioOperator"].as_str() {
        let operator = data::document(&area.dir.join(name))?;
        values = corten_schema::patch::merge(&values, &operator["spec"]["values"]);
        mesh = corten_schema::patch::merge(&mesh, &operator["spec"]["meshConfig"]);
        nulls(&mut values, &operator["spec"]["values"]);
    }
    for flag in row["installFlags"].as_array().into_iter().flatten() {
        let (path, text) = flag
            .as_str()
            .and_then(|flag| flag.split_once('='))
            .context("a flag without a value")?;
        let path = match path {
            "components.cni.enabled" => "pilot.cni.enabled".to_owned(),
            _ => match path.strip_prefix("values.") {
                Some("cni.provider") => "pilot.cni.provider".to_owned(),
                Some(path) => path.to_owned(),
                None => bail!("flag {path} is unknown"),
            },
        };
        let mut place = &mut values;
        for part in path.split('.') {
            place = &mut place[part];
        }
        *place = match text.parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) if text == "true" || text == "false" => json!(text == "true"),
            Err(_) => json!(text),
        };
    }
    if row["platform"] == "openshift" {
        values["global"]["platform"] = json!("openshift");
    }
    let overrides = &row["meshConfigOverrides"];
    if overrides.is_object() {
        mesh = corten_schema::patch::merge(&mesh, overrides);
    }
    Ok(Injector {
        config: Config::new(&values, &json!({})),
        mesh,
        revision: String::new(),
        compliance_policy: row["compliancePolicy"].as_str().map(str::to_owned),
    })
}

/// Puts the nulls of `from` into `into`, where they take defaults away.
fn nulls(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        if value.is_null() {
            into[name] = Value::Null;
        } else if value.is_object() {
            nulls(&mut into[name], value);
        }
    }
}

/// The value without what makes no difference.
fn normal(name: &str, value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut kept = serde_json::Map::new();
            for (name, value) in map {
                let value = normal(&name, value);
                let empty = match &value {
                    Value::Null => true,
                    Value::Object(map) => map.is_empty() && name != "emptyDir",
                    Value::Array(list) => list.is_empty(),
                    Value::Number(number) => {
                        ["initialDelaySeconds", "minReadySeconds"].contains(&name.as_str())
                            && number.as_i64() == Some(0)
                    }
                    _ => false,
                };
                // What Go's types say of a state that nobody has observed.
                if !empty && name != "status" {
                    kept.insert(name, value);
                }
            }
            // Beside the pod's template: what Go's types say of what nobody said.
            if kept.get("spec").is_some_and(|spec| spec["template"].is_object())
                && let Some(Value::Object(spec)) = kept.get_mut("spec")
            {
                spec.retain(|_, value| *value != json!(false));
            }
            // A variable without a value is empty.
            if kept.len() == 2 && kept.get("value") == Some(&json!("")) && kept.contains_key("name") {
                kept.remove("value");
            }
            // The script is written otherwise; a test of the crate looks at what it makes.
            if kept.get("name") == Some(&json!("grpc-bootstrap-init")) {
                kept.remove("command");
                kept.remove("env");
            }
            if ["limits", "requests"].contains(&name) {
                for value in kept.values_mut() {
                    *value = quantity(value);
                }
            }
            // Strings that hold JSON, in variables and annotations.
            if let (Some(Value::String(_)), Some(Value::String(text))) = (kept.get("name"), kept.get("value"))
                && let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text)
            {
                kept.insert("value".to_owned(), normal("", inner));
            }
            if name == "annotations" {
                for value in kept.values_mut() {
                    if let Some(Ok(inner @ Value::Object(_))) = value.as_str().map(serde_json::from_str) {
                        *value = normal("", inner);
                    }
                }
            }
            Value::Object(kept)
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(|one| normal("", one)).collect();
            if name == "volumes" {
                for volume in &mut list {
                    if volume.as_object().is_some_and(|volume| volume.len() == 1) {
                        volume["emptyDir"] = json!({});
                    }
                }
            }
            if ["volumes", "env", "volumeMounts", "imagePullSecrets"].contains(&name) {
                let key = |one: &Value| (one["mountPath"].to_string(), one["name"].to_string());
                list.sort_by_key(key);
            }
            Value::Array(list)
        }
        other => other,
    }
}

/// Thousandths that are whole, and powers of two, in their shortest form.
fn quantity(value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(Ok(number)) = text.strip_suffix('m').map(str::parse::<u64>)
        && number % 1000 == 0
    {
        return json!((number / 1000).to_string());
    }
    if let Some(Ok(number)) = text.strip_suffix("Mi").map(str::parse::<u64>)
        && number % 1024 == 0
        && number > 0
    {
        return json!(format!("{}Gi", number / 1024));
    }
    json!(text)
}

/// The first place where two values differ.
fn difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(want), Value::Object(have)) => {
            let names: std::collections::BTreeSet<&String> = want.keys().chain(have.keys()).collect();
            names.into_iter().find_map(|name| {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                difference(&format!("{path}/{name}"), &of(want), &of(have))
            })
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => want
            .iter()
            .zip(have)
            .enumerate()
            .find_map(|(index, (want, have))| difference(&format!("{path}/{index}"), want, have)),
        _ if expected == found => None,
        _ => Some(format!("{path}: expected {expected}, found {found}")),
    }
}
