//! Daemon sets step by step: a pod a node, replaced after or beside the old one.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn set(rolling: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"namespace": "n", "name": "agent", "uid": "s", "generation": 2},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"hostNetwork": true, "nodeSelector": {"os": "linux"}}},
        },
    })
}

fn node(name: &str, os: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"os": os}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(name: &str, node: &str, revision: &str, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "n", "name": name, "uid": name, "labels": {"app": "agent", "controller-revision-hash": revision},
            "ownerReferences": [{"uid": "s", "controller": true}]},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

/// The revision of the set's template, as a first look makes it.
fn revision(set: &Value) -> Value {
    match reconcile(set, &[], &[], &[], now()).remove(0) {
        Action::Create { mut object, .. } => {
            object["metadata"]["uid"] = object["metadata"]["name"].clone();
            object
        }
        other => panic!("{other:?}"),
    }
}

/// What a look makes (+node) and deletes (-pod), and how many pods are counted as ready.
#[track_caller]
fn check(rolling: Value, pods: impl Fn(&str) -> Vec<Value>, expect: &str) {
    let set = set(rolling);
    let revision = revision(&set);
    let pods = pods(object::name(&revision));
    let nodes = [node("one", "linux"), node("two", "linux"), node("three", "plan9")];
    let actions = reconcile(
        &set,
        &nodes.iter().collect::<Vec<_>>(),
        &pods.iter().collect::<Vec<_>>(),
        &[&revision],
        now(),
    );
    let mut steps = Vec::new();
    for action in &actions {
        match action {
            Action::Batch(inner) => steps.extend(inner.iter().map(|action| match action {
                Action::Create { object, .. } => format!("+{}", node_of(object).expect("a node")),
                Action::Delete { place, .. } => format!("-{}", place.key.name),
                other => format!("{other:?}"),
            })),
            Action::UpdateStatus { object, .. } => steps.push(format!(
                "{}/{}",
                object["status"]["numberReady"], object["status"]["desiredNumberScheduled"]
            )),
            other => steps.push(format!("{other:?}")),
        }
    }
    assert_eq!(steps.join(" "), expect);
}

#[test]
fn every_fitting_node_gets_one_pod() {
    let one_at_a_time = || json!({"maxUnavailable": 1, "maxSurge": 0});
    check(one_at_a_time(), |_| Vec::new(), "+one +two 0/2");
    check(one_at_a_time(), |new| vec![pod("a", "one", new, true)], "+two 1/2");
    check(
        one_at_a_time(),
        |new| {
            vec![
                pod("a", "one", new, true),
                pod("b", "one", new, true),
                pod("c", "three", new, true),
            ]
        },
        "-b +two -c 1/2",
    );
}

#[test]
fn older_pods_are_replaced_one_after_the_other() {
    let old = |a: bool, b: bool| vec![pod("a", "one", "old", a), pod("b", "two", "old", b)];
    let rolling = || json!({"maxUnavailable": 1, "maxSurge": 0});
    check(rolling(), |_| old(true, true), "-a 2/2");
    check(rolling(), |_| old(false, true), "-a 1/2");
    check(
        rolling(),
        |new| vec![pod("x", "one", new, false), pod("b", "two", "old", true)],
        "1/2",
    );
    check(
        rolling(),
        |new| vec![pod("x", "one", new, true), pod("b", "two", "old", true)],
        "-b 2/2",
    );
}

#[test]
fn one_that_leaves_slowly_is_replaced_at_once_where_both_may_run() {
    let leaving = |new: &str| {
        let mut pod = pod("a", "one", new, true);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:00Z");
        vec![pod, self::pod("b", "two", new, true)]
    };
    check(json!({"maxUnavailable": 0, "maxSurge": 1}), leaving, "+one 1/2");
    check(json!({"maxUnavailable": 1, "maxSurge": 0}), leaving, "1/2");
}

#[test]
fn a_surge_has_the_new_pod_beside_the_old_one() {
    let rolling = || json!({"maxUnavailable": 0, "maxSurge": 1});
    let old = || vec![pod("a", "one", "old", true), pod("b", "two", "old", true)];
    let with = |new: Value| old().into_iter().chain([new]).collect::<Vec<_>>();
    check(rolling(), |_| old(), "+one 2/2");
    check(rolling(), |new| with(pod("x", "one", new, false)), "2/2");
    check(rolling(), |new| with(pod("x", "one", new, true)), "-a 2/2");
    check(
        rolling(),
        |new| vec![pod("x", "one", new, true), pod("b", "two", "old", true)],
        "+two 2/2",
    );
}
