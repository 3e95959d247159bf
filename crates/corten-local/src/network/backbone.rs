//! The links, addresses and routes of a cluster network, made over netlink.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use corten_linux::NetNs;
use corten_linux::net::{LinkChange, LinkKind, NetlinkError, NewLink, Route, Rtnl, set_sysctl};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{NetworkConfig, NetworkError, NodeNetwork};

/// The bridge that nodes and the runtime share, in the runtime's namespace.
pub(super) const BACKBONE: &str = "backbone";
/// A node's way to it.
const UPLINK: &str = "uplink";
/// A node's bridge for its pods.
pub(super) const PODS: &str = "pods0";

/// A fixed hardware address: a bridge that took its ports' lowest would change it as pods come and go, and pods would send to the old one.
const BACKBONE_MAC: [u8; 6] = [0x02, 0xc0, 0x47, 0, 0, 0x01];
const PODS_MAC: [u8; 6] = [0x02, 0xc0, 0x47, 0, 0, 0x02];

fn refused(error: NetlinkError) -> NetworkError {
    NetworkError::System {
        action: error.action.clone(),
        source: io::Error::other(error),
    }
}

fn failed(action: &str) -> impl FnOnce(io::Error) -> NetworkError {
    let action = action.to_owned();
    move |source| NetworkError::System { action, source }
}

fn up() -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        ..LinkChange::default()
    }
}

/// What both families need of a namespace that forwards packets.
fn settings(ipv6: bool) -> Result<(), NetworkError> {
    let hint = "set a kernel parameter (is /proc/sys writable here?)";
    set_sysctl("net.ipv4.ip_forward", "1").map_err(failed(hint))?;
    for setting in [
        "bridge-nf-call-iptables",
        "bridge-nf-call-ip6tables",
        "bridge-nf-call-arptables",
    ] {
        // Routing already calls the rules; with bridge netfilter a packet would meet them twice. Absent where the kernel has no such thing.
        set_sysctl(&format!("net.bridge.{setting}"), "0").ok();
    }
    for scope in ["all", "default"] {
        // Packets between pods of one node leave by the bridge they came from; telling the sender of a shorter way would be wrong.
        set_sysctl(&format!("net.ipv4.conf.{scope}.send_redirects"), "0").map_err(failed(hint))?;
        // Translated packets come from where a strict reverse path check does not expect them.
        set_sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0").map_err(failed(hint))?;
        if ipv6 {
            set_sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0").map_err(failed(hint))?;
            set_sysctl(&format!("net.ipv6.conf.{scope}.accept_ra"), "0").map_err(failed(hint))?;
            set_sysctl(&format!("net.ipv6.conf.{scope}.forwarding"), "1").map_err(failed(hint))?;
        }
    }
    Ok(())
}

fn bridge(rtnl: &mut Rtnl, name: &str, mac: [u8; 6], addresses: &[IpNet]) -> Result<u32, NetworkError> {
    let change = LinkChange { mac: Some(mac), ..up() };
    rtnl.add_link(&NewLink {
        name,
        kind: LinkKind::Bridge,
        change,
    })
    .map_err(refused)?;
    let index = index(rtnl, name)?;
    for address in addresses {
        rtnl.add_address(index, *address).map_err(refused)?;
    }
    Ok(index)
}

fn index(rtnl: &mut Rtnl, name: &str) -> Result<u32, NetworkError> {
    let link = rtnl.link(name).map_err(refused)?;
    Ok(link
        .ok_or_else(|| NetworkError::Config(format!("there is no interface {name}")))?
        .index)
}

/// The runtime's end: the backbone bridge, with the address of the cluster DNS on it, and the service ranges routed to it.
///
/// The services' rules translate a destination only after a route to it was found, so there must be one.
pub(super) fn runtime(config: &NetworkConfig, ipv6: bool) -> Result<Rtnl, NetworkError> {
    settings(ipv6)?;
    let mut rtnl = Rtnl::open().map_err(failed("open a netlink socket"))?;
    let loopback = index(&mut rtnl, "lo")?;
    rtnl.set_link(loopback, &up()).map_err(refused)?;
    let mut addresses = vec![
        v4(config.runtime_v4(), config.backbone_v4.prefix_len()),
        v4(config.dns_v4(), 32),
    ];
    if ipv6 {
        addresses.push(v6(config.runtime_v6(), config.backbone_v6.prefix_len()));
        addresses.push(v6(config.dns_v6(), 128));
    }
    let backbone = bridge(&mut rtnl, BACKBONE, BACKBONE_MAC, &addresses)?;
    let mut route = Route::link(config.services_v4.into(), backbone);
    route.source = Some(config.runtime_v4().into());
    rtnl.set_route(&route).map_err(refused)?;
    if ipv6 {
        let mut route = Route::link(config.services_v6.into(), backbone);
        route.source = Some(config.runtime_v6().into());
        rtnl.set_route(&route).map_err(refused)?;
    }
    Ok(rtnl)
}

