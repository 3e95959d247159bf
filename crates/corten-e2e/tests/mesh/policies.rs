//! PeerAuthentication and AuthorizationPolicy on real connections.

use std::time::Duration;

use corten_e2e::{Namespace, eventually};
use serde_json::Value;

use super::support::{SETTLING, expect, join, pod_of, start};

fn peer_authentication(spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {spec}\n")
}

fn authorization(name: &str, spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// A namespace outside the mesh with a client.
fn outside<'a>(ns: &Namespace<'a>) -> Namespace<'a> {
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(&outside, &[("stranger", 1)]);
    outside
}

pub(crate) fn strict(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("client", 1)]);
    join(ns);
    let outside = outside(ns);
    let url = format!("http://server.{}:8080/", ns.name());
    expect(&outside, "stranger", &url, true);
    ns.apply(&peer_authentication("{mtls: {mode: STRICT}}"));
    expect(&outside, "stranger", &url, false);
    expect(ns, "client", "http://server:8080/", true);
    // Probes of the node are not calls of strangers: the pods stay ready.
    std::thread::sleep(Duration::from_secs(3));
    ns.wait("deployment/server", "condition=Available");
    ns.apply(&peer_authentication("{mtls: {mode: PERMISSIVE}}"));
    expect(&outside, "stranger", &url, true);
}

pub(crate) fn strict_by_port(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    let outside = outside(ns);
    let (http, tcp) = (
        format!("http://server.{}:8080/", ns.name()),
        format!("tcp://server.{}:9000", ns.name()),
    );
    ns.apply(&peer_authentication(
        "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: PERMISSIVE}}}",
    ));
    expect(&outside, "stranger", &http, false);
    expect(&outside, "stranger", &tcp, true);
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn who_may_call(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("friend", 1), ("foe", 1)]);
    join(ns);
    let name = ns.name();
    let (http, tcp) = ("http://server:8080/", "tcp://server:9000");
    let selected = "selector: {matchLabels: {app: server}}";
    ns.apply(&authorization(
        "access",
        &format!(
            "{{{selected}, rules: [{{from: [{{source: {{principals: [cluster.local/ns/{name}/sa/friend]}}}}]}}]}}"
        ),
    ));
    expect(ns, "foe", http, false);
    expect(ns, "friend", http, true);
    ns.apply(&authorization(
        "access",
        &format!("{{{selected}, rules: [{{from: [{{source: {{namespaces: [{name}]}}}}], to: [{{operation: {{ports: [\"8080\"]}}}}]}}]}}"),
    ));
    expect(ns, "foe", http, true);
    expect(ns, "foe", tcp, false);
    ns.apply(&authorization(
        "but-not-foe",
        &format!("{{{selected}, action: DENY, rules: [{{from: [{{source: {{serviceAccounts: [foe]}}}}]}}]}}"),
    ));
    expect(ns, "foe", http, false);
    expect(ns, "friend", http, true);
    let address = pod_of(ns, "friend")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ns.apply(&authorization(
        "access",
        &format!("{{{selected}, rules: [{{from: [{{source: {{notIpBlocks: [{address}/32]}}}}]}}]}}"),
    ));
    expect(ns, "friend", http, false);
}

pub(crate) fn empty_policy(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    ns.apply(&authorization("deny-all", "{}"));
    expect(ns, "client", "http://server:8080/", false);
    ns.corten("delete", &["authorizationpolicy", "deny-all"]).ok();
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn forbidden_connections_end(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    expect(ns, "client", "tcp://server:9000", true);
    let pod = pod_of(ns, "client");
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    // One connection, used four times a second; without it being closed it would go on.
    let args = [
        pod,
        "--",
        "corten-load",
        "tcp://server:9000",
        "--rate",
        "4",
        "-d",
        "20s",
        "--timeout",
        "2s",
        "-o",
        "json",
    ];
    let mut load = ns.command(&["exec"], &args);
    let load = load.stdout(std::process::Stdio::piped()).spawn().expect("corten runs");
    std::thread::sleep(Duration::from_secs(3));
    ns.apply(&authorization("deny-all", "{}"));
    let output = load.wait_with_output().expect("it was started");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report");
    let good = report["codes"]["200"].as_u64().unwrap_or(0);
    assert!(good > 0, "{report:#}");
    assert!(good < 60, "the connection went on after the policy: {report:#}");
}

pub(crate) fn are_judged(ns: &Namespace<'_>) {
    start(ns, &[("server", 1)]);
    join(ns);
    ns.apply(&authorization(
        "by-path",
        "{rules: [{to: [{operation: {paths: [/public]}}]}]}",
    ));
    let condition = eventually(SETTLING, || {
        let policy = ns.get("authorizationpolicy/by-path");
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|it| it["type"] == "ZtunnelAccepted");
        found.ok_or_else(|| format!("no ZtunnelAccepted: {}", policy["status"]))
    });
    let message = condition["message"].as_str().unwrap_or_default();
    assert!(message.contains("paths"), "the field is named: {condition}");
}
