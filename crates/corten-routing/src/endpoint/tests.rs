//! The endpoints of services, a line each: where, and what is known of them.

use expect_test::{Expect, expect};

use super::endpoints;
use crate::{Address, Health, testing::snapshot};

fn check(objects: &str, host: &str, expected: &Expect) {
    let snapshot = snapshot(objects);
    let service = snapshot
        .catalog
        .services
        .iter()
        .find(|service| service.host.as_str() == host);
    let service = service.expect("the service");
    let mut shown = String::new();
    for port in &service.ports {
        for endpoint in endpoints(&snapshot.model, service, port) {
            let address = match &endpoint.address {
                Address::Ip(address) => address.to_string(),
                Address::Name(name) => format!("name {name}"),
                Address::Unix(path) => format!("socket {path}"),
            };
            let mut notes: Vec<String> = Vec::new();
            notes.extend(endpoint.tls.then(|| "tls".to_owned()));
            notes.extend((endpoint.health == Health::Unhealthy).then(|| "not ready".to_owned()));
            notes.extend(endpoint.identity("td"));
            notes.extend(endpoint.workload.capacity.map(|weight| format!("weight {weight}")));
            for key in [
                "version",
                "topology.kubernetes.io/zone",
                "topology.istio.io/network",
                "kubernetes.io/hostname",
            ] {
                notes.extend(endpoint.label(key).map(|value| format!("{key}={value}")));
            }
            shown += &format!("{} {address}:{} {}\n", port.number, endpoint.port, notes.join(", "));
        }
    }
    expected.assert_eq(&shown);
}

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: web, version: v2}}
spec: {serviceAccountName: web, nodeName: one, containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.1.0.2, phase: Running, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gone, namespace: shop, labels: {app: web}, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {serviceAccountName: web, nodeName: one, containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.1.0.7, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web, nodeName: two, containers: [{name: a}]}
status: {podIP: 10.1.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop, labels: {app: web}}
spec: {address: 10.1.0.9, ports: {http: 9090}, serviceAccount: vm, weight: 4, locality: r/z, network: far}
"#;

#[test]
fn workloads_are_endpoints_where_a_port_leads_somewhere() {
    check(
        SERVICE,
        "web.shop.svc.cluster.local",
        &expect![[r#"
            80 10.1.0.2:8080 not ready, spiffe://td/ns/shop/sa/web, version=v2, kubernetes.io/hostname=one
            81 10.1.0.1:81 tls, spiffe://td/ns/shop/sa/web, kubernetes.io/hostname=two
            81 10.1.0.2:81 not ready, spiffe://td/ns/shop/sa/web, version=v2, kubernetes.io/hostname=one
            81 10.1.0.9:81 tls, spiffe://td/ns/shop/sa/vm, weight 4, topology.kubernetes.io/zone=z, topology.istio.io/network=far
        "#]],
    );
    let patient = SERVICE.replace(
        "ports: [{name: http",
        "publishNotReadyAddresses: true, ports: [{name: http",
    );
    check(
        &patient,
        "web.shop.svc.cluster.local",
        &expect![[r#"
            80 10.1.0.2:8080 spiffe://td/ns/shop/sa/web, version=v2, kubernetes.io/hostname=one
            80 10.1.0.7:8080 spiffe://td/ns/shop/sa/web, kubernetes.io/hostname=one
            81 10.1.0.1:81 tls, spiffe://td/ns/shop/sa/web, kubernetes.io/hostname=two
            81 10.1.0.2:81 spiffe://td/ns/shop/sa/web, version=v2, kubernetes.io/hostname=one
            81 10.1.0.7:81 spiffe://td/ns/shop/sa/web, kubernetes.io/hostname=one
            81 10.1.0.9:81 tls, spiffe://td/ns/shop/sa/vm, weight 4, topology.kubernetes.io/zone=z, topology.istio.io/network=far
        "#]],
    );
}

fn entry(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: shop}}\nspec: {{hosts: [a.example], {spec}}}\n"
    )
}

#[test]
fn entries_list_endpoints_or_are_their_own() {
    const PORTS: &str = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]";
    check(
        &entry(&format!(
            "{PORTS}, resolution: STATIC, endpoints: [{{address: 10.2.0.1, ports: {{http: 1}}, labels: {{version: v1}}}}, {{address: \
             10.2.0.1, ports: {{http: 2}}, serviceAccount: x}}, {{address: 'unix:///run/a'}}]"
        )),
        "a.example",
        &expect![[r#"
            80 10.2.0.1:1 version=v1
            80 10.2.0.1:2 tls, spiffe://td/ns/shop/sa/x
            80 socket /run/a:0 
        "#]],
    );
    check(
        &entry(&format!(
            "{PORTS}, resolution: DNS, endpoints: [{{address: b.example, weight: 2}}]"
        )),
        "a.example",
        &expect![[r#"
            80 name b.example:8080 weight 2
        "#]],
    );
    check(
        &entry(&format!("{PORTS}, resolution: DNS")),
        "a.example",
        &expect![[r#"
            80 name a.example:8080 
        "#]],
    );
    check(
        &entry(&format!("{PORTS}, resolution: STATIC")),
        "a.example",
        &expect![""],
    );
    check(
        &format!(
            "{SERVICE}---\n{}",
            entry(&format!(
                "{PORTS}, resolution: STATIC, workloadSelector: {{labels: {{version: v2}}}}"
            ))
        ),
        "a.example",
        &expect![[r#"
            80 10.1.0.2:8080 not ready, spiffe://td/ns/shop/sa/web, version=v2, kubernetes.io/hostname=one
        "#]],
    );
}
