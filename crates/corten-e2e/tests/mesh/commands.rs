//! What the user is told about the mesh: by the node proxies, by the control plane, and by the commands' own reckoning, which must agree with
//! what happens to real connections.

use std::process::Stdio;

use corten_e2e::{Namespace, eventually};
use serde_json::Value;

use super::support::{SETTLING, expect, join, pod_of, start};

/// Output of a command that is about no namespace.
#[track_caller]
fn told(ns: &Namespace<'_>, args: &[&str]) -> String {
    let output = ns.program("corten", args).output().expect("corten runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn node_proxies(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    let about = |what: &str, args: &[&str]| {
        let command = format!("ztunnel-config {what}");
        json(
            &ns.corten(&command, &[&["deploy/server", "-o", "json"], args].concat())
                .ok(),
        )
    };
    let workloads = about("workload", &[]);
    assert_eq!(workloads.as_array().map(Vec::len), Some(1), "{workloads:#}");
    assert_eq!(workloads[0]["name"], pod_of(ns, "server")["metadata"]["name"]);
    assert_eq!(workloads[0]["protocol"], "HBONE");
    let services = about("service", &["--service-namespace", ns.name()]);
    assert_eq!(services[1]["name"], "server", "{services:#}");
    assert_eq!(services[1]["endpoints"].as_object().map(|it| it.len()), Some(1));
    let identity = format!("spiffe://cluster.local/ns/{}/sa/server", ns.name());
    let certificates = ns.corten("zc certs", &["deploy/server"]).ok();
    let leaf = certificates
        .lines()
        .find(|line| line.contains(&identity) && line.contains("Leaf"));
    let words: Vec<&str> = leaf.unwrap_or(&certificates).split_whitespace().collect();
    assert_eq!(words.get(2..4), Some(&["Available", "true"][..]), "{certificates}");
    // Both proxies show a connection that is open.
    let client = pod_of(ns, "client");
    let client = client["metadata"]["name"].as_str().unwrap_or_default();
    let load = [
        client,
        "--",
        "corten-load",
        "tcp://server:9000",
        "--rate",
        "4",
        "-d",
        "20s",
    ];
    let mut load = ns.command(&["exec"], &load);
    let mut load = load
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("corten runs");
    eventually(SETTLING, || {
        for (pod, direction) in [("deploy/client", "outbound"), ("deploy/server", "inbound")] {
            let table = ns.corten("zc connections", &[pod, "--direction", direction]).ok();
            if !table.contains("HBONE") {
                return Err(format!("{direction} of {pod}: {table}"));
            }
        }
        Ok(())
    });
    load.kill().expect("it runs");
    load.wait().expect("it was started");
    let levels = told(ns, &["ztunnel-config", "log"]);
    assert!(levels.contains("istio-system:"), "{levels}");
}

pub(crate) fn control_plane(ns: &Namespace<'_>) {
    start(ns, &[("server", 1)]);
    join(ns);
    eventually(SETTLING, || {
        let table = told(ns, &["proxy-status", "-v", "1"]);
        let served = table.lines().filter(|line| line.starts_with("ztunnel-"));
        let fresh = served.clone().filter(|line| line.matches("SYNCED").count() == 2);
        if fresh.clone().count() == served.count() && fresh.count() > 0 {
            Ok(())
        } else {
            Err(table)
        }
    });
    let status = eventually(SETTLING, || {
        let status = ns.runtime().status("default");
        let namespaces = status["mesh"]["namespaces"].as_array().cloned().unwrap_or_default();
        match namespaces.into_iter().find(|it| it["name"] == ns.name()) {
            Some(own) if own["enrolled"] == 1 => Ok(status),
            other => Err(format!("{other:?}")),
        }
    });
    let components = status["mesh"]["components"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = components.iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["istiod", "istio-cni-node", "ztunnel"], "{status:#}");
    let described = ns.corten("x describe pod", &["deploy/server"]).ok();
    assert!(described.contains("Mesh: in the mesh"), "{described}");
    assert!(
        described.contains(&format!("Service: server.{}", ns.name())),
        "{described}"
    );
}

/// What is said to happen is what happens.
pub(crate) fn explanations(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("friend", 1), ("foe", 1)]);
    join(ns);
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(&outside, &[("stranger", 1)]);
    let name = ns.name();
    let stranger = format!("deploy/stranger.{}", outside.name());
    let explain = |from: &str| {
        ns.corten(
            "authz explain",
            &["--from", from, "--to", &format!("server.{name}:8080")],
        )
    };
    let check = |friend: bool, foe: bool, other: bool| {
        let url = format!("http://server.{name}:8080/");
        let callers = [(ns, "friend", friend), (ns, "foe", foe), (&outside, "stranger", other)];
        for (of, from, through) in callers {
            expect(of, from, &url, through);
            let from = format!("deploy/{from}.{}", of.name());
            let output = explain(&from);
            assert_eq!(
                output.code,
                Some(i32::from(!through)),
                "{from}: {}{}",
                output.stdout,
                output.stderr
            );
        }
    };
    check(true, true, true);
    ns.apply("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n");
    check(true, true, false);
    let because = explain(&stranger).stdout;
    assert!(
        because.contains(&format!("PeerAuthentication {name}/default demands mutual TLS")),
        "{because}"
    );
    ns.apply(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: friends}}\n\
         spec: {{rules: [{{from: [{{source: {{principals: [cluster.local/ns/{name}/sa/friend]}}}}]}}]}}\n"
    ));
    check(true, false, false);
    let because = explain(&format!("deploy/friend.{name}")).stdout;
    assert!(
        because.contains(&format!("AuthorizationPolicy {name}/friends allows it")),
        "{because}"
    );
    let policies = ns.corten("x authz check", &["deploy/server"]).ok();
    assert!(policies.contains(&format!("friends.{name}")), "{policies}");
    let outside = ns.corten("x describe pod", &[&stranger]).ok();
    assert!(outside.contains("is not part of mesh"), "{outside}");
}
