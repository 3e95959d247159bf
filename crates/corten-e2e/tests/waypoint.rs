//! A Gateway becomes a waypoint, whose stock Envoy stands between node proxies that know nothing of requests: policies about requests and
//! routes are followed on the way, for services and for workloads that are called by their own address.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_e2e::{As, Namespace, Scenario, eventually, play_with_envoy};

const SCENARIOS: &[Scenario] = &[("requests_pass_a_waypoint", requests_pass_a_waypoint)];

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

/// Two versions of a service, two callers, and the Gateway that becomes their waypoint, whose Envoy counts everything.
fn mesh(namespace: &str) -> String {
    let version = |version: &str| {
        format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: reviews-{version}}}
spec:
  selector: {{matchLabels: {{app: reviews, version: {version}}}}}
  template:
    metadata: {{labels: {{app: reviews, version: {version}}}}}
    spec: {{containers: [{{name: app, image: corten.dev/echo, args: [--tcp, '9000']}}]}}
---"
        )
    };
    let caller = |name: &str| {
        format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec: {{serviceAccountName: {name}, containers: [{{name: app, image: host, command: [sleep, infinity]}}]}}
---"
        )
    };
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{istio.io/dataplane-mode: ambient}}}}
---{}{}{}{}
apiVersion: v1
kind: Service
metadata: {{name: reviews}}
spec: {{selector: {{app: reviews}}, ports: [{{name: http, port: 9080, targetPort: 8080}}, {{name: tcp, port: 9000}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint, annotations: {{sidecar.istio.io/statsInclusionRegexps: .*}}}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]
",
        version("v1"),
        version("v2"),
        caller("friend"),
        caller("foe"),
    )
}

/// Calls; how often each version, or each status that is not 200, came back. A line of what passed no waypoint says `direct`.
fn calls(ns: &Namespace<'_>, from: &str, count: usize, arguments: &str) -> BTreeMap<String, usize> {
    let script = format!(
        "for i in $(seq {count}); do curl -s -m 20 -D - -o /dev/null -w 'end: %{{http_code}}\\n' {arguments}; done"
    );
    let output = ns.corten("exec", &[from, "-c", "app", "--", "sh", "-c", &script]).ok();
    let mut counts = BTreeMap::new();
    let (mut pod, mut passed) = (String::new(), false);
    for line in output.lines() {
        match line.trim_end().split_once(": ") {
            Some(("server", server)) => passed = server == "istio-envoy",
            Some(("x-corten-pod", name)) => pod = name.split('-').nth(1).unwrap_or_default().to_owned(),
            Some(("end", status)) => {
                let key = match status {
                    _ if !passed => "direct",
                    "200" => &pod,
                    status => status,
                };
                *counts.entry(key.to_owned()).or_default() += 1;
                (pod, passed) = (String::new(), false);
            }
            _ => {}
        }
    }
    counts
}

fn all(key: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(key.to_owned(), count)])
}

/// Waits until calls have one outcome.
#[track_caller]
fn becomes(ns: &Namespace<'_>, from: &str, arguments: &str, outcome: &str) {
    eventually(SETTLING, || {
        let counts = calls(ns, from, 5, arguments);
        (counts == all(outcome, 5))
            .then_some(())
            .ok_or_else(|| format!("{from} {arguments}: {counts:?}, wanted {outcome}"))
    });
}

/// What comes back over a connection of bytes.
fn bytes(ns: &Namespace<'_>, from: &str) -> bool {
    let script = "exec 3<>/dev/tcp/reviews/9000 && echo hi >&3 && timeout 20 head -c 3 <&3";
    let output = ns.corten("exec", &[from, "-c", "app", "--", "bash", "-c", script]);
    output.stdout.trim() == "hi"
}

/// The address and the name of the pod whose name begins so, and that is to stay.
#[track_caller]
fn pod(ns: &Namespace<'_>, prefix: &str) -> (String, String) {
    let pods = ns.get("pods");
    let staying = pods["items"].as_array().into_iter().flatten();
    let mut staying = staying.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let found = staying.find_map(|pod| {
        let name = pod["metadata"]["name"]
            .as_str()
            .filter(|name| name.starts_with(prefix))?;
        Some((pod["status"]["podIP"].as_str()?.to_owned(), name.to_owned()))
    });
    found.unwrap_or_else(|| panic!("no pod {prefix}*"))
}

/// The waypoint speaks to whom it was told that the address belongs to, and to nobody else of the mesh: an entry says of the pod at `address`,
/// whose account is `default`, that it has another one.
fn another_identity(ns: &Namespace<'_>, address: &str) {
    let entry = |account: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: twin}}
spec:
  hosts: [twin.example]
  addresses: [10.250.7.7]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
  endpoints: [{{address: {address}, serviceAccount: {account}, labels: {{networking.istio.io/tunnel: http}}}}]
