//! ServiceEntry.

use std::collections::BTreeSet;

use corten_core::{Labels, Protocol};

use super::{
    Context, Report, Validate,
    selector::{self, ExportTo, export_to},
    text::{self, shown},
    workload,
};
use crate::istio::{
    service_entry::{ServiceEntryLocation as Location, ServiceEntryResolution as Resolution, ServiceEntrySpec},
    workload_entry::WorkloadEntrySpec,
};

impl Validate for ServiceEntrySpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        let before = report.errors();
        selector::workload_selector(self.workload_selector.as_ref(), report);
        if report.errors() > before {
            return;
        }
        if self.workload_selector.is_some() && self.endpoints.is_some() {
            report.error("spec", "only one of workloadSelector and endpoints may be given");
        }
        self.validate_hosts(report);
        self.validate_addresses(report);
        self.validate_ports(context, report);
        match self.resolution {
            Resolution::None => self.without_resolution(report),
            Resolution::Static => self.static_endpoints(report),
            Resolution::Dns | Resolution::DnsRoundRobin => self.resolved_by_dns(report),
            Resolution::DynamicDns => self.resolved_on_demand(context, report),
        }
        if self.resolution != Resolution::None && self.hosts.len() > 1 {
            let opaque = self.ports.iter().position(|port| {
                let protocol = Protocol::parse(&port.protocol);
                !protocol.is_http() && !protocol.is_tls()
            });
            if let Some(i) = opaque {
                let message = "several hosts can only be told apart by HTTP or TLS";
                report.error(format!("spec.ports[{i}].protocol"), message);
            }
        }
        let of = ExportTo {
            namespace: context.namespace(),
            service_entry: true,
            selected_workloads: false,
        };
        export_to(&self.export_to, of, report);
    }
}

impl ServiceEntrySpec {
    fn endpoints(&self) -> &[WorkloadEntrySpec] {
        self.endpoints.as_deref().unwrap_or_default()
    }

    fn port_names(&self) -> BTreeSet<&str> {
        self.ports.iter().map(|port| port.name.as_str()).collect()
    }

    fn validate_hosts(&self, report: &mut Report) {
        if self.hosts.is_empty() {
            report.error("spec.hosts", "a service needs at least one host");
        }
        for (i, host) in self.hosts.iter().enumerate() {
            let at = format!("spec.hosts[{i}]");
            if host.as_str() == "*" {
                report.error(at, "'*' is not a service; name a host");
                continue;
            }
            report.check(&at, text::wildcard_domain(host.as_str()));
            if let (true, Err(problem)) = (
                self.resolution != Resolution::DynamicDns,
                text::partial_wildcard(host.as_str()),
            ) {
                report.warning(at, problem);
            }
        }
    }

    fn validate_addresses(&self, report: &mut Report) {
        for (i, address) in self.addresses.iter().enumerate() {
            report.check(format!("spec.addresses[{i}]"), text::ip_subnet(address));
        }
        let ranges = self.addresses.iter().any(|address| address.contains('/'));
        if ranges && !matches!(self.resolution, Resolution::None | Resolution::Static) {
            report.error("spec.addresses", "ranges of addresses need resolution NONE or STATIC");
        }
    }

    fn validate_ports(&self, context: Context<'_>, report: &mut Report) {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let has_addresses = !self.addresses.is_empty() || self.gets_addresses(context);
        for (i, port) in self.ports.iter().enumerate() {
            let at = format!("spec.ports[{i}]");
            if !names.insert(port.name.as_str()) {
                report.error(
                    format!("{at}.name"),
                    format!("{} is the name of another port", shown(&port.name)),
                );
            }
            if !numbers.insert(port.number) {
                report.error(
                    format!("{at}.number"),
                    format!("{} is the number of another port", port.number),
                );
            }
            if !has_addresses && matches!(port.protocol.as_str(), "" | "TCP") {
                report.warning(
                    &at,
                    "TCP is told apart by address only; give addresses, or another protocol",
                );
            }
            report.check(format!("{at}.name"), text::port_name(&port.name));
            report.check(format!("{at}.protocol"), protocol(&port.protocol));
            report.check(format!("{at}.number"), text::port(port.number.0));
        }
    }

