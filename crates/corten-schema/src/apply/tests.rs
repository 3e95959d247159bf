//! Ownership, conflicts and removal, on a Deployment and on a custom resource.

use super::*;
use crate::kubernetes;
use serde_json::json;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:04:06Z";

fn deployments() -> &'static Schema {
    kubernetes::schema("apps", "v1", "Deployment").unwrap()
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}, "spec": spec})
}

fn container(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})
}

fn managed(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = entries.into_iter().find(|entry| entry["manager"] == manager);
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn applied(live: Option<&Value>, config: &Value, manager: &str) -> Result<Value, ApplyError> {
    apply(deployments(), live, config, manager, "", false, NOW)
}

#[test]
fn an_applier_owns_what_it_names() {
    let object = applied(None, &deployment(container("x")), "one").unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "one", "operation": "Apply", "apiVersion": "apps/v1", "time": NOW, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}":
                {".": {}, "f:image": {}, "f:name": {}}}}}}}}])
    );
    // The same again changes nothing, not even the time.
    let again = apply(
        deployments(),
        Some(&object),
        &deployment(container("x")),
        "one",
        "",
        false,
        LATER,
    )
    .unwrap();
    assert_eq!(again, object);
}

#[test]
fn what_is_not_named_any_more_goes() {
    let mut spec = container("x");
    spec["replicas"] = 3.into();
    spec["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    let object = applied(None, &deployment(spec.clone()), "one").unwrap();
    spec.as_object_mut().unwrap().remove("replicas");
    spec["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "2"}]);
    let object = applied(Some(&object), &deployment(spec), "one").unwrap();
    assert_eq!(object["spec"].get("replicas"), None);
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": "B", "value": "2"}])
    );
}

#[test]
fn co_owned_fields_stay_until_the_last_owner_goes() {
    let config = deployment(json!({"replicas": 3}));
    let object = applied(None, &config, "one").unwrap();
    let object = applied(Some(&object), &config, "two").unwrap();
    assert_eq!(managed(&object, "one"), managed(&object, "two"));
    let object = applied(Some(&object), &deployment(json!({})), "one").unwrap();
    assert_eq!(object["spec"]["replicas"], 3);
    assert_eq!(managed(&object, "one"), json!({"f:spec": {}}));
    let object = applied(Some(&object), &deployment(json!({})), "two").unwrap();
    assert_eq!(object["spec"].get("replicas"), None);
}

#[test]
fn conflicts_name_the_owner_and_the_field() {
    let mut object = deployment(json!({"replicas": 1, "paused": true}));
    track(
        deployments(),
        None,
        &mut object,
        "kubectl-client-side-apply",
        "Update",
        "",
        NOW,
    );
    let error = applied(Some(&object), &deployment(json!({"replicas": 2})), "two").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    let error = applied(
        Some(&object),
        &deployment(json!({"replicas": 2, "paused": false})),
        "two",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let forced = apply(
        deployments(),
        Some(&object),
        &deployment(json!({"replicas": 2})),
        "two",
        "",
        true,
        LATER,
    )
    .unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(
        managed(&forced, "kubectl-client-side-apply"),
        json!({"f:spec": {"f:paused": {}}})
    );
    assert_eq!(managed(&forced, "two"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn appliers_conflict_without_a_version() {
    let object = applied(None, &deployment(container("x")), "one").unwrap();
    let error = applied(Some(&object), &deployment(container("y")), "two").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.template.spec.containers[name="c"].image"#
    );
}

#[test]
fn a_new_object_belongs_to_its_creator() {
    let mut object = deployment(json!({
        "replicas": 1, "selector": {"matchLabels": {"app": "a"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "resources": {}}]}}
    }));
    object["metadata"]["labels"] = json!({"app": "a"});
    object["status"] = json!({});
    track(deployments(), None, &mut object, "kubectl-create", "Update", "", NOW);
    assert_eq!(
        managed(&object, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}}}}}}
        })
    );
}

#[test]
fn writers_take_what_they_change() {
    let mut object = deployment(json!({"replicas": 1}));
    track(deployments(), None, &mut object, "one", "Update", "", NOW);
    let mut scaled = object.clone();
    scaled["spec"]["replicas"] = 2.into();
    track(
        deployments(),
        Some(&object),
        &mut scaled,
        "two",
        "Update",
        "scale",
        LATER,
    );
    assert_eq!(managed(&scaled, "one"), Value::Null);
    assert_eq!(scaled["metadata"]["managedFields"][0]["subresource"], "scale");
    assert_eq!(managed(&scaled, "two"), json!({"f:spec": {"f:replicas": {}}}));
    // A write that changes nothing leaves the owners alone, also when the client sent no managed fields.
    let mut same = scaled.clone();
    managers::remove(&mut same);
    track(deployments(), Some(&scaled), &mut same, "three", "Update", "", LATER);
    assert_eq!(same, scaled);
}

#[test]
fn an_empty_list_forgets_the_owners() {
    let mut object = deployment(json!({"replicas": 1}));
    track(deployments(), None, &mut object, "one", "Update", "", NOW);
    for reset in [json!([]), json!([{}])] {
        let mut sent = object.clone();
        sent["metadata"]["managedFields"] = reset;
        track(deployments(), Some(&object), &mut sent, "two", "Update", "", LATER);
        assert_eq!(sent["metadata"].get("managedFields"), None);
    }
}

