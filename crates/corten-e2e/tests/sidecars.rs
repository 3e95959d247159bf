//! Sidecars as users get them: a label on the namespace, and whatever pods say to each other goes through their proxies, by the names of
//! services, with mutual TLS and the rules of both sides.
//!
//! As root, and as an ordinary user, where proxies cannot be told from applications by who runs them.

use std::time::Duration;

use corten_e2e::{As, Namespace, Scenario, eventually, play_with_envoy};

const SCENARIOS: &[Scenario] = &[
    ("injected_pods_speak_mutual_tls", injected_pods_speak_mutual_tls),
    (
        "sidecars_and_ambient_pods_reach_each_other",
        sidecars_and_ambient_pods_reach_each_other,
    ),
];

fn play(user: As) {
    if let Err(reason) = user.possible() {
        corten_rt::skip!("{reason}");
    }
    match corten_stock_envoy::program() {
        Ok(envoy) => play_with_envoy(user, &envoy, SCENARIOS),
        Err(missing) => corten_rt::skip!("{missing}"),
    }
}

#[test]
fn as_root() {
    play(As::Root);
}

#[test]
fn as_an_ordinary_user() {
    play(As::User);
}

/// A server, a client that may read, another one, and a client without a proxy.
const SHOP: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080, targetPort: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews}}
    spec:
      containers:
      - name: app
        image: corten.dev/echo
        ports: [{name: web, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reader}
spec:
  selector: {matchLabels: {app: reader}}
  template:
    metadata: {labels: {app: reader}}
    spec:
      serviceAccountName: reader
      terminationGracePeriodSeconds: 2
      containers: [{name: app, image: host, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: app, image: host, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain, labels: {sidecar.istio.io/inject: 'false'}}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: app, image: host, command: [sleep, infinity]}]
";

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

/// What a call ends with: the status, or 000 if there is none; and what the server says it was asked.
fn call(ns: &Namespace<'_>, from: &str, method: &str) -> (String, String) {
    let script = format!("curl -s -m 10 -X {method} -w '\\nstatus %{{http_code}}' http://reviews:9080/things || true");
    let said = ns.corten("exec", &[from, "-c", "app", "--", "sh", "-c", &script]).ok();
    let (answer, status) = said.rsplit_once("\nstatus ").unwrap_or(("", &said));
    (status.trim().to_owned(), answer.to_owned())
}

#[track_caller]
fn expect(ns: &Namespace<'_>, from: &str, method: &str, status: &str) -> String {
    eventually(Duration::from_secs(60), || {
        let (found, answer) = call(ns, from, method);
        if found == status {
            Ok(answer)
        } else {
            Err(format!("{method} from {from}: {found}: {answer}"))
        }
    })
}

fn injected_pods_speak_mutual_tls(ns: &Namespace<'_>) {
    let label = format!("namespace/{}", ns.name());
    let mut command = ns.program("corten", &["label", &label, "istio-injection=enabled"]);
    assert!(command.status().expect("corten can be run").success());
    // From the moment that the control plane answers for it, no pod is made without its proxy.
    eventually(Duration::from_secs(60), || {
        let applied = ns.try_apply(SHOP);
        (applied.code == Some(0)).then_some(()).ok_or(applied.stderr)
    });
    ns.wait("deployment/reviews", "condition=Available");
    ns.wait("deployment/reader", "condition=Available");
    ns.wait("pod/other", "condition=Ready");
    ns.wait("pod/plain", "condition=Ready");
    let other = ns.get("pod/other");
    assert!(
        other["metadata"]["annotations"]["sidecar.istio.io/status"].is_string(),
        "{other}"
    );
    assert_eq!(
        ns.get("pod/plain")["spec"]["containers"].as_array().map(Vec::len),
        Some(1)
    );

    // Both sides prove who they are; the server's proxy says who called.
    let answer = expect(ns, "deploy/reader", "GET", "200");
    let caller = format!("URI=spiffe://cluster.local/ns/{}/sa/reader", ns.name());
    assert!(
        answer.contains("x-forwarded-client-cert") && answer.contains(&caller),
        "{answer}"
    );
    // What does not speak TLS is served, until that is forbidden.
    expect(ns, "plain", "GET", "200");
    ns.apply(STRICT);
    expect(ns, "plain", "GET", "000");
    expect(ns, "deploy/reader", "GET", "200");
    expect(ns, "other", "POST", "200");

    ns.apply(&format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/{}/sa/reader]}}}}]
    to: [{{operation: {{methods: [GET]}}}}]
