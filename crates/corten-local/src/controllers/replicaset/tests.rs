//! Replica sets as tables: pods in, creations, deletions, adoptions and the status out.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"namespace": "n", "name": "web", "uid": "s", "generation": 2},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    })
}

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "n", "name": name, "uid": name, "labels": {"app": "web"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    if let Some(owner) = owner {
        pod["metadata"]["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
    }
    pod
}

fn look(set: &Value, pods: &[Value]) -> Vec<Action> {
    let pods: Vec<&Value> = pods.iter().collect();
    reconcile(set, &pods, &pods, now())
}

#[test]
fn missing_pods_are_made() {
    let actions = look(&set(3), &[pod("a", Some("s"), true)]);
    let [Action::Batch(batch)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!(batch.len(), 2);
    let Action::Create { object, announce, .. } = &batch[0] else {
        panic!("{batch:?}");
    };
    assert_eq!(object["metadata"]["generateName"], "web-");
    assert_eq!(object["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
    assert_eq!(announce.as_ref().map(|a| a.reason), Some("SuccessfulCreate"));
}

#[test]
fn surplus_pods_go_unready_ones_first() {
    let actions = look(&set(1), &[pod("a", Some("s"), true), pod("b", Some("s"), false)]);
    let [Action::Batch(batch)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert!(
        matches!(&batch[..], [Action::Delete { uid, .. }] if uid == "b"),
        "{batch:?}"
    );
}

#[test]
fn orphans_that_match_are_adopted_and_strays_released() {
    let adopted = look(&set(1), &[pod("a", None, true)]);
    let [Action::Patch { patch, .. }] = adopted.as_slice() else {
        panic!("{adopted:?}");
    };
    assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "s");
    let mut stray = pod("a", Some("s"), true);
    stray["metadata"]["labels"]["app"] = json!("other");
    let released = look(&set(1), &[stray]);
    let [Action::Patch { patch, .. }] = released.as_slice() else {
        panic!("{released:?}");
    };
    assert_eq!(patch["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn the_status_counts_and_forgets_failures() {
    let mut set = set(2);
    set["spec"]["minReadySeconds"] = json!(700);
    set["status"] = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True"}]});
    let actions = look(&set, &[pod("a", Some("s"), true), pod("b", Some("s"), false)]);
    let Action::UpdateStatus { object, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        object["status"],
        json!({"observedGeneration": 2, "replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1})
    );
    assert_eq!(actions[1], Action::Again(std::time::Duration::from_secs(100)));
    let again = look(object, &[pod("a", Some("s"), true), pod("b", Some("s"), false)]);
    assert_eq!(again.len(), 1, "the status stands: {again:?}");
}

#[test]
fn a_refused_pod_is_reported() {
    let set = set(1);
    let failure = Failure {
        action: Action::Create {
            resource: PODS,
            object: json!({}),
            announce: None,
        },
        status: corten_apiserver::Status::forbidden("", "pods", "web-x", "no room"),
    };
    let actions = failed(&set, &failure, now());
    let [Action::Notify(notice), Action::UpdateStatus { object, .. }] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!(notice.message, "Error creating: pods \"web-x\" is forbidden: no room");
    let condition = object::condition(object, "ReplicaFailure").expect("a condition");
    assert_eq!(condition["reason"], "FailedCreate");
    assert_eq!(condition["message"], "pods \"web-x\" is forbidden: no room");
}
