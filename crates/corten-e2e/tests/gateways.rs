//! Gateways as users get them: a Gateway of the Gateway API becomes pods with an Envoy, which route what comes from outside of the mesh, with
//! a certificate from a Secret that may change; and Istio's own Gateway on the same pods.

use std::time::Duration;

use corten_e2e::{As, Namespace, Scenario, eventually, play_with_envoy};
use serde_json::Value;

const SCENARIOS: &[Scenario] = &[("a_gateway_is_deployed_and_routes", a_gateway_is_deployed_and_routes)];

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

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: payments-api}
spec: {selector: {app: payments-api}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: payments-api}
spec:
  selector: {matchLabels: {app: payments-api}}
  template:
    metadata: {labels: {app: payments-api}}
    spec: {containers: [{name: app, image: corten.dev/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: app, image: host, command: [sleep, infinity]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, annotations: {networking.istio.io/service-type: ClusterIP}}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: https, port: 8443, protocol: HTTPS, hostname: shop.example, tls: {certificateRefs: [{name: shop}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /v1}}]
    backendRefs: [{name: payments-api, port: 8080}]
";

/// Istio's own kinds, on the pods of the same gateway, behind a Service for that.
const INGRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: ingress}
spec:
  selector: {gateway.networking.k8s.io/gateway-name: edge}
  ports: [{name: http, port: 8000, targetPort: 8001}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress}
spec:
  selector: {gateway.networking.k8s.io/gateway-name: edge}
  servers: [{port: {number: 8000, name: http, protocol: HTTP}, hosts: [old.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: old}
spec:
  hosts: [old.example]
  gateways: [ingress]
  http:
  - match: [{uri: {prefix: /legacy}}]
    rewrite: {uri: /modern}
    route: [{destination: {host: payments-api, port: {number: 8080}}}]
";

/// A certificate for `shop.example`, and the Secret with it.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).expect("parameters");
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "shop"},
        "stringData": {"tls.crt": pem, "tls.key": key.serialize_pem()},
    });
    (pem, secret.to_string())
}

/// What a call from the client ends with: the status, or 000 if there is none; and the answer.
fn call(ns: &Namespace<'_>, arguments: &str) -> (String, String) {
    let script = format!("curl -s -m 10 -w '\\nstatus %{{http_code}}' {arguments} || true");
    let said = ns
        .corten("exec", &["client", "-c", "app", "--", "sh", "-c", &script])
        .ok();
    let (answer, status) = said.rsplit_once("\nstatus ").unwrap_or(("", &said));
    (status.trim().to_owned(), answer.to_owned())
}

#[track_caller]
fn expect(ns: &Namespace<'_>, arguments: &str, status: &str) -> String {
    eventually(Duration::from_secs(60), || {
        let (found, answer) = call(ns, arguments);
        if found == status {
            Ok(answer)
        } else {
            Err(format!("{arguments}: {found}: {answer}"))
        }
    })
}

/// Calls over TLS, believing this certificate alone.
fn over_tls(ns: &Namespace<'_>, pem: &str, status: &str) {
    let arguments = format!(
        "--cacert /tmp/{0}.pem --connect-to shop.example:443:edge-istio:8443 https://shop.example/v1/pay",
        ns.name()
    );
    let write = format!("cat > /tmp/{}.pem <<'EOF'\n{pem}\nEOF", ns.name());
    ns.corten("exec", &["client", "-c", "app", "--", "sh", "-c", &write])
        .ok();
    expect(ns, &arguments, status);
}

fn condition<'a>(conditions: &'a Value, type_: &str) -> &'a str {
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == type_);
    found.and_then(|one| one["status"].as_str()).unwrap_or_default()
}

fn a_gateway_is_deployed_and_routes(ns: &Namespace<'_>) {
    let (first, secret) = certificate();
    ns.apply(&secret);
    ns.apply(SHOP);
    ns.wait("pod/client", "condition=Ready");
    ns.wait("deployment/payments-api", "condition=Available");
    ns.wait("gateway/edge", "condition=Programmed");
    ns.wait("deployment/edge-istio", "condition=Available");

    let answer = expect(ns, "http://edge-istio:8080/v1/pay", "200");
    assert!(answer.contains("/v1/pay"), "{answer}");
    expect(ns, "http://edge-istio:8080/v2/pay", "404");
    over_tls(ns, &first, "200");

    // Everybody is told what became of them.
    let gateway = ns.get("gateway/edge");
    assert_eq!(
        condition(&gateway["status"]["conditions"], "Accepted"),
        "True",
        "{gateway}"
    );
    for listener in [0, 1] {
        let listener = &gateway["status"]["listeners"][listener];
        assert_eq!(listener["attachedRoutes"], 1, "{gateway}");
        assert_eq!(condition(&listener["conditions"], "ResolvedRefs"), "True", "{gateway}");
    }
    let route = ns.get("httproute/payments");
    assert_eq!(
        condition(&route["status"]["parents"][0]["conditions"], "Accepted"),
        "True",
        "{route}"
    );

    // Another certificate is served without a restart.
    let (second, secret) = certificate();
    ns.apply(&secret);
    over_tls(ns, &second, "200");
    over_tls(ns, &first, "000");

    ns.apply(INGRESS);
    let answer = expect(ns, "-H 'host: old.example' http://ingress:8000/legacy/pay", "200");
    assert!(answer.contains("/modern/pay"), "{answer}");
    expect(ns, "-H 'host: old.example' http://ingress:8000/other", "404");

    // The same, without a packet: what the control plane makes of the objects is made again from them.
    let said = ns
        .corten(
            "explain",
            &[
                "--from",
                "203.0.113.9",
                "--to",
                "shop.example:8443",
                "--protocol",
                "https",
                "--path",
                "/v1/pay",
            ],
        )
        .ok();
    assert!(said.contains("outbound|8080||payments-api."), "{said}");

    // What somebody takes away of the workload is put back.
    for kind in ["serviceaccount", "service"] {
        let before = ns.get(&format!("{kind}/edge-istio"));
        ns.corten("delete", &[kind, "edge-istio"]).ok();
        eventually(Duration::from_secs(60), || {
            let all: Value = serde_json::from_str(&ns.corten("get", &[kind, "-o", "json"]).ok())
                .map_err(|error| error.to_string())?;
            let again = all["items"].as_array().into_iter().flatten().any(|one| {
                one["metadata"]["name"] == "edge-istio" && one["metadata"]["uid"] != before["metadata"]["uid"]
            });
            if again { Ok(()) } else { Err(all.to_string()) }
        });
    }

    // The workload goes with its Gateway.
    ns.corten("delete", &["gateway", "edge"]).ok();
    eventually(Duration::from_secs(60), || {
        let left = ns.corten("get", &["deployment", "-o", "name"]).ok();
        if left.contains("edge-istio") { Err(left) } else { Ok(()) }
    });
}
