//! Tables of routes, as files: objects, who asks, and what is answered.

use corten_api::{decode, diagnostic::Diagnostic};
use corten_model::Settings;
use corten_routing::World;
use expect_test::{Expect, expect};
use serde_json::Value;

use crate::testing;

#[test]
fn tables_are_as_written_down() {
    assert!(testing::compare("routes") > 0);
}

/// Puts objects; what is said about them is compared, a line for each.
fn check(said: fn(&corten_routing::Catalog) -> Vec<Diagnostic>, objects: &str, expected: &Expect) {
    let (documents, problems) = decode::documents("a.yaml", objects);
    assert!(problems.is_empty(), "{problems:?}");
    let documents: Vec<Value> = documents.iter().map(decode::Node::to_value).collect();
    let mut world = World::new(
        Settings::default(),
        corten_api::validate::mesh_config::default_mesh_config(),
    );
    world.put(&documents);
    let lines: Vec<String> = said(&world.snapshot().catalog)
        .iter()
        .map(|said| {
            let name = said.object.as_ref().map_or("", |object| object.name.as_str());
            format!("{} {name} {}: {}\n", said.code, said.path, said.message)
        })
        .collect();
    expected.assert_eq(&lines.concat());
}

#[test]
fn destinations_that_are_not_there_are_said() {
    check(
        super::missing,
        r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec: {hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: other}
spec: {host: web.default.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: default}
spec: {host: "*.example.com", subsets: [{name: near}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: good, namespace: default}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web, subset: v1}}, {destination: {host: api.example.com, subset: near}}]
    mirrors: [{destination: {host: web}}]
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
    mirror: {host: nobody}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad, namespace: default}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: web}}, {destination: {host: nobody}}]
    mirror: {host: nobody.example.com, subset: v1}
  - route: [{destination: {host: web, subset: v2}}]
    mirrors: [{destination: {host: api.example.com, subset: far}}]
  tcp: [{route: [{destination: {host: nobody}}]}]
  tls: [{match: [{sniHosts: [web]}], route: [{destination: {host: web, subset: v3}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: delegate, namespace: other}
spec: {http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: made, namespace: default, annotations: {internal.istio.io/route-semantics: gateway}}
spec: {hosts: [web], http: [{route: [{destination: {host: nobody}}]}]}
"#,
        &expect![[r#"
            CRT0214 bad spec.http[0].mirror.host: no service has the host nobody.example.com: no copies are sent
            CRT0214 bad spec.http[0].route[1].destination.host: no service has the host nobody.default.svc.cluster.local: requests are answered with 503
            CRT0214 bad spec.http[1].mirrors[0].destination.subset: no DestinationRule for api.example.com has a subset far: no copies are sent
            CRT0214 bad spec.http[1].route[0].destination.subset: no DestinationRule for web.default.svc.cluster.local has a subset v2: requests are answered with 503
            CRT0214 bad spec.tcp[0].route[0].destination.host: no service has the host nobody.default.svc.cluster.local: connections are closed
            CRT0214 bad spec.tls[0].route[0].destination.subset: no DestinationRule for web.default.svc.cluster.local has a subset v3: connections are closed
            CRT0214 delegate spec.http[0].route[0].destination.host: no service has the host web.other.svc.cluster.local: requests are answered with 503
        "#]],
    );
}

#[test]
fn what_virtual_services_say_in_vain_is_said() {
    check(
        super::diagnostics,
        r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: older, namespace: default, creationTimestamp: "2020-01-01T00:00:00Z"}
spec:
  hosts: [a.example.com]
  http: [{route: [{destination: {host: a}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: younger, namespace: default, creationTimestamp: "2021-01-01T00:00:00Z"}
spec:
  hosts: [a.example.com, b.example.com]
  http:
  - match:
    - {gateways: [mesh], sourceLabels: {a: b}, ignoreUriCase: true, uri: {regex: "/a.*"}}
    - headers: {"@request.auth.claims.sub": {exact: me}}
    redirect: {uri: /x, redirectCode: 305}
    directResponse: {status: 200}
    timeout: 5s
    retries: {attempts: 0, retryOn: "5xx,999"}
    route: [{destination: {host: a}}]
    mirrorPercent: 10
  - match: [{uri: {prefix: /b}}]
    rewrite: {uri: /c, uriRegexRewrite: {match: a, rewrite: b}}
    mirror: {host: a}
    mirrorPercentage: {value: 5}
    mirrorPercent: 5
    corsPolicy: {allowOrigin: ["*"], allowOrigins: [{exact: a}]}
    fault: {delay: {exponentialDelay: 5s, percent: 5, percentage: {value: 5}}, abort: {http2Error: x}}
    headers: {request: {set: {":path": a, host: b}, remove: [host]}, response: {add: {":status": "200"}}}
    route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]
  - fault: {abort: {grpcStatus: NOTHING, percentage: {value: 1}}}
  - route: [{destination: {host: a}}]
  tcp:
  - match: [{sourceSubnet: 10.0.0.0/8}]
    route: [{destination: {host: a}}, {destination: {host: b}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: default}
spec:
  hosts: [c.example.com]
  gateways: [front]
  tcp: [{match: [{destinationSubnets: [10.0.0.0/8], sourceLabels: {a: b}}], route: [{destination: {host: a}}]}]
  tls: [{match: [{sniHosts: [c.example.com], sourceNamespace: x}], route: [{destination: {host: a}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: delegate, namespace: default}
spec:
  http: [{delegate: {name: other}}]
  tcp: [{route: [{destination: {host: a}}]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: first, namespace: default, creationTimestamp: "2020-01-01T00:00:00Z"}
spec:
  ingress: [{port: {number: 80, protocol: HTTP, name: http, targetPort: 81}, defaultEndpoint: "127.0.0.1:80", tls: {mode: SIMPLE}}]
  egress: [{hosts: ["*/*"], port: {number: 80, protocol: HTTP, name: http, targetPort: 81}}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: second, namespace: default, creationTimestamp: "2021-01-01T00:00:00Z"}
spec: {egress: [{hosts: ["*/*"]}]}
"#,
        &expect![[r#"
            CRT0211 first spec.egress[0].port.targetPort: takes no effect: a listener for what goes out has no target of its own
            CRT0211 first spec.ingress[0].port.targetPort: takes no effect: defaultEndpoint says where requests go
            CRT0211 first spec.ingress[0].tls: takes no effect: TLS of a workload's own port is the mesh's; PeerAuthentication is about it
            CRT0211 first spec.outboundTrafficPolicy.egressProxy: takes no effect: with REGISTRY_ONLY nothing goes to unknown hosts
            CRT0212 second spec: takes no effect: Sidecar first without a workloadSelector is older
            CRT0211 delegate spec.http[0].delegate: takes no effect: a delegate has no delegates; the route is left out
            CRT0211 delegate spec.tcp: takes no effect: without hosts this is a delegate, and those route HTTP alone
            CRT0211 edge spec.tcp[0].match[0].destinationSubnets: takes no effect: at gateways nothing but port and gateway tells connections apart
            CRT0211 edge spec.tcp[0].match[0].sourceLabels: takes no effect: at gateways nothing but port and gateway tells connections apart
            CRT0211 edge spec.tls[0].match[0].sourceNamespace: takes no effect: at gateways nothing but server name, port and gateway tells connections apart
            CRT0212 younger spec.hosts[0]: takes no effect for sidecars: VirtualService default/older for the same host is older; put the routes into one
            CRT0211 younger spec.http[0].directResponse: takes no effect: redirect answers the request here
            CRT0211 younger spec.http[0].match[0].ignoreUriCase: takes no effect: it is about exact and prefix of uri; a regex may begin with (?i)
            CRT0211 younger spec.http[0].match[0].sourceLabels: takes no effect: where gateways are named, who sends a request does not count
            CRT0211 younger spec.http[0].match[1].headers[@request.auth.claims.sub]: takes no effect: sidecars do not look into the tokens of requests that go out; gateways do
            CRT0211 younger spec.http[0].mirrorPercent: takes no effect: it is the share of mirror; each of mirrors has its own
            CRT0211 younger spec.http[0].redirect.redirectCode: takes no effect: 305 is none of 301, 302, 303, 307, 308; requests are answered with 500
            CRT0211 younger spec.http[0].retries: takes no effect: redirect answers the request here
            CRT0211 younger spec.http[0].retries.retryOn: takes no effect: attempts is 0: requests are not tried again
            CRT0211 younger spec.http[0].retries.retryOn: takes no effect: 999 is no status of HTTP
            CRT0211 younger spec.http[0].route: takes no effect: redirect answers the request here
            CRT0211 younger spec.http[0].timeout: takes no effect: redirect answers the request here
            CRT0211 younger spec.http[1].corsPolicy.allowOrigin: takes no effect: allowOrigins comes first
            CRT0211 younger spec.http[1].fault.abort: takes no effect: without percentage no request is aborted
            CRT0211 younger spec.http[1].fault.abort.http2Error: takes no effect: proxies abort with httpStatus or grpcStatus
            CRT0211 younger spec.http[1].fault.delay.exponentialDelay: takes no effect: proxies delay by a fixedDelay
            CRT0211 younger spec.http[1].fault.delay.percent: takes no effect: percentage comes first
            CRT0211 younger spec.http[1].headers.request.remove[host]: takes no effect: host is no header that routes change
            CRT0211 younger spec.http[1].headers.request.set[:path]: takes no effect: :path is no header that routes change
            CRT0211 younger spec.http[1].headers.response.add[:status]: takes no effect: :status is no header that routes change
            CRT0211 younger spec.http[1].mirrorPercent: takes no effect: mirrorPercentage comes first
            CRT0211 younger spec.http[1].rewrite.uri: takes no effect: uriRegexRewrite comes first
            CRT0211 younger spec.http[1].route: takes no effect: no destination has a weight; requests are answered with 500
            CRT0211 younger spec.http[2]: takes no effect: it has no destination; requests are answered with 500
            CRT0211 younger spec.http[2].fault.abort.grpcStatus: takes no effect: "NOTHING" is no status of gRPC such as UNAVAILABLE
            CRT0211 younger spec.http[3]: takes no effect: spec.http[2] takes all requests
            CRT0211 younger spec.tcp[0]: takes no effect: no destination has a weight; the route is left out
            CRT0211 younger spec.tcp[0].match[0].sourceSubnet: takes no effect: whose connection it is, is told by sourceLabels and sourceNamespace, not by addresses
        "#]],
    );
}

#[test]
fn what_gateways_say_in_vain_is_said() {
    check(
        crate::gateway::diagnostics,
        r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec:
  selector: {istio: ingress}
  servers:
  - port: {number: 80, name: http, protocol: HTTP, targetPort: 8080}
    defaultEndpoint: 127.0.0.1:80
    hosts: ["*"]
    tls: {httpsRedirect: true, credentialName: a}
  - port: {number: 443, name: simple, protocol: HTTPS}
    hosts: ["a"]
    tls: {mode: SIMPLE, credentialName: a, subjectAltNames: [b], caCrl: c, insecureSkipVerify: true}
  - port: {number: 443, name: mesh, protocol: HTTPS}
    hosts: ["b"]
    tls: {mode: ISTIO_MUTUAL, credentialName: a, minProtocolVersion: TLSV1_3, caCertificates: /a}
  - port: {number: 443, name: mutual, protocol: HTTPS}
    hosts: ["c"]
    tls: {mode: MUTUAL, credentialName: a, serverCertificate: /a, caCertificates: /b}
  - port: {number: 443, name: through, protocol: TLS}
    hosts: ["d"]
    tls: {mode: PASSTHROUGH, credentialName: a, cipherSuites: [AES128-SHA]}
"#,
        &expect![[r#"
            CRT0211 front spec.servers[0].defaultEndpoint: takes no effect: VirtualServices say where requests go
            CRT0211 front spec.servers[0].port.targetPort: takes no effect: the service in front of the gateway says which port it listens on
            CRT0211 front spec.servers[0].tls.credentialName: takes no effect: the server speaks plain HTTP; only httpsRedirect counts
            CRT0211 front spec.servers[1].tls.caCrl: takes no effect: with SIMPLE no client is asked for a certificate
            CRT0211 front spec.servers[1].tls.subjectAltNames: takes no effect: with SIMPLE no client is asked for a certificate
            CRT0211 front spec.servers[1].tls.insecureSkipVerify: takes no effect: with SIMPLE no client is asked for a certificate
            CRT0211 front spec.servers[2].tls.credentialName: takes no effect: with ISTIO_MUTUAL the certificates are the mesh's
            CRT0211 front spec.servers[2].tls.caCertificates: takes no effect: with ISTIO_MUTUAL the authorities are the mesh's
            CRT0211 front spec.servers[2].tls.minProtocolVersion: takes no effect: with ISTIO_MUTUAL the proxy's own are taken
            CRT0211 front spec.servers[3].tls.serverCertificate: takes no effect: the credential comes first
            CRT0211 front spec.servers[3].tls.caCertificates: takes no effect: the credential has the authorities
            CRT0211 front spec.servers[4].tls.credentialName: takes no effect: TLS passes through and ends elsewhere
            CRT0211 front spec.servers[4].tls.cipherSuites: takes no effect: TLS passes through and ends elsewhere
        "#]],
    );
}
