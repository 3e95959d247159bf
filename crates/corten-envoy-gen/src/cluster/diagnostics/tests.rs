//! What takes no effect, as objects and what is said about them.

use corten_api::decode;
use corten_model::Settings;
use corten_routing::World;
use expect_test::{Expect, expect};
use serde_json::Value;

use super::diagnostics;

/// Puts the services that rules here are for and some objects; what is said is compared, a line for each.
fn check(objects: &str, expected: &Expect) {
    const SERVICES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: near, namespace: default}
spec: {clusterIP: 10.0.0.2, ports: [{name: grpc, port: 80}], trafficDistribution: PreferClose}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
";
    let (documents, problems) = decode::documents("a.yaml", &format!("{SERVICES}{objects}"));
    assert!(problems.is_empty(), "{problems:?}");
    let documents: Vec<Value> = documents.iter().map(decode::Node::to_value).collect();
    let mut world = World::new(
        Settings::default(),
        corten_api::validate::mesh_config::default_mesh_config(),
    );
    let problems = world.put(&documents);
    assert!(problems.is_empty(), "{problems:?}");
    let said: Vec<String> = diagnostics(&world.snapshot().catalog)
        .iter()
        .map(|said| {
            let name = said.object.as_ref().map_or("", |object| object.name.as_str());
            format!("{} {name} {}: {}\n", said.code, said.path, said.message)
        })
        .collect();
    expected.assert_eq(&said.concat());
}

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\nspec: {spec}\n"
    )
}

fn entry(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: default}}\nspec: {spec}\n"
    )
}

#[test]
fn what_counts_is_not_spoken_of() {
    let everything = "{host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 5s}, localityLbSetting: \
                      {failover: [{from: a, to: b}]}}, outlierDetection: {consecutive5xxErrors: 1}, connectionPool: {http: \
                      {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 3}}, tls: {mode: ISTIO_MUTUAL, sni: a}}, subsets: [{name: \
                      a, labels: {a: b}}]}";
    check(&rule(everything), &expect![""]);
    let entry = entry(
        "{hosts: [a.b], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, location: MESH_INTERNAL}",
    );
    check(&entry, &expect![""]);
}

