//! Calls into small meshes, and where they go.

use std::collections::BTreeSet;

use crate::{Outbound, Settings, Tables, testing::mesh};

/// The next hop as a line: protocol, address, authority, identities, hop.
fn decide(tables: &Tables, settings: &Settings, source: &str, destination: &str, random: u64) -> String {
    let source = tables.local("ns", source, "default").expect("the source is known");
    let call = Outbound {
        source,
        client: source.addresses[0],
        destination: destination.parse().unwrap(),
        random,
    };
    match tables.outbound(settings, &call) {
        Err(error) => error.to_string(),
        Ok(upstream) => {
            let mut line = format!("{:?} {} {:?}", upstream.protocol, upstream.connect, upstream.hop);
            if let Some(authority) = &upstream.authority {
                line += &format!(" for {}", authority.text("192.0.2.1".parse().unwrap()));
            }
            let names = |expected: &crate::Expected| {
                let names: Vec<_> = expected
                    .iter()
                    .map(|id| format!("{}/{}", id.namespace, id.service_account))
                    .collect();
                names.join("|")
            };
            line += &format!(" by {}", names(&upstream.expected));
            if let Some(inside) = &upstream.expected_inside {
                line += &format!(" inside {}", names(inside));
            }
            if let Some(service) = &upstream.service {
                line += &format!(" service {}", service.hostname);
            }
            line
        }
    }
}

/// All outcomes that chance can bring.
#[track_caller]
fn check_on(lines: &str, settings: &Settings, destination: &str, expected: &[&str]) {
    let tables = mesh(lines);
    let outcomes: BTreeSet<_> = (0..200)
        .map(|i| decide(&tables, settings, "client", destination, i * 7919))
        .collect();
    assert_eq!(outcomes, expected.iter().map(|line| line.to_string()).collect());
}

#[track_caller]
fn check(lines: &str, destination: &str, expected: &[&str]) {
    check_on(lines, &Settings::default(), destination, expected);
}

const BASE: &str = "
    workload client ip=10.0.0.1 hbone node=n1 at=r1/z1/s1
    workload a ip=10.0.0.2 hbone sa=a of=ns/web.ns
    workload plain ip=10.0.0.3
    service ns/web.ns vip=10.1.0.1 ports=80:8080,81:0
";

#[test]
fn directly() {
    check(
        BASE,
        "10.0.0.2:1234",
        &["Hbone 10.0.0.2:15008 Destination for 10.0.0.2:1234 by ns/a"],
    );
    check(
        BASE,
        "[::ffff:10.0.0.2]:1234",
        &["Hbone 10.0.0.2:15008 Destination for 10.0.0.2:1234 by ns/a"],
    );
    check(BASE, "10.0.0.3:1234", &["Tcp 10.0.0.3:1234 Destination by ns/default"]);
    check(BASE, "8.8.8.8:53", &["Tcp 8.8.8.8:53 Passthrough by "]);
    check(
        BASE,
        "10.1.0.1:80",
        &["Hbone 10.0.0.2:15008 Destination for 10.0.0.2:8080 by ns/a service web.ns"],
    );
    check(
        BASE,
        "127.0.0.1:15001",
        &["attempted recursive call to ourselves: 127.0.0.1:15001 is a port of this proxy"],
    );
    check(BASE, "127.0.0.1:80", &["Tcp 127.0.0.1:80 Passthrough by "]);
    check(
        BASE,
        "10.0.0.3:15001",
        &["Tcp 10.0.0.3:15001 Destination by ns/default"],
    );
}

