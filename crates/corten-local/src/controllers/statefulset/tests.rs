//! Stateful sets step by step: names, order, partition, revisions.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "n", "name": "db", "uid": "s", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"image": "one"}},
        },
    })
}

/// The revision that a look makes for the set's template.
fn revision(set: &Value, owned: &[&Value]) -> Value {
    match reconcile(set, &[], owned, now()).remove(0) {
        Action::Create { mut object, .. } => {
            object["metadata"]["uid"] = object["metadata"]["name"].clone();
            object
        }
        other => panic!("{other:?}"),
    }
}

fn pod(name: &str, revision: &Value, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "n", "name": name, "uid": name,
            "labels": {"app": "db", "controller-revision-hash": revision["metadata"]["name"],
                "statefulset.kubernetes.io/pod-name": name},
            "ownerReferences": [{"uid": "s", "controller": true}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

/// The pods that a look makes (+) and deletes (-).
fn steps(set: &Value, pods: &[Value], revisions: &[&Value]) -> Vec<String> {
    let pods: Vec<&Value> = pods.iter().collect();
    let mut steps = Vec::new();
    collect(&reconcile(set, &pods, revisions, now()), &mut steps);
    steps
}

fn collect(actions: &[Action], steps: &mut Vec<String>) {
    for action in actions {
        match action {
            Action::Create { object, .. } => steps.push(format!("+{}", object::name(object))),
            Action::Delete { place, .. } => steps.push(format!("-{}", place.key.name)),
            Action::Batch(inner) => collect(inner, steps),
            _ => {}
        }
    }
}

#[test]
fn pods_have_names_host_names_and_labels() {
    let set = set(1);
    let revision = revision(&set, &[]);
    let actions = reconcile(&set, &[], &[&revision], now());
    let Action::Create { object, announce, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(object["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(
        object["metadata"]["labels"]["controller-revision-hash"],
        revision["metadata"]["name"]
    );
    assert_eq!(object["spec"]["hostname"], "db-0");
    assert_eq!(object["spec"]["subdomain"], "db");
    assert_eq!(object["spec"]["image"], "one");
    assert!(object["spec"].get("$patch").is_none() && object.get("$patch").is_none());
    let said = announce.as_ref().map(|a| a.message.replace("{name}", "db-0"));
    assert_eq!(said.as_deref(), Some("create Pod db-0 in StatefulSet db successful"));
}

#[test]
fn ordered_sets_go_one_by_one_and_parallel_ones_at_once() {
    let mut set = set(3);
    let revision = revision(&set, &[]);
    let r = &revision;
    assert_eq!(steps(&set, &[], &[r]), ["+db-0"]);
    assert_eq!(steps(&set, &[pod("db-0", r, false)], &[r]), [""; 0]);
    assert_eq!(steps(&set, &[pod("db-0", r, true)], &[r]), ["+db-1"]);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    assert_eq!(steps(&set, &[pod("db-1", r, false)], &[r]), ["+db-0", "+db-2"]);
    set["spec"]["ordinals"] = json!({"start": 5});
    assert_eq!(steps(&set, &[], &[r]), ["+db-5", "+db-6", "+db-7"]);
}

#[test]
fn surplus_pods_go_from_the_top() {
    let set = set(1);
    let revision = revision(&set, &[]);
    let r = &revision;
    let pods = [pod("db-0", r, true), pod("db-1", r, true), pod("db-2", r, true)];
    assert_eq!(steps(&set, &pods, &[r]), ["-db-2"]);
}

#[test]
fn updates_go_down_to_the_partition_waiting_for_each() {
    let mut set = set(3);
    let old = revision(&set, &[]);
    set["spec"]["template"]["spec"]["image"] = json!("two");
    let new = revision(&set, &[&old]);
    assert_eq!(new["revision"], 2);
    let both = [&old, &new];
    let all_old = [
        pod("db-0", &old, true),
        pod("db-1", &old, true),
        pod("db-2", &old, true),
    ];
    assert_eq!(steps(&set, &all_old, &both), ["-db-2"]);
    let waiting = [
        pod("db-0", &old, true),
        pod("db-1", &old, true),
        pod("db-2", &new, false),
    ];
    assert_eq!(steps(&set, &waiting, &both), [""; 0]);
    let next = [
        pod("db-0", &old, true),
        pod("db-1", &old, true),
        pod("db-2", &new, true),
    ];
    assert_eq!(steps(&set, &next, &both), ["-db-1"]);
    set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    assert_eq!(steps(&set, &next, &both), [""; 0]);
    set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    assert_eq!(steps(&set, &all_old, &both), [""; 0]);
}

#[test]
fn an_undone_template_raises_its_old_revision() {
    let mut set = set(1);
    let first = revision(&set, &[]);
    set["spec"]["template"]["spec"]["image"] = json!("two");
    let second = revision(&set, &[&first]);
    set["spec"]["template"]["spec"]["image"] = json!("one");
    let actions = reconcile(&set, &[], &[&first, &second], now());
    let Action::Update { object, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(object::name(object), object::name(&first));
    assert_eq!(object["revision"], 3);
}

#[test]
fn the_status_names_the_revisions() {
    let mut set = set(2);
    let old = revision(&set, &[]);
    set["status"] = json!({"currentRevision": old["metadata"]["name"]});
    set["spec"]["template"]["spec"]["image"] = json!("two");
    let new = revision(&set, &[&old]);
    let pods = [pod("db-0", &old, true), pod("db-1", &new, true)];
    let pods: Vec<&Value> = pods.iter().collect();
    let actions = reconcile(&set, &pods, &[&old, &new], now());
    let status = actions.iter().find_map(|action| match action {
        Action::UpdateStatus { object, .. } => Some(&object["status"]),
        _ => None,
    });
    assert_eq!(
        status,
        Some(&json!({
            "observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "currentReplicas": 1,
            "updatedReplicas": 1, "collisionCount": 0,
            "currentRevision": old["metadata"]["name"], "updateRevision": new["metadata"]["name"],
        }))
    );
}

#[test]
fn claims_become_empty_directories_and_that_is_said() {
    let mut set = set(1);
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
    let actions = reconcile(&set, &[], &[], now());
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Notify(n) if n.reason == "VolumeClaimsUnsupported")),
        "{actions:?}"
    );
    let revision = revision(&set, &[]);
    let actions = reconcile(&set, &[], &[&revision], now());
    let Action::Create { object, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(object["spec"]["volumes"], json!([{"name": "data", "emptyDir": {}}]));
}
