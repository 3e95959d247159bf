//! Planned events and faults under load: calls over kept connections, a connection a call, and connections that are held and used now and then.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use corten_e2e::{Namespace, eventually};

use super::support::{Counted, ECHO, Load, SETTLING, all_enrolled, expect, join, pod_of, pods, service, start};

/// How long load goes on around a fault.
const LOAD: &str = "20s";
/// And around a change of the root, which takes its overlap.
const LONG_LOAD: &str = "45s";
/// How long a rollout may take: one that does not end is a failure to be told of.
const WITHIN: &str = "--timeout=180s";
/// How long a call waits for its answer.
const ANSWER: &str = "10s";

/// A meshed client and server under load while something happens; nothing may be lost.
fn under_load(ns: &Namespace<'_>, event: impl FnOnce()) {
    under_load_for(ns, LOAD, event);
}

fn under_load_for(ns: &Namespace<'_>, duration: &str, event: impl FnOnce()) {
    for load in loaded(ns, duration, ANSWER, event) {
        load.lost_nothing();
    }
}

/// As [`under_load`], for what cannot go by unnoticed: counts, and says so.
fn counted(ns: &Namespace<'_>, answer: &str, event: impl FnOnce()) -> [Counted; 3] {
    loaded(ns, LOAD, answer, event).map(Load::count)
}

/// The three kinds of load while something happens: kept connections, a connection a call, 300 connections that are held.
fn loaded(ns: &Namespace<'_>, duration: &str, answer: &str, event: impl FnOnce()) -> [Load; 3] {
    start(ns, &[("server", 2), ("client", 1)]);
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    let loads = three(ns, duration, answer);
    // By then all 300 are open.
    std::thread::sleep(Duration::from_secs(4));
    event();
    loads
}

fn three(ns: &Namespace<'_>, duration: &str, answer: &str) -> [Load; 3] {
    let (http, tcp) = ("http://server:8080/", "tcp://server:9000");
    let load = |url, args: &[&str]| {
        Load::start(
            ns,
            "client",
            url,
            &[args, &["-d", duration, "--timeout", answer]].concat(),
        )
    };
    [
        load(http, &["-c", "8", "--rate", "300"]),
        load(http, &["--close", "--rate", "100"]),
        load(tcp, &["-c", "300", "--rate", "100"]),
    ]
}

/// After a fault nothing stays broken: the same load again, of which nothing is lost.
fn nothing_stays_broken(ns: &Namespace<'_>) {
    expect(ns, "client", "http://server:8080/", true);
    for load in three(ns, "5s", ANSWER) {
        load.lost_nothing();
    }
}