#[test]
fn services_without_an_endpoint_end_the_call() {
    let none = |port, why| format!("no endpoint of service ns/web.ns for port {port}: {why}");
    check(BASE, "10.1.0.1:99", &[&none(99, "it has no such port")]);
    let unusable = "none of its endpoints has an address, the port and a weight above 0";
    check(BASE, "10.1.0.1:81", &[&none(81, unusable)]);
    let mesh = |endpoint: &str, service: &str| {
        format!("workload client ip=10.0.0.1\n{endpoint}\nservice ns/web.ns vip=10.1.0.1 ports=80:8080 {service}")
    };
    check(&mesh("", ""), "10.1.0.1:80", &[&none(80, "it has no endpoints")]);
    let ill = "workload a ip=10.0.0.2 of=ns/web.ns unhealthy";
    check(
        &mesh(ill, ""),
        "10.1.0.1:80",
        &[&none(80, "none of its endpoints is healthy")],
    );
    check(
        &mesh(ill, "any-health"),
        "10.1.0.1:80",
        &["Tcp 10.0.0.2:8080 Destination by ns/default service web.ns"],
    );
    let idle = "workload a ip=10.0.0.2 of=ns/web.ns capacity=0";
    check(&mesh(idle, ""), "10.1.0.1:80", &[&none(80, unusable)]);
    check(&mesh(idle, "strict=node"), "10.1.0.1:80", &[&none(80, unusable)]);
    let far = "workload a ip=10.0.0.2 of=ns/web.ns node=n2";
    check(
        &mesh(far, "strict=node"),
        "10.1.0.1:80",
        &[&none(
            80,
            "none of its usable endpoints is where its load balancing demands (internal traffic policy or locality)",
        )],
    );
    check(
        &mesh(far, "passthrough"),
        "10.1.0.1:80",
        &["Tcp 10.1.0.1:80 Passthrough by "],
    );
    // Named ports: each workload has its own.
    let named = "workload a ip=10.0.0.2 of=ns/web.ns+81:9000\nworkload b ip=10.0.0.4 of=ns/web.ns";
    let service = "service ns/web.ns vip=10.1.0.1 ports=81:0";
    check(
        &format!("workload client ip=10.0.0.1\n{named}\n{service}"),
        "10.1.0.1:81",
        &["Tcp 10.0.0.2:9000 Destination by ns/default service web.ns"],
    );
}

#[test]
fn addresses_of_workloads() {
    let mesh = "
        workload client ip=10.0.0.1
        workload dual ip=10.0.0.2,fd00::2 of=ns/web.ns,ns/six.ns
        workload node ip=10.9.0.1 hostnet of=ns/node.ns
        workload named host=db.example.com hbone of=ns/named.ns
        workload entry ip=10.0.0.5 uid=c/networking.istio.io/WorkloadEntry/ns/entry hbone sa=entry
        workload pod ip=10.0.0.5 sa=pod
        service ns/web.ns vip=10.1.0.1,fd01::1 ports=80:8080
        service ns/six.ns vip=10.1.0.2 ports=80:8080 families=2
        service ns/node.ns vip=10.1.0.3 ports=80:8080
        service ns/named.ns vip=10.1.0.4 ports=80:8080
    ";
    check(
        mesh,
        "10.1.0.1:80",
        &["Tcp 10.0.0.2:8080 Destination by ns/default service web.ns"],
    );
    check(
        mesh,
        "[fd01::1]:80",
        &["Tcp [fd00::2]:8080 Destination by ns/default service web.ns"],
    );
    check(
        mesh,
        "10.1.0.2:80",
        &["Tcp [fd00::2]:8080 Destination by ns/default service six.ns"],
    );
    check(mesh, "10.9.0.1:80", &["Tcp 10.9.0.1:80 Passthrough by "]);
    check(
        mesh,
        "10.1.0.3:80",
        &["Tcp 10.9.0.1:8080 Destination by ns/default service node.ns"],
    );
    check(
        mesh,
        "10.1.0.4:80",
        &["Hbone db.example.com:15008 Destination for 192.0.2.1:8080 by ns/default service named.ns"],
    );
    check(mesh, "10.0.0.5:80", &["Tcp 10.0.0.5:80 Destination by ns/pod"]);
}

