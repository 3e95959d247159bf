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
