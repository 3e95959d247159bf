//! Who is called of those that could be, and how: balancing by what requests say, hosts that are found by their names, servers that are told by
//! the name in a client's greeting, what is said before the first byte, and failures of gRPC.

use corten_e2e::{Namespace, eventually};

use super::support::{Pod, SETTLING, ask, asks, counts, none_rejected, service, start, stat, until, until_status};

fn rules(namespace: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: sticky}}
spec:
  host: sticky
  trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x-user}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: warm}}
spec: {{host: warm, trafficPolicy: {{loadBalancer: {{simple: LEAST_REQUEST, warmup: {{duration: 30s, minimumPercent: 20, aggression: 1.5}}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: announced}}
spec: {{host: announced, trafficPolicy: {{proxyProtocol: {{version: V1}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: calls}}
spec:
  host: calls
  trafficPolicy: {{outlierDetection: {{consecutiveGatewayErrors: 5, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 50}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: remote}}
spec:
  hosts: [remote]
  http:
  - retries: {{attempts: 2, retryOn: 'unavailable,cancelled', perTryTimeout: 5s}}
    route: [{{destination: {{host: remote}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: looked-up}}
spec:
  hosts: [looked-up.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{{number: 8081, name: http, protocol: HTTP, targetPort: 80}}]
  endpoints: [{{address: plain.{namespace}.svc.cluster.local}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: any-pod}}
spec:
  hosts: ['*.{namespace}.pod.cluster.local']
  location: MESH_EXTERNAL
  resolution: DYNAMIC_DNS
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shops}}
spec:
  hosts: ['*.shops.example']
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{{number: 8443, name: tls, protocol: TLS}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shops}}
spec:
  hosts: ['*.shops.example']
  tls:
  - match: [{{port: 8443, sniHosts: [red.shops.example]}}]
    route: [{{destination: {{host: red, port: {{number: 8443}}}}}}]
  - match: [{{port: 8443, sniHosts: [blue.shops.example]}}]
    route: [{{destination: {{host: blue, port: {{number: 8443}}}}}}]
"
    )
}

/// A server that shows a certificate of its own, with this name.
fn by_tls(name: &str) -> Pod<'_> {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/{name}.key -out /tmp/{name}.crt -days 2 -subj /CN={name} 2>/dev/null; \
         exec openssl s_server -quiet -www -accept 8443 -key /tmp/{name}.key -cert /tmp/{name}.crt"
    );
    Pod::new(
        name,
        format!(
            "{{name: app, image: host, command: [sh, -c, '{script}'], readinessProbe: {{tcpSocket: {{port: 8443}}, periodSeconds: 1}}}}"
        ),
    )
}

/// A service with a port of this name.
fn on_port(name: &str, selector: &str, port_name: &str, port: u16, target: u16) -> String {
    service(name, selector, target).replace("name: http, port: 80", &format!("name: {port_name}, port: {port}"))
}

pub(crate) fn where_calls_go(ns: &Namespace<'_>) {
    let pods = [
        Pod::client("client").sidecar(),
        Pod::echo("one").labels("app: many"),
        Pod::echo("two").labels("app: many"),
        Pod::echo("plain"),
        Pod::new(
            "bytes",
            "{name: app, image: corten.dev/echo, args: [--tcp, '9000']}".to_owned(),
        ),
        Pod::echo("good").labels("half: good, all: halves"),
        Pod::failing("bad", 503).labels("half: bad, all: halves"),
        by_tls("red"),
        by_tls("blue"),
    ];
    let services = [
        service("sticky", "app: many", 8080),
        service("warm", "app: many", 8080),
        service("plain", "app: plain", 8080),
        on_port("announced", "app: bytes", "tcp", 9000, 9000),
        on_port("calls", "all: halves", "http2", 80, 8080),
        on_port("remote", "app: plain", "grpc", 80, 8080),
        on_port("red", "app: red", "tls", 8443, 8443),
        on_port("blue", "app: blue", "tls", 8443, 8443),
    ];
    start(ns, &pods, &(services.concat() + &rules(ns.name())));
    until_status(ns, "client", "plain/", 200);
    balanced(ns);
    found_by_name(ns);
    by_greeting(ns);
    announced(ns);
    over_http2(ns);
    none_rejected(ns, &["client"]);
}

/// One user, one server; and not all users the same.
fn balanced(ns: &Namespace<'_>) {
    let pods_for = |user: usize| {
        let answers = asks(ns, "client", 5, &format!("-H 'x-user: user-{user}' sticky/"));
        counts(answers.iter().map(|answer| answer.get("pod").to_owned()))
    };
    // Until the rule is there, calls are spread.
    eventually(SETTLING, || {
        let each: Vec<_> = (0..3).map(pods_for).collect();
        each.iter()
            .all(|pods| pods.len() == 1)
            .then_some(())
            .ok_or_else(|| format!("{each:?}"))
    });
    // Twenty users all with the same of two servers: two in a million.
    let all = counts((0..20).map(|user| {
        let pods = pods_for(user);
        assert_eq!(pods.len(), 1, "user {user}: {pods:?}");
        pods.into_keys().next()
    }));
    assert_eq!(all.len(), 2, "{all:?}");
    until_status(ns, "client", "warm/", 200);
}

fn found_by_name(ns: &Namespace<'_>) {
    let any = "10.250.1.1";
    let answer = until(
        ns,
        "client",
        &format!("--resolve looked-up.example:8081:{any} looked-up.example:8081/x"),
        |answer| answer.get("pod") == "plain",
    );
    assert_eq!(answer.get("host"), "looked-up.example:8081");
    // Any name of a pod, found when it is called: the address that the client had is not asked.
    let names: Vec<(String, String)> = ["one", "two"]
        .map(|pod| {
            let address = ns.get(&format!("pod/{pod}"))["status"]["podIP"]
                .as_str()
                .unwrap_or_default()
                .replace('.', "-");
            (pod.to_owned(), format!("{address}.{}.pod.cluster.local", ns.name()))
        })
        .to_vec();
    for (pod, host) in &names {
        until(
            ns,
            "client",
            &format!("--resolve {host}:8080:{any} {host}:8080/x"),
            |answer| answer.get("pod") == pod,
        );
    }
    let through = stat(ns, "client", "pod.cluster.local;.upstream_rq_200$");
    assert!(
        through >= 2,
        "{through} requests went through the ServiceEntry's cluster"
    );
}

/// Whom a client wants is in its first bytes, whatever address it has.
fn by_greeting(ns: &Namespace<'_>) {
    let red = ns.get("pod/red")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for name in ["blue", "red"] {
        let host = format!("{name}.shops.example");
        let call = format!("-kv --resolve {host}:8443:{red} https://{host}:8443/ 2>&1");
        until(ns, "client", &call, |answer| {
            answer.text.contains(&format!("CN={name}"))
        });
    }
}

/// The server is told where the connection comes from before its first byte; this one says back whatever it gets.
fn announced(ns: &Namespace<'_>) {
    let client = ns.get("pod/client")["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let script = "exec 3<>/dev/tcp/announced/9000 && echo hi >&3 && timeout 5 head -n 2 <&3";
    eventually(SETTLING, || {
        let said = ns
            .corten("exec", &["client", "-c", "app", "--", "bash", "-c", script])
            .stdout;
        let mut lines = said.lines();
        let first = lines.next().unwrap_or_default();
        let told = first.starts_with(&format!("PROXY TCP4 {client} ")) && lines.next() == Some("hi");
        told.then_some(()).ok_or_else(|| said.clone())
    });
}

fn over_http2(ns: &Namespace<'_>) {
    // A call of gRPC: no compression, five bytes, message 1 is "hi".
    let body = "printf '\\000\\000\\000\\000\\004\\012\\002hi' | curl -s -i -m 30 --http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @-";
    let call = |query: &str| {
        let script = format!("{body} 'remote/proto.EchoTestService/Echo?{query}'");
        ns.corten("exec", &["client", "-c", "app", "--", "sh", "-c", &script])
            .ok()
    };
    let value = |answer: &str, name: &str| {
        let mut lines = answer.lines().filter_map(|line| line.trim_end().split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    eventually(SETTLING, || {
        let answer = call("");
        answer.contains("message: hi").then_some(()).ok_or(answer)
    });
    // Unavailable twice, and well the third time; a status that is none of those to be tried again comes back at once.
    let healed = call("tally=heals&grpc=14&first=2");
    assert!(
        healed.contains("message: hi") && value(&healed, "x-corten-tally").as_deref() == Some("3"),
        "{healed}"
    );
    let refused = call("tally=refused&grpc=7");
    assert_eq!(
        (
            value(&refused, "grpc-status").as_deref(),
            value(&refused, "x-corten-tally").as_deref()
        ),
        (Some("7"), Some("1")),
        "{refused}"
    );
    // The half that fails is left out, of connections that carry many requests at once.
    let counter = |what: &str| stat(ns, "client", &format!("calls.{}.svc.*{what}$", ns.name()));
    eventually(SETTLING, || {
        asks(ns, "client", 10, "calls/");
        let active = counter("outlier_detection.ejections_active");
        (active == 1)
            .then_some(())
            .ok_or_else(|| format!("{active} are ejected"))
    });
    let all = counts(
        asks(ns, "client", 20, "calls/")
            .iter()
            .map(|answer| answer.get("x-corten-pod").to_owned()),
    );
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("good".to_owned(), 20)]);
    assert_eq!(ask(ns, "client", "calls/").get("protocol"), "HTTP/2.0");
    assert!(counter("upstream_cx_http2_total") >= 1);
}