#[test]
fn which_service_of_an_address() {
    let mesh =
        |lines: &str| format!("workload client ip=10.0.0.1\nworkload a ip=10.0.0.2 of=a/x,b/x,ns/x,b/y\n{lines}");
    let via = |target| [format!("Tcp 10.0.0.2:{target} Destination by ns/default service x")];
    let check = |lines: &str, target: u16| {
        check(&mesh(lines), "10.1.0.1:80", &via(target).each_ref().map(String::as_str));
    };
    check(
        "service a/x vip=10.1.0.1 ports=80:1\nservice b/x vip=10.1.0.1 ports=80:2 canonical",
        2,
    );
    check(
        "service ns/x vip=10.1.0.1 ports=80:1\nservice b/x vip=10.1.0.1 ports=80:2 canonical",
        1,
    );
    check(
        "service b/x vip=10.1.0.1 ports=80:2\nservice a/x vip=10.1.0.1 ports=80:1",
        1,
    );
    check(
        "service a/x vip=10.1.0.1 ports=80:1 private\nservice b/x vip=10.1.0.1 ports=80:2",
        2,
    );
    check(
        "service ns/x vip=10.1.0.1 ports=80:1 private\nservice b/x vip=10.1.0.1 ports=80:2",
        1,
    );
    // Ranges: an exact address first, then the namespace, then the longest, then canonical.
    check(
        "service a/x range=10.1.0.0/16 ports=80:1\nservice b/x range=10.1.0.0/24 ports=80:2",
        2,
    );
    check(
        "service a/x range=10.1.0.0/24 ports=80:1\nservice b/x range=10.1.0.0/24 ports=80:2 canonical",
        2,
    );
    check(
        "service ns/x range=10.1.0.0/16 ports=80:1\nservice b/x range=10.1.0.0/24 ports=80:2 canonical",
        1,
    );
    check(
        "service ns/x range=10.1.0.0/16 ports=80:1\nservice b/x vip=10.1.0.1 ports=80:2",
        2,
    );
    check(
        "service ns/x vip=other|10.1.0.1 ports=80:1\nservice b/x vip=10.1.0.1 ports=80:2",
        2,
    );
}

