//! Sidecar.

use std::collections::{BTreeMap, BTreeSet};

use corten_core::Protocol;

use super::{
    Context, Report, Validate,
    connection_pool::connection_pool,
    gateway::{HostOf, namespaced_host},
    selector,
    service_entry::protocol,
    text::{self, shown},
    tls,
    virtual_service::destination,
};
use crate::istio::{
    gateway::ServerTLSSettingsTLSmode,
    sidecar::{
        CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
        SidecarPort, SidecarSpec,
    },
};

impl Validate for SidecarSpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        let before = report.errors();
        selector::workload_selector(self.workload_selector.as_ref(), report);
        if report.errors() > before {
            return;
        }
        let says_nothing = self.egress.is_empty()
            && self.ingress.is_empty()
            && self.outbound_traffic_policy.is_none()
            && self.inbound_connection_pool.is_none();
        if says_nothing {
            report.error(
                "spec",
                "needs ingress, egress, inboundConnectionPool or outboundTrafficPolicy",
            );
            return;
        }
        self.validate_ingress(report);
        if let Some(pool) = &self.inbound_connection_pool {
            connection_pool("spec.inboundConnectionPool", pool, report);
        }
        self.validate_egress(context.namespace(), report);
        if let Some(policy) = &self.outbound_traffic_policy {
            outbound_policy(policy, report);
        }
    }
}

impl SidecarSpec {
    fn validate_ingress(&self, report: &mut Report) {
        let mut ports = BTreeSet::new();
        for (i, listener) in self.ingress.iter().enumerate() {
            let at = format!("spec.ingress[{i}]");
            let Some(port) = &listener.port else {
                report.error(format!("{at}.port"), "required");
                continue;
            };
            ingress_listener(&at, listener, port, report);
            if !ports.insert(port.number) {
                report.error(
                    format!("{at}.port.number"),
                    format!("{} is the port of another listener", port.number),
                );
            }
        }
    }

    fn validate_egress(&self, namespace: &str, report: &mut Report) {
        let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
        for (i, listener) in self.egress.iter().enumerate() {
            let at = format!("spec.egress[{i}]");
            match &listener.port {
                None if i + 1 < self.egress.len() => {
                    report.error(
                        format!("{at}.port"),
                        "a listener without port takes the rest and must be the last one",
                    );
                }
                None => {}
                Some(port) => {
                    egress_port(&at, port, listener, report);
                    if port.number.is_given() {
                        if !ports.insert(port.number) {
                            let message = format!("{} is the port of another listener", port.number);
                            report.error(format!("{at}.port.number"), message);
                        }
                    } else if !sockets.insert(&listener.bind) {
                        report.error(format!("{at}.bind"), "another listener is bound to it");
                    }
                }
            }
            egress_hosts(&at, &listener.hosts, namespace, report);
        }
    }
}

fn ingress_listener(at: &str, listener: &IstioIngressListener, port: &SidecarPort, report: &mut Report) {
    no_target_port(at, port, report);
    port_and_name(at, port, report);
    report.check(format!("{at}.port.number"), text::port(port.number.0));
    if !listener.bind.is_empty() {
        report.check(format!("{at}.bind"), text::ip_address(&listener.bind));
    }
    if !listener.default_endpoint.is_empty() {
        report.check(
            format!("{at}.defaultEndpoint"),
            default_endpoint(&listener.default_endpoint),
        );
    }
    if let Some(settings) = &listener.tls {
        let at = format!("{at}.tls");
        let unsupported = [
            ("subjectAltNames", !settings.subject_alt_names.is_empty()),
            ("httpsRedirect", settings.https_redirect),
            ("credentialName", !settings.credential_name.is_empty()),
            ("credentialNames", !settings.credential_names.is_empty()),
            ("tlsCertificates", !settings.tls_certificates.is_empty()),
        ];
        for (field, _) in unsupported.iter().filter(|(_, given)| *given) {
            report.error(format!("{at}.{field}"), "not supported in a Sidecar; remove it");
        }
        if matches!(
            settings.mode,
            ServerTLSSettingsTLSmode::IstioMutual | ServerTLSSettingsTLSmode::AutoPassthrough
        ) {
            report.error(format!("{at}.mode"), "not supported in a Sidecar; use SIMPLE or MUTUAL");
        }
        if !Protocol::parse(&port.protocol).is_tls() {
            report.error(&at, "only ports of protocol HTTPS or TLS have TLS settings");
        }
        tls::server(&at, settings, report);
    }
    if let Some(pool) = &listener.connection_pool {
        connection_pool(&format!("{at}.connectionPool"), pool, report);
        if pool.http.is_some() && !Protocol::parse(&port.protocol).is_http() {
            report.warning(
                format!("{at}.connectionPool.http"),
                "has no effect: the port is not of protocol HTTP",
            );
        }
    }
}

