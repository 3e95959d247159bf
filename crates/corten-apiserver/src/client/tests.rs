use serde_json::{Value, json};

use super::*;
use crate::resources::{CONFIG_MAPS, NAMESPACES, PODS, SECRETS, SERVICES};
use crate::verbs::{Preconditions, Propagation};

async fn client() -> Client {
    let client = Client::new(Api::in_memory(), "test");
    client
        .create(&NAMESPACES, json!({"metadata": {"name": "n"}}))
        .await
        .expect("a namespace can be created");
    client
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n"}, "data": {"k": "1"}})
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]},
    })
}

#[tokio::test]
async fn created_objects_have_an_identity() {
    let client = client().await;
    let made = client.create(&CONFIG_MAPS, config_map("a")).await.expect("created");
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["apiVersion"], "v1");
    assert_eq!(object::uid(&made).len(), 36);
    assert!(object::revision(&made) > 1);
    assert!(object::text(&made, &["metadata", "creationTimestamp"]).ends_with('Z'));
    assert_eq!(client.get(&CONFIG_MAPS, "n", "a").await.expect("it is there"), made);
    let again = client
        .create(&CONFIG_MAPS, config_map("a"))
        .await
        .expect_err("it exists");
    assert_eq!(again.message, "configmaps \"a\" already exists");
    assert!(again.is_already_exists());
    let none = client.get(&CONFIG_MAPS, "n", "b").await.expect_err("it does not exist");
    assert_eq!(none.message, "configmaps \"b\" not found");
}

#[tokio::test]
async fn generate_name_makes_a_name() {
    let client = client().await;
    let made = client
        .create(
            &CONFIG_MAPS,
            json!({"metadata": {"generateName": "a-", "namespace": "n"}}),
        )
        .await
        .expect("created");
    assert!(object::name(&made).starts_with("a-"));
    assert_eq!(object::name(&made).len(), 7);
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_an_equal_one_writes_nothing() {
    let client = client().await;
    let first = client.create(&CONFIG_MAPS, config_map("a")).await.expect("created");
    let same = client.update(&CONFIG_MAPS, (*first).clone()).await.expect("updated");
    assert_eq!(same, first);
    let mut second = (*first).clone();
    second["data"]["k"] = json!("2");
    let second = client.update(&CONFIG_MAPS, second).await.expect("updated");
    assert!(object::revision(&second) > object::revision(&first));
    let stale = client.update(&CONFIG_MAPS, (*first).clone()).await.expect_err("stale");
    assert!(stale.is_conflict());
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let client = client().await;
    let made = client.create(&PODS, pod("p")).await.expect("created");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["metadata"]["generation"], 1);
    let mut status = (*made).clone();
    status["status"]["phase"] = json!("Running");
    status["spec"]["nodeName"] = json!("other");
    let running = client.update_status(&PODS, status).await.expect("updated");
    assert_eq!(running["status"]["phase"], "Running");
    assert_eq!(running["spec"]["nodeName"], "node1");
    let mut main = (*running).clone();
    main["status"]["phase"] = json!("Failed");
    main["metadata"]["labels"] = json!({"a": "b"});
    let labelled = client.update(&PODS, main).await.expect("updated");
    assert_eq!(labelled["status"]["phase"], "Running");
    assert_eq!(labelled["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn finalizers_hold_a_deletion() {
    let client = client().await;
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.create(&CONFIG_MAPS, held).await.expect("created");
    let ending = client
        .delete(&CONFIG_MAPS, "n", "a", DeleteOptions::default())
        .await
        .expect("deletion begins");
    assert!(object::is_terminating(&ending));
    let mut more = (*ending).clone();
    more["metadata"]["finalizers"] = json!(["example.com/hold", "example.com/more"]);
    assert!(
        client
            .update(&CONFIG_MAPS, more)
            .await
            .expect_err("too late")
            .is_invalid()
    );
    let mut released = (*ending).clone();
    object::remove_meta(&mut released, "finalizers");
    client.update(&CONFIG_MAPS, released).await.expect("released");
    assert!(
        client
            .get(&CONFIG_MAPS, "n", "a")
            .await
            .expect_err("gone")
            .is_not_found()
    );
}

#[tokio::test]
async fn pods_end_gracefully() {
    let client = client().await;
    client.create(&PODS, pod("p")).await.expect("created");
    let ending = client
        .delete(&PODS, "n", "p", DeleteOptions::default())
        .await
        .expect("begins");
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = DeleteOptions {
        grace_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client.delete(&PODS, "n", "p", now).await.expect("ends");
    assert!(client.get(&PODS, "n", "p").await.expect_err("gone").is_not_found());
}

#[tokio::test]
async fn deletion_heeds_preconditions_and_propagation() {
    let client = client().await;
    client.create(&CONFIG_MAPS, config_map("a")).await.expect("created");
    let other = DeleteOptions {
        preconditions: Preconditions {
            uid: Some("other".to_owned()),
            ..Preconditions::default()
        },
        ..DeleteOptions::default()
    };
    assert!(
        client
            .delete(&CONFIG_MAPS, "n", "a", other)
            .await
            .expect_err("not this one")
            .is_conflict()
    );
    let foreground = DeleteOptions {
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    let ending = client.delete(&CONFIG_MAPS, "n", "a", foreground).await.expect("begins");
    assert_eq!(object::finalizers(&ending), ["foregroundDeletion"]);
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let client = client().await;
    let ending = client
        .delete(&NAMESPACES, "", "n", DeleteOptions::default())
        .await
        .expect("begins");
    assert_eq!(ending["status"]["phase"], "Terminating");
    assert_eq!(ending["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let mut done = (*ending).clone();
    done["spec"]["finalizers"] = json!([]);
    client.finalize(done).await.expect("finalized");
    assert!(client.get(&NAMESPACES, "", "n").await.expect_err("gone").is_not_found());
}

#[tokio::test]
async fn services_get_addresses_and_ports_that_nobody_else_has() {
    let client = client().await;
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec});
    let made = client
        .create(
            &SERVICES,
            service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})),
        )
        .await
        .expect("created");
    let address = object::text(&made, &["spec", "clusterIP"]).to_owned();
    assert!(address.starts_with("10.96."));
    assert_eq!(made["spec"]["clusterIPs"], json!([address]));
    assert!(made["spec"]["ports"][0]["nodePort"].as_u64().expect("a port") >= 30000);
    let taken = client
        .create(
            &SERVICES,
            service("b", json!({"clusterIP": address, "ports": [{"port": 80}]})),
        )
        .await
        .expect_err("taken");
    assert!(
        taken.message.contains("provided IP is already allocated"),
        "{}",
        taken.message
    );
    client
        .delete(&SERVICES, "n", "a", DeleteOptions::default())
        .await
        .expect("deleted");
    client
        .create(
            &SERVICES,
            service("b", json!({"clusterIP": address, "ports": [{"port": 80}]})),
        )
        .await
        .expect("it is free again");
    let headless = client
        .create(
            &SERVICES,
            service("h", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
        )
        .await
        .expect("created");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let dual = client
        .create(
            &SERVICES,
            service(
                "d",
                json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}),
            ),
        )
        .await
        .expect("created");
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
}

