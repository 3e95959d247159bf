//! The commands one works with: get, label, annotate, rollout, run, port-forward.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use corten_e2e::{Namespace, eventually};
use serde_json::Value;

const SLEEPER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: sleeper, labels: {app: sleeper}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: host, command: [sh, -c, 'echo up; exec sleep infinity']}]
";

pub(crate) fn verbs(ns: &Namespace<'_>) {
    assert_eq!(ns.apply(SLEEPER), "pod/sleeper created\n");
    assert_eq!(ns.apply(SLEEPER), "pod/sleeper unchanged\n");
    ns.wait("pod/sleeper", "condition=Ready");
    ns.corten("label", &["pod/sleeper", "tier=back", "app-"]).ok();
    ns.corten("annotate", &["pod/sleeper", "note=well then"]).ok();
    let metadata = ns.get("pod/sleeper")["metadata"].clone();
    assert_eq!(metadata["labels"], serde_json::json!({"tier": "back"}));
    assert_eq!(metadata["annotations"]["note"], "well then");
    assert!(metadata["managedFields"].is_null());
    let get = |args: &[&str]| ns.corten("get", args).ok();
    assert_eq!(get(&["pods", "-o", "name", "-l", "tier=back"]), "pod/sleeper\n");
    assert_eq!(
        get(&["pod", "sleeper", "-o", "jsonpath={.spec.containers[0].name}"]),
        "app"
    );
    assert!(get(&["pod", "sleeper", "-o", "yaml"]).starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"));
    let columns = get(&["pods", "-o", "custom-columns=NAME:.metadata.name,PHASE:.status.phase"]);
    assert_eq!(
        columns.split_whitespace().collect::<Vec<_>>(),
        ["NAME", "PHASE", "sleeper", "Running"]
    );
    let table = get(&["pods", "-o", "wide", "--show-labels"]);
    assert!(
        table.starts_with("NAME") && table.contains("tier=back") && table.contains("node"),
        "{table}"
    );
    let taken = ns.corten("label", &["pod/sleeper", "tier=front"]).fails(1);
    assert!(taken.contains("tier") && taken.contains("--overwrite"), "{taken}");
    assert_eq!(ns.logs(&["sleeper", "--tail=1"]), "up\n");
    // Standard input goes to the command, byte for byte.
    let mut cat = ns
        .command(&["exec"], &["-i", "sleeper", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("corten runs");
    let bytes: Vec<u8> = (0..=255u8).cycle().take(200_000).collect();
    let mut input = cat.stdin.take().expect("a pipe");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = cat.wait_with_output().expect("it ends with its input");
    writer.join().expect("the writer is well").expect("all is taken");
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    ends_with_its_client(ns);
    ns.corten("delete", &["pod/sleeper"]).ok();
    assert!(
        ns.corten("get", &["pod", "sleeper"])
            .fails(1)
            .contains("pods \"sleeper\" not found")
    );
    assert_eq!(get(&["pod", "sleeper", "--ignore-not-found"]), "");
}

/// What was started by `exec` ends when who started it is gone.
fn ends_with_its_client(ns: &Namespace<'_>) {
    let script = ["sleeper", "--", "sh", "-c", "echo $$; exec sleep 1000"];
    let mut client = ns
        .command(&["exec"], &script)
        .stdout(Stdio::piped())
        .spawn()
        .expect("corten runs");
    let mut output = BufReader::new(client.stdout.take().expect("a pipe"));
    let mut pid = String::new();
    output.read_line(&mut pid).expect("text");
    let running = || {
        ns.corten(
            "exec",
            &["sleeper", "--", "test", "-e", &format!("/proc/{}", pid.trim())],
        )
    };
    running().ok();
    client.kill().expect("it is ours");
    client.wait().expect("it is ours");
    eventually(Duration::from_secs(60), || match running().code {
        Some(1) => Ok(()),
        code => Err(format!("process {} in the pod: {code:?}", pid.trim())),
    });
}

fn deployment(version: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: app, image: host, command: [sleep, infinity], env: [{{name: VERSION, value: {version}}}]}}
"
    )
}

