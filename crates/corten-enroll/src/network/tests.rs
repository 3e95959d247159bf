//! Real connections through real rules: joining, staying, leaving, with connections held open across each step.

mod proxy;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corten_linux::net::{LinkChange, LinkKind, NewLink, Route, Rtnl};
use corten_linux::nft::{Operation, Transaction};
use corten_linux::testing::{Isolation, isolated};

use self::proxy::{Held, echo, proxy};
use super::*;
use crate::constants::{PROBE_SOURCE_V4, PROBE_SOURCE_V6};
use crate::{HostNetwork, HostRules};

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

fn up() -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        ..LinkChange::default()
    }
}

/// The node is the test's own namespace; the pod hangs on it by a cable.
struct Setup {
    node: Arc<NetNs>,
    pod: Arc<NetNs>,
    v6: bool,
}

impl Setup {
    fn new(v6: bool) -> Setup {
        let node = Arc::new(NetNs::current().unwrap());
        let pod = Arc::new(NetNs::create().unwrap());
        let mut here = Rtnl::open().unwrap();
        let cable = NewLink {
            name: "pod0",
            kind: LinkKind::Veth {
                peer: "eth0",
                change: LinkChange {
                    netns: Some(pod.as_fd()),
                    ..LinkChange::default()
                },
            },
            change: up(),
        };
        here.add_link(&cable).unwrap();
        let mut there = pod.run(Rtnl::open).unwrap().unwrap();
        let setup = Setup { node, pod, v6 };
        for (rtnl, link, host) in [(&mut here, "pod0", 1), (&mut there, "eth0", 2)] {
            for link in ["lo", link] {
                let link = rtnl.link(link).unwrap().unwrap().index;
                rtnl.set_link(link, &up()).unwrap();
            }
            let link = rtnl.link(link).unwrap().unwrap().index;
            let prefix = if v6 { 64 } else { 24 };
            let net = ipnet::IpNet::new(setup.address(host, 0).ip(), prefix).unwrap();
            rtnl.add_address(link, net).unwrap();
        }
        // What answers a probe answers an address beyond the cable.
        there.set_route(&Route::default_via(setup.address(1, 0).ip())).unwrap();
        setup
    }

    fn address(&self, host: u8, port: u16) -> SocketAddr {
        let ip = if self.v6 {
            format!("fd00::{host}").parse()
        } else {
            format!("10.9.0.{host}").parse()
        };
        SocketAddr::new(ip.unwrap(), port)
    }

    fn network(&self) -> PodNetwork {
        PodNetwork::open(self.pod.clone(), Backend::probe().unwrap()).unwrap()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Joins and leaves with connections open in both directions, some older than the membership and some of its time.
fn joining_and_leaving(v6: bool) {
    let setup = Setup::new(v6);
    let (node, pod) = (setup.address(1, 9090), setup.address(2, 8080));
    echo(&setup.node, node);
    echo(&setup.pod, pod);
    let before = || [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    let mut old = before();
    let mut network = setup.network();
    let rules = PodRules::default();
    assert_eq!(network.state(&rules).unwrap(), State::Absent);

    let taken = proxy(&setup.pod);
    network.enroll(&rules).unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Enrolled);
    old.iter_mut().for_each(Held::used);
    assert_eq!(taken.counts(), (0, 0), "what was open before is nobody's business");

    let mut new = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    assert_eq!(taken.counts(), (1, 1), "what opens now goes through the proxy");
    assert_eq!(new[0].caller, node.ip(), "the pod sees who called, not the proxy");
    new.iter_mut().for_each(Held::used);
    assert_eq!(network.proxied_connections().unwrap(), 2);
    // A pod that calls itself does so directly.
    let own = Held::open(&setup.pod, pod);
    assert_eq!((own.caller, taken.counts()), (pod.ip(), (1, 1)));

    network.leave().unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Leaving);
    let mut direct = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    assert_eq!(taken.counts(), (1, 1), "nothing new goes through the proxy");
    for held in old.iter_mut().chain(&mut new).chain(&mut direct) {
        held.used();
    }
    assert_eq!(network.proxied_connections().unwrap(), 2);

    // Back again before the last has ended.
    network.enroll(&rules).unwrap();
    let again = Held::open(&setup.pod, node);
    assert_eq!(taken.counts(), (2, 1));
    for held in old.iter_mut().chain(&mut new).chain(&mut direct) {
        held.used();
    }
    drop(again);
    network.leave().unwrap();

    drop(new);
    eventually("the proxy is done when the last connection through it is", || {
        network.proxied_connections().unwrap() == 0
    });
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What goes on while the rules go is not remembered either.
        scope.spawn(|| {
            while !gone.load(Ordering::Relaxed) {
                direct.iter_mut().for_each(Held::used);
            }
        });
        let removed = network.remove();
        gone.store(true, Ordering::Relaxed);
        removed.unwrap();
    });
    assert_eq!(network.state(&rules).unwrap(), State::Absent);
    let tracked = setup.pod.run(|| Conntrack::open().unwrap().list().unwrap()).unwrap();
    assert_eq!(
        tracked,
        [],
        "on the pod's return nothing is taken for a connection of before"
    );
    old.iter_mut().chain(&mut direct).for_each(Held::used);
    before().iter_mut().for_each(Held::used);
    network.remove().expect("again is no error");
}

