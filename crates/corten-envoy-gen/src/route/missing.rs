//! Where VirtualServices lead to nothing: hosts that are no service's, and subsets that no DestinationRule has.
//!
//! Requests are answered with 503 and connections closed, by the proxy of whoever calls. That is said only of what nobody can have: who
//! sees which service and which rule is not looked at.

use std::{cell::OnceCell, collections::HashSet};

use corten_api::{
    diagnostic::Diagnostic,
    istio::virtual_service::{Destination, VirtualServiceSpec},
};
use corten_core::Host;
use corten_routing::{About, Catalog, Semantics, full_host};

/// The destinations that are not there, by object and field.
pub fn missing(catalog: &Catalog) -> Vec<Diagnostic> {
    let subsets = Subsets::of(catalog);
    // Proxies find hosts however they are written.
    let lower = |host: &Host| host.as_str().to_ascii_lowercase();
    let known: OnceCell<HashSet<String>> = OnceCell::new();
    let known = || known.get_or_init(|| catalog.services.iter().map(|service| lower(&service.host)).collect());
    let mut said = Vec::new();
    // What was made of other kinds says it in the status of those.
    let all = catalog.configs.virtual_services.values();
    for config in all.filter(|config| Semantics::of(&config.annotations) == Semantics::Istio) {
        let about = About::networking("VirtualService", &config.namespace, &config.name);
        for (path, destination, outcome) in destinations(&config.spec) {
            let host = full_host(&destination.host, &config.namespace, &catalog.settings.domain);
            if host.as_str().is_empty() {
                // That is an error of the object, which its validation says.
                continue;
            }
            let services = catalog.services.of_host(&host);
            // Rules for what a name stands for are found by that one's host.
            let is_alias = services.iter().any(|service| service.alias_of.is_some());
            if services.is_empty() && !known().contains(&lower(&host)) {
                let message = format!("no service has the host {host}: {outcome}");
                said.push(about.missing(format!("{path}.host"), message));
            } else if !services.is_empty()
                && !is_alias
                && !destination.subset.is_empty()
                && !subsets.have(&host, &destination.subset)
            {
                let subset = &destination.subset;
                let message = format!("no DestinationRule for {host} has a subset {subset}: {outcome}");
                said.push(about.missing(format!("{path}.subset"), message));
            }
        }
    }
    said.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    said
}

/// The destinations of routes and of copies of their traffic, with their places and what becomes of what goes there in vain.
fn destinations(spec: &VirtualServiceSpec) -> Vec<(String, &Destination, &'static str)> {
    let (answered, closed) = ("requests are answered with 503", "connections are closed");
    let copied = "no copies are sent";
    let mut found = Vec::new();
    for (i, route) in spec.http.iter().enumerate() {
        // Who is answered here is led nowhere.
        let leads = route.redirect.is_none() && route.direct_response.is_none();
        for (j, to) in route.route.iter().enumerate().filter(|_| leads) {
            let path = format!("spec.http[{i}].route[{j}].destination");
            found.extend(to.destination.as_ref().map(|to| (path, to, answered)));
        }
        let mirror = route.mirror.as_ref().filter(|_| leads);
        found.extend(mirror.map(|to| (format!("spec.http[{i}].mirror"), to, copied)));
        for (j, mirror) in route.mirrors.iter().enumerate().filter(|_| leads) {
            let path = format!("spec.http[{i}].mirrors[{j}].destination");
            found.extend(mirror.destination.as_ref().map(|to| (path, to, copied)));
        }
    }
    let tcp = spec.tcp.iter().map(|route| &route.route).enumerate();
    let tls = spec.tls.iter().map(|route| &route.route).enumerate();
    let of_connections = tcp.map(|of| ("tcp", of)).chain(tls.map(|of| ("tls", of)));
    for (kind, (i, route)) in of_connections {
        for (j, to) in route.iter().enumerate() {
            let path = format!("spec.{kind}[{i}].route[{j}].destination");
            found.extend(to.destination.as_ref().map(|to| (path, to, closed)));
        }
    }
    found
}

/// The subsets that there are, by the hosts of their rules.
struct Subsets<'a> {
    exact: HashSet<(&'a Host, &'a str)>,
    wildcards: Vec<(&'a Host, &'a str)>,
}

impl<'a> Subsets<'a> {
    fn of(catalog: &'a Catalog) -> Subsets<'a> {
        let mut found = Subsets {
            exact: HashSet::new(),
            wildcards: Vec::new(),
        };
        for rule in catalog.destination_rules.iter() {
            for subset in &rule.spec.subsets {
                let one = (&rule.spec.host, subset.name.as_str());
                if rule.spec.host.is_wildcard() {
                    found.wildcards.push(one);
                }
                found.exact.insert(one);
            }
        }
        found
    }

    fn have(&self, host: &Host, subset: &str) -> bool {
        let covers = |(of, name): &(&Host, &str)| *name == subset && host.is_subset_of(of);
        self.exact.contains(&(host, subset)) || self.wildcards.iter().any(covers)
    }
}
