//! What is made is Envoy's, whatever the configuration says, and a stock Envoy starts with it.

use corten_envoy::envoy::config::bootstrap::v3::Bootstrap;

use super::*;

fn made(config: &Value, variables: &[(&str, &str)], annotations: &Value, dual_stack: bool) -> (Value, Vec<Problem>) {
    let mut all = defaults();
    merge(&mut all, config);
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let labels = labels_of("app=\"web\"\npod-template-hash=\"abc\"\ntopology.istio.io/locality=\"r.z\"\n");
    let (metadata, mut problems) = metadata(&Pod {
        variables: &variables,
        labels: Some(&labels),
        annotations: annotations.as_object(),
        addresses: &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        config: &all,
        discovery_names: &["istiod.istio-system.svc".to_owned()],
        outlier_log: "",
        status_port: 15021,
        prometheus_port: 15090,
        secure_metrics_port: 15091,
        secure_merged_metrics_port: 15092,
        exits_when_idle: true,
        skips_deprecated_logs: false,
        socket: "socket",
        version: "v",
        build: Build::Stock,
    });
    let (made, more) = bootstrap(&Inputs {
        id: "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local",
        metadata: &metadata,
        config: &all,
        discovery: ("istiod.istio-system.svc", 15012),
        discovery_name: "istiod.istio-system.svc",
        secrets: Path::new("/etc/istio/proxy/sds.sock"),
        host_ip: Some("10.9.9.9"),
        log_as_json: false,
        fips: true,
        dual_stack,
        proxy_protocol: true,
        priority: Some(5),
        build: Build::Stock,
    });
    problems.extend(more);
    (made, problems)
}

const POD: [(&str, &str); 2] = [("POD_NAME", "web-1"), ("POD_NAMESPACE", "shop")];

#[test]
fn everything_that_can_be_said_is_envoys_and_a_stock_envoy_takes_it() {
    let tls = json!({"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca"});
    let config = json!({
        "tracing": {"datadog": {"address": "$(HOST_IP):8126"}, "tlsSettings": {"mode": "SIMPLE"}},
        "envoyMetricsService": {"address": "metrics:15000", "tlsSettings": tls, "tcpKeepalive": {"probes": 3, "time": "10s"}},
        "envoyAccessLogService": {"address": "logs:15000", "tlsSettings": {"mode": "ISTIO_MUTUAL"}},
        "statsdUdpAddress": "10.1.1.1:9125",
        "extraStatTags": ["a"],
        "proxyStatsMatcher": {"inclusionPrefixes": ["http.{pod_ip}_"]},
        "connectionSettings": {"globalDownstreamConnectionLimit": 100, "listenerConnectionLimit": 1},
    });
    let annotations = json!({
        "sidecar.istio.io/statsHistogramBuckets": r#"{"istio": [1, 5.5]}"#,
        "sidecar.istio.io/statsFlushInterval": "90s",
        "sidecar.istio.io/statsEvictionInterval": "3m",
        "sidecar.istio.io/extraStatTags": "a,b",
    });
    let meta = [
        POD[0],
        POD[1],
        (
            "ISTIO_META_LOAD_STATS_CONFIG_JSON",
            r#"{"apiType": "GRPC", "transportApiVersion": "V3"}"#,
        ),
        ("ISTIO_META_ENABLE_SELF_DISCOVERY", "1"),
        ("ISTIO_METAJSON_MORE", r#"{"x": [1]}"#),
    ];
    let cases = [
        (made(&json!({}), &POD, &json!({}), false), 0),
        (made(&config, &meta, &annotations, true), 1),
        (
            made(
                &json!({"tracing": {"lightstep": {"address": "a:1"}}}),
                &POD,
                &json!({}),
                false,
            ),
            1,
        ),
        (
            made(
                &json!({"tracing": {"zipkin": {"address": "zipkin"}}}),
                &POD,
                &json!({}),
                false,
            ),
            1,
        ),
    ];
    let mut checked = Vec::new();
    for ((mut made, problems), expected) in cases {
        assert_eq!(problems.len(), expected, "{problems:?}");
        let typed: Bootstrap = corten_envoy::message_from_json(&made).expect("every field is Envoy's");
        let node = typed.node.unwrap();
        assert_eq!(
            (node.cluster.as_str(), node.locality.unwrap().region.as_str()),
            ("web.shop", "r")
        );
        // What is not about Envoy's reading: paths of a container.
        made["admin"]["profilePath"] = json!("/dev/null");
        checked.push(made);
    }
    let envoy = match corten_stock_envoy::program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    for made in checked {
        assert_eq!(corten_stock_envoy::validate(&envoy, &made), Ok(()));
    }
}