    /// Whether the control plane gives this service addresses of its own.
    fn gets_addresses(&self, context: Context<'_>) -> bool {
        const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";
        let declined = context
            .metadata
            .labels
            .get(LABEL)
            .is_some_and(|value| value.eq_ignore_ascii_case("false"));
        self.resolution != Resolution::None && !declined && self.addresses.is_empty()
    }

    fn without_resolution(&self, report: &mut Report) {
        if !self.endpoints().is_empty() {
            report.error(
                "spec.endpoints",
                "resolution NONE forwards to the address called; remove them or use STATIC",
            );
        }
        if self.workload_selector.is_some() {
            report.warning(
                "spec.workloadSelector",
                "has no effect with resolution NONE; use STATIC",
            );
        }
    }

    fn static_endpoints(&self, report: &mut Report) {
        let ports = self.port_names();
        for (i, endpoint) in self.endpoints().iter().enumerate() {
            workload::workload(&format!("spec.endpoints[{i}]"), endpoint, Some(&ports), report);
        }
    }

    fn resolved_by_dns(&self, report: &mut Report) {
        let endpoints = self.endpoints();
        if endpoints.is_empty()
            && let Some(i) = self.hosts.iter().position(|host| text::fqdn(host.as_str()).is_err())
        {
            let message =
                "without endpoints the host itself is looked up in DNS, so it must be a name without wildcards";
            report.error(format!("spec.hosts[{i}]"), message);
        }
        if self.resolution == Resolution::DnsRoundRobin && endpoints.len() > 1 {
            report.error(
                "spec.endpoints",
                "resolution DNS_ROUND_ROBIN takes at most one endpoint",
            );
        }
        let ports = self.port_names();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = format!("spec.endpoints[{i}]");
            if !text::is_ip_address(&endpoint.address) && text::fqdn(&endpoint.address).is_err() {
                let message = format!("{} is neither an IP address nor a host name", shown(&endpoint.address));
                report.error(format!("{at}.address"), message);
            }
            report.check(format!("{at}.labels"), Labels(&endpoint.labels).check());
            workload::ports(&at, endpoint, Some(&ports), report);
        }
        let tcp = self.ports.iter().any(|port| Protocol::parse(&port.protocol).is_tcp());
        if !self.addresses.is_empty() && tcp && self.hosts.len() > 1 {
            report.warning(
                "spec.hosts",
                "with addresses and a TCP port, only one host can be told apart",
            );
        }
    }

    fn resolved_on_demand(&self, context: Context<'_>, report: &mut Report) {
        for (i, host) in self.hosts.iter().enumerate().filter(|(_, host)| !host.is_wildcard()) {
            let message = format!(
                "{} must be a wildcard for resolution DYNAMIC_DNS; use DNS",
                shown(host.as_str())
            );
            report.error(format!("spec.hosts[{i}]"), message);
        }
        if !self.addresses.is_empty() {
            report.error(
                "spec.addresses",
                "resolution DYNAMIC_DNS goes by host names; remove them",
            );
        }
        if !self.endpoints().is_empty() {
            report.error(
                "spec.endpoints",
                "resolution DYNAMIC_DNS looks hosts up when they are called; remove them",
            );
        }
        for (i, port) in self.ports.iter().enumerate() {
            use Protocol::{Grpc, Http, Http2, Tls};
            if !matches!(Protocol::parse(&port.protocol), Http | Tls | Grpc | Http2) {
                let message = "resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS";
                report.error(format!("spec.ports[{i}].protocol"), message);
            }
        }
        let waypoint = context.metadata.labels.get("istio.io/use-waypoint");
        let uses_waypoint = waypoint.is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
        if self.location == Location::MeshInternal && uses_waypoint {
            report.error(
                "spec.location",
                "MESH_INTERNAL with resolution DYNAMIC_DNS cannot use a waypoint",
            );
        }
    }
}

/// A protocol, or none.
pub(super) fn protocol(name: &str) -> Result<(), String> {
    if name.is_empty() || Protocol::parse(name) != Protocol::Unsupported {
        return Ok(());
    }
    Err(format!(
        "{} is not one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, UDP, MONGO, REDIS, MYSQL",
        shown(name)
    ))
}
