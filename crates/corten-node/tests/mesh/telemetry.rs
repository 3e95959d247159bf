//! What a scrape and the access log say, held against the names, labels and fields of ztunnel.

use std::io::{Read, Write};

use crate::harness::{Mesh, echo};
use crate::program::{Program, agent};
use crate::{at, isolate};

const TRAFFIC: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

const DNS: &[&str] = &[
    "request_query_type",
    "request_protocol",
    "source_canonical_service",
    "source_canonical_revision",
];

/// Names without the ending of counters, kinds, labels in their order.
const REFERENCE: &[(&str, &str, &[&str])] = &[
    ("istio_tcp_connections_opened", "counter", TRAFFIC),
    ("istio_tcp_connections_closed", "counter", TRAFFIC),
    ("istio_tcp_received_bytes", "counter", TRAFFIC),
    ("istio_tcp_sent_bytes", "counter", TRAFFIC),
    ("istio_tcp_connections_failed", "counter", TRAFFIC),
    ("istio_tcp_sockets_open", "gauge", &["reporter"]),
    ("istio_on_demand_dns", "counter", &["source_workload"]),
    ("istio_crl_policy_rejections", "counter", &["reporter"]),
    ("istio_crl_untracked_connections", "counter", &["reporter"]),
    ("istio_build", "gauge", &["component", "tag"]),
    ("istio_xds_connection_terminations", "counter", &["reason"]),
    ("istio_xds_message", "counter", &["url"]),
    ("istio_xds_message_bytes", "counter", &["url"]),
    ("istio_dns_requests", "counter", DNS),
    ("istio_dns_upstream_requests", "counter", DNS),
    ("istio_dns_upstream_failures", "counter", DNS),
    ("istio_dns_upstream_request_duration_seconds", "histogram", DNS),
    ("workload_manager_active_proxy_count", "gauge", &[]),
    ("workload_manager_pending_proxy_count", "gauge", &[]),
    ("workload_manager_proxies_started", "counter", &[]),
    ("workload_manager_proxies_stopped", "counter", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
    ("tokio_num_workers", "gauge", &[]),
    ("tokio_global_queue_depth", "gauge", &[]),
    ("tokio_num_alive_tasks", "gauge", &[]),
    ("tokio_worker_total_busy_duration_seconds", "counter", &["worker"]),
    ("tokio_worker_park_count", "counter", &["worker"]),
    ("tokio_worker_park_unpark_count", "counter", &["worker"]),
];

/// Checks a scrape: every name of the reference with its kind, every sample with its labels in their order.
#[track_caller]
fn check(scrape: &str) {
    for (name, kind, _) in REFERENCE {
        let line = format!("# TYPE {name} {kind}\n");
        assert!(scrape.contains(&line), "no {line} in {scrape}");
    }
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = REFERENCE.iter().find(|(known, kind, _)| match *kind {
            "counter" => name.strip_suffix("_total") == Some(known),
            _ => name == *known,
        });
        // What ztunnel does not have is allowed beside it.
        let Some((_, _, expected)) = known else { continue };
        // No value here holds a comma or a quote.
        let labels = labels.trim_end_matches('}').split(',');
        let found: Vec<&str> = labels.filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        assert_eq!(found, *expected, "{line}");
    }
}

