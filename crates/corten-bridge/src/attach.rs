//! The five things the plugin does, in the node's namespace (where it runs) and the pod's.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use corten_linux::NetNs;
use corten_linux::net::{Link, LinkChange, LinkKind, NewLink, Route, Rtnl, has_ipv6, set_sysctl};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Error;
use super::addresses::{Addresses, of_number};
use super::config::{Attachment, Call};

/// ADD. What it did is undone when it fails.
pub(crate) fn add(call: &Call) -> Result<Value, Error> {
    let number = Addresses::open(&call.config)?.take(&owner(call))?;
    let mut addresses = of_number(&call.config, number);
    let result = connect(call, &mut addresses);
    if result.is_err() {
        // Best effort: the caller sends a DEL after a failed ADD anyway.
        delete(call).ok();
    }
    let (bridge, port, inside) = result?;
    Ok(document(call, &bridge, &port, &inside, &addresses))
}

fn owner(call: &Call) -> Attachment {
    Attachment {
        container: call.container.clone(),
        interface: call.interface.clone(),
    }
}

fn full(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// Makes the pair and gives the inner end addresses and routes. Takes IPv6 addresses away where the pod has no IPv6.
fn connect(call: &Call, addresses: &mut Vec<(IpAddr, IpAddr)>) -> Result<(Link, Link, Link), Error> {
    let io = |what: &str, error: std::io::Error| Error::Io(format!("cannot {what}: {error}"));
    let mut node = Rtnl::open().map_err(|error| io("open a netlink socket", error))?;
    let bridge = node.link(&call.config.bridge)?.ok_or_else(|| no_bridge(call))?;
    let netns = open_netns(call)?;
    let (mut pod, with_ipv6) = netns
        .run(|| Rtnl::open().map(|rtnl| (rtnl, prepare_ipv6())))
        .and_then(|inner| inner)
        .map_err(|error| io("enter the pod's network namespace", error))?;
    if !with_ipv6 {
        addresses.retain(|(address, _)| address.is_ipv4());
    }
    let port = call.port();
    // Left by an ADD that was interrupted.
    node.delete_link(&port)?;
    node.add_link(&NewLink {
        name: &port,
        kind: LinkKind::Veth {
            peer: &call.interface,
            change: LinkChange {
                netns: Some(netns.as_fd()),
                mtu: call.config.mtu,
                ..LinkChange::default()
            },
        },
        change: LinkChange {
            up: Some(true),
            master: Some(bridge.index),
            mtu: call.config.mtu,
            ..LinkChange::default()
        },
    })?;
    let missing = |name: &str| Error::Check(format!("interface {name} is not there just after it was made"));
    let outside = node.link(&port)?.ok_or_else(|| missing(&port))?;
    let inside = pod.link(&call.interface)?.ok_or_else(|| missing(&call.interface))?;
    for (address, _) in addresses.iter() {
        pod.add_address(inside.index, full(*address))?;
    }
    pod.set_link(
        inside.index,
        &LinkChange {
            up: Some(true),
            ..LinkChange::default()
        },
    )?;
    for (_, gateway) in addresses.iter() {
        pod.set_route(&Route::link(full(*gateway), inside.index))?;
        pod.set_route(&Route {
            link: Some(inside.index),
            ..Route::default_via(*gateway)
        })?;
    }
    Ok((bridge, outside, inside))
}

/// Settings that new interfaces of the namespace inherit; whether it has IPv6.
///
/// Redirects are not accepted, since the node sends them whenever a packet leaves by the bridge it came from (for IPv6 the kernel has
/// no setting against that), and a pod that followed one would go past the node. Best effort: where `/proc/sys` is read-only, pods of
/// one node may lose sight of services over IPv6, and everything else works.
fn prepare_ipv6() -> bool {
    for scope in ["all", "default"] {
        set_sysctl(&format!("net.ipv4.conf.{scope}.accept_redirects"), "0").ok();
    }
    if !has_ipv6() {
        return false;
    }
    for scope in ["all", "default"] {
        for (setting, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("accept_redirects", "0")] {
            set_sysctl(&format!("net.ipv6.conf.{scope}.{setting}"), value).ok();
        }
    }
    true
}

fn open_netns(call: &Call) -> Result<NetNs, Error> {
    let path = call.netns.as_deref().unwrap_or_else(|| Path::new(""));
    NetNs::open(path).map_err(|error| Error::Environment(format!("cannot open CNI_NETNS {}: {error}", path.display())))
}

fn no_bridge(call: &Call) -> Error {
    Error::Unavailable(format!("the node has no bridge {:?}", call.config.bridge))
}

fn document(call: &Call, bridge: &Link, port: &Link, inside: &Link, addresses: &[(IpAddr, IpAddr)]) -> Value {
    let mac = |link: &Link| {
        link.mac
            .map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"))
            .unwrap_or_default()
    };
    let ips = addresses.iter().map(|(address, gateway)| {
        let mut ip = json!({ "address": full(*address).to_string(), "gateway": gateway.to_string(), "interface": 2 });
        // Before 1.0.0 an address had to say its family.
        if call.version.starts_with("0.") {
            ip["version"] = if address.is_ipv4() { "4" } else { "6" }.into();
        }
        ip
    });
    let routes = addresses.iter().map(|(_, gateway)| {
        let everything = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        json!({ "dst": everything, "gw": gateway.to_string() })
    });
    json!({
        "cniVersion": call.version,
        "interfaces": [
            { "name": bridge.name, "mac": mac(bridge) },
            { "name": port.name, "mac": mac(port) },
            { "name": inside.name, "mac": mac(inside), "sandbox": call.netns },
        ],
        "ips": ips.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "dns": {},
    })
}

/// DEL. Succeeds when nothing is there.
pub(crate) fn delete(call: &Call) -> Result<(), Error> {
    let mut node = Rtnl::open().map_err(|error| Error::Io(format!("cannot open a netlink socket: {error}")))?;
    // The inner end goes with it; the kernel may have removed both with the pod's namespace already.
    node.delete_link(&call.port())?;
    let owner = owner(call);
    Addresses::open(&call.config)?.release(|has| *has == owner)
}

/// CHECK: the addresses that ADD answered are on the pod's interface, and its other end is on the bridge.
pub(crate) fn check(call: &Call) -> Result<(), Error> {
    let previous = call.config.previous.as_ref();
    let previous = previous.ok_or_else(|| Error::Decode("prevResult is missing, which CHECK needs".into()))?;
    let io = |error: std::io::Error| Error::Io(format!("cannot look at the interfaces: {error}"));
    let mut node = Rtnl::open().map_err(io)?;
    let bridge = node.link(&call.config.bridge)?.ok_or_else(|| no_bridge(call))?;
    let port = call.port();
    match node.link(&port)? {
        Some(link) if link.master == Some(bridge.index) => {}
        Some(_) => {
            return Err(Error::Check(format!(
                "interface {port} is not on bridge {}",
                bridge.name
            )));
        }
        None => return Err(Error::Check(format!("interface {port} is gone"))),
    }
    let mut pod = open_netns(call)?.run(Rtnl::open).and_then(|inner| inner).map_err(io)?;
    let inside = pod.link(&call.interface)?.filter(|link| link.up);
    let inside =
        inside.ok_or_else(|| Error::Check(format!("the pod has no interface {} that is up", call.interface)))?;
    let have = pod.addresses()?;
    // Other plugins of the chain may have added addresses of other interfaces; ours are those of our ranges.
    let in_ranges = |net: &IpNet| match net.addr() {
        IpAddr::V4(address) => call.config.range4.contains(&address),
        IpAddr::V6(address) => call.config.range6.is_some_and(|range| range.contains(&address)),
    };
    let wanted = previous["ips"].as_array().into_iter().flatten();
    let wanted = wanted
        .filter_map(|ip| ip["address"].as_str()?.parse::<IpNet>().ok())
        .filter(in_ranges);
    for net in wanted {
        if !have
            .iter()
            .any(|address| address.link == inside.index && address.net == net)
        {
            return Err(Error::Check(format!(
                "interface {} has lost its address {net}",
                call.interface
            )));
        }
    }
    Ok(())
}

/// GC: frees the addresses of attachments that are not named as valid.
pub(crate) fn collect(call: &Call) -> Result<(), Error> {
    Addresses::open(&call.config)?.release(|has| !call.config.valid.contains(has))
}

/// STATUS: whether the bridge is there and addresses can be recorded.
pub(crate) fn status(call: &Call) -> Result<(), Error> {
    let unavailable = |error: String| Error::Unavailable(error);
    let mut node = Rtnl::open().map_err(|error| unavailable(format!("cannot open a netlink socket: {error}")))?;
    node.link(&call.config.bridge)?.ok_or_else(|| no_bridge(call))?;
    Addresses::open(&call.config)
        .map(drop)
        .map_err(|error| unavailable(error.to_string()))
}
