//! From a cluster without a mesh to one without a mesh: what is in between, and that nothing of it stays.

use std::time::{Duration, Instant};

use corten_e2e::{Namespace, Snapshot, eventually};

use super::support::{ECHO, Load, SETTLING, all_enrolled, expect, lives, start};

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";

/// A command about the cluster, which must succeed; what it said.
#[track_caller]
fn corten(ns: &Namespace<'_>, args: &[&str]) -> String {
    let begin = Instant::now();
    let output = ns.program("corten", args).output().expect("corten runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    eprintln!("corten {} ({:.1?})\n{said}", args.join(" "), begin.elapsed());
    assert!(output.status.success(), "{args:?}");
    said
}

/// Installed, joined by a namespace that runs, taken mutual TLS only, and removed again, under load; then all is as it was.
pub(crate) fn installed_and_removed(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("client", 1)]);
    expect(ns, "client", "http://server:8080/", true);
    let (before, pods) = (Snapshot::take(ns.runtime()), lives(ns));

    corten(ns, &["install", "--set", "profile=ambient", "-y"]);
    corten(ns, &["verify-install"]);
    let begin = Instant::now();
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode=ambient"])
        .ok();
    all_enrolled(ns);
    eprintln!("the namespace is in the mesh after {:.1?}", begin.elapsed());
    ns.apply(STRICT);
    expect(ns, "client", "http://server:8080/", true);
    assert_eq!(lives(ns), pods, "no pod was restarted");
    // One that was in the mesh and has ended: no agent sees to it any more.
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: done}}\n\
         spec: {{restartPolicy: Never, containers: [{{name: c, image: {ECHO}, command: [sleep, \"10\"]}}]}}\n"
    ));
    let redirection = "/metadata/annotations/ambient.istio.io~1redirection";
    ns.until("pod/done", redirection, |value| value == "enabled");
    ns.until("pod/done", "/status/phase", |phase| phase == "Succeeded");

    let (http, tcp) = ("http://server:8080/", "tcp://server:9000");
    let load =
        |url, args: &[&str]| Load::start(ns, "client", url, &[args, &["-d", "20s", "--timeout", "10s"]].concat());
    let loads = [
        load(http, &["-c", "8", "--rate", "300"]),
        load(http, &["--close", "--rate", "100"]),
        load(tcp, &["-c", "300", "--rate", "100"]),
    ];
    // By then all 300 are open.
    std::thread::sleep(Duration::from_secs(4));
    let said = corten(ns, &["uninstall", "--purge", "-y"]);
    assert!(said.contains("left the mesh"), "{said}");
    for load in loads {
        load.lost_nothing();
    }
    expect(ns, "client", "http://server:8080/", true);
    ns.until("pod/done", redirection, serde_json::Value::is_null);
    ns.corten("delete", &["pod/done"]).ok();
    assert_eq!(lives(ns), pods, "no pod was restarted");
    if !Snapshot::sees_nodes() {
        eprintln!("the nodes are not compared: CORTEN_NODE_SHELL does not say how to look at them");
    }
    // The label of the namespace is the user's, and stays.
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode-"])
        .ok();
    eventually(SETTLING, || {
        let differences = before.differences(&Snapshot::take(ns.runtime()));
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("something is left:\n  {}", differences.join("\n  ")))
    });
}
