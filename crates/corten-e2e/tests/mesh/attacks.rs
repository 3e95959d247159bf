//! What must not get through, and must disturb nobody.

use corten_e2e::{Namespace, run};
use serde_json::Value;

use super::support::{expect, join, pod_of, start};

/// Sends bytes to an address from a pod and shows what comes back, for a second at most.
fn send(ns: &Namespace<'_>, from: &str, to: &str, port: u16, bytes: &str) -> String {
    let pod = pod_of(ns, from);
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let script = format!("exec 3<>/dev/tcp/{to}/{port} && printf '{bytes}' >&3 && timeout 1 cat <&3 | od -c | head -5");
    let output = ns.corten("exec", &[pod, "--", "bash", "-c", &script]);
    output.stdout
}

pub(crate) fn plaintext_is_refused(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    ns.apply("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n");
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(&outside, &[("stranger", 1)]);
    let address = pod_of(ns, "server")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for url in [
        format!("http://server.{}:8080/", ns.name()),
        // Past the service, and to the proxy's own ports.
        format!("http://{address}:8080/"),
        format!("http://{address}:15008/"),
        format!("http://{address}:15006/"),
        format!("http://{address}:15001/"),
    ] {
        expect(&outside, "stranger", &url, false);
    }
    expect(ns, "client", "http://server:8080/", true);
}

pub(crate) fn garbage(ns: &Namespace<'_>) {
    start(ns, &[("server", 1), ("client", 1)]);
    join(ns);
    let outside = Namespace::new(ns.runtime(), &format!("{}-outside", ns.name()));
    start(&outside, &[("stranger", 1)]);
    let address = pod_of(ns, "server")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let garbage = [
        "\\377\\376\\375\\000\\000",
        "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\\r\\n\\r\\n",
    ];
    for port in [15001, 15006, 15008, 15053] {
        for bytes in garbage {
            let back = send(&outside, "stranger", &address, port, bytes);
            assert!(!back.contains("corten-pod"), "port {port}: {back}");
        }
    }
    // The parts of the mesh, on all of their own ports.
    let system = |label: &str| {
        let list = ns.program(
            "corten",
            &["get", "pods", "-n", "istio-system", "-l", label, "-o", "json"],
        );
        let list: Value = serde_json::from_str(&run(list).ok()).expect("-o json is JSON");
        let address = list["items"][0]["status"]["podIP"].as_str();
        address.expect("it has an address").to_owned()
    };
    for (label, ports) in [
        ("app=istiod", &[15010, 15012, 15014, 15017, 8080][..]),
        ("app=ztunnel", &[15000, 15020, 15021]),
    ] {
        let address = system(label);
        for port in ports {
            for bytes in garbage {
                send(&outside, "stranger", &address, *port, bytes);
            }
        }
    }
    expect(ns, "client", "http://server:8080/", true);
    for part in ["deployment/istiod", "daemonset/ztunnel"] {
        let logs = run(ns.program("corten", &["logs", "-n", "istio-system", part])).ok();
        assert!(!logs.contains("panicked"), "{part}: {logs}");
    }
}
