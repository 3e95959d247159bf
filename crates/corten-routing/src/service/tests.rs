//! Services as they are seen, a line each.

use expect_test::{Expect, expect};

use crate::testing::snapshot;

fn check(objects: &str, expected: &Expect) {
    let snapshot = snapshot(objects);
    let mut shown = String::new();
    for service in snapshot.catalog.services.iter() {
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|port| format!("{}/{:?}", port.number, port.protocol))
            .collect();
        let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
        shown += &format!(
            "{}/{} {:?} {:?} addresses {addresses:?} ports {ports:?} aliases {:?} seen by a: {}\n",
            service.namespace,
            service.host,
            service.registry,
            service.resolution,
            service.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(),
            service.visibility.includes("a"),
        );
    }
    expected.assert_eq(&shown);
}

#[test]
fn kubernetes_services_are_what_their_type_says() {
    check(
        r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {networking.istio.io/exportTo: "., b"}}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: head, namespace: shop}
spec: {clusterIP: None, ports: [{name: mongo, port: 27017}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: middle.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: middle, namespace: shop}
spec: {type: ExternalName, externalName: head.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: loop, namespace: shop}
spec: {type: ExternalName, externalName: loop.shop.svc.cluster.local}
"#,
        &expect![[r#"
            shop/alias.shop.svc.cluster.local Kubernetes Alias addresses [] ports [] aliases [] seen by a: true
            shop/head.shop.svc.cluster.local Kubernetes Passthrough addresses [] ports ["27017/Mongo"] aliases ["alias.shop.svc.cluster.local", "middle.shop.svc.cluster.local"] seen by a: true
            shop/loop.shop.svc.cluster.local Kubernetes Alias addresses [] ports [] aliases [] seen by a: true
            shop/middle.shop.svc.cluster.local Kubernetes Alias addresses [] ports [] aliases [] seen by a: true
            shop/web.shop.svc.cluster.local Kubernetes ClientSide addresses ["10.0.0.1/32"] ports ["80/Http", "53/Udp"] aliases [] seen by a: false
        "#]],
    );
}

#[test]
fn entries_of_a_host_share_what_they_agree_on() {
    let entry = |name: &str, second: u32, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop, \
             creationTimestamp: \"2024-01-01T00:00:{second:02}Z\"}}\nspec: {{hosts: [a.example], {spec}}}\n"
        )
    };
    let first = entry(
        "one",
        1,
        "ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, addresses: [10.0.0.0/24]",
    );
    let same = entry(
        "two",
        2,
        "ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: x, protocol: TCP}], resolution: DNS",
    );
    let other = entry(
        "three",
        3,
        "ports: [{number: 81, name: http, protocol: HTTP}], resolution: STATIC",
    );
    check(
        &[first.as_str(), &same, &other].concat(),
        &expect![[r#"
            shop/a.example External Dns addresses ["10.0.0.0/24"] ports ["80/Http", "443/Tls"] aliases [] seen by a: true
        "#]],
    );
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop, creationTimestamp: \
                   \"2025-01-01T00:00:00Z\"}\nspec: {clusterIP: 10.0.0.9, ports: [{name: grpc, port: 90}]}\n";
    check(
        &format!("{}{service}", first.replace("a.example", "a.shop.svc.cluster.local")),
        &expect![[r#"
            shop/a.shop.svc.cluster.local Kubernetes ClientSide addresses ["10.0.0.9/32"] ports ["90/Grpc"] aliases [] seen by a: true
        "#]],
    );
}
