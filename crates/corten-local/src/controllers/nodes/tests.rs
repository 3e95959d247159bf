//! Nodes that fall silent, and pods whose node is gone.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn node() -> Value {
    json!({
        "metadata": {"name": "node1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]},
    })
}

fn lease(renewed: &str) -> Value {
    json!({"spec": {"renewTime": renewed}})
}

#[test]
fn a_renewed_lease_is_looked_at_again_when_it_could_be_late() {
    let actions = reconcile(&node(), Some(&lease("2026-01-01T00:09:50.000000Z")), now());
    assert_eq!(actions, [Action::Again(std::time::Duration::from_millis(30_050))]);
}

#[test]
fn a_silent_node_is_not_ready() {
    let actions = reconcile(&node(), Some(&lease("2026-01-01T00:09:00.000000Z")), now());
    let [Action::UpdateStatus { object, .. }, Action::Notify(notice)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!(notice.message, "Node node1 status is now: NodeNotReady");
    let ready = object::condition(object, "Ready").expect("a condition");
    assert_eq!(ready["status"], "Unknown");
    assert_eq!(ready["reason"], "NodeStatusUnknown");
    assert_eq!(object["status"]["conditions"][1]["reason"], "NodeStatusNeverUpdated");
    let again = reconcile(object, Some(&lease("2026-01-01T00:09:00.000000Z")), now());
    let [Action::Patch { patch, .. }] = again.as_slice() else {
        panic!("only the taint is left: {again:?}");
    };
    assert_eq!(patch["spec"]["taints"][0]["key"], "node.kubernetes.io/unreachable");
}

#[test]
fn a_cordoned_node_is_tainted_and_an_uncordoned_one_freed() {
    let mut cordoned = node();
    cordoned["spec"] = json!({"unschedulable": true, "taints": [{"key": "own", "effect": "NoExecute"}]});
    let Some(Action::Patch { patch, .. }) = taint(&cordoned, now()) else {
        panic!("it is tainted");
    };
    assert_eq!(patch["spec"]["taints"][1]["key"], "node.kubernetes.io/unschedulable");
    let mut freed = node();
    freed["spec"] = json!({"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]});
    let Some(Action::Patch { patch, .. }) = taint(&freed, now()) else {
        panic!("it is freed");
    };
    assert_eq!(patch["spec"]["taints"], Value::Null);
}

#[test]
fn a_pod_without_its_node_fails_and_goes() {
    let pod = json!({"metadata": {"namespace": "n", "name": "p", "uid": "p"}, "status": {"phase": "Running"}});
    let actions = abandon(&pod, now());
    let [Action::Patch { patch, .. }, Action::Delete { grace_seconds, .. }] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!(patch["status"]["phase"], "Failed");
    assert_eq!(patch["status"]["conditions"][0]["reason"], "DeletionByPodGC");
    assert_eq!(*grace_seconds, Some(0));
}
