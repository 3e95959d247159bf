use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{Call, Certificate, Config, Protocol, Refusal, Request, Tls, follow, onward};

fn config(resources: &Value) -> Config {
    fn all<M: corten_envoy::prost::Message + corten_envoy::prost::Name + Default>(list: &Value) -> Vec<M> {
        let items = list.as_array().into_iter().flatten();
        items
            .map(|item| corten_envoy::message_from_json(item).unwrap())
            .collect()
    }
    Config::new(
        all(&resources["listeners"]),
        all(&resources["routes"]),
        all(&resources["clusters"]),
        all(&resources["endpoints"]),
    )
}

fn typed(name: &str, kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({ "name": name, "typedConfig": value })
}

fn manager(value: Value) -> Value {
    typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        value,
    )
}

fn tcp(value: Value) -> Value {
    typed(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        value,
    )
}

fn router() -> Value {
    typed(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        json!({}),
    )
}

fn inspectors() -> Value {
    json!([
        typed(
            "envoy.filters.listener.tls_inspector",
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            json!({})
        ),
        typed(
            "envoy.filters.listener.http_inspector",
            "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
            json!({})
        ),
    ])
}

fn at(address: &str, port: u16) -> Value {
    json!({ "socketAddress": { "address": address, "portValue": port } })
}

fn server_tls() -> Value {
    typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "requireClientCertificate": true,
            "commonTlsContext": {
                "tlsCertificateSdsSecretConfigs": [{ "name": "default" }],
                "combinedValidationContext": { "defaultValidationContext": { "matchTypedSubjectAltNames": [
                    { "sanType": "URI", "matcher": { "prefix": "spiffe://cluster.local/" } },
                ]}},
            },
        }),
    )
}