#[test]
fn joining_and_leaving_break_no_connection() {
    isolate!();
    joining_and_leaving(false);
}

#[test]
fn joining_and_leaving_break_no_connection_over_ipv6() {
    isolate!();
    if !has_ipv6() {
        corten_rt::skip!("this kernel has no IPv6");
    }
    joining_and_leaving(true);
}

#[test]
fn what_others_change_is_noticed_and_put_right() {
    isolate!();
    let setup = Setup::new(false);
    let (node, pod) = (setup.address(1, 9090), setup.address(2, 8080));
    echo(&setup.node, node);
    echo(&setup.pod, pod);
    let taken = proxy(&setup.pod);
    let mut network = setup.network();
    let rules = PodRules {
        dns_capture: false,
        ..PodRules::default()
    };
    network.enroll(&rules).unwrap();
    let mut held = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    assert!(network.is_undisturbed().unwrap());

    let mut other = setup.pod.run(Nft::open).unwrap().unwrap();
    let mut damage = |transaction: &Transaction, expect: State| {
        other.apply(transaction).unwrap();
        assert!(!network.is_undisturbed().unwrap());
        assert_eq!(network.state(&rules).unwrap(), expect);
        network.enroll(&rules).unwrap();
        assert_eq!(network.state(&rules).unwrap(), State::Enrolled);
        assert!(network.is_undisturbed().unwrap());
        held.iter_mut().for_each(Held::used);
    };
    let mut flush = Transaction::new(Family::Inet, TABLE_NAT);
    flush.push(Operation::FlushChain("istio-output".into()));
    damage(&flush, State::Drifted);
    // Rules of others, beside ours, change nothing for us.
    damage(&Transaction::remove(Family::Inet, "another"), State::Enrolled);
    for name in [TABLE_MANGLE, TABLE_NAT] {
        damage(&Transaction::remove(Family::Inet, name), State::Drifted);
    }
    assert_eq!(taken.counts(), (1, 1));
    let (mut rtnl, lo) = (setup.pod.run(Rtnl::open).unwrap().unwrap(), 1);
    let local = Route {
        table: Some(crate::constants::ROUTE_TABLE),
        kind: corten_linux::net::RouteKind::Local,
        scope: corten_linux::net::RouteScope::Host,
        ..Route::link("0.0.0.0/0".parse().unwrap(), lo)
    };
    rtnl.delete_route(&local).unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Drifted, "routes count, too");
    network.enroll(&rules).unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Enrolled);
}

/// Rules that only changed are changed; connections do not notice.
#[test]
fn another_rule_set_replaces_the_first() {
    isolate!();
    let setup = Setup::new(false);
    let (node, pod) = (setup.address(1, 9090), setup.address(2, 8080));
    echo(&setup.node, node);
    echo(&setup.pod, pod);
    let taken = proxy(&setup.pod);
    let mut network = setup.network();
    network.enroll(&PodRules::default()).unwrap();
    let mut held = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    let bypass = PodRules {
        inbound_bypass: true,
        dns_capture: false,
        ..PodRules::default()
    };
    network.enroll(&bypass).unwrap();
    assert_eq!(network.state(&bypass).unwrap(), State::Enrolled);
    assert_eq!(network.state(&PodRules::default()).unwrap(), State::Drifted);
    held.iter_mut().for_each(Held::used);
    let direct = Held::open(&setup.node, pod);
    assert_eq!(
        (direct.caller, taken.counts()),
        (node.ip(), (1, 1)),
        "what comes in goes past the proxy"
    );
}

