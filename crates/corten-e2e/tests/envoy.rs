//! A stock Envoy beside a workload, driven by our control plane: what VirtualServices and DestinationRules say happens to real requests.
//!
//! The sidecar takes connections at an address of its own (a Sidecar with capture mode NONE), so that nothing of what is measured
//! depends on redirection.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_e2e::{As, Namespace, Scenario, binary, eventually, play_on};

const SCENARIOS: &[Scenario] = &[("routes_of_a_sidecar", routes_of_a_sidecar)];

#[test]
fn as_root() {
    if let Err(reason) = As::Root.possible() {
        corten_rt::skip!("{reason}");
    }
    if let Err(missing) = corten_stock_envoy::program() {
        corten_rt::skip!("{missing}");
    }
    play_on(As::Root, true, SCENARIOS, &[]);
}

/// Two versions of a service, and a client with a sidecar.
fn mesh() -> String {
    let envoy = corten_stock_envoy::program().expect("it was there a moment ago");
    let (sidecar, envoy) = (binary("corten-sidecar"), envoy.canonicalize().expect("it exists"));
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
    spec: {{containers: [{{name: app, image: corten.dev/echo}}]}}
---"
        )
    };
    format!(
        "{}{}
apiVersion: v1
kind: Service
metadata: {{name: reviews}}
spec: {{selector: {{app: reviews}}, ports: [{{name: http, port: 9080, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - port: {{number: 9080, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: [./*]
---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client}}}}
spec:
  terminationGracePeriodSeconds: 10
  containers:
  - {{name: app, image: host, command: [sleep, infinity]}}
  - name: istio-proxy
    image: host
    command: [{}, sidecar, --envoy, {}, --state, /tmp/proxy, --labels, /etc/istio/pod/labels]
    env:
    - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: POD_NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
    - {{name: INSTANCE_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: SERVICE_ACCOUNT, valueFrom: {{fieldRef: {{fieldPath: spec.serviceAccountName}}}}}}
    - {{name: AUTH_TOKEN, value: /var/run/secrets/tokens/istio-token}}
    - {{name: CA_ROOT_CA, value: /var/run/secrets/istio/root-cert.pem}}
    - {{name: ISTIO_META_INTERCEPTION_MODE, value: NONE}}
    volumeMounts:
    - {{name: istio-token, mountPath: /var/run/secrets/tokens}}
    - {{name: istiod-ca-cert, mountPath: /var/run/secrets/istio}}
    - {{name: istio-podinfo, mountPath: /etc/istio/pod}}
    readinessProbe: {{httpGet: {{path: /healthz/ready, port: 15021}}, periodSeconds: 1}}
  volumes:
  - name: istio-token
    projected: {{sources: [{{serviceAccountToken: {{audience: istio-ca, expirationSeconds: 43200, path: istio-token}}}}]}}
  - name: istiod-ca-cert
    configMap: {{name: istio-ca-root-cert}}
  - name: istio-podinfo
    downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}
",
        version("v1"),
        version("v2"),
        sidecar.display(),
        envoy.display(),
    )
}

/// Calls through the sidecar; how often each version, or each status that is not 200, came back.
fn calls(ns: &Namespace<'_>, count: usize, arguments: &str) -> BTreeMap<String, usize> {
    let script = format!(
        "for i in $(seq {count}); do curl -s -m 20 -w '\\nstatus: %{{http_code}}\\n' -H 'host: reviews' {arguments} localhost:9080/ratings; done"
    );
    let output = ns
        .corten("exec", &["client", "-c", "app", "--", "sh", "-c", &script])
        .ok();
    let mut counts = BTreeMap::new();
    for line in output.lines() {
        let key = match line.split_once(": ") {
            Some(("pod", pod)) => pod.split('-').nth(1).unwrap_or_default().to_owned(),
            Some(("status", status)) if status != "200" => status.to_owned(),
            _ => continue,
        };
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn routes(http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews}}
spec: {{host: reviews, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec: {{hosts: [reviews], http: {http}}}
"
    )
}

fn routes_of_a_sidecar(ns: &Namespace<'_>) {
    ns.apply(&mesh());
    ns.wait("deployment/reviews-v1", "condition=Available");
    ns.wait("deployment/reviews-v2", "condition=Available");
    ns.wait("pod/client", "condition=Ready");
    let both = calls(ns, 20, "");
    assert!(
        both.contains_key("v1") && both.contains_key("v2") && both.len() == 2,
        "{both:?}"
    );

    // A share of one in ten, and some for one version only.
    ns.apply(&routes(
        "[{match: [{headers: {x-user: {exact: bob}}}], route: [{destination: {host: reviews, subset: v2}}]},
          {match: [{uri: {prefix: /ratings}, headers: {x-old: {exact: 'yes'}}}], redirect: {uri: /new, redirectCode: 302}},
          {match: [{headers: {x-fault: {exact: 'yes'}}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: reviews}}]},
          {route: [{destination: {host: reviews, subset: v1}, weight: 90}, {destination: {host: reviews, subset: v2}, weight: 10}]}]",
    ));
    let bob = ["-H 'x-user: bob'"];
    eventually(Duration::from_secs(30), || {
        let bobs = calls(ns, 10, bob[0]);
        (bobs == BTreeMap::from([("v2".to_owned(), 10)]))
            .then_some(())
            .ok_or_else(|| format!("{bobs:?}"))
    });
    let shares = calls(ns, 400, "");
    let v2 = shares.get("v2").copied().unwrap_or_default();
    // 40 are expected, with a deviation of 6: further away than five of those is no chance.
    assert!(
        (10..=70).contains(&v2) && shares.get("v1") == Some(&(400 - v2)),
        "{shares:?}"
    );
    assert_eq!(calls(ns, 3, "-H 'x-old: yes'"), BTreeMap::from([("302".to_owned(), 3)]));
    assert_eq!(
        calls(ns, 3, "-H 'x-fault: yes'"),
        BTreeMap::from([("418".to_owned(), 3)])
    );

    // Nothing that was sent was rejected.
    let rejected = "curl -s 'localhost:15000/stats?filter=rejected' | grep -v ': 0$' || true";
    let rejected = ns
        .corten("exec", &["client", "-c", "app", "--", "sh", "-c", rejected])
        .ok();
    assert_eq!(rejected.trim(), "");
    let status = ns.corten("proxy-status", &[&format!("client.{}", ns.name())]);
    assert!(status.ok().contains("LDS"), "the control plane knows it");
}