/// A client's sidecar: a service with a split, endpoints of two priorities, and what is left to pass through.
fn sidecar() -> Config {
    let client_tls = typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({
            "sni": "outbound_.8080_._.payments",
            "commonTlsContext": {
                "alpnProtocols": ["istio-peer-exchange", "istio"],
                "tlsCertificateSdsSecretConfigs": [{ "name": "default" }],
                "combinedValidationContext": { "defaultValidationContext": { "matchTypedSubjectAltNames": [
                    { "sanType": "URI", "matcher": { "exact": "spiffe://cluster.local/ns/default/sa/payments" } },
                ]}},
            },
        }),
    );
    let cluster = |name: &str| {
        json!({
            "name": name, "type": "EDS", "lbPolicy": "LEAST_REQUEST", "connectTimeout": "10s",
            "circuitBreakers": { "thresholds": [{
                "maxConnections": 100, "maxPendingRequests": 4_294_967_295_u32, "maxRequests": 4_294_967_295_u32, "maxRetries": 4_294_967_295_u32,
            }]},
            "outlierDetection": { "consecutive5xx": 5, "interval": "10s", "baseEjectionTime": "30s", "maxEjectionPercent": 50 },
            "transportSocketMatches": [
                { "name": "tlsMode-istio", "match": { "tlsMode": "istio" }, "transportSocket": client_tls },
                { "name": "tlsMode-disabled", "match": {}, "transportSocket": { "name": "envoy.transport_sockets.raw_buffer" } },
            ],
        })
    };
    let endpoint = |address: &str, health: &str, istio: bool| {
        let metadata = if istio {
            json!({ "filterMetadata": { "envoy.transport_socket_match": { "tlsMode": "istio" } } })
        } else {
            json!({})
        };
        json!({ "healthStatus": health, "metadata": metadata, "endpoint": { "address": at(address, 8080) } })
    };
    config(&json!({
        "listeners": [
            {
                "name": "virtualOutbound", "address": at("0.0.0.0", 15001), "useOriginalDst": true, "trafficDirection": "OUTBOUND",
                "filterChains": [
                    { "name": "virtualOutbound-blackhole", "filterChainMatch": { "destinationPort": 15001 },
                      "filters": [tcp(json!({ "statPrefix": "b", "cluster": "BlackHoleCluster" }))] },
                    { "name": "virtualOutbound-catchall-tcp", "filters": [tcp(json!({ "statPrefix": "p", "cluster": "PassthroughCluster" }))] },
                ],
            },
            {
                "name": "0.0.0.0_8080", "address": at("0.0.0.0", 8080), "bindToPort": false, "listenerFilters": inspectors(),
                "filterChains": [{
                    "filterChainMatch": { "transportProtocol": "raw_buffer", "applicationProtocols": ["http/1.1", "h2c"] },
                    "filters": [manager(json!({ "statPrefix": "o", "rds": { "routeConfigName": "8080" }, "httpFilters": [router()] }))],
                }],
                "defaultFilterChain": { "name": "PassthroughFilterChain", "filters": [tcp(json!({ "statPrefix": "p", "cluster": "PassthroughCluster" }))] },
            },
        ],
        "routes": [{
            "name": "8080", "ignorePortInHostMatching": true,
            "virtualHosts": [
                { "name": "payments.default.svc.cluster.local:8080", "domains": ["payments.default.svc.cluster.local", "payments"], "routes": [
                    { "name": "admin", "match": { "prefix": "/admin", "headers": [{ "name": "end-user", "stringMatch": { "exact": "root" } }] },
                      "redirect": { "hostRedirect": "admin.example.com" } },
                    { "name": "teapot", "match": { "path": "/tea" }, "directResponse": { "status": 418, "body": { "inlineString": "short and stout" } } },
                    { "name": "split", "match": { "pathSeparatedPrefix": "/v1" }, "route": {
                        "prefixRewrite": "/api", "timeout": "10s", "hostRewriteLiteral": "payments.internal",
                        "retryPolicy": { "retryOn": "5xx,connect-failure", "numRetries": 3, "perTryTimeout": "3s" },
                        "requestMirrorPolicies": [{ "cluster": "mirror", "runtimeFraction": { "defaultValue": { "numerator": 10 } } }],
                        "weightedClusters": { "clusters": [
                            { "name": "payments-v1", "weight": 90 },
                            { "name": "payments-v2", "weight": 10, "requestHeadersToAdd": [{ "header": { "key": "x-version", "value": "v2" } }] },
                        ]},
                      }, "requestHeadersToAdd": [{ "header": { "key": "x-host", "value": "%REQ(:AUTHORITY)%" } }] },
                    { "name": "gone", "match": { "prefix": "/gone" }, "route": { "cluster": "nowhere", "clusterNotFoundResponseCode": "INTERNAL_SERVER_ERROR" } },
                    { "name": "idle", "match": { "prefix": "/idle" }, "route": { "cluster": "idle" } },
                ]},
                { "name": "allow_any", "domains": ["*"], "routes": [{ "name": "allow_any", "match": { "prefix": "/" }, "route": { "cluster": "PassthroughCluster", "timeout": "0s" } }] },
            ],
        }],
        "clusters": [
            cluster("payments-v1"), cluster("payments-v2"), cluster("idle"),
            { "name": "PassthroughCluster", "type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED" },
            { "name": "BlackHoleCluster", "type": "STATIC" },
        ],
        "endpoints": [
            { "clusterName": "payments-v1", "endpoints": [
                { "locality": { "region": "r1", "zone": "z1" }, "lbEndpoints": [
                    endpoint("10.0.0.1", "HEALTHY", true), endpoint("10.0.0.2", "HEALTHY", false), endpoint("10.0.0.3", "UNHEALTHY", true),
                ]},
                { "locality": { "region": "r2" }, "priority": 1, "lbEndpoints": [endpoint("10.1.0.1", "HEALTHY", true)] },
            ]},
            { "clusterName": "payments-v2", "endpoints": [{ "lbEndpoints": [endpoint("10.0.0.4", "HEALTHY", true)] }] },
            { "clusterName": "idle", "endpoints": [] },
        ],
    }))
}

fn get(host: &str, path: &str) -> Call {
    let request = Request {
        host: host.to_owned(),
        path: path.to_owned(),
        ..Request::default()
    };
    Call::new("10.96.0.10:8080".parse().unwrap()).http(request).outbound()
}

#[track_caller]
fn check(config: &Config, call: &Call, expected: Expect) {
    let trace = follow(config, call);
    expected.assert_eq(&trace.to_string());
    // What programs read is the same.
    let json = serde_json::to_value(&trace).unwrap();
    assert_eq!(serde_json::from_value::<crate::Trace>(json).unwrap(), trace);
}

