//! The facts about the built-in kinds, and their defaulting.

use super::*;
use crate::prune;
use crate::schema::{ListType, SchemaRef, Type};
use serde_json::{Value, json};

#[test]
fn every_definition_can_be_read_and_every_addition_has_its_field() {
    for (name, named) in &registry().definitions {
        let schema = named.schema();
        for (field, property) in &schema.properties {
            let mut inner: &SchemaRef = property;
            while let Some(items) = &inner.items {
                inner = items;
            }
            let known = inner.type_.is_some() || inner.int_or_string || inner.format.is_some();
            assert!(known || inner.preserve_unknown_fields, "{name}.{field} has no type");
        }
        for line in registry().additions.get(name).into_iter().flatten() {
            let field = line.split(' ').next().unwrap_or_default();
            let property = schema
                .properties
                .get(field)
                .unwrap_or_else(|| panic!("{name} has no field {field}"));
            assert!(property.default.is_some() || !property.enum_.is_empty(), "{line}");
        }
    }
    let missing: Vec<_> = registry()
        .additions
        .keys()
        .filter(|name| definition(name).is_none())
        .collect();
    assert!(missing.is_empty(), "additions to unknown definitions {missing:?}");
}

#[test]
fn the_kinds_of_the_runtime_are_there() {
    for (group, version, kind) in [
        ("", "v1", "Pod"),
        ("", "v1", "Secret"),
        ("", "v1", "Status"),
        ("apps", "v1", "StatefulSet"),
        ("discovery.k8s.io", "v1", "EndpointSlice"),
        ("events.k8s.io", "v1", "Event"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
        ("authentication.k8s.io", "v1", "TokenReview"),
        ("authorization.k8s.io", "v1", "SubjectAccessReview"),
        ("autoscaling", "v1", "Scale"),
        ("policy", "v1", "PodDisruptionBudget"),
    ] {
        let schema = schema(group, version, kind).unwrap_or_else(|| panic!("{kind} is missing"));
        assert!(schema.field("metadata").is_some(), "{kind} has no metadata");
    }
    assert!(schema("", "v1", "Nothing").is_none());
}

#[test]
fn facts_are_complete() {
    let deployment = schema("apps", "v1", "Deployment").unwrap();
    let containers = deployment.at(&["spec", "template", "spec", "containers"]).unwrap();
    assert_eq!(containers.list_type, Some(ListType::Map));
    assert_eq!(containers.list_map_keys, ["name"]);
    assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
    assert_eq!(
        deployment.at(&["spec", "strategy"]).unwrap().patch_strategy.as_deref(),
        Some("retainKeys")
    );
    assert_eq!(deployment.at(&["spec", "replicas"]).unwrap().type_, Some(Type::Integer));
    let ports = schema("", "v1", "Service").unwrap().at(&["spec", "ports"]).unwrap();
    assert_eq!(ports.list_map_keys, ["port", "protocol"]);
    assert_eq!(ports.field("x"), None);
    assert_eq!(
        schema("", "v1", "Service")
            .unwrap()
            .at(&["spec", "ports", "protocol"])
            .unwrap()
            .default,
        Some("TCP".into())
    );
    let template = definition_of("apps", "v1", "Deployment").unwrap();
    assert_eq!(template.name, "io.k8s.api.apps.v1.Deployment");
    let names: Vec<&str> = closure(template).iter().map(|named| named.name.as_str()).collect();
    assert!(
        names.contains(&"io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        "{names:?}"
    );
}

#[test]
fn recursive_definitions_end() {
    let crd = definition_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    assert!(closure(crd).len() < 40);
    assert!(crd.schema().to_openapi().to_string().contains("#/components/schemas/"));
}

#[test]
fn unknown_fields_of_built_in_kinds_are_found() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "nam": "b"},
        "spec": {"containers": [{"name": "a", "imag": "x", "resources": {"limits": {"cpu": 1}}}]}});
    let unknown = prune::unknown_fields(schema("", "v1", "Pod").unwrap(), &pod);
    assert_eq!(unknown, ["metadata.nam", "spec.containers[0].imag"]);
}

/// Every object also gets empty metadata and, where the kind has one, an empty status.
#[track_caller]
fn check(group: &str, kind: &str, mut object: Value, expected: Value) {
    set_defaults(group, "v1", kind, &mut object);
    for always in ["metadata", "status"] {
        let empty = object
            .get(always)
            .and_then(Value::as_object)
            .is_some_and(|fields| fields.values().all(|v| v == &json!({})));
        if empty {
            object.as_object_mut().unwrap().remove(always);
        }
    }
    assert_eq!(object, expected);
}

#[test]
fn objects_are_completed_as_by_the_api_server() {
    let container = json!({"name": "a", "image": "b", "imagePullPolicy": "Always", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
    let pod_spec = json!({"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
        "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30});
    let mut whole = pod_spec.clone();
    whole["enableServiceLinks"] = true.into();
    check(
        "",
        "Pod",
        json!({"spec": {"containers": [{"name": "a", "image": "b"}]}}),
        json!({"spec": whole}),
    );
    check(
        "apps",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}),
        json!({"spec": {"progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {}, "spec": pod_spec}}}),
    );
    check(
        "",
        "Service",
        json!({"spec": {"ports": [{"port": 80}]}}),
        json!({"spec": {"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}}),
    );
    check(
        "",
        "Secret",
        json!({"metadata": {"name": "a", "creationTimestamp": null}}),
        json!({"metadata": {"name": "a"}, "type": "Opaque"}),
    );
}

#[test]
fn image_tags_decide_the_pull_policy() {
    for (image, policy) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("localhost:5000/a", "Always"),
        ("a:1", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
    ] {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        set_defaults("", "v1", "Pod", &mut pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn empty_lists_and_maps_are_none() {
    let mut pod = json!({"metadata": {"labels": {}, "name": "a", "managedFields": []}, "spec": {"containers": [
        {"name": "a", "image": "a:1", "env": [], "securityContext": {}, "livenessProbe": {"exec": {"command": []}}}],
        "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {}}});
    set_defaults("", "v1", "Pod", &mut pod);
    assert_eq!(pod["metadata"], json!({"name": "a", "managedFields": []}));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        (container.get("env"), container.get("securityContext")),
        (None, Some(&json!({})))
    );
    assert_eq!(container["livenessProbe"]["exec"], json!({}));
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    assert_eq!(pod["spec"].get("nodeSelector"), None);
}