/// One node: its uplink to the backbone, its bridge for pods, and the routes of the runtime to it.
pub(super) fn node(
    config: &NetworkConfig,
    runtime: &mut Rtnl,
    node: &NodeNetwork,
    ipv6: bool,
) -> Result<(), NetworkError> {
    let backbone = index(runtime, BACKBONE)?;
    let entered = || failed("enter a node's network namespace");
    // First: links take their settings when they are made. With duplicate address detection on, a link-local address could not be
    // used for a second, and without one the node asks for no neighbour on behalf of its pods.
    node.netns().run(|| settings(ipv6)).map_err(entered())??;
    runtime
        .add_link(&NewLink {
            name: node.name(),
            kind: LinkKind::Veth {
                peer: UPLINK,
                change: LinkChange {
                    netns: Some(node.netns().as_fd()),
                    ..LinkChange::default()
                },
            },
            change: LinkChange {
                master: Some(backbone),
                ..up()
            },
        })
        .map_err(refused)?;
    node.netns().run(|| inside(config, node, ipv6)).map_err(entered())??;
    for (range, via) in reach(node, ipv6) {
        runtime.set_route(&Route::via(range, via)).map_err(refused)?;
    }
    Ok(())
}

fn inside(config: &NetworkConfig, node: &NodeNetwork, ipv6: bool) -> Result<(), NetworkError> {
    let mut rtnl = Rtnl::open().map_err(failed("open a netlink socket"))?;
    let loopback = index(&mut rtnl, "lo")?;
    rtnl.set_link(loopback, &up()).map_err(refused)?;
    let uplink = index(&mut rtnl, UPLINK)?;
    let (address4, address6) = node.address_pair();
    let (pods4, pods6) = node.pod_ranges();
    rtnl.add_address(uplink, v4(address4, config.backbone_v4.prefix_len()))
        .map_err(refused)?;
    let mut gateways = vec![v4(super::config::nth_v4(pods4, 1), pods4.prefix_len())];
    if ipv6 {
        rtnl.add_address(uplink, v6(address6, config.backbone_v6.prefix_len()))
            .map_err(refused)?;
        gateways.push(v6(super::config::nth_v6(pods6, 1), pods6.prefix_len()));
    }
    rtnl.set_link(uplink, &up()).map_err(refused)?;
    bridge(&mut rtnl, PODS, PODS_MAC, &gateways)?;
    rtnl.set_route(&Route::default_via(config.runtime_v4().into()))
        .map_err(refused)?;
    if ipv6 {
        rtnl.set_route(&Route::default_via(config.runtime_v6().into()))
            .map_err(refused)?;
    }
    Ok(())
}

/// Tells every node the way to every other's pods.
pub(super) fn mesh(nodes: &[NodeNetwork], ipv6: bool) -> Result<(), NetworkError> {
    for from in nodes {
        let mut rtnl = in_namespace(from.netns())?;
        for to in nodes.iter().filter(|to| to.name() != from.name()) {
            for (range, via) in reach(to, ipv6) {
                rtnl.set_route(&Route::via(range, via)).map_err(refused)?;
            }
        }
    }
    Ok(())
}

pub(super) fn in_namespace(netns: &NetNs) -> Result<Rtnl, NetworkError> {
    let opened = netns.run(Rtnl::open).and_then(|inner| inner);
    opened.map_err(failed("open a netlink socket in a network namespace"))
}

/// Sets a pod's loopback up, which container runtimes do before they call the network's plugins.
pub(super) fn loopback(netns: &NetNs) -> Result<(), NetworkError> {
    let mut rtnl = in_namespace(netns)?;
    let index = index(&mut rtnl, "lo")?;
    rtnl.set_link(index, &up()).map_err(refused)
}

/// A node's pod ranges, and the address they are behind.
fn reach(node: &NodeNetwork, ipv6: bool) -> Vec<(IpNet, IpAddr)> {
    let ((address4, address6), (pods4, pods6)) = (node.address_pair(), node.pod_ranges());
    let mut all = vec![(IpNet::V4(pods4), IpAddr::V4(address4))];
    if ipv6 {
        all.push((IpNet::V6(pods6), IpAddr::V6(address6)));
    }
    all
}

fn v4(address: std::net::Ipv4Addr, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, prefix))
}

fn v6(address: std::net::Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}