#[test]
fn a_split_with_everything() {
    check(
        &sidecar(),
        &get("payments:8080", "/v1/x?y"),
        expect![[r#"
            GET http://payments:8080/v1/x?y to 10.96.0.10:8080, redirected to 15001
              listener      0.0.0.0_8080: virtualOutbound hands over by destination: it is for all addresses at port 8080
              sees          raw_buffer; http/1.1
              filter chain  #0: transport raw_buffer; application protocol http/1.1, h2c
              routes        8080
              virtual host  payments.default.svc.cluster.local:8080: payments exactly
              route         split: path "/v1/x" is below "/v1"
                              forwards to payments-v1 (90 %), payments-v2 (10 %)
                              rewrite path: /api
                              rewrite host: payments.internal
                              request headers: x-host=%REQ(:AUTHORITY)%
                              timeout: 10s
                              retries: 3 on 5xx,connect-failure, each up to 3s
                              mirror: 10 % to mirror
              not taken     admin: path "/v1/x" does not begin with "/admin"
                              teapot: path "/v1/x" is not "/tea"
              cluster       payments-v1, 90 % of the calls: EDS, LEAST_REQUEST
                              connect timeout: 10s
                              circuit breakers: 100 connections
                              outlier detection: after 5 times 5xx in a row, for 30s and longer each time, at most 50 % of them, looked at every 10s
              endpoints     4
                              10.0.0.1:8080           46.67 %  mtls (tlsMode-istio)  sni outbound_.8080_._.payments  san spiffe://cluster.local/ns/default/sa/payments  r1/z1
                              10.0.0.2:8080           46.67 %  plain (tlsMode-disabled)  r1/z1
                              10.1.0.1:8080            6.67 %  mtls (tlsMode-istio)  sni outbound_.8080_._.payments  san spiffe://cluster.local/ns/default/sa/payments  priority 1  r2
                              10.0.0.3:8080               0 %  mtls (tlsMode-istio)  sni outbound_.8080_._.payments  san spiffe://cluster.local/ns/default/sa/payments  r1/z1  UNHEALTHY
              cluster       payments-v2, 10 % of the calls: EDS, LEAST_REQUEST
                              connect timeout: 10s
                              circuit breakers: 100 connections
                              outlier detection: after 5 times 5xx in a row, for 30s and longer each time, at most 50 % of them, looked at every 10s
              endpoints     1
                              10.0.0.4:8080             100 %  mtls (tlsMode-istio)  sni outbound_.8080_._.payments  san spiffe://cluster.local/ns/default/sa/payments
              outcome       forwarded
        "#]],
    );
}

#[test]
fn answers_of_the_proxy_itself() {
    check(
        &sidecar(),
        &get("payments", "/tea"),
        expect![[r#"
            GET http://payments/tea to 10.96.0.10:8080, redirected to 15001
              listener      0.0.0.0_8080: virtualOutbound hands over by destination: it is for all addresses at port 8080
              sees          raw_buffer; http/1.1
              filter chain  #0: transport raw_buffer; application protocol http/1.1, h2c
              routes        8080
              virtual host  payments.default.svc.cluster.local:8080: payments exactly
              route         teapot: path "/tea" is "/tea"
                              answers 418
              not taken     admin: path "/tea" does not begin with "/admin"
              outcome       answered 418 with the body "short and stout"
        "#]],
    );
    let mut call = get("payments:8080", "/admin/x?y");
    call.request = call.request.map(|request| request.header("End-User", "root"));
    check(
        &sidecar(),
        &call,
        expect![[r#"
            GET http://payments:8080/admin/x?y to 10.96.0.10:8080, redirected to 15001
              listener      0.0.0.0_8080: virtualOutbound hands over by destination: it is for all addresses at port 8080
              sees          raw_buffer; http/1.1
              filter chain  #0: transport raw_buffer; application protocol http/1.1, h2c
              routes        8080
              virtual host  payments.default.svc.cluster.local:8080: payments exactly
              route         admin: path "/admin/x" begins with "/admin"; header "end-user" "root" is "root"
                              redirects to http://admin.example.com/admin/x?y (301)
              outcome       answered 301 with location http://admin.example.com/admin/x?y
        "#]],
    );
}

#[test]
fn what_is_not_there() {
    for (call, expected) in [
        (get("payments", "/v10"), Some(Refusal::NoRoute)),
        (get("payments", "/gone"), Some(Refusal::NoCluster)),
        (get("payments", "/idle"), Some(Refusal::NoEndpoint)),
        (get("other", "/"), None),
    ] {
        assert_eq!(follow(&sidecar(), &call).hops[0].refusal(), expected, "{call}");
    }
    let mut direct = get("payments", "/");
    direct.entry = crate::Entry::Direct;
    check(
        &sidecar(),
        &direct,
        expect![[r#"
        GET http://payments/ to 10.96.0.10:8080
          outcome       no-listener: nothing listens at 10.96.0.10:8080
    "#]],
    );
}

#[test]
fn what_no_listener_is_for_passes_through() {
    let call = Call::new("1.2.3.4:5432".parse().unwrap()).outbound();
    check(
        &sidecar(),
        &call,
        expect![[r#"
        TCP to 1.2.3.4:5432, redirected to 15001
          listener      virtualOutbound: no listener is for 1.2.3.4:5432, so virtualOutbound keeps it
          sees          raw_buffer
          filter chain  virtualOutbound-catchall-tcp: it asks for nothing
          cluster       PassthroughCluster: ORIGINAL_DST, CLUSTER_PROVIDED
          endpoints     to where the call was going
                          1.2.3.4:5432              100 %  plain
          outcome       forwarded
    "#]],
    );
    // TLS at a port of HTTP is for the default chain, and is not opened.
    let tls = get("payments", "/").tls(Tls {
        sni: "payments".to_owned(),
        ..Tls::default()
    });
    let trace = follow(&sidecar(), &tls);
    assert_eq!(trace.hops[0].destinations[0].cluster, "PassthroughCluster");
    let trace = follow(&sidecar(), &Call::new("1.2.3.4:15001".parse().unwrap()).outbound());
    assert_eq!(trace.hops[0].refusal(), Some(Refusal::NoEndpoint));
}

/// A server's sidecar that wants mutual TLS, a policy, and a token for some paths.
fn server() -> Config {
    let rbac = typed(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        json!({ "rules": { "action": "ALLOW", "policies": {
            "ns[default]-policy[payments]-rule[0]": {
                "permissions": [{ "andRules": { "rules": [
                    { "orRules": { "rules": [{ "header": { "name": ":method", "stringMatch": { "exact": "POST" } } }] } },
                    { "orRules": { "rules": [{ "urlPath": { "path": { "prefix": "/api/" } } }] } },
                ]}}],
                "principals": [{ "andIds": { "ids": [
                    { "orIds": { "ids": [{ "authenticated": { "principalName": { "exact": "spiffe://cluster.local/ns/default/sa/client" } } }] } },
                ]}}],
            },
        }}}),
    );
    let inbound = json!({
        "name": "inbound|8080||",
        "virtualHosts": [{ "name": "inbound|http|8080", "domains": ["*"], "routes": [{ "name": "default", "match": { "prefix": "/" }, "route": { "cluster": "inbound|8080||", "timeout": "0s" } }] }],
    });
    config(&json!({
        "listeners": [{
            "name": "virtualInbound", "address": at("0.0.0.0", 15006), "trafficDirection": "INBOUND",
            "listenerFilters": [
                typed("envoy.filters.listener.original_dst", "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", json!({})),
                inspectors()[0], inspectors()[1],
            ],
            "filterChains": [
                { "name": "virtualInbound-blackhole", "filterChainMatch": { "destinationPort": 15006 }, "filters": [tcp(json!({ "statPrefix": "b", "cluster": "BlackHoleCluster" }))] },
                { "name": "0.0.0.0_8080", "filterChainMatch": { "destinationPort": 8080, "transportProtocol": "tls" }, "transportSocket": server_tls(),
                  "filters": [manager(json!({ "statPrefix": "i", "routeConfig": inbound, "normalizePath": true, "httpFilters": [rbac, router()] }))] },
            ],
        }],
        "clusters": [{ "name": "inbound|8080||", "type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED" }],
    }))
}

fn client() -> Certificate {
    Certificate {
        uris: vec!["spiffe://cluster.local/ns/default/sa/client".to_owned()],
        dns: Vec::new(),
    }
}

#[test]
fn from_proxy_to_proxy() {
    let mut call = get("payments", "/v1/x");
    call.request.as_mut().unwrap().method = "POST".to_owned();
    let trace = follow(&sidecar(), &call);
    let hop = &trace.hops[0];
    let destination = &hop.destinations[0];
    let endpoint = &destination.upstream.as_ref().unwrap().endpoints[0];
    let arriving = onward(hop, destination, endpoint, Some(client())).unwrap();
    check(
        &server(),
        &arriving,
        expect![[r#"
            POST https://payments.internal/api/x to 10.0.0.1:8080, redirected to 15006
              listener      virtualInbound: the call to 10.0.0.1:8080 is redirected to port 15006
              sees          tls; istio-peer-exchange, istio; server name outbound_.8080_._.payments
              filter chain  0.0.0.0_8080: port 8080; transport tls
              TLS           ends here, with the certificate of default; a certificate of the client is required; it is spiffe://cluster.local/ns/default/sa/client
              filters       envoy.filters.http.rbac allows: ns[default]-policy[payments]-rule[0] allows it
                              ns[default]-policy[payments]-rule[0] (ALLOW) matches: header ":method" "POST" is "POST"; path "/api/x" begins with "/api/"; client "spiffe://cluster.local/ns/default/sa/client" is "spiffe://cluster.local/ns/default/sa/client"
              routes        inbound|8080|| (the listener's own)
              virtual host  inbound|http|8080: *, as no other fits
              route         default: path "/api/x" begins with "/"
                              forwards to inbound|8080||
                              timeout: none
                              retries: none
              cluster       inbound|8080||: ORIGINAL_DST, CLUSTER_PROVIDED
              endpoints     to where the call was going
                              10.0.0.1:8080             100 %  plain
              outcome       forwarded
        "#]],
    );
}

#[test]
fn a_server_that_wants_mutual_tls() {
    let call = |tls: Option<Tls>, method: &str| {
        let request = Request {
            method: method.to_owned(),
            host: "payments".to_owned(),
            path: "/api/x".to_owned(),
            headers: Vec::new(),
        };
        let mut call = Call::new("10.0.0.1:8080".parse().unwrap()).http(request).inbound();
        call.tls = tls;
        call
    };
    let tls = |name: &str| Tls {
        certificate: Some(Certificate {
            uris: vec![name.to_owned()],
            dns: Vec::new(),
        }),
        ..Tls::default()
    };
    check(
        &server(),
        &call(Some(tls("spiffe://cluster.local/ns/default/sa/client")), "GET"),
        expect![[r#"
            GET https://payments/api/x to 10.0.0.1:8080, redirected to 15006
              listener      virtualInbound: the call to 10.0.0.1:8080 is redirected to port 15006
              sees          tls
              filter chain  0.0.0.0_8080: port 8080; transport tls
              TLS           ends here, with the certificate of default; a certificate of the client is required; it is spiffe://cluster.local/ns/default/sa/client
              filters       envoy.filters.http.rbac denies: no policy allows it
                              ns[default]-policy[payments]-rule[0] (ALLOW) does not match: header ":method" "GET" is not "POST"
              routes        inbound|8080|| (the listener's own)
              virtual host  inbound|http|8080: *, as no other fits
              outcome       denied (403): envoy.filters.http.rbac: no policy allows it
        "#]],
    );
    for (call, expected) in [
        (call(None, "POST"), Refusal::NoFilterChain),
        (call(Some(Tls::default()), "POST"), Refusal::MtlsError),
        (
            call(Some(tls("spiffe://other/ns/default/sa/client")), "POST"),
            Refusal::MtlsError,
        ),
        (
            call(Some(tls("spiffe://cluster.local/ns/other/sa/client")), "POST"),
            Refusal::Denied,
        ),
    ] {
        assert_eq!(follow(&server(), &call).hops[0].refusal(), Some(expected), "{call:?}");
    }
    let mut tcp = call(Some(tls("spiffe://cluster.local/ns/default/sa/client")), "POST");
    (tcp.protocol, tcp.request) = (Protocol::Tcp, None);
    assert_eq!(follow(&server(), &tcp).hops[0].refusal(), Some(Refusal::ProtocolError));
}

fn noting(values: &[(&str, &str, &str)]) -> Value {
    let values = values.iter().map(|(key, format, shared)| {
        json!({ "objectKey": key, "sharedWithUpstream": shared, "formatString": { "textFormatSource": { "inlineString": format } } })
    });
    let values: Vec<Value> = values.collect();
    typed(
        "envoy.filters.http.set_filter_state",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({ "onRequestHeaders": values }),
    )
}

/// A waypoint: a tunnel ends, a policy asks who opened it, and another tunnel goes on to the workload.
fn waypoint() -> Config {
    let internal = |name: &str, id: &str| json!({ "address": { "envoyInternalAddress": { "serverListenerName": name, "endpointId": id } } });
    let original = typed(
        "envoy.filters.listener.original_dst",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
        json!({}),
    );
    let address = typed(
        "ip",
        "envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput",
        json!({}),
    );
    let chain = typed(
        "x",
        "google.protobuf.StringValue",
        json!({ "value": "inbound-vip|80|http|payments" }),
    );
    let rbac = typed(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        json!({ "rules": { "policies": { "ns[default]-policy[p]-rule[0]": {
            "permissions": [{ "any": true }],
            "principals": [{ "filterState": { "key": "io.istio.peer_principal", "stringMatch": { "exact": "spiffe://cluster.local/ns/default/sa/client" } } }],
        }}}}),
    );
    let routes = |name: &str, demand: Value, cluster: &str| {
        json!({
            "name": name, "virtualHosts": [{ "name": name, "domains": ["*"], "routes": [{ "name": name, "match": demand, "route": { "cluster": cluster } }] }],
        })
    };
    let state = noting(&[
        (
            "envoy.filters.listener.original_dst.local_ip",
            "%REQ(:AUTHORITY)%",
            "ONCE",
        ),
        ("io.istio.peer_principal", "%DOWNSTREAM_PEER_URI_SAN%", "ONCE"),
    ]);
    config(&json!({
        "listeners": [
            {
                "name": "connect_terminate", "address": at("0.0.0.0", 15008),
                "filterChains": [{ "name": "terminate", "transportSocket": server_tls(), "filters": [manager(json!({
                    "statPrefix": "t", "routeConfig": routes("default", json!({ "connectMatcher": {} }), "main_internal"), "httpFilters": [state, router()],
                }))] }],
            },
            {
                "name": "main_internal", "internalListener": {}, "listenerFilters": [original, inspectors()[1]],
                "filterChainMatcher": { "matcherTree": { "input": address, "exactMatchMap": { "map": { "10.96.0.10": { "action": chain } } } } },
                "filterChains": [{ "name": "inbound-vip|80|http|payments", "filters": [manager(json!({
                    "statPrefix": "m", "routeConfig": routes("inbound-vip", json!({ "prefix": "/" }), "inbound-vip|80|http|payments"), "httpFilters": [rbac, router()],
                }))] }],
            },
            {
                "name": "connect_originate", "internalListener": {}, "listenerFilters": [original],
                "filterChains": [{ "name": "originate", "filters": [tcp(json!({
                    "statPrefix": "o", "cluster": "connect_originate", "tunnelingConfig": { "hostname": "%DOWNSTREAM_LOCAL_ADDRESS%" },
                }))] }],
            },
        ],
        "clusters": [
            { "name": "main_internal", "loadAssignment": { "clusterName": "main_internal", "endpoints": [{ "lbEndpoints": [{ "endpoint": internal("main_internal", "") }] }] } },
            { "name": "inbound-vip|80|http|payments", "type": "EDS" },
            { "name": "connect_originate", "type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED", "originalDstLbConfig": { "upstreamPortOverride": 15008 } },
        ],
        "endpoints": [{ "clusterName": "inbound-vip|80|http|payments", "endpoints": [{ "lbEndpoints": [{
            "endpoint": internal("connect_originate", "10.0.0.9:8080"),
            "metadata": { "filterMetadata": { "envoy.filters.listener.original_dst": { "local": "10.0.0.9:8080" } } },
        }]}]}],
    }))
}

/// A request to a service, in a tunnel that this client opened.
fn tunnelled(client: Certificate) -> Call {
    let mut inside = get("payments", "/");
    inside.destination = "10.96.0.10:80".parse().unwrap();
    let mut call = Call::new("10.0.0.5:15008".parse().unwrap());
    call.protocol = Protocol::Http2;
    call.tls = Some(Tls {
        alpn: vec!["h2".to_owned()],
        certificate: Some(client),
        ..Tls::default()
    });
    call.request = Some(Request {
        method: "CONNECT".to_owned(),
        host: "10.96.0.10:80".to_owned(),
        path: String::new(),
        headers: Vec::new(),
    });
    call.inside = Some(Box::new(inside));
    call
}

#[test]
fn through_the_internal_listeners_of_a_waypoint() {
    check(
        &waypoint(),
        &tunnelled(client()),
        expect![[r#"
        CONNECT 10.96.0.10:80 to 10.0.0.5:15008
          listener      connect_terminate: it is for all addresses at port 15008
          sees          raw_buffer
          filter chain  terminate: it asks for nothing
          TLS           ends here, with the certificate of default; a certificate of the client is required; it is spiffe://cluster.local/ns/default/sa/client
          filters       envoy.filters.http.set_filter_state: envoy.filters.listener.original_dst.local_ip = 10.96.0.10:80, io.istio.peer_principal = spiffe://cluster.local/ns/default/sa/client
          routes        default (the listener's own)
          virtual host  default: *, as no other fits
          route         default: it is a CONNECT
                          forwards to main_internal
                          timeout: 15s (Envoy's default)
                          retries: none
          cluster       main_internal: STATIC, ROUND_ROBIN
          endpoints     1
                          internal:main_internal    100 %  plain
          outcome       forwarded

        GET http://payments/ to 10.96.0.10:80, within the proxy, to main_internal
          listener      main_internal: a cluster sends to it
          sees          raw_buffer; http/1.1
          filter chain  inbound-vip|80|http|payments: address 10.96.0.10
          filters       envoy.filters.http.rbac allows: ns[default]-policy[p]-rule[0] allows it
                          ns[default]-policy[p]-rule[0] (ALLOW) matches: io.istio.peer_principal "spiffe://cluster.local/ns/default/sa/client" is "spiffe://cluster.local/ns/default/sa/client"
          routes        inbound-vip (the listener's own)
          virtual host  inbound-vip: *, as no other fits
          route         inbound-vip: path "/" begins with "/"
                          forwards to inbound-vip|80|http|payments
                          timeout: 15s (Envoy's default)
                          retries: none
          cluster       inbound-vip|80|http|payments: EDS, ROUND_ROBIN
          endpoints     1
                          internal:connect_originate    100 %  plain  for 10.0.0.9:8080
          outcome       forwarded

        GET http://payments/ to 10.0.0.9:8080, within the proxy, to connect_originate
          listener      connect_originate: a cluster sends to it
          sees          raw_buffer
          filter chain  originate: it asks for nothing
          cluster       connect_originate: ORIGINAL_DST, CLUSTER_PROVIDED
          endpoints     to where the call was going, at a port of the cluster's
                          10.0.0.9:15008            100 %  plain
          tunnel        a CONNECT to 10.0.0.9:8080
          outcome       forwarded
    "#]],
    );
    let stranger = Certificate {
        uris: vec!["spiffe://cluster.local/ns/default/sa/stranger".to_owned()],
        dns: Vec::new(),
    };
    let trace = follow(&waypoint(), &tunnelled(stranger));
    assert_eq!(
        trace.ends().map(crate::Hop::refusal).collect::<Vec<_>>(),
        [Some(Refusal::Denied)]
    );
    // What goes on is a tunnel of the waypoint's own, with the request inside.
    let trace = follow(&waypoint(), &tunnelled(client()));
    let last = trace.hops.last().unwrap();
    let destination = &last.destinations[0];
    let endpoint = &destination.upstream.as_ref().unwrap().endpoints[0];
    let next = onward(last, destination, endpoint, Some(client())).unwrap();
    assert_eq!(next.destination.to_string(), "10.0.0.9:15008");
    assert_eq!(
        next.request.as_ref().map(|request| &*request.host),
        Some("10.0.0.9:8080")
    );
    assert_eq!(
        next.inside
            .as_ref()
            .and_then(|inside| inside.request.as_ref())
            .map(|request| &*request.host),
        Some("payments")
    );
}