#[tokio::test]
async fn secrets_fold_string_data() {
    let client = client().await;
    let made = client
        .create(
            &SECRETS,
            json!({"metadata": {"name": "s", "namespace": "n"}, "stringData": {"a": "b"}}),
        )
        .await
        .expect("created");
    assert_eq!(made["data"], json!({"a": "Yg=="}));
    assert_eq!(made["type"], "Opaque");
    assert!(made.get("stringData").is_none());
}

#[tokio::test]
async fn a_watch_tells_the_present_then_changes() {
    let client = client().await;
    client.create(&CONFIG_MAPS, config_map("a")).await.expect("created");
    let mut watch = client.watch(&CONFIG_MAPS, Some("n")).await.expect("watching");
    let Some(Event::Added(first)) = watch.next().await else {
        panic!("the present object comes first")
    };
    assert_eq!(watch.next().await, Some(Event::Synced));
    let mut changed = (*first).clone();
    changed["data"]["k"] = json!("2");
    let changed = client.update(&CONFIG_MAPS, changed).await.expect("updated");
    let modified = Event::Modified {
        old: first,
        new: changed,
    };
    assert_eq!(watch.next().await, Some(modified));
    client
        .delete(&CONFIG_MAPS, "n", "a", DeleteOptions::default())
        .await
        .expect("deleted");
    assert!(matches!(watch.next().await, Some(Event::Deleted(_))));
}

#[tokio::test]
async fn a_watch_that_fell_behind_tells_the_difference() {
    let client = client().await;
    for name in ["a", "b"] {
        client.create(&CONFIG_MAPS, config_map(name)).await.expect("created");
    }
    let mut watch = client.watch(&CONFIG_MAPS, None).await.expect("watching");
    while watch.next().await != Some(Event::Synced) {}
    client
        .delete(&CONFIG_MAPS, "n", "a", DeleteOptions::default())
        .await
        .expect("deleted");
    client.create(&CONFIG_MAPS, config_map("c")).await.expect("created");
    let change = Patch::Merge(json!({"data": {"k": "2"}}));
    client
        .patch(&CONFIG_MAPS, "n", "b", None, change)
        .await
        .expect("patched");
    client.api().compact(0);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(match watch.next().await.expect("there is more") {
            Event::Added(o) => format!("+{}", object::name(&o)),
            Event::Modified { new, .. } => format!("~{}", object::name(&new)),
            Event::Deleted(o) => format!("-{}", object::name(&o)),
            Event::Synced => "synced".to_owned(),
        });
    }
    assert_eq!(told, ["-a", "~b", "+c"]);
}
