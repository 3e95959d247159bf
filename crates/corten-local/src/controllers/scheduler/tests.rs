//! Placement as tables, and the sentences about pods that fit nowhere.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "n", "name": name, "uid": name, "labels": {"app": "web"}}, "spec": spec})
}

fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// `pod=node` for each placed pod, the message for each other.
#[track_caller]
fn check(waiting: &[Value], nodes: &[Value], placed: &[Value], wanted: &[&str]) {
    let nodes: Vec<&Value> = nodes.iter().collect();
    let placed: Vec<&Value> = placed.iter().collect();
    let actions = reconcile(waiting.iter().collect(), &nodes, &placed, now());
    let [Action::All(actions)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let found: Vec<String> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Patch { place, patch, .. } => {
                let node = object::text(patch, "/spec/nodeName");
                (!node.is_empty()).then(|| format!("{}={node}", place.key.name))
            }
            Action::Notify(notice) => Some(notice.message.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(found, wanted);
}

fn anti_affinity() -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}})
}

#[test]
fn pods_are_spread() {
    let pods = [pod("a", json!({})), pod("b", json!({})), pod("c", json!({}))];
    let nodes = [node("node1"), node("node2")];
    check(&pods, &nodes, &[], &["a=node1", "b=node2", "c=node1"]);
    check(&pods[..1], &nodes, &[on("node1", pod("x", json!({})))], &["a=node2"]);
}

#[test]
fn selectors_and_affinity_choose_the_node() {
    let nodes = [node("node1"), node("node2")];
    let selected = pod("a", json!({"nodeSelector": {"kubernetes.io/hostname": "node2"}}));
    check(&[selected], &nodes, &[], &["a=node2"]);
    let term =
        json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["node1"]}]});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
    check(
        &[pod("a", json!({"affinity": {"nodeAffinity": required}}))],
        &nodes,
        &[],
        &["a=node2"],
    );
}

#[test]
fn the_sentences_are_those_of_kubernetes() {
    check(
        &[pod("a", json!({}))],
        &[],
        &[],
        &["no nodes available to schedule pods"],
    );
    check(
        &[pod("a", json!({"nodeSelector": {"disk": "ssd"}}))],
        &[node("node1"), node("node2")],
        &[],
        &[
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, \
           preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ],
    );
    let mut cordoned = node("node1");
    cordoned["spec"] = json!({"unschedulable": true});
    let mut silent = node("node2");
    silent["status"]["conditions"][0]["status"] = json!("Unknown");
    check(
        &[pod("a", json!({}))],
        &[cordoned, silent],
        &[],
        &[
            "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to \
           deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ],
    );
    check(
        &[pod("a", anti_affinity())],
        &[node("node1")],
        &[on("node1", pod("x", json!({})))],
        &[
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, \
           preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ],
    );
}

#[test]
fn a_refusal_is_said_once() {
    let nodes = [];
    let pod = pod("a", json!({}));
    let actions = reconcile(vec![&pod], &nodes, &[], now());
    let [Action::All(actions)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let [Action::Notify(_), Action::Patch { patch, .. }] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let mut told = pod.clone();
    told["status"] = patch["status"].clone();
    assert_eq!(reconcile(vec![&told], &nodes, &[], now()), [Action::All(Vec::new())]);
}

#[test]
fn tolerations_and_spread_constraints_are_kept() {
    let mut tainted = node("node1");
    tainted["spec"] = json!({"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]});
    let tolerant = pod(
        "a",
        json!({"tolerations": [{"key": "a", "operator": "Equal", "value": "b"}]}),
    );
    check(&[tolerant], &[tainted], &[], &["a=node1"]);
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let placed = [
        on("node1", pod("x", json!({}))),
        on("node2", pod("y", json!({}))),
        on("node2", pod("z", json!({}))),
    ];
    check(
        &[pod("a", spread)],
        &[node("node1"), node("node2")],
        &placed,
        &["a=node1"],
    );
}
