use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// A dump as Envoy writes it: names with underscores, and a filter of a type that nobody here knows.
fn dump() -> Dump {
    let any = |kind: &str, mut message: Value| {
        message["@type"] = json!(format!("type.googleapis.com/{kind}"));
        message
    };
    let cluster = |name: &str, kind: &str| {
        let rule = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/reviews";
        let cluster = json!({"name": name, "type": kind, "metadata": {"filter_metadata": {"istio": {"config": rule}}}});
        json!({"cluster": any("envoy.config.cluster.v3.Cluster", cluster)})
    };
    let address = |ip: &str, port: u32| json!({"socket_address": {"address": ip, "port_value": port}});
    let manager = |config: Value| {
        let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": any(kind, config)})
    };
    let tcp = |cluster: &str| {
        let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": any(kind, json!({"cluster": cluster}))})
    };
    let all = json!({"prefix": "/"});
    let inbound = json!({"virtual_hosts": [{"domains": ["*"], "routes": [{"match": all, "route": {"cluster": "inbound|9080||"}}]}]});
    let listener = |mut listener: Value| {
        listener["listener_filters"] =
            json!([{"name": "x", "typed_config": any("not.known.Here", json!({"some_key": 1}))}]);
        json!({"active_state": {"listener": any("envoy.config.listener.v3.Listener", listener)}})
    };
    let chains = json!([
        {"filter_chain_match": {"transport_protocol": "tls", "application_protocols": ["istio-peer-exchange", "istio"], "destination_port": 9080},
         "filters": [tcp("inbound|9080||")]},
        {"filter_chain_match": {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "server_names": ["a.b", "c.d"]},
         "filters": [manager(json!({"route_config": inbound}))]},
    ]);
    let text = json!({"configs": [
        any("envoy.admin.v3.BootstrapConfigDump", json!({"bootstrap": {"node": {
            "metadata": {"ISTIO_VERSION": "1.32.0"},
            "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}, "metadata": {"build.type": "RELEASE"}},
        }}})),
        any("envoy.admin.v3.ClustersConfigDump", json!({
            "static_clusters": [cluster("prometheus_stats", "STATIC")],
            "dynamic_active_clusters": [
                cluster("outbound|9080|v2|reviews.shop.svc.cluster.local", "EDS"),
                cluster("outbound|9080||reviews.shop.svc.cluster.local", "EDS"),
                cluster("BlackHoleCluster", "STATIC"),
            ],
        })),
        any("envoy.admin.v3.ListenersConfigDump", json!({"dynamic_listeners": [
            listener(json!({"name": "virtualInbound", "address": address("0.0.0.0", 15006), "filter_chains": chains,
                "default_filter_chain": {"filters": [tcp("BlackHoleCluster")]}})),
            listener(json!({"name": "0.0.0.0_9080", "address": address("0.0.0.0", 9080), "additional_addresses": [{"address": address("::", 9080)}],
                "filter_chains": [{"filters": [manager(json!({"rds": {"route_config_name": "9080"}}))]}],
                "default_filter_chain": {"filters": [tcp("PassthroughCluster")]}})),
        ]})),
        any("envoy.admin.v3.RoutesConfigDump", json!({"dynamic_route_configs": [
            {"route_config": any("envoy.config.route.v3.RouteConfiguration", json!({"name": "9080", "virtual_hosts": [
                {"name": "reviews.shop.svc.cluster.local:9080",
                 "domains": ["reviews", "reviews:9080", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local", "10.1.0.9"],
                 "routes": [{"match": {"path": "/x"}, "route": {"cluster": "outbound|9080|v2|reviews.shop.svc.cluster.local"},
                    "metadata": {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/split"}}}}]},
                {"name": "empty", "domains": ["*"]},
            ]}))},
            {"route_config": any("envoy.config.route.v3.RouteConfiguration", json!({"name": "80", "virtual_hosts": []}))},
        ]})),
    ]});
    Dump::parse(text.to_string().as_bytes()).expect("a dump")
}

#[track_caller]
fn check(shown: Result<String, DumpError>, expected: Expect) {
    expected.assert_eq(&shown.unwrap_or_else(|why| why.to_string()));
}

#[test]
fn clusters_are_in_order_and_filtered() {
    let filter = ClusterFilter::default();
    check(
        clusters(&dump(), &filter, false),
        expect![[r#"
        SERVICE FQDN                       PORT     SUBSET     DIRECTION     TYPE       DESTINATION RULE
        BlackHoleCluster                   -        -          -             STATIC     reviews.shop
        prometheus_stats                   -        -          -             STATIC     reviews.shop
        reviews.shop.svc.cluster.local     9080     -          outbound      EDS        reviews.shop
        reviews.shop.svc.cluster.local     9080     v2         outbound      EDS        reviews.shop
    "#]],
    );
    let filter = ClusterFilter {
        subset: Some("v2".to_owned()),
        port: Some(9080),
        ..ClusterFilter::default()
    };
    check(
        clusters(&dump(), &filter, true),
        expect![[r#"
        NAME                                                        SERVICE FQDN                       PORT     SUBSET     DIRECTION     TYPE     DESTINATION RULE
        cluster/outbound|9080|v2|reviews.shop.svc.cluster.local     reviews.shop.svc.cluster.local     9080     v2         outbound      EDS      reviews.shop
    "#]],
    );
}

#[test]
fn listeners_tell_what_they_take_and_where_it_leads() {
    let filter = ListenerFilter::default();
    check(
        listeners(&dump(), &filter, true, false),
        expect![[r#"
        ADDRESSES  PORT  MATCH                                  DESTINATION
        0.0.0.0,:: 9080  ALL                                    Route: 9080
        0.0.0.0,:: 9080  ALL                                    PassthroughCluster
        0.0.0.0    15006 ALL                                    Non-HTTP/Non-TCP
        0.0.0.0    15006 Trans: tls; App: TCP TLS; Addr: *:9080 Cluster: inbound|9080||
        0.0.0.0    15006 SNI: a.b,c.d; Addr: 10.0.0.0/8         Cluster: inbound|9080||
    "#]],
    );
    let filter = ListenerFilter {
        address: Some("::".to_owned()),
        kind: Some("http+tcp".to_owned()),
        ..ListenerFilter::default()
    };
    check(
        listeners(&dump(), &filter, false, true),
        expect![[r#"
        NAME                  ADDRESSES  PORT TYPE
        listener/0.0.0.0_9080 0.0.0.0,:: 9080 HTTP+TCP
    "#]],
    );
}

#[test]
fn chains_of_a_tree_of_matches_tell_each_way_to_them() {
    let on = |name: &str| json!({"action": {"name": name}});
    let ports = json!({"matcherTree": {"input": {"name": "port"}, "exactMatchMap": {"map": {"80": on("http"), "81": on("tcp")}}}, "onNoMatch": on("rest")});
    let ranges = json!([
        {"ranges": [{"addressPrefix": "10.1.0.1", "prefixLen": 32}], "onMatch": {"matcher": ports}},
        {"ranges": [{"addressPrefix": "10.2.0.0", "prefixLen": 16}], "onMatch": on("http")},
    ]);
    let tree = json!({
        "matcherTree": {"input": {"name": "ip"}, "customMatch": {"typedConfig": {"rangeMatchers": ranges}}},
        "onNoMatch": on("direct"),
    });
    let chain = |name: &str| json!({"name": name, "filters": [{"name": "envoy.filters.network.echo"}]});
    let chains = ["http", "tcp", "rest", "direct", "lost"].map(chain);
    let listener =
        json!({"name": "main_internal", "internalListener": {}, "filterChainMatcher": tree, "filterChains": chains});
    let section = json!({"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "staticListeners": [{"listener": listener}]});
    let dump = Dump::of(json!({"configs": [section]})).expect("a dump");
    check(
        super::chains(&dump, &ListenerFilter::default()),
        expect![[r#"
        LISTENER              CHAIN  MATCH                  DESTINATION
        envoy://main_internal http   ip=10.1.0.1 -> port=80 Echo
        envoy://main_internal http   ip=10.2.0.0/16         Echo
        envoy://main_internal tcp    ip=10.1.0.1 -> port=81 Echo
        envoy://main_internal rest   ip=10.1.0.1 -> ANY     Echo
        envoy://main_internal direct UNMATCHED              Echo
        envoy://main_internal lost   NONE                   Echo
    "#]],
    );
}

#[test]
fn routes_tell_their_domains_and_who_made_them() {
    let filter = RouteFilter::default();
    check(
        routes(&dump(), &filter, true, false),
        expect![[r#"
        NAME     VHOST NAME                              DOMAINS                               MATCH     VIRTUAL SERVICE
        9080     reviews.shop.svc.cluster.local:9080     reviews, reviews.shop + 1 more...     /x        split.shop
        9080     empty                                   *                                     /*        404
    "#]],
    );
    check(
        routes(&dump(), &filter, false, true),
        expect![[r#"
        NAME           VIRTUAL HOSTS
        route/80       0
        route/9080     2
    "#]],
    );
    let dump = dump();
    let found = behind(&dump, "reviews", "shop", 9080);
    assert_eq!(
        found,
        Some("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/split")
    );
    assert_eq!(behind(&dump, "reviews", "shop", 80), None);
}

#[test]
fn endpoints_of_a_live_proxy_are_in_order_and_filtered() {
    let host = |ip: &str, port: u32, status: &str, failed: bool| {
        json!({"address": {"socket_address": {"address": ip, "port_value": port}},
            "health_status": {"eds_health_status": status, "failed_outlier_check": failed}})
    };
    let listener =
        json!({"envoy_internal_address": {"server_listener_name": "connect_originate", "endpoint_id": "10.0.0.9:80"}});
    let text = json!({"cluster_statuses": [
        {"name": "b", "host_statuses": [host("10.0.0.2", 80, "HEALTHY", false), {"address": listener, "health_status": {"eds_health_status": "HEALTHY"}}]},
        {"name": "a", "host_statuses": [host("10.0.0.1", 80, "UNHEALTHY", true)]},
    ]})
    .to_string();
    let shown = |filter: EndpointFilter| Endpoints::parse(text.as_bytes(), &filter).map(|it| it.table(&filter, false));
    check(
        shown(EndpointFilter::default()),
        expect![[r#"
        ENDPOINT                                  STATUS        OUTLIER CHECK     CLUSTER
        10.0.0.1:80                               UNHEALTHY     FAILED            a
        10.0.0.2:80                               HEALTHY       OK                b
        envoy://connect_originate/10.0.0.9:80     HEALTHY       OK                b
    "#]],
    );
    let filter = EndpointFilter {
        status: Some("healthy".to_owned()),
        address: Some("10.0.0.2".to_owned()),
        ..EndpointFilter::default()
    };
    check(
        shown(filter),
        expect![[r#"
        ENDPOINT        STATUS      OUTLIER CHECK     CLUSTER
        10.0.0.2:80     HEALTHY     OK                b
    "#]],
    );
}

#[test]
fn a_bootstrap_tells_versions() {
    check(
        bootstrap(&dump()).map(|(_, versions)| versions),
        expect![[r#"
        Istio Version: 1.32.0
        Envoy Version: 1.40.0/RELEASE
    "#]],
    );
}

#[test]
fn what_is_no_dump_of_an_envoy_is_told_apart() {
    let check = |text: &str, expected: DumpError| assert_eq!(Dump::parse(text.as_bytes()), Err(expected), "{text}");
    check(r#"{"workloads": []}"#, DumpError::OfNodeProxy);
    check(r#"{"items": []}"#, DumpError::NotADump);
    check("[]", DumpError::NotADump);
    assert!(matches!(Dump::parse(b"hello"), Err(DumpError::NotJson(_))));
    let empty = Dump::parse(br#"{"configs": []}"#).expect("a dump");
    assert_eq!(empty.clusters(), Err(DumpError::Nothing("clusters")));
    assert_eq!(bootstrap(&empty), Err(DumpError::Nothing("bootstrap")));
}
