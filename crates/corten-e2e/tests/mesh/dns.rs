//! Names as pods of the mesh resolve them.

use corten_e2e::Namespace;

use super::support::{expect, join, pod_of, start};

pub(crate) fn names(ns: &Namespace<'_>) {
    start(ns, &[("server", 2), ("client", 1)]);
    ns.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: headless}\n\
         spec: {clusterIP: None, selector: {app: server}, ports: [{name: http, port: 8080}]}\n",
    );
    join(ns);
    let name = ns.name();
    for host in [
        "server".to_owned(),
        format!("server.{name}"),
        format!("server.{name}.svc"),
        format!("server.{name}.svc.cluster.local"),
        format!("server.{name}.svc.cluster.local."),
        "headless".to_owned(),
    ] {
        expect(ns, "client", &format!("http://{host}:8080/"), true);
    }
}

pub(crate) fn service_entries(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    let address = pod_of(ns, "server")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ns.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: elsewhere}}\n\
         spec:\n  hosts: [\"api.{0}.example.com\"]\n  resolution: STATIC\n  location: MESH_EXTERNAL\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n  endpoints: [{{address: {address}}}]\n",
        ns.name()
    ));
    // The name exists nowhere else: it resolves to an address that was allocated for it.
    expect(ns, "client", &format!("http://api.{}.example.com/", ns.name()), true);
}
