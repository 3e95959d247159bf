//! What the control plane writes and asks: conditions, leases, ConfigMaps, Secrets, token reviews.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use corten_apiserver::{Patch, ResourceId, resources};
use corten_core::NamespacedName;
use corten_rt::TaskGroup;
use corten_store_kube::{
    Condition, Distribution, Election, SecretStore, SecretStoreError, StatusOf, StatusWriter, TokenIdentity,
    TokenReviewer, distribute, kinds,
};
use serde_json::{Value, json};
use support::{Served, create, delete, eventually, install_definitions, namespace};
use tokio::sync::watch;

const POLICIES: ResourceId = ResourceId::fixed("security.istio.io", "v1", "authorizationpolicies");
const SERVICE: StatusOf = StatusOf {
    manager: "istio-ambient-service",
    types: &["istio.io/WaypointBound"],
    events: false,
};
const POLICY: StatusOf = StatusOf {
    manager: "istio-ambient-ztunnel-policy",
    types: &["ZtunnelAccepted"],
    events: true,
};

fn condition(type_: &str, status: bool, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: Some(status),
        reason: "Accepted".to_owned(),
        message: message.to_owned(),
        observed_generation: Some(1),
    }
}

fn said(object: &Value) -> Vec<(String, String, String)> {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .map(|c| (text(&c["type"]), text(&c["status"]), text(&c["message"])))
        .collect()
}

