//! VirtualService.

use corten_core::{Host, Labels, is_dns_label};

use super::{
    Context, Report, Validate,
    destination_rule::subset_name,
    http_route::{self, Within},
    overlap,
    selector::{ExportTo, export_to},
    text::{self, shown},
};
use crate::istio::virtual_service::{
    Destination, L4MatchAttributes, RouteDestination, TCPRoute, TLSMatchAttributes, TLSRoute, VirtualServiceSpec,
};

/// The name that stands for all sidecars in a list of gateways.
const MESH: &str = "mesh";

impl Validate for VirtualServiceSpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        let within = Within {
            delegate: self.hosts.is_empty(),
            converted: context.annotated("internal.istio.io/route-semantics", "gateway"),
        };
        if within.delegate {
            let given = [
                ("gateways", self.gateways.is_empty()),
                ("tls", self.tls.is_empty()),
                ("tcp", self.tcp.is_empty()),
            ];
            for (field, _) in given.iter().filter(|(_, empty)| !empty) {
                report.error(
                    format!("spec.{field}"),
                    "a VirtualService without hosts is a delegate, which has only http",
                );
            }
        }
        gateway_names("spec.gateways", &self.gateways, within.converted, report, true);
        let at_gateway = self.is_for_gateways();
        if self.gateways.is_empty() || !at_gateway {
            self.no_claims_in_mesh(report);
        }
        self.validate_hosts(!self.gateways.is_empty() && at_gateway, report);
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            report.error("spec", "needs http, tls or tcp routes");
        }
        for (i, route) in self.http.iter().enumerate() {
            http_route::http_route(&format!("spec.http[{i}]"), route, within, report);
        }
        for (i, route) in self.tls.iter().enumerate() {
            tls_route(&format!("spec.tls[{i}]"), route, self, within, report);
        }
        for (i, route) in self.tcp.iter().enumerate() {
            tcp_route(&format!("spec.tcp[{i}]"), route, within, report);
        }
        let of = ExportTo {
            namespace: context.namespace(),
            ..ExportTo::default()
        };
        export_to(&self.export_to, of, report);
        overlap::routes(self, report);
    }
}

impl VirtualServiceSpec {
    fn is_for_gateways(&self) -> bool {
        !self.gateways.iter().any(|name| name == MESH)
    }

    /// Sidecars see no claims of tokens when they choose a route.
    fn no_claims_in_mesh(&self, report: &mut Report) {
        for (i, route) in self.http.iter().enumerate() {
            for (j, request) in route.match_.iter().enumerate() {
                for (field, name) in http_route::matched_headers(request).filter(|(_, name)| text::is_claim(name)) {
                    let at = format!("spec.http[{i}].match[{j}].{field}[{name}]");
                    report.error(
                        at,
                        "only gateways can route by claims of tokens; name gateways, without 'mesh'",
                    );
                }
            }
        }
    }

    fn validate_hosts(&self, at_gateway: bool, report: &mut Report) {
        let sni = self
            .tls
            .iter()
            .flat_map(|route| &route.match_)
            .any(|m| !m.sni_hosts.is_empty());
        let mut good = true;
        for (i, host) in self.hosts.iter().enumerate() {
            let at = format!("spec.hosts[{i}]");
            let checked = if at_gateway {
                text::gateway_domain(host.as_str(), sni)
            } else {
                text::wildcard_domain(host.as_str())
            };
            match checked {
                Err(_) if text::is_ip_address(host.as_str()) => {}
                Err(problem) => {
                    report.error(at, problem);
                    good = false;
                }
                Ok(()) if !at_gateway && host.as_str() == "*" => {
                    report.error(at, "'*' is only for gateways; name the hosts");
                    good = false;
                }
                Ok(()) => {}
            }
        }
        if !good {
            return;
        }
        for (i, host) in self.hosts.iter().enumerate() {
            if let Some(other) = self.hosts.iter().take(i).find(|other| other.matches(host)) {
                report.error(
                    format!("spec.hosts[{i}]"),
                    format!("overlaps with {}", shown(other.as_str())),
                );
            }
        }
    }
}

/// Names of gateways: `namespace/name`, `name`, or the old `name.namespace`.
///
/// As Istio, this looks no further than the first name without a namespace.
pub(super) fn gateway_names(at: &str, names: &[String], converted: bool, report: &mut Report, warnings: bool) {
    for (i, name) in names.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let Some((namespace, gateway)) = name.split_once('/') else {
            if let (true, Some((gateway, namespace))) = (warnings, name.split_once('.')) {
                let namespace = namespace.split('.').next().unwrap_or_default();
                report.warning(&at, format!("an old way to write it; use '{namespace}/{gateway}'"));
            }
            report.check(&at, text::fqdn(name));
            return;
        };
        if namespace.is_empty() || gateway.is_empty() {
            report.error(&at, format!("{} needs both a namespace and a name", shown(name)));
        }
        report.check(&at, text::label(namespace, "namespace"));
        if !is_dns_label(gateway) && !converted {
            report.check(&at, text::label(gateway, "the name of a gateway,"));
        }
    }
}

