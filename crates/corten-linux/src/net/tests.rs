//! Against the kernel, in namespaces of the test's own.

use std::net::IpAddr;

use ipnet::IpNet;

use super::*;
use crate::NetNs;
use crate::testing::{Isolation, isolated};

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_veth_pair_joins_a_bridge_and_another_namespace() {
    isolate!();
    let other = NetNs::create().unwrap();
    let mut here = Rtnl::open().unwrap();
    here.add_link(&NewLink {
        name: "br0",
        kind: LinkKind::Bridge,
        change: LinkChange {
            up: Some(true),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..LinkChange::default()
        },
    })
    .unwrap();
    let bridge = here.link("br0").unwrap().expect("just made");
    assert_eq!(bridge.mac, Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    here.add_address(bridge.index, net("10.1.0.1/24")).unwrap();
    here.add_address(bridge.index, net("10.1.0.1/24"))
        .expect("again is no error");
    here.add_link(&NewLink {
        name: "port0",
        kind: LinkKind::Veth {
            peer: "eth0",
            change: LinkChange {
                netns: Some(std::os::fd::AsFd::as_fd(&other)),
                ..LinkChange::default()
            },
        },
        change: LinkChange {
            up: Some(true),
            master: Some(bridge.index),
            ..LinkChange::default()
        },
    })
    .unwrap();
    assert_eq!(here.link("port0").unwrap().unwrap().master, Some(bridge.index));

    let mut there = other.run(Rtnl::open).unwrap().unwrap();
    let eth0 = there.link("eth0").unwrap().expect("the other end is there");
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    there.set_link(eth0.index, &up).unwrap();
    let eth0 = there.link("eth0").unwrap().expect("it is still there");
    assert!(eth0.up);
    there.add_address(eth0.index, net("10.1.0.2/32")).unwrap();
    there.add_address(eth0.index, net("fd00::2/128")).unwrap();
    there.set_route(&Route::link(net("10.1.0.1/32"), eth0.index)).unwrap();
    there.set_route(&Route::default_via(ip("10.1.0.1"))).unwrap();
    let routes = there.routes().unwrap();
    assert!(
        routes.contains(&Route {
            link: Some(eth0.index),
            ..Route::default_via(ip("10.1.0.1"))
        }),
        "{routes:?}"
    );
    let addresses: Vec<_> = there
        .addresses()
        .unwrap()
        .into_iter()
        .map(|address| address.net)
        .collect();
    assert!(
        addresses.contains(&net("10.1.0.2/32")) && addresses.contains(&net("fd00::2/128")),
        "{addresses:?}"
    );

    let listener = std::net::TcpListener::bind("10.1.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    other
        .run(move || std::net::TcpStream::connect(address))
        .unwrap()
        .expect("packets flow");

    here.delete_link("port0").unwrap();
    here.delete_link("port0").expect("again is no error");
    assert_eq!(there.link("eth0").unwrap(), None);
}

#[test]
fn a_mark_chooses_a_table() {
    isolate!();
    let mut rtnl = Rtnl::open().unwrap();
    let lo = rtnl.link("lo").unwrap().unwrap().index;
    rtnl.set_link(
        lo,
        &LinkChange {
            up: Some(true),
            ..LinkChange::default()
        },
    )
    .unwrap();
    for v6 in [false, true] {
        let rule = PolicyRule {
            v6,
            priority: 32764,
            mark: 0x111,
            mask: 0xfff,
            table: 100,
        };
        rtnl.add_rule(&rule).unwrap();
        rtnl.add_rule(&rule).expect("again is no error");
        assert_eq!(rtnl.rules(v6).unwrap(), [rule]);
        let to = net(if v6 { "::/0" } else { "0.0.0.0/0" });
        let route = Route {
            table: Some(100),
            kind: RouteKind::Local,
            scope: RouteScope::Host,
            ..Route::link(to, lo)
        };
        rtnl.set_route(&route).unwrap();
        let routes = rtnl.routes().unwrap();
        let found = routes
            .iter()
            .find(|found| found.table == Some(100) && found.to == to)
            .expect("it is there");
        assert_eq!((found.kind, found.link), (RouteKind::Local, Some(lo)));
        rtnl.delete_route(&route).unwrap();
        rtnl.delete_rule(&rule).unwrap();
        rtnl.delete_rule(&rule).expect("again is no error");
        assert_eq!(rtnl.rules(v6).unwrap(), []);
    }
}

#[test]
fn settings_are_the_namespaces() {
    isolate!();
    set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    let other = NetNs::create().unwrap();
    other.run(|| set_sysctl("net.ipv4.ip_forward", "0")).unwrap().unwrap();
    assert_eq!(sysctl("net.ipv4.ip_forward").unwrap(), "1");
    assert_eq!(other.run(|| sysctl("net.ipv4.ip_forward")).unwrap().unwrap(), "0");
    let error = set_sysctl("net.ipv4.no_such", "1").unwrap_err().to_string();
    assert!(error.contains("/proc/sys/net/ipv4/no_such"), "{error}");
}

#[test]
fn errors_say_what_was_attempted() {
    isolate!();
    let mut rtnl = Rtnl::open().unwrap();
    let error = rtnl.set_route(&Route::default_via(ip("10.9.9.9"))).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot set route to 0.0.0.0/0 via 10.9.9.9: "),
        "{error}"
    );
    assert!(!error.is_exists());
}
