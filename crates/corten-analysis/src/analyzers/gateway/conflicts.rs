//! Gateways of the same pods that have the same port and hosts.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::istio::gateway::{GatewaySpec, Server};

use crate::catalogue;
use crate::objects::{Item, Labels, World};
use crate::report::Report;
use crate::selector;

/// By selector and port: the gateways, with the hosts of each and what they are bound to.
type Ports<'a> = BTreeMap<(&'a Labels, u32), BTreeMap<String, BTreeMap<&'a str, &'a str>>>;

fn port(server: &Server) -> u32 {
    server.port.as_ref().map_or(0, |port| port.number.0.into())
}

pub(crate) fn conflicts(world: &World, report: &mut Report) {
    let mut ports: Ports<'_> = BTreeMap::new();
    for gateway in &world.gateways {
        for server in &gateway.spec.servers {
            let hosts = server
                .hosts
                .iter()
                .map(|host| (host.as_str(), server.bind.as_str()))
                .collect();
            let place = ports.entry((&gateway.spec.selector, port(server))).or_default();
            // Of several servers with one port the last one counts.
            place.insert(gateway.object.full_name(), hosts);
        }
    }
    for gateway in &world.gateways {
        check(gateway, world, &ports, report);
    }
}

fn check(gateway: &Item<GatewaySpec>, world: &World, ports: &Ports<'_>, report: &mut Report) {
    let own = gateway.object.full_name();
    let wanted = &gateway.spec.selector;
    let related: BTreeSet<&Labels> = ports
        .keys()
        .map(|(other, _)| *other)
        .filter(|other| share_pods(wanted, other, world))
        .collect();
    for (index, server) in gateway.spec.servers.iter().enumerate() {
        let mut others: Vec<&str> = Vec::new();
        let same_port = ports
            .iter()
            .filter(|((other, number), _)| related.contains(other) && *number == port(server));
        for (name, hosts) in same_port.flat_map(|(_, gateways)| gateways) {
            let taken = |host: &String| hosts.get(host.as_str()) == Some(&server.bind.as_str());
            if *name != own && server.hosts.iter().any(taken) {
                others.push(name);
            }
        }
        if !others.is_empty() {
            others.sort_unstable();
            let parameters = [
                ("gateway", &*others.join(",")),
                ("selector", &*selector::text(wanted)),
                ("portnumber", &*port(server).to_string()),
                ("hosts", &*server.hosts.join(",")),
            ];
            let path = format!("spec.servers[{index}]");
            report.add_once(&catalogue::CONFLICTING_GATEWAYS, &gateway.object, &path, &parameters);
        }
    }
}

/// Whether two selectors are about the same pods: they are equal, or one says what the other says and more, and some pod fits both.
fn share_pods(left: &Labels, right: &Labels, world: &World) -> bool {
    if left == right {
        return true;
    }
    let (left_text, right_text) = (selector::text(left), selector::text(right));
    (left_text.contains(&right_text) || right_text.contains(&left_text))
        && world.pods.iter().any(|pod| {
            let labels = &pod.object.labels;
            selector::matches(left, labels) && selector::matches(right, labels)
        })
}
