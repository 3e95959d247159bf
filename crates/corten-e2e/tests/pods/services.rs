//! Services: who answers by which name, and from when on.

use std::collections::BTreeSet;
use std::path::Path;

use corten_e2e::Namespace;
use serde_json::Value;

/// The names of the pods behind a service, as its slices have them.
fn endpoints(ns: &Namespace<'_>, service: &str) -> BTreeSet<String> {
    let list = ns.corten(
        "get",
        &[
            "endpointslices",
            "-l",
            &format!("kubernetes.io/service-name={service}"),
            "-o",
            "json",
        ],
    );
    let list: Value = serde_json::from_str(&list.ok()).expect("-o json is JSON");
    let slices = list["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready
        .filter_map(|endpoint| endpoint["targetRef"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// Calls a URL from a pod several times; who answered.
#[track_caller]
fn callers(ns: &Namespace<'_>, pod: &str, url: &str) -> BTreeSet<String> {
    let args = [
        pod,
        "--",
        "corten-load",
        url,
        "--rate",
        "0",
        "-n",
        "8",
        "--close",
        "-o",
        "json",
    ];
    let report = ns.corten("exec", &args).ok();
    let report: Value = serde_json::from_str(&report).expect("-o json is JSON");
    assert_eq!(report["codes"]["200"], 8, "{url}: {report:#}");
    report["pods"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

pub(crate) fn call_each_other_by_name(ns: &Namespace<'_>) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/echo.yaml");
    ns.apply(&std::fs::read_to_string(example).expect("the example is there"));
    let corten = |args: &[&str]| corten_e2e::run(ns.program("corten", args)).ok();
    let mut nodes = BTreeSet::new();
    for namespace in ["payments", "orders"] {
        let wait = [
            "wait",
            "--for=condition=Available",
            "deployment",
            "--all",
            "-n",
            namespace,
            "--timeout=60s",
        ];
        assert!(corten(&wait).contains("condition met"));
        let pods = corten(&[
            "get",
            "pods",
            "-n",
            namespace,
            "-o",
            "jsonpath={range .items[*]}{.spec.nodeName} {end}",
        ]);
        nodes.extend(pods.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["node1", "node2"]);
    // Each node is a zone of its own, and endpoints say in which they are.
    let slices = corten(&["get", "endpointslices", "-n", "payments", "-o", "json"]);
    let slices: Value = serde_json::from_str(&slices).expect("-o json is JSON");
    let endpoints = slices["items"].as_array().into_iter().flatten();
    let endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let zones: BTreeSet<_> = endpoints
        .map(|it| (it["nodeName"].as_str(), it["zone"].as_str()))
        .collect();
    let expected = [(Some("node1"), Some("local-a")), (Some("node2"), Some("local-b"))];
    assert_eq!(zones, BTreeSet::from(expected));
    for (namespace, service) in [("payments", "payments-api"), ("orders", "orders-api")] {
        let pods = corten(&["get", "pods", "-n", namespace, "-o", "name"]);
        assert_eq!(pods.lines().count(), 2, "{pods}");
        for pod in pods.lines() {
            // Each call goes to either pod by chance; forty to the same one do not happen.
            // The short name works in the own namespace, the long ones everywhere.
            for url in [
                format!("http://{service}:8080/"),
                "http://payments-api.payments:8080/".to_owned(),
                "http://orders-api.orders.svc.cluster.local:8080/".to_owned(),
            ] {
                let report = corten(&[
                    "exec",
                    "-n",
                    namespace,
                    pod,
                    "--",
                    "corten-load",
                    &url,
                    "--rate",
                    "0",
                    "-n",
                    "40",
                    "--close",
                    "-o",
                    "json",
                ]);
                let report: Value = serde_json::from_str(&report).expect("-o json is JSON");
                assert_eq!(report["codes"]["200"], 40, "{url}: {report:#}");
                assert_eq!(
                    report["pods"].as_object().map_or(0, serde_json::Map::len),
                    2,
                    "{url}: {report:#}"
                );
            }
        }
    }
}

const GATED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: gated, labels: {app: gated}}
spec:
  containers:
  - name: echo
    image: corten.dev/echo
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {exec: {command: [test, -e, /var/tmp/ready]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: gated}
spec: {selector: {app: gated}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: client, image: host, command: [sleep, infinity]}]
  terminationGracePeriodSeconds: 0
";

pub(crate) fn endpoints_follow_readiness(ns: &Namespace<'_>) {
    ns.apply(GATED);
    ns.wait("pod/client", "condition=Ready");
    ns.until("pod/gated", "/status/phase", |phase| phase == "Running");
    assert!(endpoints(ns, "gated").is_empty());
    let refused = ns.corten(
        "exec",
        &["client", "--", "corten-load", "http://gated/", "-n", "1", "--rate", "0"],
    );
    assert_eq!(refused.code, Some(1), "{}{}", refused.stdout, refused.stderr);
    ns.sh("gated", "touch /var/tmp/ready");
    ns.wait("pod/gated", "condition=Ready");
    corten_e2e::eventually(std::time::Duration::from_secs(60), || {
        let found = endpoints(ns, "gated");
        found
            .contains("gated")
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
    assert_eq!(
        callers(ns, "client", "http://gated/").into_iter().collect::<Vec<_>>(),
        ["gated"]
    );
    ns.sh("gated", "rm /var/tmp/ready");
    ns.wait("pod/gated", "condition=Ready=False");
    corten_e2e::eventually(std::time::Duration::from_secs(60), || {
        let found = endpoints(ns, "gated");
        found.is_empty().then_some(()).ok_or_else(|| format!("{found:?}"))
    });
}

const TYPES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: echo, image: corten.dev/echo, readinessProbe: {tcpSocket: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: on-nodes}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], ipFamilyPolicy: SingleStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: six.service-types.svc.cluster.local}
";

pub(crate) fn types(ns: &Namespace<'_>) {
    ns.apply(TYPES);
    ns.wait("pod/web", "condition=Ready");
    let port = ns.get("service/on-nodes")["spec"]["ports"][0]["nodePort"].clone();
    assert!(
        port.as_i64().is_some_and(|port| (30_000..32_768).contains(&port)),
        "{port}"
    );
    for service in ["on-nodes", "six"] {
        corten_e2e::eventually(std::time::Duration::from_secs(60), || {
            let found = endpoints(ns, service);
            found
                .contains("web")
                .then_some(())
                .ok_or_else(|| format!("{service}: {found:?}"))
        });
    }
    let six = ns.get("service/six")["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(six.contains(':'), "{six}");
    let nodes = corten_e2e::run(ns.program(
        "corten",
        &["get", "nodes", "-o", "jsonpath={.items[*].status.addresses[0].address}"],
    ))
    .ok();
    assert_eq!(nodes.split_whitespace().count(), 2, "{nodes}");
    let mut urls = vec![
        "http://on-nodes/".to_owned(),
        "http://six/".to_owned(),
        format!("http://[{six}]/"),
        "http://elsewhere/".to_owned(),
    ];
    urls.extend(nodes.split_whitespace().map(|node| format!("http://{node}:{port}/")));
    for url in urls {
        assert_eq!(
            callers(ns, "web", &url).into_iter().collect::<Vec<_>>(),
            ["web"],
            "{url}"
        );
    }
}

const STATEFUL: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: echo, image: corten.dev/echo, readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
";

pub(crate) fn stateful_sets(ns: &Namespace<'_>) {
    ns.apply(STATEFUL);
    ns.corten("rollout status", &["statefulset/db", "--timeout=60s"]).ok();
    assert_eq!(ns.corten("get", &["pods", "-o", "name"]).ok(), "pod/db-0\npod/db-1\n");
    assert_eq!(ns.sh("db-0", "hostname"), "db-0\n");
    for (name, other) in [("db-0", "db-1"), ("db-1", "db-0")] {
        corten_e2e::eventually(std::time::Duration::from_secs(60), || {
            let found = endpoints(ns, "db");
            found.contains(other).then_some(()).ok_or_else(|| format!("{found:?}"))
        });
        assert_eq!(
            callers(ns, name, &format!("http://{other}.db:8080/"))
                .into_iter()
                .collect::<Vec<_>>(),
            [other]
        );
    }
    // A pod that goes comes back under its name.
    let before = ns.get("pod/db-1")["metadata"]["uid"].clone();
    ns.corten("delete", &["pod", "db-1"]).ok();
    ns.wait("pod/db-1", "create");
    ns.until("pod/db-1", "/metadata/uid", |uid| *uid != before);
    ns.wait("pod/db-1", "condition=Ready");
}