"
        )
    };
    let call = "--resolve twin.example:80:10.250.7.7 http://twin.example/ratings";
    ns.apply(&entry("foe"));
    let (_, waypoint) = pod(ns, "waypoint-");
    let refused = "curl -s 'localhost:15000/stats?filter=connect_originate.*ssl.fail_verify_san$'";
    let place = [&waypoint, "-c", "istio-proxy", "--", "sh", "-c", refused];
    eventually(SETTLING, || {
        let outcomes = calls(ns, "friend", 2, call);
        let counted = ns.corten("exec", &place).ok();
        let refused: Option<u64> = counted
            .trim()
            .rsplit_once(": ")
            .and_then(|(_, count)| count.parse().ok());
        let complaint = || format!("{outcomes:?}, {refused:?} certificates with another name");
        (refused > Some(0)).then_some(()).ok_or_else(complaint)
    });
    becomes(ns, "friend", call, "503");
    // Of the right one, everything is as it was, over tunnels that were open before too.
    becomes(ns, "foe", &format!("{address}:8080/ratings"), "v1");
    ns.apply(&entry("default"));
    becomes(ns, "friend", call, "v1");
}

fn requests_pass_a_waypoint(ns: &Namespace<'_>) {
    ns.apply(&mesh(ns.name()));
    let made = ns.corten("waypoint apply", &["--enroll-namespace", "--wait"]).ok();
    assert!(
        made.contains("is ready") && made.contains("istio.io/use-waypoint=waypoint"),
        "{made}"
    );
    for deployment in ["reviews-v1", "reviews-v2", "waypoint"] {
        ns.wait(&format!("deployment/{deployment}"), "condition=Available");
    }
    for pod in ["friend", "foe"] {
        ns.wait(&format!("pod/{pod}"), "condition=Ready");
    }
    let ratings = "reviews:9080/ratings";
    eventually(SETTLING, || {
        let counts = calls(ns, "foe", 10, ratings);
        let passed = counts.len() == 2 && counts.contains_key("v1") && counts.contains_key("v2");
        passed.then_some(()).ok_or_else(|| format!("{counts:?}"))
    });

    // Who may do what, and where it goes.
    ns.apply(&format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews}}
spec: {{host: reviews, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
  - {{match: [{{headers: {{x-user: {{exact: bob}}}}}}], route: [{{destination: {{host: reviews, subset: v2}}}}]}}
  - {{route: [{{destination: {{host: reviews, subset: v1}}, weight: 90}}, {{destination: {{host: reviews, subset: v2}}, weight: 10}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: reviews}}
spec:
  targetRefs: [{{kind: Service, group: '', name: reviews}}]
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/{0}/sa/friend]}}}}]
    to: [{{operation: {{methods: [GET], paths: ['/ratings*']}}}}]
  - from: [{{source: {{principals: [cluster.local/ns/{0}/sa/friend]}}}}]
    to: [{{operation: {{ports: ['9000']}}}}]
",
        ns.name()
    ));
    becomes(ns, "friend", &format!("-H 'x-user: bob' {ratings}"), "v2");
    becomes(ns, "foe", ratings, "403");
    becomes(ns, "friend", &format!("-X POST {ratings}"), "403");
    becomes(ns, "friend", "reviews:9080/admin", "403");
    let shares = calls(ns, "friend", 300, ratings);
    let v2 = shares.get("v2").copied().unwrap_or_default();
    // 30 are expected, with a deviation of 5.2: further away than five of those is no chance.
    assert!(
        (4..=56).contains(&v2) && shares.get("v1") == Some(&(300 - v2)),
        "{shares:?}"
    );
    assert!(bytes(ns, "friend"), "a rule of ports alone lets bytes through");
    assert!(!bytes(ns, "foe"), "and nobody else's");

    // Workloads by their own addresses too: nothing but the gateway's own policies is about them.
    ns.corten("waypoint apply", &["--for", "all"]).ok();
    ns.apply(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: admin}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules: [{to: [{operation: {paths: ['/admin*']}}]}]
",
    );
    let (v1, _) = pod(ns, "reviews-v1-");
    becomes(ns, "foe", &format!("{v1}:8080/admin"), "403");
    becomes(ns, "foe", &format!("{v1}:8080/ratings"), "v1");

    another_identity(ns, &v1);

    // Nothing that was sent was rejected.
    let rejected = "curl -s 'localhost:15000/stats?filter=rejected' | grep -v ': 0$' || true";
    let (_, waypoint) = pod(ns, "waypoint-");
    let place = [&waypoint, "-c", "istio-proxy", "--", "sh", "-c", rejected];
    assert_eq!(ns.corten("exec", &place).ok().trim(), "");
    let told = "curl -s istiod.istio-system:15014/metrics | grep '^pilot_total_xds_rejects{' | grep -v ' 0$' || true";
    assert_eq!(
        ns.corten("exec", &["foe", "-c", "app", "--", "sh", "-c", told])
            .ok()
            .trim(),
        ""
    );
    assert!(
        ns.corten("proxy-status", &[&format!("{waypoint}.{}", ns.name())])
            .ok()
            .contains("LDS")
    );

    // The workload goes with its Gateway.
    ns.corten("waypoint delete", &["waypoint"]).ok();
    eventually(SETTLING, || {
        let left = ns.corten("get", &["deployment", "-o", "name"]).ok();
        if left.contains("/waypoint") { Err(left) } else { Ok(()) }
    });
}
