//! By which names and addresses a service is called.

use std::net::IpAddr;

use corten_core::Host;
use corten_routing::Service;

use crate::Context;

/// The domains of a service's virtual host, and which of them are short for its names.
#[derive(Debug, Default)]
pub(super) struct Domains {
    pub(super) all: Vec<String>,
    pub(super) short: Vec<String>,
}

/// The domains of a service. With a port, each also with the port: proxies that are told the whole address need it.
pub(super) fn of_service(cx: &Context<'_>, service: &Service, port: Option<u16>) -> Domains {
    let mut domains = Domains::default();
    for host in std::iter::once(&service.host).chain(&service.aliases) {
        let short = short_names(host.as_str(), &cx.proxy.dns_domain);
        push(&mut domains.all, host.as_str(), port);
        for name in short {
            push(&mut domains.all, &name, port);
            push(&mut domains.short, &name, port);
        }
    }
    if service.is_kubernetes_headless() {
        let below: Vec<String> = domains.all.iter().map(|domain| format!("*.{domain}")).collect();
        domains.all.extend(below);
    }
    for net in service.addresses_for(cx.proxy.dns_capture) {
        if net.prefix_len() == net.max_prefix_len() && !net.addr().is_unspecified() {
            push(&mut domains.all, &net.addr().to_string(), port);
        }
    }
    domains
}

fn push(domains: &mut Vec<String>, name: &str, port: Option<u16>) {
    let name = bracketed(name);
    domains.extend(port.map(|port| format!("{name}:{port}")));
    let at = domains.len() - usize::from(port.is_some());
    domains.insert(at, name);
}

/// An address of IPv6 in brackets, anything else as it is.
pub(super) fn bracketed(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{name}]"),
        _ => name.to_owned(),
    }
}

/// A name and a port, as the names of virtual hosts have them.
pub(super) fn with_port(name: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(name))
}

/// By which other names a host is called from within a domain: with a dot at its end, and by what is left of it without what both
/// have in common.
fn short_names(host: &str, domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    if host.parse::<IpAddr>().is_err() {
        names.push(format!("{host}."));
    }
    if let Some((namespace, cluster)) = domain.split_once(".svc.") {
        names.extend(kubernetes_names(host, namespace, cluster).into_iter().flatten());
        return names;
    }
    let own: Vec<&str> = host.split('.').collect();
    let shared = own
        .iter()
        .rev()
        .zip(domain.rsplit('.'))
        .take_while(|(a, b)| *a == b)
        .count();
    let (unique, common) = own.split_at(own.len() - shared);
    if let Some(first) = common.first().filter(|_| !unique.is_empty()) {
        let name = unique.join(".");
        if unique.len() == 2 {
            names.extend([name.clone(), format!("{name}.{first}")]);
        } else {
            names.push(name);
        }
    }
    names
}

/// The short names of a service of the proxy's own cluster.
fn kubernetes_names(host: &str, namespace: &str, cluster: &str) -> Option<Vec<String>> {
    let (name, rest) = host.strip_suffix(cluster)?.strip_suffix(".svc.")?.split_once('.')?;
    let full = format!("{name}.{rest}");
    Some(if rest == namespace {
        vec![name.to_owned(), format!("{full}.svc"), full]
    } else {
        vec![full.clone(), format!("{full}.svc")]
    })
}

/// The names of a service that is no virtual host of its own but a name in a TLS greeting.
pub(super) fn of_alias(cx: &Context<'_>, alias: &Host) -> Vec<String> {
    let mut names = vec![alias.to_string()];
    names.extend(short_names(alias.as_str(), &cx.proxy.dns_domain));
    names
}