",
        ns.name()
    ));
    expect(ns, "other", "GET", "403");
    expect(ns, "deploy/reader", "POST", "403");
    expect(ns, "deploy/reader", "GET", "200");
}

/// A server and a client of each kind, which speak to nobody in the clear.
fn mixed(namespace: &str) -> String {
    let kinds = ["ambient", "sidecar"].map(|kind| {
        let (labels, annotations) = match kind {
            "sidecar" => (
                ", sidecar.istio.io/inject: 'true'",
                "proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_ENABLE_HBONE: \"true\"}}'",
            ),
            _ => ("", ""),
        };
        format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: of-{kind}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {kind}}}
spec: {{selector: {{app: {kind}}}, ports: [{{name: http, port: 9080, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {kind}, labels: {{app: {kind}{labels}}}, annotations: {{{annotations}}}}}
spec: {{terminationGracePeriodSeconds: 2, containers: [{{name: app, image: corten.dev/echo}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: of-{kind}, labels: {{app: of-{kind}{labels}}}, annotations: {{{annotations}}}}}
spec:
  serviceAccountName: of-{kind}
  terminationGracePeriodSeconds: 2
  containers: [{{name: app, image: host, command: [sleep, infinity]}}]
---"
        )
    });
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{istio.io/dataplane-mode: ambient}}}}
---{}{}{STRICT}",
        kinds[0], kinds[1]
    )
}

/// Waits until a call ends with that status.
#[track_caller]
fn ends(ns: &Namespace<'_>, from: &str, to: &str, method: &str, status: &str) {
    let script = format!("curl -s -m 10 -X {method} -o /dev/null -w '%{{http_code}}' http://{to}:9080/ || true");
    eventually(Duration::from_secs(60), || {
        let found = ns.corten("exec", &[from, "-c", "app", "--", "sh", "-c", &script]).ok();
        (found.trim() == status)
            .then_some(())
            .ok_or_else(|| format!("{method} from {from} to {to}: {found}, wanted {status}"))
    });
}

/// Pods with sidecars and pods that have only their node's proxy call each other through tunnels, and each side knows who the other is.
fn sidecars_and_ambient_pods_reach_each_other(ns: &Namespace<'_>) {
    // Until the control plane answers for it, no pod that asks for a proxy is made.
    eventually(Duration::from_secs(60), || {
        let applied = ns.try_apply(&mixed(ns.name()));
        (applied.code == Some(0)).then_some(()).ok_or(applied.stderr)
    });
    for pod in ["pod/ambient", "pod/sidecar", "pod/of-ambient", "pod/of-sidecar"] {
        ns.wait(pod, "condition=Ready");
    }
    ends(ns, "of-sidecar", "ambient", "GET", "200");
    ends(ns, "of-ambient", "sidecar", "GET", "200");
    let only = |server: &str, client: &str, to: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {server}}}
spec:
  selector: {{matchLabels: {{app: {server}}}}}
  rules: [{{from: [{{source: {{principals: [cluster.local/ns/{}/sa/{client}]}}}}]{to}}}]
---",
            ns.name()
        )
    };
    let reads = ", to: [{operation: {methods: [GET]}}]";
    ns.apply(&format!(
        "{}{}",
        only("ambient", "of-sidecar", ""),
        only("sidecar", "of-ambient", reads)
    ));
    ends(ns, "of-ambient", "sidecar", "POST", "403");
    ends(ns, "of-ambient", "sidecar", "GET", "200");
    ends(ns, "of-sidecar", "sidecar", "GET", "403");
    ends(ns, "of-ambient", "ambient", "GET", "000");
    ends(ns, "of-sidecar", "ambient", "GET", "200");
}
