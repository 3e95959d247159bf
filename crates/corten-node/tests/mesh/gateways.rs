//! Applications that want a PROXY header, waypoints on the way, and destinations behind the gateway of another network.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use crate::harness::{Mesh, Pod, echo};
use crate::{at, isolate};

/// Answers each connection with what came before the blank in it, as hexadecimal digits, and the rest as it is.
fn show_header(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let hex: String = said.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = stream.write_all(hex.as_bytes());
        }
    });
}

#[test]
fn a_waypoint_is_called_for_the_service_and_gets_a_proxy_header() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut waypoint) = (mesh.pod("client"), mesh.pod("waypoint"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let yaml = format!(
        "workloads:\n{}{}services:\n\
         - {{name: web, namespace: default, hostname: web, vips: [/10.96.0.1], ports: {{'80': 8080}}, waypoint: {{destination: default/wp}}}}\n\
         - {{name: wp, namespace: default, hostname: wp, vips: [/10.96.0.2], ports: {{'15008': 15008}}}}\n",
        client.workload("HBONE", ""),
        waypoint.workload(
            "HBONE",
            ", services: {default/wp: {'15008': 15008}}, applicationTunnel: {protocol: PROXY, port: 15088}"
        )
    );
    one.configure(&yaml);
    two.configure(&yaml);
    one.enroll(&mut client);
    two.enroll(&mut waypoint);
    let listener = waypoint
        .netns
        .run(|| TcpListener::bind(("127.0.0.1", 15088)))
        .unwrap()
        .unwrap();
    show_header(listener);
    let answer = client.call(at("10.96.0.1".parse().unwrap(), 80), "AB").unwrap();
    assert!(answer.starts_with("0d0a0d0a000d0a515549540a2111"), "{answer}");
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().map(|byte| format!("{byte:02x}")).concat(),
        IpAddr::V6(_) => unreachable!("the pods' addresses are IPv4"),
    };
    // From the client to the service, who it is by its certificate, then what it said.
    assert!(answer.contains(&format!("{}0a600001", octets(client.ip))), "{answer}");
    let identity: String = b"spiffe://cluster.local/ns/default/sa/client"
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(
        answer.contains(&format!("d0{:04x}{identity}", identity.len() / 2)),
        "{answer}"
    );
    assert!(answer.ends_with("4142"), "{answer}");
    let line = one.line("connection complete");
    assert!(
        line.contains(&format!(
            "dst.addr={}:15008 dst.hbone_addr=10.96.0.1:80 dst.service=\"web\"",
            waypoint.ip
        )),
        "{line}"
    );
}

/// Copies bytes in both directions until both have ended.
fn splice(a: TcpStream, b: TcpStream) {
    let (mut a2, mut b2) = (a.try_clone().unwrap(), b.try_clone().unwrap());
    let (mut a, mut b) = (a, b);
    let copy = |from: &mut TcpStream, to: &mut TcpStream| {
        let _ = std::io::copy(from, to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    let back = std::thread::spawn(move || copy(&mut b2, &mut a2));
    copy(&mut a, &mut b);
    back.join().unwrap();
}

/// What a gateway does with the stream of the outer tunnel: gives it to the tunnel port of a server.
fn forward(gateway: &Pod, port: u16, to: SocketAddr) {
    let listener = gateway.listen(port);
    let netns = gateway.netns.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), netns) = (stream, netns.clone()) else {
                return;
            };
            std::thread::spawn(move || {
                if let Ok(Ok(server)) = netns.run(|| TcpStream::connect(to)) {
                    splice(stream, server);
                }
            });
        }
    });
}

#[test]
fn another_network_is_reached_by_a_tunnel_inside_a_tunnel() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, gateway, server) = (mesh.pod("client"), mesh.pod("gateway"), mesh.pod("server"));
    // Without redirection there is no way back from an application to an address that is not its caller's.
    let (here, there) = (mesh.node(&[]), mesh.node(&[("ENABLE_ORIG_SRC", "false")]));
    // As seen from here: the service's endpoint is on the network "far", behind the gateway.
    here.configure(&format!(
        "workloads:\n{}{}\
         - {{uid: far/endpoint, name: endpoint, namespace: default, serviceAccount: server, network: far, protocol: HBONE, \
            networkGateway: {{destination: far/{}, hboneMtlsPort: 15008}}, services: {{default/web: {{'80': 80}}}}}}\n\
         services: [{{name: web, namespace: default, hostname: web, vips: [/10.96.0.1], ports: {{'80': 80}}, \
            subjectAltNames: ['spiffe://cluster.local/ns/default/sa/server']}}]\n",
        client.workload("HBONE", ""),
        gateway.workload("HBONE", ", network: far"),
        gateway.ip,
    ));
    // As seen from there.
    there.configure(&format!(
        "workloads:\n{}{}services: [{{name: web, namespace: default, hostname: web, vips: [/10.96.0.1], ports: {{'80': 8080}}}}]\n",
        gateway.workload(
            "HBONE",
            ", services: {default/web: {'80': 9090}}"
        ),
        server.workload("HBONE", ", services: {default/web: {'80': 8080}}"),
    ));
    here.enroll(&mut client);
    // Tunnels reach their port without redirection, and the gateway's own connections are to go as they are.
    there.serve(&gateway);
    there.serve(&server);
    echo(server.listen(8080));
    forward(&gateway, 9090, at(server.ip, 15008));
    let answer = client.call(at("10.96.0.1".parse().unwrap(), 80), "far away").unwrap();
    assert!(answer.ends_with(" far away"), "{answer}");
    let line = here.line("connection complete");
    assert!(line.contains("dst.hbone_addr=\"web:80\" dst.service=\"web\""), "{line}");
    let big = "x".repeat(3 << 20);
    let answer = client.call(at("10.96.0.1".parse().unwrap(), 80), &big).unwrap();
    assert!(
        answer.ends_with(&big) && answer.len() < big.len() + 32,
        "{}",
        answer.len()
    );
}