/// Runs a command about the whole mesh, which must succeed.
#[track_caller]
fn in_system(ns: &Namespace<'_>, args: &[&str]) {
    let output = ns.program("corten", args).args(["-n", "istio-system"]).output();
    let output = output.expect("corten runs");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Changes an object of the mesh.
#[track_caller]
fn change(ns: &Namespace<'_>, object: &str) {
    let mut apply = ns.program(
        "corten",
        &["apply", "-n", "istio-system", "--force-conflicts", "-f", "-"],
    );
    let mut apply = apply.stdin(Stdio::piped()).spawn().expect("corten runs");
    let mut stdin = apply.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut stdin, object.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(apply.wait().expect("it was started").success(), "{object}");
}

/// Replaces a part of the mesh and waits until the new one is ready.
fn restart(ns: &Namespace<'_>, what: &str) {
    in_system(ns, &["rollout", "restart", what]);
    in_system(ns, &["rollout", "status", what, WITHIN]);
}

/// Client and server are replaced while they talk. A server goes on for as long as it is still called, as it has to in Kubernetes.
pub(crate) fn rollouts(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("other", 2), ("client", 1)]);
    ns.apply(&patient("server"));
    ns.corten("rollout status", &["deployment/server", WITHIN]).ok();
    join(ns);
    expect(ns, "client", "http://server:8080/", true);
    // Whoever starts calls at once, and would start again if a call failed.
    ns.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: caller}}\n\
         spec:\n  selector: {{matchLabels: {{app: caller}}}}\n  template:\n    metadata: {{labels: {{app: caller}}}}\n    spec:\n\
         \x20     terminationGracePeriodSeconds: 5\n\
         \x20     initContainers:\n      - {{name: calls, image: {ECHO}, command: [corten-load, 'http://server:8080/', --close, --rate, '0', '-n', '50']}}\n\
         \x20     containers:\n      - {{name: echo, image: {ECHO}}}\n"
    ));
    // A server that ends closes connections that are kept for the next call, which may be on its way: by HTTP/1 nobody can help it. So to the
    // server that is replaced each call has a connection of its own, and connections that stay go elsewhere.
    let load =
        |url, args: &[&str]| Load::start(ns, "client", url, &[args, &["-d", "45s", "--timeout", ANSWER]].concat());
    let loads = [
        load("http://server:8080/", &["--close", "--rate", "200"]),
        load("http://other:8080/", &["-c", "8", "--rate", "200"]),
        load("tcp://other:9000", &["-c", "300", "--rate", "100"]),
    ];
    for deployment in [
        "deployment/server",
        "deployment/caller",
        "deployment/server",
        "deployment/caller",
    ] {
        ns.corten("rollout restart", &[deployment]).ok();
        ns.corten("rollout status", &[deployment, WITHIN]).ok();
        for pod in pods(ns) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let again = &pod["status"]["initContainerStatuses"][0]["restartCount"];
            if again.as_u64().is_some_and(|again| again > 0) {
                let said = ns.corten("logs", &[name, "-c", "calls", "--previous"]);
                panic!("the first calls of {name} failed: {said:?}");
            }
        }
    }
    for load in loads {
        load.lost_nothing();
    }
    all_enrolled(ns);
}

/// A change of a service: it goes on for three seconds after it was told to end, which is longer than it takes until nobody calls it.
fn patient(name: &str) -> String {
    service(name, 2)
        .replace(
            "      terminationGracePeriodSeconds: 5\n",
            "      terminationGracePeriodSeconds: 15\n",
        )
        .replace(
            "        args: [--tcp, \"9000\"]\n",
            "        args: [--tcp, \"9000\"]\n        lifecycle: {preStop: {exec: {command: [sleep, \"3\"]}}}\n",
        )
}

