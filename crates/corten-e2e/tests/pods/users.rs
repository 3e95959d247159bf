//! Containers that run as somebody.

use std::path::Path;

use corten_e2e::Namespace;

const DATABASE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
spec:
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: db
    image: postgres
    command: [sh, -ec]
    args:
    - |
      PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
      initdb --pgdata=/data/db --username=corten --auth=trust --no-sync
      echo "host all all all trust" >> /data/db/pg_hba.conf
      exec postgres -D /data/db -k /data -c listen_addresses='*' -c fsync=off
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {tcpSocket: {port: 5432}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: host, command: [sleep, infinity]}]
"#;

const SETTINGS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: low}
spec:
  terminationGracePeriodSeconds: 0
  securityContext:
    runAsUser: 999
    sysctls:
    - {name: net.ipv4.ip_unprivileged_port_start, value: "80"}
    - {name: net.ipv4.ip_local_port_range, value: "40000 40100"}
  containers:
  - name: echo
    image: corten.dev/echo
    args: [--port, "80"]
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  securityContext: {sysctls: [{name: net.core.somaxconn, value: "1024"}]}
  containers: [{name: echo, image: corten.dev/echo}]
"#;

pub(crate) fn kernel_settings(ns: &Namespace<'_>) {
    ns.apply(SETTINGS);
    // It listens where only root may elsewhere.
    ns.wait("pod/low", "condition=Ready");
    ns.wait("pod/refused", "jsonpath={.status.phase}=Failed");
    let said = ns.corten(
        "get",
        &["pod", "refused", "-o", "jsonpath={.status.reason}: {.status.message}"],
    );
    assert_eq!(
        said.ok(),
        "SysctlForbidden: Pod was rejected: forbidden sysctl: \"net.core.somaxconn\" not allowlisted"
    );
    ns.corten("delete", &["pod", "low", "refused"]).ok();
}

pub(crate) fn postgresql(ns: &Namespace<'_>) {
    if !Path::new("/usr/lib/postgresql").exists() {
        corten_rt::skip!("needs a PostgreSQL server (Debian package postgresql)");
    }
    ns.apply(DATABASE);
    ns.wait("pod/client", "condition=Ready");
    ns.wait("pod/db", "condition=Ready");
    assert_eq!(ns.sh("db", "id -u; id -g; stat -c %u /data/db"), "999\n999\n999\n");
    let query = "psql -h db -U corten -d postgres -At -c";
    corten_e2e::eventually(std::time::Duration::from_secs(60), || {
        let output = ns.corten(
            "exec",
            &[
                "client",
                "--",
                "sh",
                "-c",
                &format!("{query} 'create table if not exists t(n int)'"),
            ],
        );
        (output.code == Some(0)).then_some(()).ok_or(output.stderr)
    });
    ns.sh(
        "client",
        &format!("{query} 'insert into t select generate_series(1, 100)'"),
    );
    assert_eq!(ns.sh("client", &format!("{query} 'select sum(n) from t'")), "5050\n");
    ns.corten("delete", &["pod", "db"]).ok();
}
