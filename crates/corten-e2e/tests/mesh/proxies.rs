//! Proxies of pods' own: they need an Envoy, in the local runtime or in the image `proxyv2` on the nodes.

use corten_e2e::Namespace;
use serde_json::Value;

use super::support::{ECHO, expect, pods, start};

/// A client without a proxy, beside others that have one.
fn plain() -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: plain}}\n\
         spec:\n  selector: {{matchLabels: {{app: plain}}}}\n\
         \x20 template:\n    metadata: {{labels: {{app: plain, sidecar.istio.io/inject: 'false'}}}}\n\
         \x20   spec: {{terminationGracePeriodSeconds: 5, containers: [{{name: echo, image: {ECHO}}}]}}\n"
    )
}

/// The containers of a pod that run beside each other, and whether all of them are ready.
fn running(pod: &Value) -> (Vec<String>, bool) {
    let of = |key: &str| pod["status"][key].as_array().cloned().unwrap_or_default();
    let goes_on = |status: &Value| {
        let mut containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
        containers.any(|it| it["name"] == status["name"] && it["restartPolicy"] == "Always")
    };
    let mut all = of("containerStatuses");
    all.extend(of("initContainerStatuses").into_iter().filter(goes_on));
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|status| status["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    (names, all.iter().all(|status| status["ready"] == true))
}

/// Whether there is an Envoy to run; why not.
fn possible(ns: &Namespace<'_>) -> Result<(), String> {
    if ns.runtime().is_kubernetes() && std::env::var_os("CORTEN_PROXY_LOADED").is_none() {
        return Err(
            "the nodes have no image with an Envoy: `cargo xtask test --kubernetes --envoy PATH` makes it".to_owned(),
        );
    }
    Ok(())
}

/// A label on the namespace, and pods have a proxy of their own; who calls is known by what it proves to be.
pub(crate) fn pods_get_proxies(ns: &Namespace<'_>) {
    if let Err(reason) = possible(ns) {
        corten_rt::skip!("{reason}");
    }
    ns.corten("label", &["namespace", ns.name(), "istio-injection=enabled"])
        .ok();
    ns.apply(&plain());
    start(ns, &[("server", 1), ("client", 1)]);
    ns.wait("deployment/plain", "condition=Available");
    for pod in pods(ns) {
        let expected: &[&str] = if pod["metadata"]["labels"]["app"] == "plain" {
            &["echo"]
        } else {
            &["echo", "istio-proxy"]
        };
        let (names, ready) = running(&pod);
        assert_eq!(
            (&names[..], ready),
            (
                &expected.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..],
                true
            ),
            "{pod}"
        );
    }
    expect(ns, "client", "http://server:8080/", true);
    expect(ns, "plain", "http://server:8080/", true);
    // Who may call is said by identity alone, which only mutual TLS proves.
    ns.apply(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: server}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n\
         \x20 rules: [{{from: [{{source: {{principals: [cluster.local/ns/{}/sa/client]}}}}]}}]\n",
        ns.name()
    ));
    expect(ns, "plain", "http://server:8080/", false);
    expect(ns, "client", "http://server:8080/", true);
    ns.apply("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n");
    expect(ns, "client", "tcp://server:9000", true);
    expect(ns, "plain", "tcp://server:9000", false);
}

/// A Gateway of the class `istio` and nothing else: its workload is made, and requests are routed.
pub(crate) fn gateway_is_deployed(ns: &Namespace<'_>) {
    if let Err(reason) = possible(ns) {
        corten_rt::skip!("{reason}");
    }
    if ns.corten("get", &["gatewayclasses"]).code != Some(0) {
        corten_rt::skip!("the cluster has no Gateway API");
    }
    start(ns, &[("server", 1), ("client", 1)]);
    ns.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {name: edge, annotations: {networking.istio.io/service-type: ClusterIP}}\n\
         spec: {gatewayClassName: istio, listeners: [{name: http, port: 8080, protocol: HTTP}]}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: v1}\n\
         spec:\n  parentRefs: [{name: edge}]\n  rules:\n\
         \x20 - matches: [{path: {type: PathPrefix, value: /v1}}]\n    backendRefs: [{name: server, port: 8080}]\n",
    );
    ns.wait("gateway/edge", "condition=Programmed");
    ns.wait("deployment/edge-istio", "condition=Available");
    expect(ns, "client", "http://edge-istio:8080/v1/pay", true);
    expect(ns, "client", "http://edge-istio:8080/v2/pay", false);
}