pub(crate) fn control_plane_rollout(ns: &Namespace<'_>) {
    under_load(ns, || restart(ns, "deployment/istiod"));
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn agent_restart(ns: &Namespace<'_>) {
    under_load(ns, || {
        restart(ns, "daemonset/istio-cni-node");
        match ns.runtime().kill_on_nodes("corten-agent") {
            Ok(agents) => assert!(agents > 0, "there are agents"),
            Err(reason) => eprintln!("the agents are not killed: {reason}"),
        }
    });
    // New pods join again.
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server", WITHIN]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}

/// A program that no image has.
const NOWHERE: &str = "/nonexistent";

/// Without an agent pods of the mesh do not start, and an Event says why; others do, and at once.
pub(crate) fn agent_away(ns: &Namespace<'_>) {
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    // The agent has told the plugin of the namespaces by then.
    std::thread::sleep(Duration::from_secs(3));
    let command = |command: &str| {
        let file = ns.file(&format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: istio-cni-node}}\n\
             spec: {{template: {{spec: {{containers: [{{name: install-cni{command}}}]}}}}}}\n"
        ));
        ns.corten_in("istio-system", "apply", &["--force-conflicts", "-f", &file])
            .ok();
    };
    let set = ns
        .corten_in("istio-system", "get", &["daemonset/istio-cni-node", "-o", "json"])
        .ok();
    let set: serde_json::Value = serde_json::from_str(&set).expect("-o json is JSON");
    let original = match &set["spec"]["template"]["spec"]["containers"][0]["command"] {
        serde_json::Value::Null => String::new(),
        command => format!(", command: {command}"),
    };
    command(&format!(", command: [{NOWHERE}]"));
    let agents = || {
        let pods = ns
            .corten_in(
                "istio-system",
                "get",
                &["pods", "-l", "k8s-app=istio-cni-node", "-o", "json"],
            )
            .ok();
        let pods: serde_json::Value = serde_json::from_str(&pods).expect("-o json is JSON");
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let is_agent = |pod: &&serde_json::Value| pod["spec"]["containers"][0]["command"][0] != NOWHERE;
        pods.iter().filter(is_agent).count()
    };
    eventually(SETTLING, || match agents() {
        0 => Ok(()),
        // One that is not ready holds the rollout up: what is left is taken away.
        left => {
            ns.corten_in(
                "istio-system",
                "delete",
                &["pods", "-l", "k8s-app=istio-cni-node", "--wait=false"],
            );
            Err(format!("{left} agents are left"))
        }
    });
    start(&outside, &[("stranger", 1)]);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: late}}\nspec: {{containers: [{{name: c, image: {ECHO}}}]}}\n"
    );
    ns.apply(&pod);
    eventually(SETTLING * 2, || {
        let events = ns.corten("get", &["events", "-o", "json"]).stdout;
        if events.contains("node agent does not answer") && events.contains("late") {
            Ok(())
        } else {
            Err(events)
        }
    });
    command(&original);
    ns.corten_in(
        "istio-system",
        "delete",
        &["pods", "-l", "k8s-app=istio-cni-node", "--wait=false"],
    )
    .ok();
    ns.wait("pod/late", "condition=Ready");
    all_enrolled(ns);
}