fn no_target_port(at: &str, port: &SidecarPort, report: &mut Report) {
    if port.target_port.is_given() {
        report.error(
            format!("{at}.port.targetPort"),
            "has no meaning in a Sidecar; remove it",
        );
    }
}

fn port_and_name(at: &str, port: &SidecarPort, report: &mut Report) {
    if !port.name.is_empty() {
        report.check(format!("{at}.port.name"), text::port_name(&port.name));
    }
    report.check(format!("{at}.port.protocol"), protocol(&port.protocol));
}

/// Where the application listens: a port of this workload, or a unix socket.
fn default_endpoint(endpoint: &str) -> Result<(), String> {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return text::unix_address(path);
    }
    let (host, port) = text::host_port(endpoint)?;
    if !matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::") {
        return Err(format!(
            "{} must be 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///path",
            shown(endpoint)
        ));
    }
    let port: i64 = port
        .parse()
        .map_err(|_| format!("{} must end with a port number", shown(endpoint)))?;
    text::port(port)
}

fn egress_port(at: &str, port: &SidecarPort, listener: &IstioEgressListener, report: &mut Report) {
    no_target_port(at, port, report);
    port_and_name(at, port, report);
    if port.number.is_given() {
        if !listener.bind.is_empty() {
            report.check(format!("{at}.bind"), text::ip_address(&listener.bind));
        }
        return;
    }
    match listener.bind.strip_prefix("unix://") {
        Some(path) => report.check(format!("{at}.bind"), text::unix_address(path)),
        None => report.error(format!("{at}.port.number"), "required, unless bind is a unix socket"),
    }
    if listener.capture_mode == CaptureMode::Iptables {
        report.error(
            format!("{at}.captureMode"),
            "a unix socket cannot be captured; use NONE",
        );
    }
}

fn egress_hosts(at: &str, hosts: &[String], namespace: &str, report: &mut Report) {
    if hosts.is_empty() {
        report.error(format!("{at}.hosts"), "needs at least one host; '*/*' is all");
    }
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (i, host) in hosts.iter().enumerate() {
        let at = format!("{at}.hosts[{i}]");
        if let Some((owner, service)) = host.split_once('/')
            && !owner.starts_with('~')
        {
            let services = seen.entry(if owner == "." { namespace } else { owner }).or_default();
            let again = if service == "*" {
                !services.is_empty()
            } else {
                services.contains("*") || services.contains(service)
            };
            if again {
                report.warning(&at, format!("{} is already covered by another host", shown(host)));
            }
            services.insert(service);
        }
        namespaced_host(&at, host, HostOf::Sidecar, report);
    }
    if seen.get("*").is_some_and(|services| services.contains("*")) && seen.len() > 1 {
        report.warning(format!("{at}.hosts"), "'*/*' is all hosts; the others add nothing");
    }
}

fn outbound_policy(policy: &OutboundTrafficPolicy, report: &mut Report) {
    const AT: &str = "spec.outboundTrafficPolicy";
    let Some(proxy) = &policy.egress_proxy else { return };
    if policy.mode != OutboundTrafficPolicyMode::AllowAny {
        report.error(format!("{AT}.egressProxy"), "only with mode ALLOW_ANY");
        return;
    }
    report.check(format!("{AT}.egressProxy.host"), text::fqdn(proxy.host.as_str()));
    if proxy.port.is_none() {
        report.error(format!("{AT}.egressProxy.port"), "required");
        return;
    }
    destination(&format!("{AT}.egressProxy"), proxy, report);
}