fn expect(expected: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    expected
        .iter()
        .map(|(t, s, m)| ((*t).to_owned(), (*s).to_owned(), (*m).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_written_by_the_leader_and_those_of_others_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let (inside, outside) = (served.inside(), served.outside(dir.path()).await);
    namespace(&inside, "n").await;
    install_definitions(&inside).await;
    let service = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}});
    create(&inside, &resources::SERVICES, service).await;
    let policy = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {}});
    create(&inside, &POLICIES, policy).await;
    let others = json!({"status": {"conditions": [{"type": "Theirs", "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    for id in [resources::SERVICES, POLICIES] {
        let name = if id == POLICIES { "p" } else { "s" };
        inside
            .patch(&id, "n", name, Some("status"), Patch::Merge(others.clone()))
            .await
            .expect("patched");
    }
    let get = async |id: &ResourceId, name: &str| -> Value {
        let object = inside.get(id, "n", name).await.expect("it is there");
        serde_json::to_value(&*object).expect("an object")
    };

    let writer = StatusWriter::new();
    let (lead, leadership) = watch::channel(false);
    let tasks = TaskGroup::new("test");
    tasks.serve("status", |drain| writer.clone().run(outside.clone(), leadership, drain));
    let (s, p) = (NamespacedName::new("n", "s"), NamespacedName::new("n", "p"));
    writer.set(
        kinds::SERVICES,
        s.clone(),
        SERVICE,
        vec![condition("istio.io/WaypointBound", true, "bound")],
    );
    writer.set(
        kinds::AUTHORIZATION_POLICIES,
        p.clone(),
        POLICY,
        vec![condition("ZtunnelAccepted", false, "no")],
    );
    writer.set(kinds::SERVICES, NamespacedName::new("n", "gone"), SERVICE, Vec::new());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        said(&get(&resources::SERVICES, "s").await),
        expect(&[("Theirs", "True", "m")]),
        "not the leader"
    );

    lead.send_replace(true);
    let bound = expect(&[("Theirs", "True", "m"), ("istio.io/WaypointBound", "True", "bound")]);
    let wait = async |id: &ResourceId, name: &str, expected: &[(String, String, String)]| {
        eventually("the conditions", async || {
            (said(&get(id, name).await) == expected).then_some(())
        })
        .await;
    };
    wait(&resources::SERVICES, "s", &bound).await;
    let refused = expect(&[("Theirs", "True", "m"), ("ZtunnelAccepted", "False", "no")]);
    wait(&POLICIES, "p", &refused).await;

    // Said again, nothing is written.
    let version = get(&POLICIES, "p").await["metadata"]["resourceVersion"].clone();
    writer.set(
        kinds::AUTHORIZATION_POLICIES,
        p.clone(),
        POLICY,
        vec![condition("ZtunnelAccepted", false, "no")],
    );
    lead.send_replace(false);
    lead.send_replace(true);
    writer.set(kinds::SERVICES, s.clone(), SERVICE, Vec::new());
    wait(&resources::SERVICES, "s", &expect(&[("Theirs", "True", "m")])).await;
    assert_eq!(get(&POLICIES, "p").await["metadata"]["resourceVersion"], version);

    writer.set(
        kinds::AUTHORIZATION_POLICIES,
        p.clone(),
        POLICY,
        vec![condition("ZtunnelAccepted", true, "yes")],
    );
    wait(
        &POLICIES,
        "p",
        &expect(&[("Theirs", "True", "m"), ("ZtunnelAccepted", "True", "yes")]),
    )
    .await;
    writer.forget(kinds::AUTHORIZATION_POLICIES, &p);
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_over_and_over_is_one_event_that_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let (inside, outside) = (served.inside(), served.outside(dir.path()).await);
    namespace(&inside, "n").await;
    install_definitions(&inside).await;
    create(
        &inside,
        &POLICIES,
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {}}),
    )
    .await;
    let writer = StatusWriter::new();
    let (_lead, leadership) = watch::channel(true);
    let tasks = TaskGroup::new("test");
    tasks.serve("status", |drain| writer.clone().run(outside.clone(), leadership, drain));
    let set = |message: &str| {
        let conditions = vec![condition("ZtunnelAccepted", false, message)];
        writer.set(
            kinds::AUTHORIZATION_POLICIES,
            NamespacedName::new("n", "p"),
            POLICY,
            conditions,
        );
    };
    let message = async || {
        let object = inside.get(&POLICIES, "n", "p").await.expect("it is there");
        let object = serde_json::to_value(&*object).expect("an object");
        said(&object).first().map(|(.., message)| message.clone())
    };
    let is = async |text: &str| {
        eventually("the condition", async || {
            (message().await.as_deref() == Some(text)).then_some(())
        })
        .await;
    };
    set("first");
    is("first").await;
    // A proxy rejects what it is sent many times a second, with other words each time.
    for number in 0..200 {
        set(&format!("again {number}"));
        tokio::task::yield_now().await;
    }
    set("last");
    is("last").await;
    let events: kube::Api<k8s_openapi::api::core::v1::Event> = kube::Api::namespaced(outside.clone(), "n");
    let counted = async || {
        let all = events
            .list(&kube::api::ListParams::default())
            .await
            .expect("listed")
            .items;
        let all = all
            .into_iter()
            .map(|event| (event.message.unwrap_or_default(), event.count.unwrap_or_default()));
        all.collect::<Vec<_>>()
    };
    // The status is written before the Event. How often one is written on the way depends on how long the way takes.
    eventually("the count", async || match &*counted().await {
        [(message, count)] => (message == "last" && (2..10).contains(count)).then_some(()),
        _ => None,
    })
    .await;
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_leads_and_the_other_follows_at_once_when_it_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let outside = served.outside(dir.path()).await;
    namespace(&served.inside(), "istio-system").await;
    let stand = |name: &str| {
        let election = Election {
            retry_period: Duration::from_millis(100),
            ..Election::new("istio-system", "istio-status-leader", name)
        };
        let (leadership, leads) = watch::channel(false);
        let tasks = TaskGroup::new(name.to_owned());
        tasks.serve("election", |drain| election.run(outside.clone(), leadership, drain));
        (tasks, leads)
    };
    let (first, mut first_leads) = stand("one");
    first_leads.wait_for(|leads| *leads).await.expect("it stands");
    let (second, mut second_leads) = stand("two");
    let transitions = async || -> Value {
        let lease = served
            .inside()
            .get(&resources::LEASES, "istio-system", "istio-status-leader")
            .await;
        let lease = serde_json::to_value(&*lease.expect("it is there")).expect("an object");
        json!([lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]])
    };
    assert_eq!(transitions().await, json!(["one", 0]));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(*first_leads.borrow() && !*second_leads.borrow());
    first.shutdown(Duration::from_secs(5)).await;
    let followed = tokio::time::timeout(Duration::from_secs(10), second_leads.wait_for(|leads| *leads)).await;
    assert!(
        followed.is_ok_and(|followed| followed.is_ok()),
        "long before the lease ends by itself"
    );
    assert_eq!(transitions().await, json!(["two", 1]));
    second.shutdown(Duration::from_secs(5)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_are_in_every_namespace_and_stay_as_they_should_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let (inside, outside) = (served.inside(), served.outside(dir.path()).await);
    for name in ["one", "kube-public"] {
        let _ = inside
            .create(&resources::NAMESPACES, json!({"metadata": {"name": name}}))
            .await;
    }
    let map = async |namespace: &str| -> Option<Value> {
        let found = inside
            .get(&resources::CONFIG_MAPS, namespace, "istio-ca-root-cert")
            .await
            .ok()?;
        serde_json::to_value(&*found).ok()
    };
    let holds = async |namespace: &str, expected: &Value| {
        eventually("the ConfigMap", async || {
            (map(namespace).await?["data"] == *expected).then_some(())
        })
        .await;
    };
    let entries = |text: &str| Some(BTreeMap::from([("root-cert.pem".to_owned(), text.to_owned())]));
    let (wanted, receiver) = watch::channel(entries("first"));
    let tasks = TaskGroup::new("test");
    tasks.serve("roots", |drain| {
        distribute(outside, Distribution::roots(), receiver, drain)
    });
    let first = json!({"root-cert.pem": "first"});
    holds("one", &first).await;
    assert_eq!(
        map("one").await.expect("there")["metadata"]["labels"],
        json!({"istio.io/config": "true"})
    );
    namespace(&inside, "two").await;
    holds("two", &first).await;

    delete(&inside, &resources::CONFIG_MAPS, "one", "istio-ca-root-cert").await;
    holds("one", &first).await;
    let forged = Patch::Merge(json!({"data": {"root-cert.pem": "forged", "more": "x"}}));
    inside
        .patch(&resources::CONFIG_MAPS, "two", "istio-ca-root-cert", None, forged)
        .await
        .expect("patched");
    holds("two", &first).await;

    wanted.send_replace(entries("second"));
    let second = json!({"root-cert.pem": "second"});
    for namespace in ["one", "two"] {
        holds(namespace, &second).await;
    }
    assert_eq!(map("kube-public").await, None);
    tasks.shutdown(Duration::from_secs(1)).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_written_only_over_what_was_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    namespace(&served.inside(), "istio-system").await;
    let store = SecretStore::new(served.outside(dir.path()).await, "istio-system");
    let none = store.secret("s").await.expect("read");
    assert!(none.version.is_empty() && none.data.is_empty());
    let mut first = none.clone();
    first.data.insert("key".to_owned(), vec![0, 1, 255]);
    let written = store
        .write_secret("s", "istio.io/ca-root", &first)
        .await
        .expect("written");
    assert_eq!(written.data, first.data);
    assert_eq!(store.secret("s").await.expect("read"), written);
    // Another replica, which saw none either.
    let conflict = store.write_secret("s", "istio.io/ca-root", &none).await;
    assert!(
        matches!(conflict, Err(SecretStoreError::Conflict { .. })),
        "{conflict:?}"
    );
    let mut second = written.clone();
    second.data.insert("more".to_owned(), b"x".to_vec());
    store
        .write_secret("s", "istio.io/ca-root", &second)
        .await
        .expect("written");
    let conflict = store.write_secret("s", "istio.io/ca-root", &second).await;
    assert!(
        matches!(conflict, Err(SecretStoreError::Conflict { .. })),
        "{conflict:?}"
    );
    assert_eq!(store.config_map("none").await.expect("read"), None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_reviewed_for_their_audience() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let inside = served.inside();
    namespace(&inside, "n").await;
    let account = json!({"metadata": {"name": "a", "namespace": "n"}});
    create(&inside, &resources::SERVICE_ACCOUNTS, account).await;
    let pod = json!({"metadata": {"name": "p", "namespace": "n"},
        "spec": {"serviceAccountName": "a", "containers": [{"name": "c", "image": "corten.dev/echo"}]}});
    let pod = create(&inside, &resources::PODS, pod).await;
    let uid = pod["metadata"]["uid"].as_str().expect("it has one").to_owned();
    let token = async |audience: &str, bound: Value| -> String {
        let request = json!({"spec": {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound}});
        let made = inside.create_token("n", "a", &request).await.expect("a token");
        made["status"]["token"].as_str().expect("it is there").to_owned()
    };
    let reviewer = TokenReviewer::new(served.outside(dir.path()).await, vec!["istio-ca".to_owned()]);
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid});
    let expected = TokenIdentity {
        namespace: "n".to_owned(),
        service_account: "a".to_owned(),
        pod: Some(("p".to_owned(), uid)),
    };
    let good = token("istio-ca", bound).await;
    assert_eq!(reviewer.review(&good).await, Ok(expected.clone()));
    assert_eq!(reviewer.review(&good).await, Ok(expected), "from memory");
    let unbound = token("istio-ca", Value::Null).await;
    assert_eq!(reviewer.review(&unbound).await.map(|identity| identity.pod), Ok(None));
    for bad in [
        token("elsewhere", Value::Null).await,
        format!("{good}x"),
        "garbage".to_owned(),
        String::new(),
    ] {
        assert!(reviewer.review(&bad).await.is_err(), "{bad}");
    }
    served.stop().await;
}