pub(crate) fn control_plane_away(ns: &Namespace<'_>) {
    let replicas = |count: u32| {
        let deployment = "apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod}";
        change(ns, &format!("{{{deployment}, spec: {{replicas: {count}}}}}"));
    };
    // The outage that the mesh has to bear; every run of the tests has a part of it.
    let outage = std::env::var("CORTEN_TEST_OUTAGE_SECONDS").map_or(Ok(8), |seconds| seconds.parse::<u64>());
    let outage = outage.expect("CORTEN_TEST_OUTAGE_SECONDS is a number");
    under_load_for(ns, &format!("{}s", outage + 15), || {
        replicas(0);
        in_system(
            ns,
            &["delete", "pod", "-l", "app=istiod", "--grace-period=0", "--force"],
        );
        // Whoever comes meanwhile is in the mesh when it is back.
        ns.apply(&service("late", 1));
        std::thread::sleep(Duration::from_secs(outage));
        replicas(1);
    });
    in_system(ns, &["rollout", "status", "deployment/istiod", WITHIN]);
    ns.wait("deployment/late", "condition=Available");
    all_enrolled(ns);
    expect(ns, "client", "http://late:8080/", true);
    expect(ns, "late", "http://server:8080/", true);
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server", WITHIN]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}

/// All connections through a node proxy live in its process, and end with it; those that come after find the next one.
pub(crate) fn node_proxy_killed(ns: &Namespace<'_>) {
    if let Err(reason) = ns.runtime().reaches_nodes() {
        corten_rt::skip!("{reason}");
    }
    let [kept, single, held] = counted(ns, ANSWER, || {
        let begin = Instant::now();
        let killed = ns.runtime().kill_on_nodes("corten-node").expect("it was asked before");
        assert!(killed > 0, "there are node proxies");
        expect(ns, "client", "http://server:8080/", true);
        eprintln!(
            "calls get through {:.1?} after the node proxies were killed",
            begin.elapsed()
        );
    });
    assert!(
        kept.calls > kept.failed && single.calls > single.failed,
        "calls got through again"
    );
    // What was held is lost, and connected anew.
    assert!(held.failed + held.broken > 0 && held.calls > held.failed, "{held:?}");
    nothing_stays_broken(ns);
    all_enrolled(ns);
}

/// Proxies whose pods are deleted go on until others have come in their place, and then until their connections have ended.
pub(crate) fn node_proxy_deleted(ns: &Namespace<'_>) {
    under_load(ns, || {
        in_system(ns, &["delete", "pods", "-l", "app=ztunnel", "--wait=false"])
    });
    expect(ns, "client", "http://server:8080/", true);
}

/// The API server does not answer for a while. Who is there goes on; who comes waits for it.
pub(crate) fn api_server_away(ns: &Namespace<'_>) {
    if !ns.runtime().is_kubernetes() {
        // Its API server is the runtime itself.
        return;
    }
    let pid = std::env::var("CORTEN_API_SERVER_PID").unwrap_or_default();
    if pid.is_empty() {
        corten_rt::skip!("CORTEN_API_SERVER_PID does not name an API server that may be stopped");
    }
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill {name} {pid}");
    };
    under_load(ns, || {
        signal("-STOP");
        // Longer, and Kubernetes takes its nodes for dead.
        std::thread::sleep(Duration::from_secs(6));
        signal("-CONT");
    });
    ns.corten("rollout restart", &["deployment/server"]).ok();
    ns.corten("rollout status", &["deployment/server", WITHIN]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}

/// A node that nobody reaches for ten seconds. What is open waits for it: nothing that carries the connections gives up in that time.
pub(crate) fn node_cut_off(ns: &Namespace<'_>) {
    if ns.runtime().is_kubernetes() {
        corten_rt::skip!("its nodes are not on this machine");
    }
    let inner = ns.runtime().processes("default").inner.to_string();
    let ip = |args: &[&str]| {
        let output = Command::new("nsenter")
            .args(["-t", &inner, "-n", "ip"])
            .args(args)
            .output();
        output.map_err(|error| error.to_string()).and_then(|output| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let failed = || String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(said).ok_or_else(failed)
        })
    };
    let ports = match ip(&["-o", "link", "show", "master", "backbone"]) {
        Ok(ports) => ports,
        Err(reason) => corten_rt::skip!("the network of the nodes cannot be changed: {reason}"),
    };
    start(ns, &[("server", 2), ("client", 1)]);
    // A node of servers that is not the caller's.
    let home = pod_of(ns, "client")["spec"]["nodeName"].clone();
    let elsewhere = pods(ns).into_iter().find(|pod| pod["spec"]["nodeName"] != home);
    let elsewhere = elsewhere.expect("the servers are on both nodes");
    let node = elsewhere["spec"]["nodeName"].as_str().unwrap_or_default();
    let names = ports
        .lines()
        .filter_map(|line| line.split([':', '@']).nth(1))
        .map(str::trim);
    let names: Vec<&str> = names.collect();
    let port = names
        .iter()
        .find(|name| name.contains(node))
        .unwrap_or_else(|| panic!("no port of {node} in {names:?}"));
    // Whoever waits long enough has an answer.
    let [kept, _, held] = counted(ns, "60s", || {
        ip(&["link", "set", port, "down"]).expect("it was asked before");
        std::thread::sleep(Duration::from_secs(10));
        ip(&["link", "set", port, "up"]).expect("it was asked before");
    });
    assert!(kept.calls > kept.failed, "calls got through again");
    assert_eq!((held.failed, held.broken), (0, 0), "what is open waits");
    nothing_stays_broken(ns);
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
        change(
            ns,
            "{apiVersion: v1, kind: Secret, metadata: {name: istio-ca-secret}, stringData: {rotate-root: 20s}}",
        );
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
    ns.corten("rollout status", &["deployment/server", WITHIN]).ok();
    all_enrolled(ns);
    expect(ns, "client", "http://server:8080/", true);
}
