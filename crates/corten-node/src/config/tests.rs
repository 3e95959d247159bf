use super::*;

fn resolve(vars: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let vars: BTreeMap<String, String> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::resolve(&vars, 8)
}

#[track_caller]
fn good(vars: &[(&str, &str)]) -> Config {
    resolve(vars).unwrap()
}

#[test]
fn defaults_are_those_of_the_upstream_proxy() {
    let config = good(&[]);
    let address = config.xds.address.as_ref().unwrap();
    assert_eq!(
        (address.host.as_str(), address.port, config.xds.tls),
        ("localhost", 15012, true)
    );
    assert_eq!(config.cluster_id, "Kubernetes");
    assert_eq!(config.connections.stream_window, 4 << 20);
    assert_eq!(config.connections.pool_unused_timeout, Duration::from_secs(300));
    assert_eq!(config.packet_mark, Some(1337));
    assert_eq!(config.servers.stats.to_string(), "[::]:15020");
    assert_eq!(config.shards, 2);
    assert!(config.dns);
    assert_eq!(config.connections.congestion_control.as_deref(), Some("cubic"));
    let system = good(&[("CORTEN_CONGESTION_CONTROL", "system")]);
    assert_eq!(system.connections.congestion_control, None);
    let cluster = good(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
    assert_eq!(cluster.xds.address.unwrap().host, "istiod.istio-system.svc");
}

#[test]
fn the_node_is_named_as_the_control_plane_expects() {
    let vars = [
        ("POD_NAME", "ztunnel-x"),
        ("POD_NAMESPACE", "istio-system"),
        ("INSTANCE_IP", "10.1.2.3"),
    ];
    assert_eq!(
        good(&vars).node_id(),
        "ztunnel~10.1.2.3~ztunnel-x.istio-system~istio-system.svc.cluster.local"
    );
    assert_eq!(good(&[]).node_id(), "ztunnel~1.1.1.1~.~.svc.cluster.local");
}

#[test]
fn the_metadata_form_of_the_cluster_wins() {
    let vars = [
        ("CLUSTER_ID", "a"),
        ("ISTIO_META_CLUSTER_ID", "b"),
        ("ISTIO_METAJSON_X", "{\"y\": 1}"),
    ];
    let config = good(&vars);
    assert_eq!(config.cluster_id, "b");
    assert_eq!(config.metadata["X"]["y"], 1);
}

#[test]
fn the_deadline_follows_the_grace_period() {
    let deadline = |vars: &[(&str, &str)]| good(vars).termination_deadline.as_secs();
    assert_eq!(deadline(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")]), 25);
    assert_eq!(deadline(&[("TERMINATION_GRACE_PERIOD_SECONDS", "10")]), 9);
    assert_eq!(deadline(&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")]), 1);
    let both = [
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("CONNECTION_TERMINATION_DEADLINE", "1h30m"),
    ];
    assert_eq!(deadline(&both), 5400);
}

#[test]
fn threads_are_a_number_a_share_or_all() {
    let shards = |value: &str| good(&[("ZTUNNEL_WORKER_THREADS", value)]).shards;
    assert_eq!([shards("3"), shards("50%"), shards("0")], [3, 4, 8]);
    assert_eq!(good(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "4")]).shards, 4);
}

#[test]
fn a_file_of_workloads_stands_for_the_control_plane_unless_both_are_named() {
    let alone = good(&[("LOCAL_XDS_PATH", "/x.json"), ("CORTEN_TEST_CA_DIR", "/ca")]);
    assert_eq!((alone.xds.address, alone.ca.address), (None, None));
    let both = good(&[("LOCAL_XDS_PATH", "/x.json"), ("XDS_ADDRESS", "http://10.0.0.1:15010")]);
    assert_eq!(both.xds.address.unwrap().port, 15010);
    assert!(!both.xds.tls);
}

#[test]
fn all_problems_are_told_with_the_variable_and_the_value() {
    let vars = [
        ("IPV6_ENABLED", "maybe"),
        ("SECRET_TTL", "a day"),
        ("XDS_ADDRESS", "https://x:y"),
    ];
    let problems: Vec<String> = resolve(&vars).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "IPV6_ENABLED: 'maybe' is not a bool",
            "XDS_ADDRESS: 'https://x:y' is not of the form https://host:port",
            "SECRET_TTL: 'a day' is not a duration: write a number and a unit, for example 10s, 5m or 1h30m",
        ]
    );
    let unsupported = resolve(&[("XDS_ON_DEMAND", "true"), ("PROXY_MODE", "dedicated")]).unwrap_err();
    assert_eq!(unsupported.len(), 2);
}
