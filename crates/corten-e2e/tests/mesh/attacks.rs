//! What must not get through, and must disturb nobody.

use corten_e2e::Namespace;

use super::support::{expect, join, pod_of, start};

/// Sends bytes to an address from a pod and shows what comes back, for two seconds at most.
fn send(ns: &Namespace<'_>, from: &str, to: &str, port: u16, bytes: &str) -> String {
    let pod = pod_of(ns, from);
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let script = format!("exec 3<>/dev/tcp/{to}/{port} && printf '{bytes}' >&3 && timeout 2 cat <&3 | od -c | head -5");
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
    for port in [15001, 15006, 15008, 15053] {
        for bytes in [
            "\\377\\376\\375\\000\\000",
            "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n",
            "CONNECT 127.0.0.1:22 HTTP/1.1\\r\\n\\r\\n",
        ] {
            let back = send(&outside, "stranger", &address, port, bytes);
            assert!(!back.contains("corten-pod"), "port {port}: {back}");
        }
    }
    expect(ns, "client", "http://server:8080/", true);
}