#[test]
fn balancing_that_cannot_be() {
    let balancer = "{consistentHash: {httpHeaderName: a, minimumRingSize: 5, maglev: {}}, warmup: {duration: 5s}, warmupDurationSecs: \
                    5s, localityLbSetting: {failoverPriority: [a]}}";
    check(
        &rule(&format!("{{host: web, trafficPolicy: {{loadBalancer: {balancer}}}}}")),
        &expect![[r#"
            CRT0211 r spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: ringHash or maglev beside it counts instead: give the size there
            CRT0211 r spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority: nothing finds out which endpoints fail: add outlierDetection beside loadBalancer
            CRT0211 r spec.trafficPolicy.loadBalancer.warmup: only ROUND_ROBIN and LEAST_REQUEST let new endpoints warm up
            CRT0211 r spec.trafficPolicy.loadBalancer.warmupDurationSecs: warmup counts instead
        "#]],
    );
}

#[test]
fn connections_and_failures() {
    let policy = "{connectionPool: {http: {maxConcurrentStreams: 3, http2KeepAlive: {interval: 1s}}}, outlierDetection: \
                  {consecutiveErrors: 3, consecutiveLocalOriginFailures: 2, minHealthPercent: 5}}";
    check(
        &rule(&format!("{{host: web, trafficPolicy: {policy}}}")),
        &expect![[r#"
            CRT0211 r spec.trafficPolicy.connectionPool.http.http2KeepAlive: no port of the host speaks HTTP/2: name one so, or give h2UpgradePolicy: UPGRADE
            CRT0211 r spec.trafficPolicy.connectionPool.http.maxConcurrentStreams: no port of the host speaks HTTP/2: name one so, or give h2UpgradePolicy: UPGRADE
            CRT0211 r spec.trafficPolicy.outlierDetection.consecutiveErrors: is no longer looked at: give consecutive5xxErrors or consecutiveGatewayErrors
            CRT0211 r spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: counts only with splitExternalLocalOriginErrors: true
        "#]],
    );
    check(
        &rule(&format!(
            "{{host: near, subsets: [{{name: a, trafficPolicy: {policy}}}]}}"
        )),
        &expect![[r#"
            CRT0211 r spec.subsets[0].trafficPolicy.outlierDetection.consecutiveErrors: is no longer looked at: give consecutive5xxErrors or consecutiveGatewayErrors
            CRT0211 r spec.subsets[0].trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: counts only with splitExternalLocalOriginErrors: true
            CRT0211 r spec.subsets[0].trafficPolicy.outlierDetection.minHealthPercent: the service asks for near endpoints, for which those that are not ready are known and never called
        "#]],
    );
}

#[test]
fn tls_that_does_not_fit_its_mode() {
    check(
        &rule("{host: web, trafficPolicy: {tls: {mode: SIMPLE, credentialName: a, caCertificates: b, privateKey: c}}}"),
        &expect![[r#"
            CRT0211 r spec.trafficPolicy.tls.caCertificates: credentialName counts instead
            CRT0211 r spec.trafficPolicy.tls.credentialName: is for gateways; sidecars, which may not read it, refuse to connect: give the rule a workloadSelector, or use files
            CRT0211 r spec.trafficPolicy.tls.privateKey: SIMPLE shows no certificate: MUTUAL does
        "#]],
    );
}

#[test]
fn ports_replace_and_rules_conflict() {
    let policy =
        "{proxyProtocol: {version: V2}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}";
    check(
        &format!(
            "{}---\n{}",
            rule(&format!(
                "{{host: web, trafficPolicy: {policy}, subsets: [{{name: a}}]}}"
            )),
            rule("{host: web.default.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: a}]}")
                .replace("name: r,", "name: s,"),
        ),
        &expect![[r#"
            CRT0211 r spec.trafficPolicy.portLevelSettings[0]: replaces the whole policy for port 80: the proxyProtocol beside it does not count there
            CRT0212 s spec.subsets[0]: takes no effect: subset a of DestinationRule r for the same host comes first
            CRT0212 s spec.trafficPolicy: takes no effect: DestinationRule r for the same host comes first
        "#]],
    );
    check(
        &rule("{host: alias, workloadSelector: {matchLabels: {a: b}}, exportTo: [x]}"),
        &expect![[r#"
            CRT0211 r spec.exportTo: a rule with a workloadSelector is for its own namespace only
            CRT0211 r spec.host: is only another name for a service: rules are for the service that it names
        "#]],
    );
}

#[test]
fn entries_that_cannot_be_called_so() {
    check(
        &entry(
            "{hosts: [a.b], ports: [{number: 53, name: dns, protocol: UDP}], resolution: STATIC, endpoints: [{address: c.d}]}",
        ),
        &expect![[r#"
            CRT0211 e spec.ports[0].protocol: proxies leave UDP alone
            CRT0211 e spec.endpoints[0].address: STATIC takes addresses: use DNS for names
        "#]],
    );
    check(
        &entry("{hosts: ['*.b', a.b], ports: [{number: 53, name: tcp, protocol: TCP}], resolution: DYNAMIC_DNS}"),
        &expect![[r#"
            CRT0211 e spec.ports[0].protocol: hosts are looked up by the name that a client asks for, which only HTTP, HTTP2, GRPC and TLS say
            CRT0211 e spec.hosts[1]: DYNAMIC_DNS is for wildcards: use DNS for a host that is known
        "#]],
    );
    check(
        &entry("{hosts: ['*.b'], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}"),
        &expect![[r#"
            CRT0211 e spec.hosts[0]: a wildcard cannot be looked up: list endpoints, or use DYNAMIC_DNS
        "#]],
    );
    check(
        &entry(
            "{hosts: [web.default.svc.cluster.local], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}",
        ),
        &expect![[r#"
            CRT0212 e spec.hosts[0]: takes no effect: Service default/web for the same host comes first
        "#]],
    );
}