fn probes(v6: bool) {
    let setup = Setup::new(v6);
    let pod = setup.address(2, 8080);
    echo(&setup.pod, pod);
    let taken = proxy(&setup.pod);
    setup.network().enroll(&PodRules::default()).unwrap();
    let mut host = HostNetwork::open(&setup.node, HostRules::default(), Backend::Nftables).unwrap();
    host.add("uid-1", [pod.ip()]).unwrap();
    assert!(!host.repair().unwrap(), "there is nothing to repair");
    let source = if v6 { PROBE_SOURCE_V6 } else { PROBE_SOURCE_V4 };
    let mut probe = Held::open(&setup.node, pod);
    assert_eq!(
        (probe.caller, taken.counts()),
        (source, (0, 0)),
        "the node's own calls go past the proxy"
    );
    probe.used();

    // Another pod comes to have the address before the first is known to be gone.
    host.add("uid-2", [pod.ip(), setup.address(77, 0).ip()]).unwrap();
    host.remove("uid-1").unwrap();
    assert_eq!(Held::open(&setup.node, pod).caller, source);
    Nft::open()
        .unwrap()
        .apply(&Transaction::remove(Family::Inet, TABLE_NAT))
        .unwrap();
    assert!(host.repair().unwrap());
    assert_eq!(Held::open(&setup.node, pod).caller, source);
    probe.used();
    host.remove("uid-2").unwrap();
    assert_ne!(Held::open(&setup.node, pod).caller, source);
    assert_eq!(taken.counts(), (0, 1));
    host.close().unwrap();
}

#[test]
fn probes_of_the_node_go_past_the_proxy() {
    isolate!();
    probes(false);
}

#[test]
fn probes_of_the_node_go_past_the_proxy_over_ipv6() {
    isolate!();
    if !has_ipv6() {
        corten_rt::skip!("this kernel has no IPv6");
    }
    probes(true);
}

/// The node's namespace and the pod's both by iptables.
#[test]
fn probes_of_the_node_go_past_the_proxy_by_iptables() {
    isolate!();
    let setup = Setup::new(false);
    let rules = HostRules {
        ipv6: false,
        ..HostRules::default()
    };
    let pod = setup.address(2, 8080);
    let mut host = HostNetwork::open(&setup.node, rules, Backend::Iptables).unwrap();
    if let Err(error) = host.add("uid-1", [pod.ip()]) {
        corten_rt::skip!("iptables does not work here: {error}");
    }
    echo(&setup.pod, pod);
    let taken = proxy(&setup.pod);
    let pod_rules = PodRules {
        ipv6: false,
        ..PodRules::default()
    };
    let mut network = PodNetwork::open(setup.pod.clone(), Backend::Iptables).unwrap();
    network.enroll(&pod_rules).unwrap();
    assert!(!host.repair().unwrap(), "there is nothing to repair");
    let mut probe = Held::open(&setup.node, pod);
    assert_eq!((probe.caller, taken.counts()), (PROBE_SOURCE_V4, (0, 0)));
    host.add("uid-2", [pod.ip(), setup.address(77, 0).ip()]).unwrap();
    host.remove("uid-1").unwrap();
    assert_eq!(Held::open(&setup.node, pod).caller, PROBE_SOURCE_V4);
    let lost = backend::command(false, "nat", "-D POSTROUTING -j ISTIO_POSTRT");
    assert!(lost.unwrap());
    assert!(host.repair().unwrap(), "somebody took the jump away");
    assert_eq!(Held::open(&setup.node, pod).caller, PROBE_SOURCE_V4);
    probe.used();
    host.close().unwrap();
    assert_ne!(Held::open(&setup.node, pod).caller, PROBE_SOURCE_V4);
    let chain = backend::command(false, "nat", "-L ISTIO_POSTRT");
    assert!(!chain.unwrap(), "nothing is left");
}

#[test]
fn iptables_take_the_same_rules() {
    isolate!();
    let setup = Setup::new(false);
    let input = iptables::restore(&iptables::pod(&PodRules::default(), false));
    if let Err(error) = setup.pod.run(|| backend::restore(false, &input)).unwrap() {
        corten_rt::skip!("iptables does not work here: {error}");
    }
    setup.pod.run(|| backend::command(false, "nat", "-F")).unwrap().unwrap();
    let (node, pod) = (setup.address(1, 9090), setup.address(2, 8080));
    echo(&setup.node, node);
    echo(&setup.pod, pod);
    let mut old = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    let taken = proxy(&setup.pod);
    let mut network = PodNetwork::open(setup.pod.clone(), Backend::Iptables).unwrap();
    let rules = PodRules {
        ipv6: false,
        ..PodRules::default()
    };
    network.enroll(&rules).unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Enrolled);
    let mut new = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    assert_eq!((new[0].caller, taken.counts()), (node.ip(), (1, 1)));
    network.leave().unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Leaving);
    let mut direct = [Held::open(&setup.node, pod), Held::open(&setup.pod, node)];
    assert_eq!(taken.counts(), (1, 1));
    for held in old.iter_mut().chain(&mut new).chain(&mut direct) {
        held.used();
    }
    network.remove().unwrap();
    assert_eq!(network.state(&rules).unwrap(), State::Absent);
}
