//! Pods with sidecars come and go while others call them, and nobody notices; and calls stay near until what is near fails.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_e2e::{As, Namespace, Scenario, eventually, play_with_envoy};
use serde_json::Value;

const SCENARIOS: &[Scenario] = &[
    ("nobody_notices_a_restart", nobody_notices_a_restart),
    ("calls_stay_near", calls_stay_near),
];

/// How long a change may take to be seen everywhere on a busy machine.
const SETTLING: Duration = Duration::from_secs(60);

#[test]
fn as_root() {
    if let Err(reason) = As::Root.possible() {
        corten_rt::skip!("{reason}");
    }
    match corten_stock_envoy::program() {
        Ok(envoy) => play_with_envoy(As::Root, &envoy, SCENARIOS),
        Err(missing) => corten_rt::skip!("{missing}"),
    }
}

/// Applies in a namespace that gives pods their proxies.
fn start(ns: &Namespace<'_>, objects: &str) {
    ns.corten("label", &["namespace", ns.name(), "istio-injection=enabled"])
        .ok();
    eventually(SETTLING, || {
        let applied = ns.try_apply(objects);
        (applied.code == Some(0)).then_some(()).ok_or(applied.stderr)
    });
}

/// Two servers, and two callers that ask for half of 100 answers a second each for as long as they live.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews}
spec:
  replicas: 2
  selector: {matchLabels: {app: reviews}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: reviews}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: corten.dev/echo
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        # A server that stops when it is told to is still called by those who have not heard of it yet.
        lifecycle: {preStop: {sleep: {seconds: 10}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  replicas: 2
  selector: {matchLabels: {app: caller}}
  template:
    metadata: {labels: {app: caller}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - {name: app, image: corten.dev/load, args: ['http://reviews/', --rate, '50', --connections, '4', --duration, 10m, --output, json]}
";

/// Names of the pods of an application.
fn pods(ns: &Namespace<'_>, app: &str) -> Vec<String> {
    let all = ns.get("pods");
    let of_app =
        |pod: &&Value| pod["metadata"]["labels"]["app"] == app && pod["metadata"]["deletionTimestamp"].is_null();
    let found = all["items"].as_array().into_iter().flatten().filter(of_app);
    found
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .map(str::to_owned)
        .collect()
}

fn nobody_notices_a_restart(ns: &Namespace<'_>) {
    start(ns, SHOP);
    for deployment in ["reviews", "caller"] {
        ns.wait(&format!("deployment/{deployment}"), "condition=Available");
    }
    let restart = |deployment: &str| {
        let name = format!("deployment/{deployment}");
        ns.corten("rollout restart", &[&name]).ok();
        ns.corten("rollout status", &[&name, "--timeout", "120s"]).ok();
    };
    // The first to be watched to its end begins when there is something to call.
    restart("caller");
    let watched = pods(ns, "caller");
    // One server after the other, and one that goes without anybody having planned it.
    restart("reviews");
    let gone = pods(ns, "reviews");
    ns.corten("delete", &["pod", &gone[0]]).ok();
    ns.wait("deployment/reviews", "condition=Available");
    // Then the callers: what each says at its end is in its log.
    let logs: Vec<_> = watched
        .iter()
        .map(|pod| {
            ns.command(&["logs"], &["--follow", pod, "-c", "app"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("logs can be followed")
        })
        .collect();
    restart("caller");
    for (pod, log) in watched.iter().zip(logs) {
        let said = log.wait_with_output().expect("the log ends with the pod");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let report = said
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let report = report.unwrap_or_else(|| panic!("{pod} reported nothing: {said}"));
        let codes = report["codes"]
            .as_object()
            .unwrap_or_else(|| panic!("{report}"))
            .clone();
        assert_eq!(codes.keys().collect::<Vec<_>>(), ["200"], "{pod}: {report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{pod}: {report}");
        assert!(codes["200"].as_u64() > Some(200), "{pod}: {report}");
    }
}

/// A caller and a server on the first node, another server on the second.
const PLACES: &str = "
apiVersion: v1
kind: Service
metadata: {name: stock}
spec: {selector: {app: stock}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: shared}
spec: {selector: {app: stock}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {nodeName: node1, terminationGracePeriodSeconds: 2, containers: [{name: app, image: host, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: stock, sidecar.istio.io/inject: 'false'}}
spec: {nodeName: node1, containers: [{name: app, image: corten.dev/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: stock, sidecar.istio.io/inject: 'false'}}
spec: {nodeName: node2, containers: [{name: app, image: corten.dev/echo}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: stock}
spec:
  host: stock
  trafficPolicy:
    loadBalancer: {localityLbSetting: {failover: [{from: east, to: west}]}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 100}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shared}
spec:
  host: shared
  trafficPolicy:
    loadBalancer: {localityLbSetting: {distribute: [{from: 'east/*', to: {'east/*': 80, 'west/*': 20}}]}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 100}
";

/// How often each pod answered.
fn answers(ns: &Namespace<'_>, count: usize, url: &str) -> BTreeMap<String, usize> {
    let script =
        format!("for i in $(seq {count}); do curl -s -m 20 -o /dev/null -w '%header{{x-corten-pod}}\\n' '{url}'; done");
    let said = ns
        .corten("exec", &["caller", "-c", "app", "--", "sh", "-c", &script])
        .ok();
    said.lines().fold(BTreeMap::new(), |mut counts, pod| {
        *counts.entry(pod.trim().to_owned()).or_default() += 1;
        counts
    })
}

fn calls_stay_near(ns: &Namespace<'_>) {
    for (node, region) in [("node1", "east"), ("node2", "west")] {
        let labels = [
            format!("topology.kubernetes.io/region={region}"),
            format!("topology.kubernetes.io/zone={region}-1"),
        ];
        ns.corten("label", &["node", node, &labels[0], &labels[1], "--overwrite"])
            .ok();
    }
    start(ns, PLACES);
    for pod in ["caller", "near", "far"] {
        ns.wait(&format!("pod/{pod}"), "condition=Ready");
    }
    let only = |pod: &str, count: usize| BTreeMap::from([(pod.to_owned(), count)]);
    // Until the rules are there, calls are spread.
    eventually(SETTLING, || {
        let found = answers(ns, 20, "stock/");
        (found == only("near", 20))
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
    let shares = eventually(SETTLING, || {
        let found = answers(ns, 200, "shared/");
        let far = found.get("far").copied().unwrap_or_default();
        // 40 are expected, with a deviation of 5.7: further away than five of those is no chance.
        (10..=70)
            .contains(&far)
            .then_some(found.clone())
            .ok_or_else(|| format!("{found:?}"))
    });
    assert_eq!(shares.values().sum::<usize>(), 200, "{shares:?}");
    // When what is near fails, calls go far. It fails as often as puts it out, and no more: what is far must not be put out as well.
    answers(ns, 3, "stock/?codes=503");
    eventually(SETTLING, || {
        let found = answers(ns, 5, "stock/");
        (found == only("far", 5))
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
}