#[test]
fn the_metrics_are_read_through_the_mesh_and_have_the_names_and_labels_of_the_reference() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let folder = tempfile::tempdir().unwrap();
    let local = format!(
        "workloads:\n{}{}- {{uid: 'c//Pod/istio-system/ztunnel-1', name: ztunnel-1, namespace: istio-system, \
         serviceAccount: ztunnel, workloadIps: [10.1.0.1], protocol: HBONE}}\n\
         policies: [{{name: closed, namespace: default, scope: Namespace, action: Deny, rules: [[[{{destinationPorts: [9090]}}]]]}}]\n",
        client.workload("HBONE", ""),
        server.workload("HBONE", ""),
    );
    let settings = [
        ("LOCAL_XDS", local.as_str()),
        ("STATS_ADDR", "0.0.0.0:16020"),
        ("POD_NAME", "ztunnel-1"),
        ("POD_NAMESPACE", "istio-system"),
        ("SERVICE_ACCOUNT", "ztunnel"),
    ];
    let agent = agent(&folder, &[&client, &server]);
    let proxy = Program::start(folder.path(), Some(mesh.authority()), 16000, &settings);
    proxy.wait_ready(16021);
    client.redirect();
    server.redirect();
    echo(server.listen(8080));
    client.call(at(server.ip, 8080), "hello").unwrap();
    // Forbidden: closed or reset without an answer.
    assert!(
        client
            .call(at(server.ip, 9090), "hello")
            .map_or(true, |answer| answer.is_empty())
    );

    // The proxy itself is a workload of the mesh: its metrics come through a tunnel.
    let scrape = |headers: &str| {
        let mut stream = client.connect(at("10.1.0.1".parse().unwrap(), 16020)).unwrap();
        let request = format!("GET /stats/prometheus HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    scrape("");
    let answer = String::from_utf8(scrape("accept: application/openmetrics-text\r\n")).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/openmetrics-text;"), "{head}");
    assert!(body.ends_with("# EOF\n"));
    check(body);
    let own = "destination_principal=\"spiffe://cluster.local/ns/istio-system/sa/ztunnel\"";
    let line = body
        .lines()
        .find(|line| line.contains(own) && line.contains("reporter=\"destination\""));
    assert!(line.is_some_and(|line| line.contains("\"mutual_tls\"")), "{body}");
    assert!(body.contains("response_flags=\"DENY\""), "{body}");
    // The agent's pods are what is counted; the proxy itself is none of them.
    assert!(body.contains("workload_manager_active_proxy_count 2\n"), "{body}");

    let packed = scrape("accept-encoding: gzip\r\n");
    let head = String::from_utf8_lossy(&packed);
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    drop(agent);
}

/// The fields of a line, in their order.
fn fields(line: &str) -> Vec<&str> {
    let (_, mut rest) = line.rsplit_once('\t').unwrap();
    let mut found = Vec::new();
    while let Some((name, value)) = rest.split_once('=') {
        found.push(name);
        let end = match value.strip_prefix('"') {
            Some(quoted) => quoted.find('"').unwrap() + 2,
            None => value.find(' ').unwrap_or(value.len()),
        };
        rest = value[end..].trim_start();
    }
    found
}

#[test]
fn lines_of_the_access_log_have_the_fields_of_the_reference_in_their_order() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let legacy = mesh.pod("legacy");
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let yaml = format!(
        "workloads:\n{}{}",
        client.workload("HBONE", ""),
        server.workload(
            "HBONE",
            ", services: {default/web.default.svc.cluster.local: {'80': 8080}}"
        ),
    ) + "services: [{name: web, namespace: default, hostname: web.default.svc.cluster.local, vips: [/10.96.0.1], ports: {'80': 8080}}]\n\
         policies: [{name: closed, namespace: default, scope: Namespace, action: Deny, rules: [[[{destinationPorts: [9090]}]]]}]\n";
    one.configure(&yaml);
    two.configure(&yaml);
    one.enroll(&mut client);
    two.enroll(&mut server);
    echo(server.listen(8080));
    client.call(at("10.96.0.1".parse().unwrap(), 80), "hello").unwrap();
    let all = "src.addr src.workload src.namespace src.identity src.cluster dst.addr dst.hbone_addr dst.service \
               dst.workload dst.namespace dst.identity dst.cluster direction bytes_sent bytes_recv duration";
    for node in [&one, &two] {
        let line = node.line("connection complete");
        assert!(line.contains("\tinfo\taccess\tconnection complete\t"), "{line}");
        assert_eq!(fields(&line).join(" "), all, "{line}");
    }
    // Without a tunnel nobody has an identity; who is not known has no name either.
    legacy.call(at(server.ip, 8080), "plain").unwrap();
    let line = two.line("connection complete");
    let plain = "src.addr dst.addr dst.workload dst.namespace dst.cluster direction bytes_sent bytes_recv duration";
    assert_eq!(fields(&line).join(" "), plain, "{line}");
    // What failed has its reason after all of that, as an error.
    assert!(
        client
            .call(at(server.ip, 9090), "no")
            .map_or(true, |answer| answer.is_empty())
    );
    let line = two.line("connection complete");
    assert!(line.contains("\terror\taccess\t"), "{line}");
    let found = fields(&line);
    assert!(
        found.ends_with(&["duration", "error", "reason", "side", "policy"]),
        "{line}"
    );
}
