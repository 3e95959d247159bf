//! Slices and Endpoints as tables: services and pods in, objects out.

use expect_test::expect;

use super::*;
use crate::controllers::action::Action;

fn service(extra: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "n", "name": "web", "uid": "s", "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "appProtocol": "http"}]},
    });
    for (field, value) in extra.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

fn pod(number: usize, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "n", "name": format!("web-{number}"), "uid": format!("u{number}")},
        "spec": {"nodeName": "node1", "containers": [{"ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.244.1.{number}")}, {"ip": format!("fd00::{number}")}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
    })
}

fn slices(service: &Value, pods: &[Value], slices: &[Value]) -> Vec<Action> {
    let pods: Vec<&Value> = pods.iter().collect();
    let slices: Vec<&Value> = slices.iter().collect();
    slice::reconcile(service, &pods, &slices, &|_| Some("zone1".to_owned()))
}

/// The slices after the actions, with names and versions as the API would give them.
fn applied(actions: Vec<Action>, mut slices: Vec<Value>) -> Vec<Value> {
    for action in actions {
        match action {
            Action::Create { mut object, .. } => {
                let name = format!("web-{}", slices.len());
                object["metadata"]["name"] = json!(name);
                object["metadata"]["uid"] = json!(name);
                slices.push(object);
            }
            Action::Update { object, .. } => {
                let slot = slices.iter_mut().find(|s| object::name(s) == object::name(&object));
                *slot.expect("an update of what is there") = object;
            }
            Action::Delete { uid, .. } => slices.retain(|s| object::uid(s) != uid),
            other => panic!("{other:?}"),
        }
    }
    slices
}

#[test]
fn a_slice_says_all_about_its_pods() {
    let made = applied(slices(&service(json!({})), &[pod(1, true)], &[]), Vec::new());
    expect![[r#"
        {
          "addressType": "IPv4",
          "apiVersion": "discovery.k8s.io/v1",
          "endpoints": [
            {
              "addresses": [
                "10.244.1.1"
              ],
              "conditions": {
                "ready": true,
                "serving": true,
                "terminating": false
              },
              "nodeName": "node1",
              "targetRef": {
                "kind": "Pod",
                "name": "web-1",
                "namespace": "n",
                "uid": "u1"
              },
              "zone": "zone1"
            }
          ],
          "kind": "EndpointSlice",
          "metadata": {
            "annotations": {
              "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"
            },
            "generateName": "web-",
            "labels": {
              "app": "web",
              "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
              "kubernetes.io/service-name": "web"
            },
            "name": "web-0",
            "namespace": "n",
            "ownerReferences": [
              {
                "apiVersion": "v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Service",
                "name": "web",
                "uid": "s"
              }
            ],
            "uid": "web-0"
          },
          "ports": [
            {
              "appProtocol": "http",
              "name": "http",
              "port": 8080,
              "protocol": "TCP"
            }
          ]
        }"#]]
    .assert_eq(&format!("{:#}", made[0]));
    assert_eq!(
        slices(&service(json!({})), &[pod(1, true)], &made),
        [],
        "nothing more to do"
    );
}

#[test]
fn readiness_termination_and_publishing() {
    let condition = |service: &Value, pod: Value| {
        let made = applied(slices(service, &[pod], &[]), Vec::new());
        let c = &made[0]["endpoints"][0]["conditions"];
        [&c["ready"], &c["serving"], &c["terminating"]].map(|v| v == true)
    };
    let mut ending = pod(1, true);
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    let plain = service(json!({}));
    assert_eq!(condition(&plain, pod(1, false)), [false, false, false]);
    assert_eq!(condition(&plain, ending.clone()), [false, true, true]);
    let publishing = service(json!({"publishNotReadyAddresses": true}));
    assert_eq!(condition(&publishing, ending), [true, true, true]);
}

#[test]
fn families_host_names_and_hints() {
    let mut named = pod(1, true);
    named["spec"]["hostname"] = json!("web-1");
    named["spec"]["subdomain"] = json!("web");
    let service =
        service(json!({"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"], "trafficDistribution": "PreferSameNode"}));
    let made = applied(slices(&service, &[named], &[]), Vec::new());
    assert_eq!(made[1]["addressType"], "IPv6");
    assert_eq!(made[1]["endpoints"][0]["addresses"], json!(["fd00::1"]));
    assert_eq!(made[0]["endpoints"][0]["hostname"], "web-1");
    assert_eq!(
        made[0]["endpoints"][0]["hints"],
        json!({"forZones": [{"name": "zone1"}], "forNodes": [{"name": "node1"}]})
    );
    assert_eq!(made[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
}

#[test]
fn slices_hold_a_hundred_and_change_as_little_as_possible() {
    let service = service(json!({}));
    let mut pods: Vec<Value> = (1..=150).map(|i| pod(i, true)).collect();
    let made = applied(slices(&service, &pods, &[]), Vec::new());
    let sizes =
        |slices: &[Value]| -> Vec<usize> { slices.iter().map(|s| object::items(s, "/endpoints").len()).collect() };
    assert_eq!(sizes(&made), [100, 50]);
    pods.push(pod(151, true));
    let actions = slices(&service, &pods, &made);
    assert_eq!(actions.len(), 1, "one slice is written");
    let made = applied(actions, made);
    assert_eq!(sizes(&made), [100, 51]);
    pods.truncate(1);
    let made = applied(slices(&service, &pods, &made), made);
    assert_eq!(sizes(&made), [1]);
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let service = service(json!({}));
    let made = applied(slices(&service, &[], &[]), Vec::new());
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["endpoints"], json!([]));
    assert_eq!(slices(&service, &[], &made), []);
    let filled = applied(slices(&service, &[pod(1, true)], &made), made);
    assert_eq!(filled.len(), 1, "the empty one is used: {filled:#?}");
    assert_eq!(object::items(&filled[0], "/endpoints").len(), 1);
    let emptied = applied(slices(&service, &[], &filled), filled);
    assert_eq!(emptied.len(), 1);
    assert_eq!(emptied[0]["endpoints"], json!([]));
}

#[test]
fn named_ports_are_looked_up_in_each_pod() {
    let mut other = pod(2, true);
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    let made = applied(slices(&service(json!({})), &[pod(1, true), other], &[]), Vec::new());
    let mut ports: Vec<i64> = made.iter().filter_map(|s| object::number(s, "/ports/0/port")).collect();
    ports.sort_unstable();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn endpoints_group_ready_and_unready_addresses() {
    let pods = [pod(1, true), pod(2, false)];
    let pods: Vec<&Value> = pods.iter().collect();
    let Some(Action::Create { object, .. }) = legacy::reconcile(&service(json!({})), &pods, None) else {
        panic!("it is made");
    };
    let address = |n: usize| {
        json!({"ip": format!("10.244.1.{n}"), "nodeName": "node1",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": format!("web-{n}"), "uid": format!("u{n}")}})
    };
    assert_eq!(
        object["subsets"],
        json!([{"addresses": [address(1)], "notReadyAddresses": [address(2)],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}]}])
    );
    assert_eq!(
        object["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"],
        "endpoint-controller"
    );
    assert!(legacy::reconcile(&service(json!({})), &pods, Some(&object)).is_none());
}
