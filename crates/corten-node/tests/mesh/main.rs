//! Connections between pods through node proxies: real sockets, real redirection, real TLS.

mod attacks;
mod gateways;
mod harness;
mod lifecycle;
mod limits;
mod policies;
mod program;
mod routes;
mod telemetry;

use std::io::{Read, Write};
use std::net::SocketAddr;

use harness::{Mesh, echo};

fn at(ip: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

#[test]
fn a_call_between_two_nodes_is_mutual_tls_and_keeps_the_address_of_the_caller() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let yaml = format!(
        "workloads:\n{}{}",
        client.workload("HBONE", ""),
        server.workload(
            "HBONE",
            ", services: {default/web.default.svc.cluster.local: {'80': 8080}}"
        ),
    ) + "services: [{name: web, namespace: default, hostname: web.default.svc.cluster.local, vips: [/10.96.0.1], ports: {'80': 8080}}]\n";
    one.configure(&yaml);
    two.configure(&yaml);
    one.enroll(&mut client);
    two.enroll(&mut server);
    echo(server.listen(8080));

    let answer = client.call(at(server.ip, 8080), "hello").unwrap();
    assert_eq!(answer, format!("{} hello", client.ip));
    let line = two.line("connection complete");
    assert!(
        line.contains("src.identity=\"spiffe://cluster.local/ns/default/sa/client\""),
        "{line}"
    );
    assert!(
        line.contains("dst.identity=\"spiffe://cluster.local/ns/default/sa/server\""),
        "{line}"
    );
    assert!(
        line.contains("direction=\"inbound\" bytes_sent=15 bytes_recv=5"),
        "{line}"
    );
    let line = one.line("connection complete");
    assert!(
        line.contains("direction=\"outbound\" bytes_sent=5 bytes_recv=15"),
        "{line}"
    );

    let by_service = client.call(at("10.96.0.1".parse().unwrap(), 80), "service").unwrap();
    assert_eq!(by_service, format!("{} service", client.ip));
    let line = one.line("connection complete");
    assert!(line.contains("dst.service=\"web.default.svc.cluster.local\""), "{line}");

    let six = client.call(at(server.ip6, 8080), "six").unwrap();
    assert_eq!(six, format!("{} six", client.ip6));

    let metrics = one.metrics();
    let opened = metrics
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    assert!(
        opened.unwrap().contains("connection_security_policy=\"mutual_tls\""),
        "{metrics}"
    );
}

#[test]
fn bytes_arrive_as_they_were_sent_and_half_closed_connections_go_on() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let yaml = format!(
        "workloads:\n{}{}",
        client.workload("HBONE", ""),
        server.workload("HBONE", "")
    );
    one.configure(&yaml);
    two.configure(&yaml);
    one.enroll(&mut client);
    two.enroll(&mut server);
    echo(server.listen(8080));

    let sent: Vec<u8> = (0..32_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut stream = client.connect(at(server.ip, 8080)).unwrap();
    // The server answers when it has been told that all was said: a half-closed connection that goes on in the other direction.
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    let prefix = format!("{} ", client.ip);
    assert_eq!(back.len(), prefix.len() + sent.len());
    assert!(back[prefix.len()..] == sent[..], "the bytes differ");
}
