//! Joining and leaving: by label, without a restart, without breaking what is open.

use std::time::Duration;

use corten_e2e::{Namespace, eventually};

use super::support::{ECHO, Load, SETTLING, all_enrolled, expect, is_enrolled, join, lives, pods, start};

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";

pub(crate) fn running_pods_join_and_leave(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("client", 1)]);
    let before = lives(ns);
    join(ns);
    // With STRICT, what gets through is mutual TLS.
    ns.apply(STRICT);
    expect(ns, "client", "http://server:8080/", true);
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(&outside, &[("stranger", 1)]);
    let url = format!("http://server.{}:8080/", ns.name());
    expect(&outside, "stranger", &url, false);
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode-"])
        .ok();
    eventually(SETTLING, || {
        let still = pods(ns).iter().filter(|pod| is_enrolled(pod)).count();
        if still == 0 {
            Ok(())
        } else {
            Err(format!("{still} pods are still in the mesh"))
        }
    });
    expect(&outside, "stranger", &url, true);
    expect(ns, "client", "http://server:8080/", true);
    assert_eq!(lives(ns), before, "no pod was restarted");
}

pub(crate) fn open_connections_stay(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("client", 1)]);
    let held = Load::start(
        ns,
        "client",
        "tcp://server:9000",
        &["-c", "30", "--rate", "60", "-d", "12s"],
    );
    let kept = Load::start(
        ns,
        "client",
        "http://server:8080/",
        &["-c", "4", "--rate", "100", "-d", "12s"],
    );
    let short = Load::start(
        ns,
        "client",
        "http://server:8080/",
        &["--close", "--rate", "50", "-d", "12s"],
    );
    expect(ns, "client", "http://server:8080/", true);
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode-"])
        .ok();
    for load in [held, kept, short] {
        load.lost_nothing();
    }
}

/// Caller and called, each in a namespace of its own, join at once, leave, and come back, all under load.
///
/// Coming back is a step of its own: what the first time left behind in the pods must not meet the connections of the second.
pub(crate) fn namespaces_come_and_go_under_load(ns: &Namespace<'_>) {
    let called = Namespace::new(ns.runtime(), &format!("{}-called", ns.name()));
    start(&called, &[("server", 2)]);
    start(ns, &[("client", 1)]);
    let http = format!("http://server.{}:8080/", called.name());
    let tcp = format!("tcp://server.{}:9000", called.name());
    expect(ns, "client", &http, true);
    let run = |url: &str, args: &[&str]| Load::start(ns, "client", url, &[args, &["-d", "40s"]].concat());
    let loads = [
        run(&http, &["-c", "16", "--rate", "300"]),
        run(&http, &["--close", "--rate", "100"]),
        run(&tcp, &["-c", "300", "--rate", "100"]),
    ];
    let label = |value: &str| {
        ns.corten("label", &["namespace", ns.name(), called.name(), value]).ok();
    };
    for round in 0..2 {
        label("istio.io/dataplane-mode=ambient");
        all_enrolled(ns);
        all_enrolled(&called);
        std::thread::sleep(Duration::from_secs(3));
        if round == 0 {
            label("istio.io/dataplane-mode-");
            for namespace in [ns, &called] {
                eventually(SETTLING, || {
                    match pods(namespace).iter().filter(|pod| is_enrolled(pod)).count() {
                        0 => Ok(()),
                        still => Err(format!("{still} pods of {} are still in the mesh", namespace.name())),
                    }
                });
            }
            // The agents take the last rules away once no connection needs them.
            std::thread::sleep(Duration::from_secs(12));
        }
    }
    for load in loads {
        load.lost_nothing();
    }
}

pub(crate) fn opt_outs(ns: &Namespace<'_>) {
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode=ambient"])
        .ok();
    let pod = |name: &str, labels: &str, annotations: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}{labels}}}, annotations: {{{annotations}}}}}\n\
             spec: {{{spec}containers: [{{name: c, image: {ECHO}, command: [sleep, \"600\"]}}]}}\n---\n"
        )
    };
    ns.apply(
        &[
            pod("labelled-none", ", istio.io/dataplane-mode: none", "", ""),
            pod("of-the-node", "", "", "hostNetwork: true, "),
            pod("with-sidecar", "", "sidecar.istio.io/status: '{}'", ""),
            pod("plain", "", "", ""),
        ]
        .concat(),
    );
    for name in ["labelled-none", "of-the-node", "with-sidecar", "plain"] {
        ns.wait(&format!("pod/{name}"), "condition=Ready");
    }
    eventually(SETTLING, || {
        let inside: Vec<String> = pods(ns)
            .iter()
            .filter(|pod| is_enrolled(pod))
            .map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        if inside == ["plain"] {
            Ok(())
        } else {
            Err(format!("in the mesh: {inside:?}"))
        }
    });
}

pub(crate) fn new_pods_join(ns: &Namespace<'_>) {
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode=ambient"])
        .ok();
    ns.apply(STRICT);
    start(ns, &[("server", 1), ("client", 1)]);
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}
