//! Gateways: ports that nothing leads to, certificates, conflicts with other gateways.

mod conflicts;
mod secrets;

use std::collections::BTreeSet;

use corten_api::istio::gateway::{GatewaySpec, ServerTLSSettings};
use corten_api::kubernetes::core;

pub(super) use self::{conflicts::conflicts, secrets::secrets};
use crate::catalogue::{self, list};
use crate::objects::{Item, Labels, World};
use crate::report::Report;
use crate::selector;

/// Says that a gateway selects no pod.
fn no_pods(gateway: &Item<GatewaySpec>, report: &mut Report) {
    let wanted = selector::text(&gateway.spec.selector);
    let path = selector::path("spec.selector", &gateway.spec.selector);
    let parameters = [("reftype", "selector"), ("refval", &*wanted)];
    report.add(
        &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
        &gateway.object,
        &path,
        &parameters,
    );
}

pub(super) fn ports(world: &World, report: &mut Report) {
    for gateway in &world.gateways {
        let wanted = &gateway.spec.selector;
        let selected = |pod: &&Item<core::Pod>| selector::matches(wanted, &pod.object.labels);
        let mut pods = world.pods.iter().filter(selected).peekable();
        if pods.peek().is_none() {
            no_pods(gateway, report);
            continue;
        }
        let reached: BTreeSet<u32> = pods.flat_map(|pod| service_ports(pod, world)).collect();
        for server in &gateway.spec.servers {
            let Some(port) = server.port.as_ref().map(|port| u32::from(port.number.0)) else {
                continue;
            };
            if !reached.contains(&port) {
                let path = selector::path("spec.selector", wanted);
                let parameters = [("port", &*port.to_string()), ("selector", &*selector::text(wanted))];
                let kind = &catalogue::GATEWAY_PORT_NOT_DEFINED_ON_SERVICE;
                report.add(kind, &gateway.object, &path, &parameters);
            }
        }
    }
}

/// The TCP ports by which services lead to a pod, on either side: a gateway may be written with the port of the service or of the pod.
fn service_ports(pod: &Item<core::Pod>, world: &World) -> Vec<u32> {
    let nothing = Labels::new();
    let leads = |service: &&Item<core::Service>| {
        let wanted = service.spec.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.object.namespace() == pod.object.namespace()
            && selector::matches(wanted.unwrap_or(&nothing), &pod.object.labels)
    };
    let services = world.services.iter().filter(leads);
    let ports = services.flat_map(|service| service.spec.spec.iter().flat_map(|spec| spec.ports.iter().flatten()));
    let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.flat_map(|port| {
        let target = port
            .target_port
            .as_ref()
            .map(super::service::target)
            .unwrap_or_default();
        let target = target.parse::<u32>().ok().filter(|target| *target != 0);
        [u32::try_from(port.port).ok(), target]
    })
    .flatten()
    .collect()
}

pub(super) fn certificates(world: &World, report: &mut Report) {
    for gateway in &world.gateways {
        let wanted = &gateway.spec.selector;
        // Those whose pods this one has, too.
        let others = world.gateways.iter().filter(|other| {
            other.object.key() != gateway.object.key() && selector::matches(wanted, &other.spec.selector)
        });
        for other in others {
            let own = gateway.spec.servers.iter().filter_map(|server| server.tls.as_ref());
            let shared = own.into_iter().any(|own| {
                let theirs = other.spec.servers.iter().filter_map(|server| server.tls.as_ref());
                theirs.into_iter().any(|theirs| is_same_certificate(own, theirs))
            });
            if shared {
                let names = list([gateway.object.full_name(), other.object.full_name()]);
                let kind = &catalogue::GATEWAY_DUPLICATE_CERTIFICATE;
                report.add(kind, &gateway.object, "metadata.name", &[("gateways", &names)]);
            }
        }
    }
}

fn is_same_certificate(left: &ServerTLSSettings, right: &ServerTLSSettings) -> bool {
    let of_files = |tls: &ServerTLSSettings| !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    match (left.credential_name.as_str(), right.credential_name.as_str()) {
        ("", "") => {
            of_files(left)
                && left.server_certificate == right.server_certificate
                && left.private_key == right.private_key
        }
        (left, right) => left == right,
    }
}