/// Where requests go.
pub(super) fn destination(at: &str, destination: &Destination, report: &mut Report) {
    if destination.host.as_str() == "*" {
        report.error(format!("{at}.host"), "'*' is not a destination; name a host");
    } else {
        report.check(format!("{at}.host"), text::wildcard_domain(destination.host.as_str()));
    }
    if !destination.subset.is_empty() {
        report.check(format!("{at}.subset"), subset_name(&destination.subset));
    }
    if let Some(port) = &destination.port {
        report.check(format!("{at}.port.number"), text::port(port.number.0));
    }
}

/// Weights may not be negative, and of several destinations one must have some.
pub(super) fn total_weight(at: &str, weights: impl ExactSizeIterator<Item = i32>, report: &mut Report) {
    let count = weights.len();
    let mut total = 0i32;
    for (i, weight) in weights.enumerate() {
        if weight < 0 {
            report.error(format!("{at}.route[{i}].weight"), "must not be negative");
        }
        total = total.wrapping_add(weight);
    }
    if count > 1 && total == 0 {
        report.error(
            format!("{at}.route"),
            "the weights add up to 0; give at least one destination a weight",
        );
    }
}

fn destinations(at: &str, routes: &[RouteDestination], within: Within, report: &mut Report) {
    if routes.is_empty() {
        report.error(format!("{at}.route"), "required");
    }
    for (i, route) in routes.iter().enumerate() {
        let at = format!("{at}.route[{i}].destination");
        match &route.destination {
            None => report.error(at, "required"),
            Some(to) if !within.converted => destination(&at, to, report),
            Some(_) => {}
        }
    }
    total_weight(at, routes.iter().map(|r| r.weight), report);
}

fn tls_route(at: &str, route: &TLSRoute, service: &VirtualServiceSpec, within: Within, report: &mut Report) {
    if route.match_.is_empty() {
        report.error(format!("{at}.match"), "required");
    }
    for (i, attributes) in route.match_.iter().enumerate() {
        tls_match(&format!("{at}.match[{i}]"), attributes, service, report);
    }
    destinations(at, &route.route, within, report);
}

fn tls_match(at: &str, attributes: &TLSMatchAttributes, service: &VirtualServiceSpec, report: &mut Report) {
    if attributes.sni_hosts.is_empty() {
        report.error(format!("{at}.sniHosts"), "required");
    }
    for (i, host) in attributes.sni_hosts.iter().enumerate() {
        sni_host(&format!("{at}.sniHosts[{i}]"), host, service, report);
    }
    for (i, subnet) in attributes.destination_subnets.iter().enumerate() {
        report.check(format!("{at}.destinationSubnets[{i}]"), text::ip_subnet(subnet));
    }
    report.check(format!("{at}.sourceLabels"), Labels(&attributes.source_labels).check());
    gateway_names(&format!("{at}.gateways"), &attributes.gateways, false, report, true);
}

fn sni_host(at: &str, host: &Host, service: &VirtualServiceSpec, report: &mut Report) {
    let name = host.as_str();
    let checked = if service.is_for_gateways() {
        text::gateway_domain(name, true)
    } else {
        text::wildcard_domain(name)
    };
    if let Err(problem) = checked {
        if text::is_ip_address(name) {
            report.warning(at, "few clients send an IP address as server name; use a host name");
        } else {
            report.error(at, problem);
        }
        return;
    }
    if !service.hosts.iter().any(|of| host.is_subset_of(of)) {
        report.error(at, format!("{} is not covered by spec.hosts", shown(name)));
    }
}

fn tcp_route(at: &str, route: &TCPRoute, within: Within, report: &mut Report) {
    for (i, attributes) in route.match_.iter().enumerate() {
        tcp_match(&format!("{at}.match[{i}]"), attributes, report);
    }
    destinations(at, &route.route, within, report);
}

fn tcp_match(at: &str, attributes: &L4MatchAttributes, report: &mut Report) {
    for (i, subnet) in attributes.destination_subnets.iter().enumerate() {
        report.check(format!("{at}.destinationSubnets[{i}]"), text::ip_subnet(subnet));
    }
    report.check(format!("{at}.sourceLabels"), Labels(&attributes.source_labels).check());
    gateway_names(&format!("{at}.gateways"), &attributes.gateways, false, report, false);
}
