//! Planned events and faults under load: calls over kept connections, a connection a call, and connections that are held and used now and then.

use corten_e2e::Namespace;

use super::support::{Load, all_enrolled, expect, join, start};

/// Seconds of load around a fault.
const LOAD: &str = "20s";

/// A meshed client and server under load while something happens; nothing may be lost.
fn under_load(ns: &Namespace<'_>, event: impl FnOnce()) {
    start(ns, &[("server", 2), ("client", 1)]);
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    let loads = [
        Load::start(
            ns,
            "client",
            "http://server:8080/",
            &["-c", "8", "--rate", "200", "-d", LOAD],
        ),
        Load::start(
            ns,
            "client",
            "http://server:8080/",
            &["--close", "--rate", "100", "-d", LOAD],
        ),
        Load::start(
            ns,
            "client",
            "tcp://server:9000",
            &["-c", "100", "--rate", "50", "-d", LOAD],
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
