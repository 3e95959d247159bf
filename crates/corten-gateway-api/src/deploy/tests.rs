//! Tests of what is applied for a gateway, and what is not.

use std::sync::Arc;

use corten_api::decode::SpannedObject;
use serde_json::{Value, json};

use super::*;
use crate::{Inputs, input::Namespace};

fn gateway(changes: Value) -> Gateway {
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": { "name": "edge", "namespace": "shop" },
        "spec": { "gatewayClassName": "istio", "listeners": [{ "name": "web", "port": 80, "protocol": "HTTP" }] },
    });
    let object = corten_schema::patch::merge(&object, &changes);
    Gateway::decode(&SpannedObject::from_value(&object)).0
}

/// Kinds and names of what is applied, or why nothing is.
fn applied(gateway: &Gateway, parameters: Option<&Overlay>, existing: &[Json]) -> Option<Result<Vec<String>, String>> {
    let inputs = Inputs {
        namespaces: vec![Arc::new(Namespace {
            name: "team".to_owned(),
            ..Namespace::default()
        })],
        ..Inputs::default()
    };
    let settings = Settings::default();
    let request = Request {
        settings: &settings,
        gateway,
        sets: &[],
        class_defaults: None,
        parameters,
        existing,
    };
    let made = workload(&Index::new(&inputs), request)?;
    let named = |object: &Json| {
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
    };
    let objects = made.objects.map(|objects| objects.iter().map(named).collect());
    Some(objects.map_err(|error| error.to_string()))
}

const ALL: [&str; 3] = [
    "ServiceAccount edge-istio",
    "Deployment edge-istio",
    "Service edge-istio",
];

fn all() -> Option<Result<Vec<String>, String>> {
    Some(Ok(ALL.map(str::to_owned).to_vec()))
}

#[test]
fn the_newer_version_of_the_controller_has_a_gateway() {
    let version = |version: &str| gateway(json!({ "metadata": { "annotations": { CONTROLLER_VERSION: version } } }));
    assert_eq!(applied(&version("1"), None, &[]), all());
    assert_eq!(applied(&version("5"), None, &[]), all());
    assert_eq!(applied(&version("6"), None, &[]), None);
    assert_eq!(applied(&version("six"), None, &[]), None);
}

#[test]
fn a_gateway_behind_a_service_of_its_own_gets_nothing() {
    let at = |address: Value| gateway(json!({ "spec": { "addresses": [address] } }));
    assert_eq!(
        applied(&at(json!({ "type": "Hostname", "value": "ingress" })), None, &[]),
        None
    );
    assert_eq!(applied(&at(json!({ "value": "10.0.0.1" })), None, &[]), all());
    let other = gateway(json!({ "spec": { "gatewayClassName": "nginx" } }));
    assert_eq!(applied(&other, None, &[]), None);
}

#[test]
fn objects_of_others_stay_theirs() {
    let foreign = json!({ "kind": "Service", "metadata": { "name": "edge-istio" } });
    let ours = json!({ "kind": "Deployment", "metadata": { "name": "edge-istio", "labels": { MANAGED: "x" } } });
    let found = applied(&gateway(json!({})), None, &[foreign, ours]);
    assert_eq!(found, Some(Ok(vec![ALL[0].to_owned(), ALL[1].to_owned()])));
}

#[test]
fn parameters_change_objects_and_not_which_they_are() {
    let reference = json!({ "group": "", "kind": "ConfigMap", "name": "options" });
    let with = gateway(json!({ "spec": { "infrastructure": { "parametersRef": reference } } }));
    let check = |key: &str, change: &str, expect: Result<&[&str], &str>| {
        let overlay = Overlay::from([(key.to_owned(), change.to_owned())]);
        let expect = expect.map(|more| ALL.iter().chain(more).map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            applied(&with, Some(&overlay), &[]),
            Some(expect.map_err(str::to_owned)),
            "{key}: {change}"
        );
    };
    check("deployment", "spec: {replicas: 2}", Ok(&[]));
    check(
        "podDisruptionBudget",
        "spec: {minAvailable: 1}",
        Ok(&["PodDisruptionBudget edge-istio"]),
    );
    check(
        "service",
        "metadata: {name: other}",
        Err("the change of service must leave metadata.name alone"),
    );
    check(
        "ingress",
        "spec: {}",
        Err(
            "'ingress' is nothing that can be changed; there are deployment, service, serviceAccount, horizontalPodAutoscaler, podDisruptionBudget",
        ),
    );
    check(
        "service",
        "- a list",
        Err("the change of service cannot be applied: it is not a map of fields"),
    );
    let missing = "the ConfigMap options that parametersRef names does not exist";
    assert_eq!(applied(&with, None, &[]), Some(Err(missing.to_owned())));
}
