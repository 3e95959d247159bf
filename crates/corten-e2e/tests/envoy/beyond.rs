//! What is not of the mesh: hosts elsewhere, and servers that bring their own TLS.

use std::path::Path;

use corten_e2e::Namespace;

use super::support::{Answer, Pod, none_rejected, start, stat, until, until_status};

/// A web server with a certificate of its own, and one without TLS.
fn outsider() -> Pod<'static> {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/key -out /tmp/cert -days 2 -subj /CN=elsewhere 2>/dev/null; \
                  exec openssl s_server -quiet -www -accept 8443 -key /tmp/key -cert /tmp/cert";
    Pod::new(
        "outsider",
        format!(
            "{{name: app, image: host, command: [sh, -c, '{script}'], readinessProbe: {{tcpSocket: {{port: 8443}}, periodSeconds: 1}}}}"
        ),
    )
}

pub(crate) fn the_mesh(ns: &Namespace<'_>) {
    let pods = [Pod::client("client").sidecar(), outsider(), Pod::echo("plain")];
    start(ns, &pods, "");
    let address = |pod: &str| {
        let pod = ns.get(&format!("pod/{pod}"));
        pod["status"]["podIP"].as_str().unwrap_or_default().to_owned()
    };
    let (outsider, plain) = (address("outsider"), address("plain"));
    let call = |host: &str| format!("-k --resolve {host}:8443:{outsider} https://{host}:8443/");
    let web = |host: &str| format!("-H 'host: {host}' {plain}:8080/");
    let answered = |answer: &Answer| answer.status == 200;

    // As long as nobody says otherwise, all is let through as it is.
    until(ns, "client", &call("known.example"), answered);
    until(ns, "client", &web("known.example"), answered);
    assert!(stat(ns, "client", "cluster.PassthroughCluster;.upstream_cx_total$") >= 2);

    ns.apply(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: known}
spec:
  hosts: [known.example]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 8443, name: tls, protocol: TLS}, {number: 8080, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: known}
spec: {host: known.example, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
",
    );
    // Those that are not named are out of reach, whatever their address; the others are told apart by the name in the client's greeting.
    until_status(ns, "client", &call("unknown.example"), 0);
    until_status(ns, "client", &web("unknown.example"), 502);
    until(ns, "client", &call("known.example"), answered);
    let answer = until(ns, "client", &web("known.example"), answered);
    assert_eq!((answer.get("pod"), answer.get("host")), ("plain", "known.example"));
    for port in [8443, 8080] {
        let through = stat(
            ns,
            "client",
            &format!("outbound.{port}..known.example;.upstream_cx_total$"),
        );
        assert!(
            through >= 1,
            "connections to port {port} go through the cluster of the ServiceEntry"
        );
    }
    ns.apply("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default}\nspec: {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n");
    until(ns, "client", &call("unknown.example"), answered);
    until(ns, "client", &web("unknown.example"), answered);
    none_rejected(ns, &["client"]);
}

/// Wants certificates of its clients, signed by its own authority.
const DATABASE: &str = r"
      cd /data
      PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
      signed() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1 2>/dev/null;
        openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $1.crt 2>/dev/null; chmod 600 $1.key; }
      openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority 2>/dev/null
      signed db; signed shop
      initdb --pgdata=/data/db --username=postgres --auth=trust --no-sync >/dev/null
      echo 'hostssl all shop all cert' > db/pg_hba.conf
      echo 'local all all trust' >> db/pg_hba.conf
      postgres -D /data/db -k /data -c listen_addresses= -c fsync=off & server=$!
      until psql -h /data -U postgres -c 'create role shop login' 2>/dev/null; do sleep 0.1; done
      kill $server; wait $server || true
      exec postgres -D /data/db -k /data -c listen_addresses='*' -c fsync=off -c ssl=on \
        -c ssl_cert_file=/data/db.crt -c ssl_key_file=/data/db.key -c ssl_ca_file=/data/ca.crt
";

pub(crate) fn a_database_with_its_own_tls(ns: &Namespace<'_>) {
    if !Path::new("/usr/lib/postgresql").exists() {
        corten_rt::skip!("needs a PostgreSQL server (Debian package postgresql)");
    }
    let script: String = DATABASE.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let script = serde_json::to_string(&script).expect("a text");
    let app = format!(
        "{{name: app, image: postgres, command: [sh, -ec, {script}], volumeMounts: [{{name: data, mountPath: /data}}], \
         readinessProbe: {{tcpSocket: {{port: 5432}}, periodSeconds: 1}}}}"
    );
    let pods = [
        Pod::new("db", app)
            .security("{runAsUser: 999, runAsGroup: 999}")
            .sidecar(),
        Pod::client("client").sidecar(),
    ];
    start(
        ns,
        &pods,
        "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{name: tcp-postgres, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db, trafficPolicy: {tls: {mode: DISABLE}}}
",
    );
    // The client's files, out of band.
    let files = "cd /data; for file in ca.crt shop.crt shop.key; do echo \"cat > /tmp/$file <<'END'\"; cat $file; echo END; done; \
                 echo chmod 600 /tmp/shop.key";
    let files = ns.corten("exec", &["db", "-c", "app", "--", "sh", "-ec", files]).ok();
    let in_client = |script: &str| ns.corten("exec", &["client", "-c", "app", "--", "sh", "-ec", script]);
    in_client(&files).ok();
    let query =
        "select usename, ssl, client_dn from pg_stat_ssl natural join pg_stat_activity where pid = pg_backend_pid()";
    let psql = |more: &str| {
        format!(
            "psql 'host=db user=shop dbname=postgres sslmode=verify-full sslrootcert=/tmp/ca.crt {more}' -At -c '{query}'"
        )
    };
    let own = "sslcert=/tmp/shop.crt sslkey=/tmp/shop.key";
    let said = corten_e2e::eventually(super::support::SETTLING, || {
        let output = in_client(&psql(own));
        if output.code == Some(0) {
            Ok(output.stdout)
        } else {
            Err(output.stderr)
        }
    });
    assert_eq!(said, "shop|t|/CN=shop\n");
    let without = in_client(&psql(""));
    assert!(
        without.code != Some(0) && without.stderr.contains("certificate"),
        "{}",
        without.stderr
    );
    // Through both sidecars, and in the database's own TLS only.
    let cluster = format!("outbound.5432..db.{}.svc.*", ns.name());
    assert!(stat(ns, "client", &format!("{cluster}upstream_cx_total$")) >= 2);
    assert_eq!(stat(ns, "client", &format!("{cluster}ssl.handshake$")), 0);
    assert!(stat(ns, "db", "cluster.inbound.5432.*upstream_cx_total$") >= 2);
    none_rejected(ns, &["client", "db"]);
}
