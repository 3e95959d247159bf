//! Ways into a pod that are not the usual one: interception that keeps the caller's address, and none at all.

use corten_e2e::Namespace;

use super::support::{Pod, none_rejected, service, start, stat, until, until_status};

/// What is taken without interception: a port of the proxy's own, which leads to the application.
const BOUND: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: bound}
spec:
  workloadSelector: {labels: {app: bound}}
  # Without interception the ports of all services that are seen are the proxy's own, and one of them may be an application's.
  egress: [{hosts: [./*]}]
  ingress:
  - port: {number: 9080, protocol: HTTP, name: http}
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:8080
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: bound}
spec:
  selector: {matchLabels: {app: bound}}
  action: DENY
  rules: [{to: [{operation: {paths: [/closed]}}]}]
";

pub(crate) fn ways_into_a_pod(ns: &Namespace<'_>) {
    let pods = [
        Pod::client("client").sidecar(),
        Pod::client("stranger"),
        Pod::echo("usual").sidecar(),
        Pod::echo("seen").sidecar().interception("TPROXY"),
        Pod::echo("bound").sidecar().interception("NONE"),
    ];
    let services = service("usual", "app: usual", 8080)
        + &service("seen", "app: seen", 8080)
        + &service("bound", "app: bound", 9080);
    start(ns, &pods, &(services + BOUND));
    let address = |pod: &str| {
        ns.get(&format!("pod/{pod}"))["status"]["podIP"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let peer = |from: &str, to: &str| {
        let answer = until_status(ns, from, to, 200);
        let peer = answer.get("peer").to_owned();
        peer.rsplit_once(':')
            .map_or_else(|| peer.clone(), |(address, _)| address.to_owned())
    };
    // The application sees its proxy, or who called the proxy.
    assert_eq!(peer("client", "usual/"), "127.0.0.6");
    for from in ["client", "stranger"] {
        assert_eq!(peer(from, "seen/"), address(from), "{from}");
    }
    assert!(
        stat(ns, "seen", "cluster.inbound.8080.*upstream_rq_200$") >= 2,
        "by way of its proxy"
    );

    let answer = until(ns, "client", "bound/", |answer| {
        answer.get("peer").starts_with("127.0.0.1:")
    });
    assert_eq!(answer.status, 200, "{}", answer.text);
    until_status(ns, "client", "bound/closed", 403);
    until_status(ns, "stranger", "bound/closed", 403);
    none_rejected(ns, &["client", "seen", "bound"]);
}