pub(crate) fn rollouts(ns: &Namespace<'_>) {
    let rollout = |args: &str| {
        let words: Vec<&str> = args.split(' ').collect();
        ns.corten(&format!("rollout {}", words[0]), &words[1..]).ok()
    };
    let version = || ns.corten("exec", &["deployment/app", "--", "printenv", "VERSION"]).ok();
    ns.apply(&deployment("one"));
    assert!(rollout("status deployment/app --timeout=60s").contains("successfully rolled out"));
    ns.apply(&deployment("two"));
    rollout("status deployment/app --timeout=60s");
    assert_eq!(version(), "two\n");
    let history = rollout("history deployment/app");
    assert!(
        history.contains("REVISION") && history.contains("\n1 ") && history.contains("\n2 "),
        "{history}"
    );
    rollout("undo deployment/app");
    rollout("status deployment/app --timeout=60s");
    assert_eq!(version(), "one\n");
    let names = || ns.corten("get", &["pods", "-l", "app=app", "-o", "name"]).ok();
    let before = names();
    rollout("restart deployment/app");
    rollout("status deployment/app --timeout=60s");
    eventually(Duration::from_secs(60), || {
        let now = names();
        let fresh = now.lines().count() == 2 && now.lines().all(|name| !before.contains(name));
        fresh.then_some(()).ok_or_else(|| format!("{before} became {now}"))
    });
    // Everything a deployment owns goes with it.
    ns.corten("delete", &["deployment", "app"]).ok();
    ns.corten("wait", &["pods", "--all", "--for=delete", "--timeout=60s"]);
    eventually(Duration::from_secs(60), || {
        let left = ns.corten("get", &["pods,replicasets", "-o", "name"]).ok();
        left.is_empty().then_some(()).ok_or(left)
    });
}

pub(crate) fn run(ns: &Namespace<'_>) {
    ns.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: clerk}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: front}\nspec: {selector: {app: adhoc}, ports: [{port: 80, targetPort: 8099}]}\n",
    );
    let output = ns.corten("run", &["-e", "A=b c", "--", "sh", "-c", "echo out $A; exit 4"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(4), "out b c\n"),
        "{}",
        output.stderr
    );
    let missing = ns.corten("run", &["--", "slepe", "1"]).fails(1);
    assert!(missing.contains("slepe") && missing.contains("not found"), "{missing}");
    // A server that others find by its label, under its own account.
    let mut args = vec![
        "--name",
        "adhoc",
        "--sa",
        "clerk",
        "-l",
        "app=adhoc",
        "--port",
        "8099",
        "--",
    ];
    args.extend(["corten-echo", "--port", "8099"]);
    let mut server = ns
        .command(&["run"], &args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("corten runs");
    ns.wait("pod/adhoc", "create");
    ns.wait("pod/adhoc", "condition=Ready");
    let pod = ns.get("pod/adhoc");
    assert_eq!(pod["spec"]["serviceAccountName"], "clerk");
    eventually(Duration::from_secs(60), || {
        let call = ns.corten(
            "exec",
            &[
                "adhoc",
                "--",
                "corten-load",
                "http://front/",
                "--rate",
                "0",
                "-n",
                "1",
                "-o",
                "json",
            ],
        );
        let report: Value = serde_json::from_str(&call.stdout).unwrap_or_default();
        (report["codes"]["200"] == 1)
            .then_some(())
            .ok_or_else(|| format!("{}{}", call.stdout, call.stderr))
    });
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(server.wait().expect("it can be waited for").code(), Some(130));
    ns.corten("get", &["pod", "adhoc"]).fails(1);
}

pub(crate) fn port_forward(ns: &Namespace<'_>) {
    if !Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        corten_rt::skip!("needs kubectl on PATH");
    }
    ns.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: echo, image: corten.dev/echo, readinessProbe: {tcpSocket: {port: 8080}}}]}\n");
    ns.wait("pod/web", "condition=Ready");
    let mut forward = ns
        .program("kubectl", &["port-forward", "-n", ns.name(), "pod/web", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut line = String::new();
    // It is read from to the end, because kubectl ends when nobody takes what it says.
    let mut said = BufReader::new(forward.stdout.take().expect("a pipe"));
    said.read_line(&mut line).expect("text");
    let port = line
        .split(['>', ' '])
        .find_map(|word| word.strip_prefix("127.0.0.1:"))
        .unwrap_or_else(|| panic!("{line}"));
    let mut connection = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    connection
        .write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
        .expect("it is read");
    let mut answer = Vec::new();
    let ended = connection.read_to_end(&mut answer);
    forward.kill().expect("it runs");
    forward.wait().expect("it can be waited for");
    drop(said);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("pod: web\n"), "{answer} {ended:?}");
}
