//! Containers from their first file to their last signal.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use corten_e2e::Namespace;

const ORDER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  volumes: [{name: share, emptyDir: {}}]
  initContainers:
  - name: one
    image: host
    command: [sh, -c, "echo one >> /share/order"]
    volumeMounts: [{name: share, mountPath: /share}]
  - name: side
    image: host
    restartPolicy: Always
    command: [sh, -c, "echo side >> /share/order; touch /share/side; trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    startupProbe: {exec: {command: [test, -e, /share/side]}, periodSeconds: 1, failureThreshold: 60}
    volumeMounts: [{name: share, mountPath: /share}]
  - name: two
    image: host
    command: [sh, -c, "echo two >> /share/order"]
    volumeMounts: [{name: share, mountPath: /share}]
  containers:
  - name: app
    image: host
    command: [sh, -c, "echo app >> /share/order; cat /share/order; exec sleep infinity"]
    volumeMounts: [{name: share, mountPath: /share}]
  terminationGracePeriodSeconds: 1
"#;

pub(crate) fn init_order(ns: &Namespace<'_>) {
    ns.apply(ORDER);
    ns.wait("pod/ordered", "condition=Ready");
    ns.logged(&["ordered", "-c", "app"], &["one\nside\ntwo\napp\n"]);
    let output = ns.corten("logs", &["ordered"]);
    assert!(
        output
            .stderr
            .contains(r#"Defaulted container "app" out of: app, one (init), side (init), two (init)"#),
        "{}",
        output.stderr
    );
    assert!(output.ok().contains("two\napp\n"));
    let status = ns.get("pod/ordered")["status"]["initContainerStatuses"].clone();
    assert_eq!(status[0]["state"]["terminated"]["reason"], "Completed", "{status:#}");
    assert!(status[1]["state"]["running"].is_object(), "{status:#}");
}

const FILLED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {color: blue, file.txt: "hello\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: hunter2}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: clerk}
---
apiVersion: v1
kind: Pod
metadata: {name: filled, labels: {app: filled}, annotations: {note: hear hear}}
spec:
  serviceAccountName: clerk
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - name: down
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}]}
  - name: projected
    projected:
      sources:
      - serviceAccountToken: {audience: mesh, expirationSeconds: 3600, path: token}
      - configMap: {name: conf, items: [{key: color, path: deep/color}]}
  containers:
  - name: app
    image: host
    command: [sleep, infinity]
    workingDir: /conf
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: secret, key: password}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: BOTH, value: "$(COLOR) on $(NODE)"}
    - {name: ABSENT, valueFrom: {configMapKeyRef: {name: nothing, key: none, optional: true}}}
    envFrom: [{prefix: ALL_, configMapRef: {name: conf}}]
    resources: {limits: {cpu: "2"}}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: down, mountPath: /down}
    - {name: projected, mountPath: /projected}
"#;

pub(crate) fn environment_and_volumes(ns: &Namespace<'_>) {
    ns.apply(FILLED);
    ns.wait("pod/filled", "condition=Ready");
    let pod = ns.get("pod/filled");
    let (node, ip) = (&pod["spec"]["nodeName"], &pod["status"]["podIP"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let said = ns.sh(
        "filled",
        r#"echo "$COLOR $PASSWORD $NODE $IP $CPU; $BOTH; ${ABSENT-none}; $ALL_color""#,
    );
    assert_eq!(
        said,
        format!(
            "blue hunter2 {0} {1} 2; blue on {0}; none; blue\n",
            text(node),
            text(ip)
        )
    );
    let said = ns.sh("filled", "pwd; cat file.txt /secret/password /projected/deep/color; echo; cat /down/note; echo; cat /down/labels; echo; stat -L -c %a /secret/password");
    assert_eq!(said, "/conf\nhello\nhunter2blue\nhear hear\napp=\"filled\"\n400\n");
    // The token of the pod opens the API as its service account, whom nobody else can claim to be.
    let script = "cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; cut -d. -f2 token | base64 -d 2>/dev/null || true; echo; cut -d. -f2 /projected/token | base64 -d 2>/dev/null || true";
    let said = ns.sh("filled", script);
    assert!(said.starts_with("environment-and-volumes\n"), "{said}");
    assert_eq!(
        said.matches("system:serviceaccount:environment-and-volumes:clerk")
            .count(),
        2,
        "{said}"
    );
    assert!(said.contains(r#""aud":["mesh"]"#), "{said}");
    let read_only = ns.corten("exec", &["filled", "--", "sh", "-c", "echo >/secret/new"]);
    assert_ne!(read_only.code, Some(0));
    // What changes is seen without a restart.
    ns.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {color: green, file.txt: bye}\n");
    corten_e2e::eventually(std::time::Duration::from_secs(120), || {
        let now = ns.sh("filled", "cat /conf/file.txt");
        (now == "bye").then_some(()).ok_or(now)
    });
}

const LIVENESS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: alive}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: host
    command: [sh, -c, "echo begun; exec sleep infinity"]
    livenessProbe: {exec: {command: [test, "!", -e, /var/tmp/sick]}, periodSeconds: 1, failureThreshold: 1}
"#;

pub(crate) fn liveness(ns: &Namespace<'_>) {
    ns.apply(LIVENESS);
    ns.wait("pod/alive", "condition=Ready");
    ns.sh("alive", "touch /var/tmp/sick");
    ns.until("pod/alive", "/status/containerStatuses/0/restartCount", |count| {
        count.as_i64().is_some_and(|count| count >= 1)
    });
    // What it had written went with it, so it is well again.
    ns.wait("pod/alive", "condition=Ready");
    assert_eq!(ns.logs(&["alive", "--previous"]), "begun\n");
    let events = ns.corten("get", &["events"]).ok();
    assert!(
        events.contains("Unhealthy") && events.contains("Liveness probe failed"),
        "{events}"
    );
    assert!(events.contains("failed liveness probe, will be restarted"), "{events}");
}

const TERMINATION: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: leaving}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: app
    image: host
    command: [sh, -c, "trap 'echo terminated; exit 0' TERM; echo begun; while :; do sleep 0.2; done"]
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo before the stop > /proc/1/fd/1"]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: host
    command: [sh, -c, "trap '' TERM; echo begun; while :; do sleep 0.2; done"]
"#;

pub(crate) fn termination(ns: &Namespace<'_>) {
    ns.apply(TERMINATION);
    ns.logged(&["leaving"], &["begun"]);
    ns.logged(&["stubborn"], &["begun"]);
    // The log is followed to the end, past the pod's deletion.
    let mut follow = ns
        .command(&["logs"], &["leaving", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("corten runs");
    let mut log = BufReader::new(follow.stdout.take().expect("a pipe"));
    let mut line = String::new();
    log.read_line(&mut line).expect("text");
    assert_eq!(line, "begun\n");
    ns.corten("delete", &["pod", "leaving"]).ok();
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "before the stop\nterminated\n");
    follow.wait().expect("it ends with the pod");
    // One that does not listen is killed when its grace is over.
    ns.corten("delete", &["pod", "stubborn"]).ok();
    ns.corten("get", &["pod", "stubborn"]).fails(1);
}
