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
    assert_eq!(good(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "2500m")]).shards, 3);
    assert_eq!(good(&[("ZTUNNEL_CPU_LIMIT", "2")]).shards, 1);
    assert_eq!(good(&[("ZTUNNEL_RESOURCE_CPU_REQUEST", "3")]).shards, 3);
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
}

#[test]
fn what_cannot_be_is_refused_with_the_value_and_what_to_write() {
    /// Settings, the one that is refused, and a part of the reason.
    type Refused = (&'static [(&'static str, &'static str)], &'static str, &'static str);
    let refused: &[Refused] = &[
        (
            &[("XDS_ON_DEMAND", "true")],
            "XDS_ON_DEMAND",
            "ISTIO_META_DNS_CAPTURE=false",
        ),
        (
            &[("PROXY_MODE", "sidecar")],
            "PROXY_MODE",
            "'sidecar' is neither 'shared'",
        ),
        (
            &[("PROXY_MODE", "dedicated")],
            "PROXY_WORKLOAD_INFO",
            "namespace/name/service-account",
        ),
        (
            &[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b")],
            "PROXY_WORKLOAD_INFO",
            "'a/b'",
        ),
        (&[("FAKE_CA", "true")], "FAKE_CA", "CORTEN_TEST_CA_DIR"),
        (
            &[("COMPLIANCE_POLICY", "fips-140-9")],
            "COMPLIANCE_POLICY",
            "'fips-140-9' is not a policy",
        ),
        (&[("LOG_FORMAT", "xml")], "LOG_FORMAT", "'xml' is neither"),
        (
            &[("LOCAL_XDS", "workloads: []"), ("LOCAL_XDS_PATH", "/x")],
            "LOCAL_XDS",
            "set one of them",
        ),
        (&[("PROXY_CONFIG", "concurrency: many")], "PROXY_CONFIG", "ProxyConfig"),
        (
            &[("ISTIO_META_DNS_PROXY_ADDR", "10.0.0.1:53")],
            "DNS_PROXY_ADDR",
            "localhost:PORT",
        ),
        (
            &[("HTTP2_FRAME_SIZE", "100")],
            "HTTP2_FRAME_SIZE",
            "'100' is not between 16384 and",
        ),
        (
            &[("POOL_MAX_STREAMS_PER_CONNECTION", "0")],
            "POOL_MAX_STREAMS_PER_CONNECTION",
            "'0'",
        ),
        (
            &[("ZTUNNEL_WORKER_THREADS", "101%")],
            "ZTUNNEL_WORKER_THREADS",
            "'101%'",
        ),
        (
            &[("ZTUNNEL_RESOURCE_CPU_LIMIT", "-1")],
            "ZTUNNEL_RESOURCE_CPU_LIMIT",
            "'-1'",
        ),
    ];
    for (vars, name, reason) in refused {
        let problems = resolve(vars).expect_err(name);
        assert!(
            problems.len() == 1 && problems[0].name == *name && problems[0].reason.contains(reason),
            "{vars:?}: {problems:?}"
        );
    }
}

#[test]
fn a_proxy_of_its_own_serves_one_workload_without_a_mark() {
    let vars = [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "shop/web-0/web")];
    let config = good(&vars);
    let served = config.dedicated.unwrap();
    assert_eq!(
        [served.namespace, served.name, served.service_account],
        ["shop", "web-0", "web"]
    );
    assert_eq!(config.packet_mark, None);
    let marked = good(&[vars[0], vars[1], ("PACKET_MARK", "7")]);
    assert_eq!(marked.packet_mark, Some(7));
}

/// Variables and the file of the mesh's configuration.
struct WithFile(BTreeMap<String, String>, &'static str);

impl Vars for WithFile {
    fn get(&self, name: &str) -> Option<String> {
        Vars::get(&self.0, name)
    }

    fn all(&self) -> Vec<(String, String)> {
        self.0.all()
    }

    fn file(&self, path: &str) -> std::io::Result<Option<String>> {
        Ok((path == "./etc/istio/config/mesh").then(|| self.1.to_owned()))
    }
}

#[test]
fn the_proxy_config_goes_over_the_meshs_and_under_the_variables() {
    let mesh = "defaultConfig:\n  discoveryAddress: istiod.x.svc:15012\n  statsPort: 1020\n  tracing: {}\n  \
                proxyMetadata: {DNS_CAPTURE: 'false', A: mesh, B: mesh}\ntrustDomain: other\n";
    let own = "{statsPort: 2020, proxyAdminPort: 2000, concurrency: 3, proxyMetadata: {ISTIO_META_A: own, C: own}}";
    let vars = [("PROXY_CONFIG", own), ("ISTIO_META_C", "variable")];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = Config::resolve(&WithFile(vars, mesh), 8).unwrap();
    assert_eq!(config.xds.address.unwrap().host, "istiod.x.svc");
    assert_eq!((config.servers.stats.port(), config.servers.admin.port()), (2020, 2000));
    assert_eq!((config.shards, config.dns), (3, false));
    for (key, value) in [("A", "own"), ("B", "mesh"), ("C", "variable")] {
        assert_eq!(config.metadata[key], value, "{key}");
    }
    let broken = Config::resolve(&WithFile(BTreeMap::new(), "defaultConfig: 7"), 8).unwrap_err();
    assert_eq!(broken[0].name, "./etc/istio/config/mesh");
}

#[test]
fn compliance_chooses_key_exchanges() {
    let chosen = |policy| good(&[("COMPLIANCE_POLICY", policy)]).connections.key_exchange;
    assert_eq!(
        [chosen(""), chosen("pqc"), chosen("fips-140-2")],
        [KeyExchange::HybridPreferred, KeyExchange::HybridOnly, KeyExchange::Nist]
    );
}
