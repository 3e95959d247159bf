//! WorkloadEntry, WorkloadGroup, and the ProxyConfig of some workloads.

use std::collections::BTreeSet;

use corten_core::Labels;

use super::{
    Context, Report, Validate, selector,
    text::{self, shown},
};
use crate::istio::{
    proxy_config_resource::ProxyConfigSpec,
    workload_entry::WorkloadEntrySpec,
    workload_group::{ReadinessProbe, ReadinessProbeHealthCheckMethod, WorkloadGroupSpec},
};

impl Validate for WorkloadEntrySpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        workload("spec", self, None, report);
    }
}

/// A workload; as an endpoint of a service its ports must be those of the service, and its address an IP address.
pub(super) fn workload(
    at: &str,
    entry: &WorkloadEntrySpec,
    service_ports: Option<&BTreeSet<&str>>,
    report: &mut Report,
) {
    let address = format!("{at}.address");
    if entry.address.is_empty() {
        if entry.network.is_empty() {
            report.error(address, "required, unless network is given");
            return;
        }
        report.warning(
            &address,
            "without an address, traffic goes through the gateway of the network",
        );
    }
    let socket = entry.address.strip_prefix("unix://");
    if let Some(path) = socket {
        report.check(&address, text::unix_address(path));
        if !entry.ports.is_empty() {
            report.error(format!("{at}.ports"), "a unix socket has no ports; remove them");
        }
    } else if !entry.address.is_empty() && !text::is_ip_address(&entry.address) {
        if service_ports.is_some() {
            report.error(address, format!("{} is not an IP address", shown(&entry.address)));
        } else if text::fqdn(&entry.address).is_err() {
            report.error(
                address,
                format!("{} is neither an IP address nor a host name", shown(&entry.address)),
            );
        }
    }
    ports(at, entry, service_ports, report);
    report.check(format!("{at}.labels"), Labels(&entry.labels).check());
    if socket.is_some() && service_ports.is_some_and(|ports| ports.len() != 1) {
        report.error(at, "a unix socket needs a service with exactly one port");
    }
}

/// The ports of a workload, by name of the service's port.
pub(super) fn ports(at: &str, entry: &WorkloadEntrySpec, service_ports: Option<&BTreeSet<&str>>, report: &mut Report) {
    for (name, port) in &entry.ports {
        let at = format!("{at}.ports[{name}]");
        if service_ports.is_some_and(|known| !known.contains(name.as_str())) {
            report.error(&at, "the service has no port of this name");
        }
        report.check(&at, text::port_name(name));
        report.check(&at, text::port(port.0));
    }
}

impl Validate for WorkloadGroupSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        if self.template.is_none() {
            report.error("spec.template", "required");
            return;
        }
        if let Some(metadata) = &self.metadata {
            report.check("spec.metadata.labels", Labels(&metadata.labels).check());
        }
        if let Some(probe) = &self.probe {
            readiness_probe(probe, report);
        }
    }
}

fn readiness_probe(probe: &ReadinessProbe, report: &mut Report) {
    let numbers = [
        ("periodSeconds", probe.period_seconds),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, _) in numbers.iter().filter(|(_, value)| *value < 0) {
        report.error(format!("spec.probe.{field}"), "must not be negative");
    }
    match &probe.health_check_method {
        Some(ReadinessProbeHealthCheckMethod::HttpGet(get)) => {
            report.check("spec.probe.httpGet.port", text::port(get.port.0));
            if !matches!(get.scheme.as_str(), "" | "HTTP" | "HTTPS") {
                report.error(
                    "spec.probe.httpGet.scheme",
                    format!("{} is neither HTTP nor HTTPS", shown(&get.scheme)),
                );
            }
            for (i, header) in get.http_headers.iter().enumerate() {
                report.check(
                    format!("spec.probe.httpGet.httpHeaders[{i}].name"),
                    text::probe_header_name(&header.name),
                );
            }
        }
        Some(ReadinessProbeHealthCheckMethod::TcpSocket(socket)) => {
            report.check("spec.probe.tcpSocket.port", text::port(socket.port.0));
        }
        Some(ReadinessProbeHealthCheckMethod::Exec(exec)) if exec.command.is_empty() => {
            report.error("spec.probe.exec.command", "required");
        }
        Some(ReadinessProbeHealthCheckMethod::Exec(_)) => {}
        // Istio's validation knows three kinds of probes; its webhook refuses the fourth.
        Some(ReadinessProbeHealthCheckMethod::Grpc(_)) => {
            report.error("spec.probe.grpc", "not accepted; use httpGet, tcpSocket or exec");
        }
        None => report.error("spec.probe", "needs httpGet, tcpSocket or exec"),
    }
}

impl Validate for ProxyConfigSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        selector::selector(self.selector.as_ref(), report);
        if self.concurrency.is_some_and(|concurrency| concurrency < 0) {
            report.error(
                "spec.concurrency",
                "must not be negative; 0 means one thread for each core",
            );
        }
    }
}
