//! `cases.json` against the rules: objects, and what the real API server (1.34) answers to each.
//!
//! A case merges `with` into one of the `bases` and creates that; `then` is merged into what was created, for an update.
//! `expect` is what is refused, field by field, in any order; nothing where it is accepted.

use serde_json::{Value, json};

use crate::api::Api;
use crate::client::Client;
use crate::object;
use crate::resources::{self, ResourceId};
use crate::status::Status;
use crate::verbs::DeleteOptions;

fn resource_of(object: &Value) -> ResourceId {
    let kind = object::text(object, &["kind"]);
    let builtin = resources::BUILTINS.iter().find(|builtin| builtin.kind == kind);
    builtin.expect("a case is of a built-in kind").id.clone()
}

/// What an answer says, in the form of `expect`.
fn said(answer: &Result<object::Object, Status>) -> Value {
    match answer {
        Ok(_) => json!([]),
        Err(status) if status.code == 422 => {
            let details = status.details.as_ref().expect("a refusal has details");
            let line = |cause: &crate::status::Cause| format!("{}: {}", cause.field, cause.message);
            details.causes.iter().map(line).collect::<Vec<_>>().into()
        }
        Err(status) => json!(format!("{} {}", status.code, status.message)),
    }
}

fn sorted(mut value: Value) -> Value {
    if let Some(lines) = value.as_array_mut() {
        lines.sort_by_key(ToString::to_string);
    }
    value
}

async fn client() -> Client {
    let client = Client::new(Api::in_memory(), "test");
    let namespace = json!({ "metadata": { "name": "validation" } });
    client
        .create(&resources::NAMESPACES, namespace)
        .await
        .expect("a namespace can be created");
    client
}

#[tokio::test]
async fn objects_are_judged_as_the_real_api_server_judges_them() {
    let table: Value = serde_json::from_str(include_str!("cases.json")).expect("the table is JSON");
    let mut different = Vec::new();
    for case in object::items(&table["cases"]) {
        let client = client().await;
        let base = &table["bases"][case["base"].as_str().expect("a case has a base")];
        let resource = resource_of(base);
        let mut wanted = corten_schema::patch::merge(base, &case["with"]);
        let namespaced = client_namespaced(&resource);
        if namespaced && object::namespace(&wanted).is_empty() {
            object::set_meta(&mut wanted, "namespace", "validation");
        }
        let mut answer = client.create(&resource, wanted).await;
        if let (Ok(made), then @ Value::Object(_)) = (&answer, &case["then"]) {
            let changed = corten_schema::patch::merge(made, then);
            answer = client.update(&resource, changed).await;
        }
        let mut expect = case["expect"].to_string();
        for (short, sentence) in table["sentences"].as_object().into_iter().flatten() {
            let quoted = sentence.to_string();
            expect = expect.replace(short, quoted.trim_matches('"'));
        }
        let expect: Value = serde_json::from_str(&expect).expect("sentences stand inside of strings");
        let (expect, got) = (sorted(expect), sorted(said(&answer)));
        if expect != got {
            different.push(format!("{case}\n  expected {expect}\n  got      {got}"));
        }
    }
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}

fn client_namespaced(resource: &ResourceId) -> bool {
    let builtin = resources::BUILTINS.iter().find(|builtin| builtin.id == *resource);
    builtin.is_some_and(|builtin| builtin.namespaced)
}

#[tokio::test]
async fn the_status_of_an_object_is_written_whatever_its_specification_says() {
    let client = client().await;
    let node = json!({ "metadata": { "name": "n" }, "status": { "addresses": [
        { "type": "InternalIP", "address": "10.0.0.1" }, { "type": "InternalIP", "address": "fd00::1" },
    ] } });
    let made = client
        .create(&resources::NODES, node)
        .await
        .expect("a bare node is accepted");
    let mut ready = (*made).clone();
    ready["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    let written = client
        .update_status(&resources::NODES, ready)
        .await
        .expect("its status is accepted");
    assert_eq!(object::items(&written["status"]["addresses"]).len(), 2);
    let options = DeleteOptions::default();
    client
        .delete(&resources::NODES, "", "n", options)
        .await
        .expect("it can be deleted");
}