#[test]
fn locality() {
    let endpoints = "
        workload client ip=10.0.0.1 node=n1 at=r1/z1/s1 net=local
        workload near ip=10.0.1.1 node=n1 at=r1/z1/s1 net=local of=ns/web
        workload zone ip=10.0.1.2 node=n2 at=r1/z1/s1 net=local of=ns/web
        workload region ip=10.0.1.3 node=n3 at=r1/z2/s1 net=local of=ns/web
        workload far ip=10.0.1.4 node=n4 at=r2/z1/s1 net=local of=ns/web
    ";
    let check = |balancing: &str, gone: &str, last: &[u8]| {
        let stays = |line: &&str| {
            !gone
                .split_whitespace()
                .any(|name| line.contains(&format!("workload {name} ")))
        };
        let kept: Vec<_> = endpoints.lines().filter(stays).collect();
        let mesh = format!(
            "{}\nservice ns/web vip=local|10.1.0.1 ports=80:80 {balancing}",
            kept.join("\n")
        );
        let lines: Vec<_> = last
            .iter()
            .map(|i| format!("Tcp 10.0.1.{i}:80 Destination by ns/default service web"))
            .collect();
        let settings = Settings {
            network: "local".into(),
            ..Settings::default()
        };
        check_on(
            &mesh,
            &settings,
            "10.1.0.1:80",
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    };
    check("", "", &[1, 2, 3, 4]);
    check("failover=network,region,zone", "", &[1, 2]);
    check("failover=network,region,zone,subzone,node", "", &[1]);
    check("failover=network,region,zone,subzone,node", "near", &[2]);
    check("failover=region,zone", "near zone", &[3]);
    check("failover=region,zone", "near zone region", &[4]);
    check("failover=zone,region", "near zone", &[4]);
    check("strict=region", "", &[1, 2, 3]);
    check("strict=node", "", &[1]);
}

#[test]
fn weights_decide_how_often() {
    let tables = mesh(
        "workload client ip=10.0.0.1
         workload one ip=10.0.0.2 of=ns/web
         workload three ip=10.0.0.3 of=ns/web capacity=3
         workload never ip=10.0.0.4 of=ns/web capacity=0
         service ns/web vip=10.1.0.1 ports=80:80",
    );
    let mut counts = [0; 5];
    for i in 0..8000 {
        let line = decide(&tables, &Settings::default(), "client", "10.1.0.1:80", i);
        let last: usize = line
            .split(':')
            .next()
            .unwrap()
            .rsplit('.')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        counts[last] += 1;
    }
    assert_eq!(counts[4], 0);
    assert!((1800..2200).contains(&counts[2]), "{counts:?}");
    assert_eq!(counts[2] + counts[3], 8000);
}

const WAYPOINTS: &str = "
    workload client ip=10.0.0.1
    workload a ip=10.0.0.2 hbone of=ns/web
    workload wp ip=10.0.0.8 hbone sa=wp of=ns/wp tunnel=proxy:15088
    workload wp2 ip=10.0.0.9 hbone sa=wp2 of=ns/wp2
    service ns/wp vip=10.1.0.8 ports=15008:15008 san=spiffe://cluster.local/ns/ns/sa/also
    service ns/wp2 vip=10.1.0.9 ports=15008:15009
";

#[test]
fn waypoints_of_services() {
    let with = |waypoint: &str| format!("{WAYPOINTS}\nservice ns/web vip=10.1.0.1 ports=80:8080 {waypoint}");
    let first = "Hbone 10.0.0.8:15008 ServiceWaypoint for 10.1.0.1:80 by ns/wp|ns/also service web";
    let second = "Hbone 10.0.0.9:15009 ServiceWaypoint for 10.1.0.1:80 by ns/wp2 service web";
    check(&with("waypoint=10.1.0.8:15008"), "10.1.0.1:80", &[first]);
    check(&with("waypoint=ns/wp:15008"), "10.1.0.1:80", &[first]);
    check(&with("waypoint=ns/wp2:15008"), "10.1.0.1:80", &[second]);
    check(
        &with("waypoint=ns/wp:15008 weighted=ns/wp:15008@50,ns/wp2:15008@50"),
        "10.1.0.1:80",
        &[first, second],
    );
    check(
        &with("waypoint=ns/wp:15008 weighted=ns/wp:15008@0,ns/wp2:15008@100"),
        "10.1.0.1:80",
        &[second],
    );
    check(
        &with("waypoint=ns/wp:15008 weighted=ns/wp2:15008@0"),
        "10.1.0.1:80",
        &[first],
    );
    // The port of the service need not exist: the waypoint decides.
    check(
        &with("waypoint=ns/wp:15008"),
        "10.1.0.1:99",
        &["Hbone 10.0.0.8:15008 ServiceWaypoint for 10.1.0.1:99 by ns/wp|ns/also service web"],
    );
    // Never around a waypoint that is not there.
    check(
        &with("waypoint=ns/none:15008"),
        "10.1.0.1:80",
        &["waypoint ns/none of ns/web is not available: no service or workload has this name"],
    );
    check(
        &with("waypoint=10.1.0.77:15008"),
        "10.1.0.1:80",
        &["waypoint /10.1.0.77 of ns/web is not available: no service or workload has this address"],
    );
    // Calls to the workload do not go through the service's.
    check(
        &with("waypoint=ns/wp:15008"),
        "10.0.0.2:80",
        &["Hbone 10.0.0.2:15008 Destination for 10.0.0.2:80 by ns/default"],
    );
}

#[test]
fn waypoints_of_workloads() {
    let mesh = format!(
        "{WAYPOINTS}
         workload b ip=10.0.0.3 sa=b waypoint=10.1.0.8:15008 of=ns/web
         workload c ip=10.0.0.4 sa=c waypoint=ns/none:15008
         service ns/web vip=10.1.0.1 ports=80:8080"
    );
    check(
        &mesh,
        "10.0.0.3:80",
        &["Hbone 10.0.0.8:15008 WorkloadWaypoint for 10.0.0.3:80 by ns/wp|ns/also"],
    );
    check(
        &mesh,
        "10.0.0.4:80",
        &["waypoint ns/none of c//Pod/ns/c is not available: no service or workload has this name"],
    );
    // Addressed by service it is not used.
    check(
        &mesh,
        "10.1.0.1:80",
        &[
            "Hbone 10.0.0.2:15008 Destination for 10.0.0.2:8080 by ns/default service web",
            "Tcp 10.0.0.3:8080 Destination by ns/b service web",
        ],
    );
    // The waypoint itself goes straight.
    let tables = crate::testing::mesh(&mesh);
    let source = tables.local("ns", "wp", "wp").unwrap();
    let call = Outbound {
        source,
        client: source.addresses[0],
        destination: "10.0.0.3:80".parse().unwrap(),
        random: 0,
    };
    assert_eq!(
        tables.outbound(&Settings::default(), &call).unwrap().hop,
        crate::Hop::Destination
    );
    let spoofed = Outbound {
        client: "10.0.0.99".parse().unwrap(),
        ..call
    };
    assert_eq!(
        tables.outbound(&Settings::default(), &spoofed).unwrap().hop,
        crate::Hop::WorkloadWaypoint
    );
}

#[test]
fn other_networks() {
    let mesh = "
        workload client ip=10.0.0.1 net=n1
        workload remote net=n2 hbone sa=remote of=ns/web gateway=n2|10.9.0.1:15008
        workload lost net=n2 hbone of=ns/lost gateway=n2|10.9.0.2:15008
        workload cut net=n2 ip=10.0.0.7 of=ns/cut
        workload gate uid=NetworkGateway/n2/10.9.0.1/15008 ip=10.9.0.1 net=n2 sa=gate
        workload bare net=n1 of=ns/bare gateway=n2|10.9.0.1:15008
        service ns/web vip=n1|10.1.0.1 ports=80:8080 san=spiffe://cluster.local/ns/ns/sa/x,nonsense
        service ns/lost vip=n1|10.1.0.2 ports=80:8080
        service ns/cut vip=n1|10.1.0.3 ports=80:8080
        service ns/bare vip=n1|10.1.0.4 ports=80:8080
        service ns/wp ports=15008:15008 san=spiffe://cluster.local/ns/ns/sa/wpx
        workload rwp net=n2 hbone of=ns/wp gateway=n2|10.9.0.1:15008
        service ns/way vip=n1|10.1.0.5 ports=80:8080 waypoint=ns/wp:15008
    ";
    let settings = Settings {
        network: "n1".into(),
        ..Settings::default()
    };
    let check = |destination: &str, expected: &str| check_on(mesh, &settings, destination, &[expected]);
    check(
        "10.1.0.1:80",
        "DoubleHbone 10.9.0.1:15008 Gateway for web:80 by ns/gate inside ns/x service web",
    );
    check(
        "10.1.0.5:80",
        "DoubleHbone 10.9.0.1:15008 Gateway for way:80 by ns/gate inside ns/wpx service way",
    );
    check(
        "10.1.0.2:80",
        "gateway n2/10.9.0.2 of network 'n2' is not available: no service or workload has this address",
    );
    check(
        "10.1.0.3:80",
        "workload c//Pod/ns/cut cannot be reached: it is on another network and has no gateway",
    );
    check(
        "10.1.0.4:80",
        "no endpoint of service ns/bare for port 80: none of its endpoints has an address, the port and a weight above 0",
    );
    check("10.0.0.7:80", "Tcp 10.0.0.7:80 Passthrough by ");
}