#[test]
fn objects_without_owners_belonged_to_somebody_before() {
    let live = deployment(json!({"replicas": 1}));
    let error = applied(Some(&live), &deployment(json!({"replicas": 2})), "one").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
}

#[test]
fn kubectl_may_turn_from_client_side_to_server_side_apply() {
    let last = deployment(json!({"replicas": 1}));
    let mut object = last.clone();
    object["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
    track(
        deployments(),
        None,
        &mut object,
        "kubectl-client-side-apply",
        "Update",
        "",
        NOW,
    );
    let changed = applied(Some(&object), &deployment(json!({"replicas": 2})), "kubectl").unwrap();
    assert_eq!(changed["spec"]["replicas"], 2);
    let annotation: Value =
        serde_json::from_str(changed["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(annotation["spec"]["replicas"], 2);
}

#[test]
fn objects_that_cannot_be_applied() {
    let error = applied(None, &deployment(json!({"replica": 1})), "one").unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to create typed patch object (n/a; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
    );
    let twice = json!({"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}});
    let error = applied(None, &deployment(twice), "one").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(r#".spec.template.spec.containers: duplicate entries for key [name="c"]"#),
        "{error}"
    );
    let mut config = deployment(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        applied(None, &config, "one").unwrap_err().to_string(),
        "metadata.managedFields must be nil"
    );
}

#[test]
fn ports_are_told_apart_with_their_default_protocol() {
    let services = kubernetes::schema("", "v1", "Service").unwrap();
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": ports}});
    let live = apply(services, None, &service(json!([{"port": 80}])), "one", "", false, NOW).unwrap();
    assert!(
        managed(&live, "one")
            .to_string()
            .contains(r#"k:{\"port\":80,\"protocol\":\"TCP\"}"#),
        "{live}"
    );
    let both = apply(
        services,
        Some(&live),
        &service(json!([{"port": 80, "protocol": "UDP"}])),
        "two",
        "",
        false,
        NOW,
    )
    .unwrap();
    assert_eq!(both["spec"]["ports"].as_array().map(Vec::len), Some(2));
}

#[test]
fn custom_resources_follow_their_schema() {
    let schema = Schema::parse(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "atomic": {"type": "array", "items": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}}),
    )
    .unwrap();
    let resource = |spec: Value| json!({"apiVersion": "e.io/v1", "kind": "E", "metadata": {"name": "a", "labels": {"l": "1"}}, "spec": spec});
    let object = apply(
        &schema,
        None,
        &resource(json!({"atomic": ["a"], "set": ["x"], "any": {"m": {"n": 1}}})),
        "one",
        "",
        false,
        NOW,
    )
    .unwrap();
    assert_eq!(
        managed(&object, "one"),
        json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:any": {"f:m": {".": {}, "f:n": {}}}, "f:atomic": {}, "f:set": {"v:\"x\"": {}}}})
    );
    let object = apply(
        &schema,
        Some(&object),
        &resource(json!({"set": ["y"]})),
        "two",
        "",
        false,
        NOW,
    )
    .unwrap();
    assert_eq!(object["spec"]["set"], json!(["x", "y"]));
    let object = apply(&schema, Some(&object), &resource(json!({})), "one", "", false, NOW).unwrap();
    assert_eq!(object["spec"], json!({"set": ["y"]}));
    let mut created = resource(json!({"set": ["x"]}));
    track(&schema, None, &mut created, "one", "Update", "", NOW);
    assert_eq!(
        managed(&created, "one"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:spec": {".": {}, "f:set": {".": {}, "v:\"x\"": {}}}})
    );
}

#[test]
fn managers_do_not_pile_up() {
    let mut object = deployment(json!({"replicas": 0}));
    object["metadata"]["labels"] = json!({});
    track(deployments(), None, &mut object, "creator", "Update", "", NOW);
    for number in 0..30 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{number}")] = "x".into();
        track(
            deployments(),
            Some(&object),
            &mut next,
            &format!("manager{number:02}"),
            "Update",
            "",
            &format!("2026-01-02T03:05:{number:02}Z"),
        );
        object = next;
    }
    assert_eq!(object["metadata"]["managedFields"].as_array().map(Vec::len), Some(10));
    assert_ne!(managed(&object, "ancient-changes"), Value::Null);
}

#[test]
fn merged_lists_keep_both_orders() {
    let schema = Schema::parse(&json!({"type": "object", "properties": {"set": {"type": "array",
        "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}))
    .unwrap();
    for (live, applied, expected) in [
        (
            json!(["x", "a", "y", "b", "z"]),
            json!(["b", "c", "a"]),
            json!(["x", "y", "b", "z", "c", "a"]),
        ),
        (json!(["a", "b"]), json!(["b", "a"]), json!(["b", "a"])),
        (json!(["a", "b"]), json!(["c"]), json!(["a", "b", "c"])),
        (json!(["a", "b"]), json!(["c", "b"]), json!(["a", "c", "b"])),
        (json!([]), json!(["c", "b"]), json!(["c", "b"])),
    ] {
        let object = |set: &Value| json!({"apiVersion": "e.io/v1", "kind": "E", "metadata": {"name": "a"}, "set": set});
        let mut live = object(&live);
        track(&schema, None, &mut live, "server", "Update", "", NOW);
        let merged = apply(&schema, Some(&live), &object(&applied), "one", "", false, NOW).unwrap();
        assert_eq!(merged["set"], expected);
    }
}
