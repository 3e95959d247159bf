//! ServiceEntries.

use std::net::IpAddr;

use corten_api::{
    diagnostic::Diagnostic,
    istio::service_entry::{ServiceEntryResolution as Resolution, ServiceEntrySpec},
};
use corten_core::Protocol;
use corten_model::input;
use corten_routing::{About, Catalog};

pub(super) fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for entry in catalog.configs.service_entries.values() {
        let about = About::networking("ServiceEntry", &entry.meta.namespace, &entry.meta.name);
        let mut say = |path: String, message: &str| said.push(about.no_effect(path, message));
        ports(&entry.spec, &mut say);
        endpoints(entry, &mut say);
        let hosts = entry.spec.hosts.iter().enumerate();
        for (index, host) in hosts {
            let held = catalog.services.get(host, &entry.meta.namespace);
            let other = held.filter(|held| held.source.name != entry.meta.name && !shares(catalog, held, entry));
            if let Some(other) = other {
                let message = format!("takes no effect: {} for the same host comes first", other.source);
                said.push(about.conflict(format!("spec.hosts[{index}]"), message));
            }
        }
    }
    said
}

/// Whether an entry adds to a service that another one made.
fn shares(catalog: &Catalog, held: &corten_routing::Service, entry: &input::ServiceEntry) -> bool {
    let key = (held.source.namespace.clone(), held.source.name.clone());
    let Some(first) = catalog
        .configs
        .service_entries
        .get(&key)
        .filter(|_| held.registry == corten_routing::Registry::External)
    else {
        return false;
    };
    let selector = |entry: &input::ServiceEntry| entry.spec.workload_selector.clone();
    first.spec.resolution == entry.spec.resolution
        && first.meta.labels == entry.meta.labels
        && selector(first) == selector(entry)
        && first.spec.export_to == entry.spec.export_to
}

fn ports(spec: &ServiceEntrySpec, say: &mut impl FnMut(String, &str)) {
    for (index, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{index}].protocol");
        let protocol = Protocol::parse(&port.protocol);
        let looked_up = matches!(
            protocol,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls
        );
        if protocol == Protocol::Udp {
            say(path, "proxies leave UDP alone");
        } else if spec.resolution == Resolution::DynamicDns && !looked_up {
            say(
                path,
                "hosts are looked up by the name that a client asks for, which only HTTP, HTTP2, GRPC and TLS say",
            );
        }
    }
    let plain = spec.hosts.iter().enumerate().filter(|(_, host)| !host.is_wildcard());
    if spec.resolution == Resolution::DynamicDns {
        for (index, _) in plain {
            say(
                format!("spec.hosts[{index}]"),
                "DYNAMIC_DNS is for wildcards: use DNS for a host that is known",
            );
        }
    }
}

fn endpoints(entry: &input::ServiceEntry, say: &mut impl FnMut(String, &str)) {
    let spec = &entry.spec;
    let listed = spec.endpoints.as_deref().unwrap_or_default();
    let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    for (index, endpoint) in listed.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        let socket = endpoint.address.starts_with("unix://");
        let address = endpoint.address.parse::<IpAddr>().is_ok();
        match spec.resolution {
            Resolution::None => say(path, "NONE goes to the address that was called"),
            Resolution::DynamicDns => say(path, "DYNAMIC_DNS looks up the host that a client asks for"),
            Resolution::DnsRoundRobin if index > 0 => say(path, "DNS_ROUND_ROBIN has one endpoint: use DNS"),
            Resolution::Static if !socket && !address && !endpoint.address.is_empty() => {
                say(format!("{path}.address"), "STATIC takes addresses: use DNS for names");
            }
            Resolution::Dns | Resolution::DnsRoundRobin if socket => {
                say(format!("{path}.address"), "DNS looks up names: use STATIC for sockets");
            }
            Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => {}
        }
    }
    if by_name && listed.is_empty() && spec.workload_selector.is_none() {
        for (index, _) in spec.hosts.iter().enumerate().filter(|(_, host)| host.is_wildcard()) {
            say(
                format!("spec.hosts[{index}]"),
                "a wildcard cannot be looked up: list endpoints, or use DYNAMIC_DNS",
            );
        }
    }
    if entry.races_connections && (spec.resolution != Resolution::Dns || listed.len() > 1) {
        let message = "connections race between the addresses of one name: resolution must be DNS, with one endpoint";
        say("metadata.annotations[istio.io/connect-strategy]".to_owned(), message);
    }
}
