//! Where connections go that are not simply to another pod of the mesh.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::{Mesh, echo, mirror, ping};
use crate::{at, isolate};

#[test]
fn what_is_not_in_the_mesh_is_reached_as_it_is() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, outside) = (mesh.pod("client"), mesh.pod("outside"));
    let node = mesh.node(&[]);
    node.configure(&format!("workloads:\n{}", client.workload("HBONE", "")));
    node.enroll(&mut client);
    echo(outside.listen(8080));
    let answer = client.call(at(outside.ip, 8080), "hello").unwrap();
    assert_eq!(answer, format!("{} hello", client.ip));
    let line = node.line("connection complete");
    assert!(
        line.contains(&format!("dst.addr={}:8080 direction=\"outbound\"", outside.ip)),
        "{line}"
    );
    // A port where nobody listens.
    assert_eq!(client.call(at(outside.ip, 81), "").unwrap_or_default(), "");
    let line = node.line("error=");
    assert!(line.contains("reason=\"connect_refused\" side=\"network\""), "{line}");
}

#[test]
fn a_service_without_endpoints_and_a_port_nobody_listens_on_are_told_apart() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let node = mesh.node(&[]);
    node.configure(&format!(
        "workloads:\n{}{}services: [{{name: e, namespace: default, hostname: e, vips: [/10.96.0.9], ports: {{'80': 80}}}}]\n",
        client.workload("HBONE", ""),
        server.workload("HBONE", "")
    ));
    node.enroll(&mut client);
    node.enroll(&mut server);
    assert_eq!(
        client
            .call(at("10.96.0.9".parse().unwrap(), 80), "")
            .unwrap_or_default(),
        ""
    );
    let line = node.line("error=");
    assert!(line.contains("reason=\"no_endpoint\""), "{line}");
    // Through the tunnel: the other proxy says that the application is not there.
    assert_eq!(client.call(at(server.ip, 81), "").unwrap_or_default(), "");
    let line = node.line("connect_refused");
    assert!(
        line.contains("side=\"server app\"") && line.contains("direction=\"inbound\""),
        "{line}"
    );
    let line = node.line("http status: 503");
    assert!(line.contains("direction=\"outbound\""), "{line}");
}

#[test]
fn a_small_call_is_not_held_up_by_one_that_nobody_reads() {
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
    mirror(server.listen(8080));
    // An application that accepts and never reads.
    let deaf = server.listen(8081);
    let mut stuck = client.connect(at(server.ip, 8081)).unwrap();
    let _accepted = deaf.accept().unwrap();
    stuck.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0_u64;
    while let Ok(count) = stuck.write(&[0; 1 << 16]) {
        written += count as u64;
        assert!(written < 256 << 20, "what nobody reads is not taken without end");
    }
    let began = Instant::now();
    let mut small = client.connect(at(server.ip, 8080)).unwrap();
    (0..50).for_each(|_| ping(&mut small).unwrap());
    assert!(began.elapsed() < Duration::from_secs(2));
}
