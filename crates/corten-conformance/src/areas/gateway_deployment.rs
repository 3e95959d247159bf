//! Area `istio-gateway-deployment`: the objects that a controller makes for a gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use corten_api::{
    decode::SpannedObject,
    gateway_api::{Gateway, GatewayClass},
};
use corten_gateway_api::{
    Inputs,
    deploy::{self, Overlay, Request, Settings, workload},
    index::Index,
};
use serde_json::{Value, json};

use super::gateway_api::differences;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |index, row| judge(area, index, row))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn judge(area: &Area, index: &Value, row: &Value) -> Result<Outcome> {
    if row["discoveryNamespaces"].is_array() {
        return Ok(Outcome::Skipped(
            "which namespaces are watched is not the rendering's".to_owned(),
        ));
    }
    let mut given = row["gateway"].clone();
    let class = given["spec"]["gatewayClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if class.contains("agentgateway") {
        return Ok(Outcome::Skipped(
            "the agentgateway of another project is not installed".to_owned(),
        ));
    }
    // The extraction of the data left a call of the test's language in place of a key.
    if let Some(labels) = given["spec"]["infrastructure"]["labels"].as_object_mut() {
        let quoted = |key: &str| key.split('\'').nth(1).unwrap_or(key).to_owned();
        *labels = labels.iter().map(|(key, value)| (quoted(key), value.clone())).collect();
    }
    let (gateway, _) = Gateway::decode(&SpannedObject::from_value(&given));
    let existing = list(&index["preexisting"]);
    let classes = existing.iter().filter(|object| object["kind"] == "GatewayClass");
    let inputs = Inputs {
        settings: corten_gateway_api::Settings {
            east_west: true,
            ..corten_gateway_api::Settings::default()
        },
        classes: classes
            .map(|class| Arc::new(GatewayClass::decode(&SpannedObject::from_value(class)).0))
            .collect(),
        ..Inputs::default()
    };
    let settings = settings(row)?;
    let named = &given["spec"]["infrastructure"]["parametersRef"]["name"];
    let parameters = list(&row["objects"])
        .iter()
        .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == *named);
    let parameters: Option<Overlay> = parameters.map(|map| {
        let text = |(key, value): (&String, &Value)| (key.clone(), value.as_str().unwrap_or_default().to_owned());
        map["data"].as_object().into_iter().flatten().map(text).collect()
    });
    let here: Vec<Value> = existing
        .iter()
        .filter(|object| object["metadata"]["namespace"] == given["metadata"]["namespace"])
        .cloned()
        .collect();
    let request = Request {
        settings: &settings,
        gateway: &gateway,
        sets: &[],
        class_defaults: None,
        parameters: parameters.as_ref(),
        existing: &here,
    };
    let mut ours = Vec::new();
    if let Some(made) = workload(&Index::new(&inputs), request) {
        if made.claim {
            let version = deploy::VERSION.to_string();
            ours.push(
                json!({ "kind": "Gateway", "metadata": { "annotations": { deploy::CONTROLLER_VERSION: version } } }),
            );
        }
        // Objects that cannot be rendered are not applied, nor are any others of the gateway.
        ours.extend(made.objects.unwrap_or_default());
    }
    let expected = match row["expected"].as_str() {
        Some(file) => data::documents(&area.dir.join(file))?,
        None => Vec::new(),
    };
    let (expected, ours) = (by_kind(&expected), by_kind(&ours));
    let mut problems = Vec::new();
    for (kind, theirs) in &expected {
        match ours.get(kind) {
            Some(our) => differences(our, theirs, kind, &mut problems),
            None => problems.push(format!("{kind} is missing")),
        }
    }
    let extra = ours.keys().filter(|kind| !expected.contains_key(*kind));
    problems.extend(extra.map(|kind| format!("{kind} is not expected")));
    Ok(if problems.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(problems.join("; "))
    })
}

/// What the values of the row say. What the upstream test leaves unset stands in its files as `<no value>` or `<nil>`.
fn settings(row: &Value) -> Result<Settings> {
    let unset = || "<no value>".to_owned();
    let values: Value = match row["helmValues"].as_str() {
        Some(text) => serde_saphyr::from_str(text).context("helmValues")?,
        None => json!({ "global": { "hub": "test", "tag": "test" } }),
    };
    let global = &values["global"];
    let text = |key: &str| global[key].as_str().unwrap_or_default();
    Ok(Settings {
        network: text("network").to_owned(),
        image: format!("{}/proxyv2:{}", text("hub"), text("tag")),
        domain: unset(),
        authority: "istiod-<no value>.<no value>.svc:15012".to_owned(),
        certificate_provider: unset(),
        audience: unset(),
        proxy_log: "<nil>".to_owned(),
        component_log: "<nil>".to_owned(),
        agent_log: "<nil>".to_owned(),
        resources: global["proxy"]["resources"].clone(),
        waypoint_resources: global["waypoint"]["resources"].clone(),
        copy_metadata: row["copyLabelsAnnotations"].as_bool() != Some(false),
        ..Settings::default()
    })
}

/// Objects by kind, of which a gateway has one each.
fn by_kind(objects: &[Value]) -> BTreeMap<String, Value> {
    let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    objects.iter().map(|object| (kind(object), plain(object))).collect()
}

/// A value in which neither the order of named things counts nor what says nothing.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut kept = serde_json::Map::new();
            for (key, value) in map
                .iter()
                .filter(|(key, _)| !["uid", "apiVersion"].contains(&key.as_str()))
            {
                let value = plain(value);
                let nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                // A volume of its own is told from others by this key alone.
                if key == "emptyDir" && nothing {
                    kept.insert(key.clone(), json!("default"));
                } else if !nothing {
                    kept.insert(key.clone(), value);
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(plain).collect();
            // Two volumes of waypoints belong to a proxy that never came, and nothing mounts them.
            items.retain(|item| !item["name"].as_str().is_some_and(|name| name.starts_with("go-proxy-")));
            if items.iter().all(|item| item["name"].is_string()) {
                items.sort_by_key(|item| item["name"].to_string());
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}
