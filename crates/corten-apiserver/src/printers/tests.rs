use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CustomColumns, age, printer};
use crate::resources::{self, ResourceId};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

#[track_caller]
fn check(resource: &ResourceId, object: Value, expect: Value) {
    let printer = printer(resource);
    let cells = (printer.cells)(&object, now());
    assert_eq!(cells.len(), printer.columns().len(), "as many cells as columns");
    assert_eq!(Value::from(cells), expect);
}

#[test]
fn ages() {
    let rows = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ];
    for (seconds, expect) in rows {
        assert_eq!(age::human(seconds), expect, "{seconds}");
    }
}

#[test]
fn an_object_without_anything_still_has_its_cells() {
    for builtin in [
        resources::PODS,
        resources::NODES,
        resources::SERVICES,
        resources::EVENTS,
        resources::DEPLOYMENTS,
    ] {
        let printer = printer(&builtin);
        assert_eq!(
            (printer.cells)(&Value::Null, now()).len(),
            printer.columns().len(),
            "{builtin}"
        );
    }
}

#[test]
fn pods() {
    let pod = |spec: Value, status: Value, deleted: Value| {
        json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:59:00Z", "deletionTimestamp": deleted},
            "spec": spec, "status": status,
        })
    };
    let row = |ready: &str, status: &str, restarts: &str| {
        json!([
            "p", ready, status, restarts, "60s", "<none>", "<none>", "<none>", "<none>"
        ])
    };
    let one = json!({"containers": [{"name": "a"}]});
    let running = json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
    check(
        &resources::PODS,
        pod(one.clone(), running.clone(), Value::Null),
        row("1/1", "Running", "0"),
    );
    check(
        &resources::PODS,
        pod(one.clone(), running, json!("2026-01-01T01:00:00Z")),
        row("1/1", "Terminating", "0"),
    );
    let crashed = json!({"phase": "Running", "containerStatuses": [{
        "name": "a", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:30Z"}},
    }]});
    check(
        &resources::PODS,
        pod(one.clone(), crashed, Value::Null),
        row("0/1", "CrashLoopBackOff", "3 (30s ago)"),
    );
    let done = json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    check(
        &resources::PODS,
        pod(one, done, Value::Null),
        row("0/1", "Completed", "0"),
    );
    let with_init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let waiting =
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}, {"name": "s"}]});
    check(
        &resources::PODS,
        pod(with_init.clone(), waiting, Value::Null),
        row("0/2", "Init:0/2", "0"),
    );
    let sidecar = json!({
        "phase": "Running",
        "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}},
            {"name": "s", "started": true, "ready": true, "state": {"running": {}}},
        ],
        "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}],
    });
    check(
        &resources::PODS,
        pod(with_init, sidecar, Value::Null),
        row("2/2", "Running", "0"),
    );
}

#[test]
fn services() {
    let service =
        |spec: Value| json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:59:00Z"}, "spec": spec});
    check(
        &resources::SERVICES,
        service(
            json!({"type": "NodePort", "clusterIPs": ["10.96.1.1"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}),
        ),
        json!([
            "s",
            "NodePort",
            "10.96.1.1",
            "<none>",
            "80:30080/TCP,53/UDP",
            "60s",
            "a=1,b=2"
        ]),
    );
    check(
        &resources::SERVICES,
        service(json!({"type": "ExternalName", "externalName": "example.org"})),
        json!(["s", "ExternalName", "<none>", "example.org", "<none>", "60s", "<none>"]),
    );
    check(
        &resources::SERVICES,
        service(json!({"type": "LoadBalancer", "clusterIP": "None"})),
        json!(["s", "LoadBalancer", "None", "<pending>", "<none>", "60s", "<none>"]),
    );
}

#[test]
fn workloads() {
    let object = json!({
        "metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:59:00Z"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "d"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]},
            "template": {"spec": {"containers": [{"name": "x", "image": "i:1"}, {"name": "y", "image": "j"}]}},
        },
        "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
    });
    let selector = "app=d,tier in (a,b)";
    check(
        &resources::DEPLOYMENTS,
        object.clone(),
        json!(["d", "2/3", 3, 2, "60s", "x,y", "i:1,j", selector]),
    );
    check(
        &resources::REPLICA_SETS,
        object.clone(),
        json!(["d", 3, 3, 2, "60s", "x,y", "i:1,j", selector]),
    );
    check(
        &resources::STATEFUL_SETS,
        object,
        json!(["d", "2/3", "60s", "x,y", "i:1,j"]),
    );
}

#[test]
fn events_of_both_generations() {
    let old = json!({
        "metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": "m ", "count": 4,
        "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "node1"},
        "firstTimestamp": "2026-01-01T00:59:00Z", "lastTimestamp": "2026-01-01T00:59:50Z",
    });
    check(
        &resources::EVENTS,
        old,
        json!([
            "10s",
            "Normal",
            "Started",
            "pod/p",
            "",
            "kubelet, node1",
            "m",
            "60s",
            4,
            "e"
        ]),
    );
    let new = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "R", "note": "n", "eventTime": "2026-01-01T00:59:55.000000Z",
        "regarding": {"kind": "Pod", "name": "p"}, "reportingController": "c", "reportingInstance": "c-1",
    });
    let id = ResourceId::fixed("events.k8s.io", "v1", "events");
    check(
        &id,
        new,
        json!(["5s", "Warning", "R", "pod/p", "", "c, c-1", "n", "5s", 1, "e"]),
    );
}

#[test]
fn endpoints_show_three() {
    let object = json!({
        "metadata": {"name": "e", "creationTimestamp": "2026-01-01T00:59:00Z"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 81}]}],
    });
    check(
        &resources::ENDPOINTS,
        object,
        json!(["e", "10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more...", "60s"]),
    );
}

#[test]
fn custom_columns() {
    let asked = json!([
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
        {"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    let columns = CustomColumns::parse(&asked).expect("good columns");
    let object = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:59:00Z"}, "spec": {"hosts": ["a", "b"], "n": "x"}});
    assert_eq!(
        Value::from(columns.cells(&object, now())),
        json!(["c", "[\"a\",\"b\"]", null, "60s"])
    );
    assert_eq!(
        columns
            .columns()
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>(),
        ["Name", "Hosts", "N", "Age"]
    );
    let asked = json!([{"name": "Bad", "type": "string", "jsonPath": "spec"}]);
    let refused = CustomColumns::parse(&asked).expect_err("no path").to_string();
    assert!(
        refused.starts_with("\"spec\" is no JSON path: a path begins with"),
        "{refused}"
    );
    let plain = CustomColumns::parse(&Value::Null).expect("no columns");
    assert_eq!(Value::from(plain.cells(&object, now())), json!(["c", "60s"]));
}
