//! Planned events and faults under load: calls over kept connections, a connection a call, and connections that are held and used now and then.

use corten_e2e::{Namespace, eventually};

use super::support::{Load, SETTLING, all_enrolled, expect, join, start};

/// How long load goes on around a fault.
const LOAD: &str = "20s";
/// And around a change of the root, which takes its overlap.
const LONG_LOAD: &str = "45s";

/// A meshed client and server under load while something happens; nothing may be lost.
fn under_load(ns: &Namespace<'_>, event: impl FnOnce()) {
    under_load_for(ns, LOAD, event);
}

fn under_load_for(ns: &Namespace<'_>, duration: &str, event: impl FnOnce()) {
    start(ns, &[("server", 2), ("client", 1)]);
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    let loads = [
        Load::start(
            ns,
            "client",
            "http://server:8080/",
            &["-c", "8", "--rate", "300", "-d", duration],
        ),
        Load::start(
            ns,
            "client",
            "http://server:8080/",
            &["--close", "--rate", "100", "-d", duration],
        ),
        Load::start(
            ns,
            "client",
            "tcp://server:9000",
            &["-c", "300", "--rate", "100", "-d", duration],
        ),
    ];
    std::thread::sleep(std::time::Duration::from_secs(2));
    event();
    for load in loads {
        load.lost_nothing();
    }
}

/// Replaces a part of the mesh and waits until the new one is ready.
fn restart(ns: &Namespace<'_>, what: &str) {
    for verb in ["restart", "status"] {
        let mut command = ns.program("corten", &["rollout", verb, what, "-n", "istio-system"]);
        let output = command.output().expect("corten runs");
        assert!(
            output.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

pub(crate) fn rollouts(ns: &Namespace<'_>) {
    start(ns, &[("other", 2)]);
    under_load(ns, || {
        for _ in 0..3 {
            ns.corten("rollout restart", &["deployment/other"]).ok();
            ns.corten("rollout status", &["deployment/other"]).ok();
        }
    });
    all_enrolled(ns);
}

pub(crate) fn agent_restart(ns: &Namespace<'_>) {
    under_load(ns, || restart(ns, "daemonset/istio-cni-node"));
    // New pods join again.
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server"]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn control_plane_away(ns: &Namespace<'_>) {
    under_load(ns, || {
        let mut delete = ns.program(
            "corten",
            &[
                "delete",
                "pod",
                "-n",
                "istio-system",
                "-l",
                "app=istiod",
                "--grace-period=0",
                "--force",
            ],
        );
        assert!(delete.output().expect("corten runs").status.success());
    });
    restart(ns, "deployment/istiod");
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server"]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn node_proxy_upgrade(ns: &Namespace<'_>) {
    under_load(ns, || restart(ns, "daemonset/ztunnel"));
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn root_rotated(ns: &Namespace<'_>) {
    let roots = || {
        let map = ns.get("configmap/istio-ca-root-cert");
        map["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned()
    };
    under_load_for(ns, LONG_LOAD, || {
        let before = roots();
        let mut ask = ns.program(
            "corten",
            &["apply", "-n", "istio-system", "--force-conflicts", "-f", "-"],
        );
        let secret =
            "{apiVersion: v1, kind: Secret, metadata: {name: istio-ca-secret}, stringData: {rotate-root: 20s}}";
        let mut ask = ask.stdin(std::process::Stdio::piped()).spawn().expect("corten runs");
        let mut stdin = ask.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut stdin, secret.as_bytes()).expect("it reads");
        drop(stdin);
        assert!(ask.wait().expect("it was started").success());
        // First both are trusted, then only the new one is left.
        let certificates = |text: &str| text.matches("BEGIN CERTIFICATE").count();
        eventually(SETTLING, || match certificates(&roots()) {
            2 => Ok(()),
            other => Err(format!("{other} roots are trusted")),
        });
        eventually(SETTLING * 2, || {
            let now = roots();
            if certificates(&now) == 1 && now != before {
                return Ok(());
            }
            Err(format!("{} roots are trusted", certificates(&now)))
        });
    });
    // Who starts now has never seen the old root.
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server"]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}
