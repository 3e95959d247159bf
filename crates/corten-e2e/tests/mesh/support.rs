//! Services, callers and steady load for the scenarios.

use std::process::{Child, Stdio};
use std::time::Duration;

use corten_e2e::{Namespace, eventually};
use serde_json::Value;

/// How long a change may take to be seen everywhere on a busy machine.
pub(crate) const SETTLING: Duration = Duration::from_secs(30);

/// The echo server's image, with the tag that the images of this version have.
pub(crate) const ECHO: &str = concat!("corten.dev/echo:", env!("CARGO_PKG_VERSION"));

/// A service account, a Deployment of echo servers and their Service on port 8080; TCP echo on 9000.
pub(crate) fn service(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\n\
         spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n\
         \x20 template:\n    metadata: {{labels: {{app: {name}}}}}\n\
         \x20   spec:\n      serviceAccountName: {name}\n\
         \x20     terminationGracePeriodSeconds: 5\n\
         \x20     containers:\n      - name: echo\n        image: {ECHO}\n        args: [--tcp, \"9000\"]\n\
         \x20       readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{app: {name}}}\n  ports:\n  - {{name: http, port: 8080}}\n  - {{name: tcp, port: 9000}}\n"
    )
}

/// Starts services and waits until they are available.
#[track_caller]
pub(crate) fn start(ns: &Namespace<'_>, services: &[(&str, u32)]) {
    for (name, replicas) in services {
        ns.apply(&service(name, *replicas));
    }
    for (name, _) in services {
        ns.wait(&format!("deployment/{name}"), "condition=Available");
    }
}

/// Puts the namespace into the mesh and waits until its pods are.
#[track_caller]
pub(crate) fn join(ns: &Namespace<'_>) {
    ns.corten("label", &["namespace", ns.name(), "istio.io/dataplane-mode=ambient"])
        .ok();
    all_enrolled(ns);
}

/// Waits until every pod of the namespace is in the mesh.
#[track_caller]
pub(crate) fn all_enrolled(ns: &Namespace<'_>) {
    eventually(SETTLING, || {
        let outside: Vec<String> = pods(ns)
            .iter()
            .filter(|pod| !is_enrolled(pod))
            .map(|pod| pod["metadata"]["name"].to_string())
            .collect();
        if outside.is_empty() {
            Ok(())
        } else {
            Err(format!("{outside:?} are not in the mesh"))
        }
    });
}

pub(crate) fn is_enrolled(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled"
}

/// The namespace's pods that are not on their way out.
#[track_caller]
pub(crate) fn pods(ns: &Namespace<'_>) -> Vec<Value> {
    let list = ns.corten("get", &["pods", "-o", "json"]).ok();
    let list: Value = serde_json::from_str(&list).expect("-o json is JSON");
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.into_iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

/// Names and restarts of the pods: what a restart would change.
#[track_caller]
pub(crate) fn lives(ns: &Namespace<'_>) -> Vec<(Value, Value)> {
    let life = |pod: Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
        (pod["metadata"]["uid"].clone(), restarts)
    };
    pods(ns).into_iter().map(life).collect()
}

/// A pod of a service.
#[track_caller]
pub(crate) fn pod_of(ns: &Namespace<'_>, service: &str) -> Value {
    let pods = pods(ns);
    let found = pods.into_iter().find(|pod| pod["metadata"]["labels"]["app"] == service);
    found.expect("the service has a pod")
}

/// Calls a URL from a pod of a service, over a new connection each time; the answered calls and the errors.
#[track_caller]
pub(crate) fn call(ns: &Namespace<'_>, from: &str, url: &str, calls: u64) -> (u64, String) {
    let pod = pod_of(ns, from);
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let calls = calls.to_string();
    let args = [
        pod,
        "--",
        "corten-load",
        url,
        "--rate",
        "0",
        "-n",
        &calls,
        "--close",
        "--timeout",
        "3s",
        "-o",
        "json",
    ];
    let output = ns.corten("exec", &args);
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{url}: {}", output.stderr));
    (
        report["codes"]["200"].as_u64().unwrap_or(0),
        report["errors"].to_string(),
    )
}

/// Waits until calls get through, all of them, or none.
#[track_caller]
pub(crate) fn expect(ns: &Namespace<'_>, from: &str, url: &str, through: bool) {
    const CALLS: u64 = 4;
    eventually(SETTLING, || {
        let (answered, errors) = call(ns, from, url, CALLS);
        let wanted = if through { CALLS } else { 0 };
        if answered == wanted {
            return Ok(());
        }
        Err(format!(
            "{from} to {url}: {answered} of {CALLS} got through, wanted {wanted}: {errors}"
        ))
    });
}

/// What became of calls under a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) broken: u64,
}

/// Load that goes on while something else happens.
pub(crate) struct Load {
    child: Child,
    what: String,
}

impl Load {
    /// Starts calls from a pod of `from`; `args` after the URL.
    #[track_caller]
    pub(crate) fn start(ns: &Namespace<'_>, from: &str, url: &str, args: &[&str]) -> Self {
        let pod = pod_of(ns, from);
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        let program = [&[pod, "--", "corten-load", url, "-o", "json"], args].concat();
        let mut command = ns.command(&["exec"], &program);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("corten runs");
        Self {
            child,
            what: format!("{url} {}", args.join(" ")),
        }
    }

    /// Waits for its end and tells what became of it.
    #[track_caller]
    pub(crate) fn count(self) -> Counted {
        let output = self.child.wait_with_output().expect("it was started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {said}", self.what));
        let errors = report["errors"].as_object();
        let counted = Counted {
            calls: report["calls"].as_u64().unwrap_or(0),
            failed: errors.map_or(0, |errors| errors.values().filter_map(Value::as_u64).sum()),
            broken: report["connectionsLost"].as_u64().unwrap_or(0),
        };
        let Counted { calls, failed, broken } = counted;
        eprintln!(
            "{}: {calls} calls, {failed} failed, {broken} connections lost between calls {}",
            self.what, report["errors"]
        );
        assert!(calls > 0, "{}: no calls", self.what);
        counted
    }

    /// Waits for its end; fails if a call was not answered or a connection broke.
    #[track_caller]
    pub(crate) fn lost_nothing(self) {
        let output = self.child.wait_with_output().expect("it was started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {said}", self.what));
        let calls = report["calls"].as_u64().unwrap_or(0);
        assert!(calls > 0, "{}: no calls", self.what);
        assert_eq!(report["errors"].to_string(), "{}", "{} of {calls} calls", self.what);
        assert_eq!(report["connectionsLost"], 0, "{} of {calls} calls", self.what);
        assert_eq!(report["codes"]["200"], calls, "{}", self.what);
    }
}
