//! Gateway.

use std::collections::BTreeSet;

use corten_core::{Protocol, is_dns_label};

use super::{
    Context, Report, Validate,
    text::{self, shown},
    tls,
};
use crate::istio::gateway::{GatewaySpec, Server, ServerPort, ServerTLSSettingsTLSmode as Mode};

impl Validate for GatewaySpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        let converted = context.annotated("internal.istio.io/gateway-semantics", "gateway");
        if !converted {
            report.check(
                "metadata.name",
                text::label(&context.metadata.name, "the name of a gateway,"),
            );
        }
        if self.servers.is_empty() {
            report.error("spec.servers", "a gateway needs at least one server");
        }
        let mut names = BTreeSet::new();
        for (i, server) in self.servers.iter().enumerate() {
            let at = format!("spec.servers[{i}]");
            validate_server(&at, server, converted, report);
            let Some(port) = &server.port else { continue };
            if !names.insert(port.name.as_str()) {
                report.error(
                    format!("{at}.port.name"),
                    format!("{} is the name of another server's port", shown(&port.name)),
                );
            }
            let redirects = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
            if redirects && !Protocol::parse(&port.protocol).is_http() {
                report.warning(
                    format!("{at}.tls.httpsRedirect"),
                    "only servers of protocol HTTP can redirect",
                );
            }
        }
    }
}

fn validate_server(at: &str, server: &Server, converted: bool, report: &mut Report) {
    if server.hosts.is_empty() {
        report.error(format!("{at}.hosts"), "a server needs at least one host; '*' is any");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        namespaced_host(&format!("{at}.hosts[{i}]"), host, HostOf::Gateway { converted }, report);
    }
    let before = report.errors();
    match &server.port {
        None => report.error(format!("{at}.port"), "required"),
        Some(port) => validate_port(&format!("{at}.port"), port, &server.bind, report),
    }
    let port_is_good = report.errors() == before;
    validate_bind(at, server, report);
    if let Some(tls) = &server.tls {
        tls::server(&format!("{at}.tls"), tls, report);
    }
    if let (true, Some(port)) = (port_is_good, &server.port) {
        tls_fits_protocol(at, server, Protocol::parse(&port.protocol), report);
    }
}

fn validate_port(at: &str, port: &ServerPort, bind: &str, report: &mut Report) {
    if Protocol::parse(&port.protocol) == Protocol::Unsupported {
        let message = format!(
            "{} is not one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS",
            shown(&port.protocol)
        );
        report.error(format!("{at}.protocol"), message);
    }
    if port.number.is_given() || !bind.starts_with("unix://") {
        report.check(format!("{at}.number"), text::port(port.number.0));
    }
    if port.target_port.is_given() {
        report.error(format!("{at}.targetPort"), "has no meaning for a gateway; remove it");
    }
    if port.name.is_empty() {
        report.error(format!("{at}.name"), "required");
    }
}

fn validate_bind(at: &str, server: &Server, report: &mut Report) {
    if let Some(path) = server.bind.strip_prefix("unix://") {
        report.check(format!("{at}.bind"), text::unix_address(path));
        if server.port.as_ref().is_some_and(|port| port.number.is_given()) {
            report.error(format!("{at}.port.number"), "must be 0 for a unix socket");
        }
    } else if !server.bind.is_empty() {
        report.check(format!("{at}.bind"), text::ip_address(&server.bind));
    }
}

fn tls_fits_protocol(at: &str, server: &Server, protocol: Protocol, report: &mut Report) {
    let at = format!("{at}.tls");
    let Some(tls) = &server.tls else {
        if protocol.is_tls() {
            report.error(at, "required for protocols HTTPS and TLS");
        }
        return;
    };
    if protocol.is_tls() {
        return;
    }
    // A redirect to HTTPS is written as tls on a plain HTTP server.
    let passes_through = matches!(tls.mode, Mode::Passthrough | Mode::AutoPassthrough);
    let certificates = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate]
        .iter()
        .any(|f| !f.is_empty());
    if !protocol.is_http() || !passes_through || certificates {
        report.error(
            at,
            format!("protocol {protocol} has no TLS; use HTTPS or TLS, or remove this"),
        );
    }
}

/// Where a `namespace/host` stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum HostOf {
    /// In a server of a gateway; `converted`: one made from a Gateway API resource.
    Gateway { converted: bool },
    /// In an egress listener of a Sidecar, or a service of an extension provider.
    Sidecar,
}

/// A host that names the namespace it is for: `ns/host`, `*/host`, `./host`; for gateways also without namespace.
pub(super) fn namespaced_host(at: &str, host: &str, of: HostOf, report: &mut Report) {
    let Some((namespace, name)) = host.split_once('/') else {
        if of == HostOf::Sidecar {
            report.error(at, format!("{} must be of the form namespace/host", shown(host)));
        } else {
            host_part(at, host, of, report);
        }
        return;
    };
    if namespace.is_empty() || name.is_empty() {
        report.error(at, format!("{} needs both a namespace and a host", shown(host)));
    }
    let good = match of {
        HostOf::Sidecar => {
            let namespace = namespace.strip_prefix('~').unwrap_or(namespace);
            matches!(namespace, "" | "*" | ".") || is_dns_label(namespace)
        }
        HostOf::Gateway { converted } => {
            matches!(namespace, "*" | ".") || (namespace == "~" && converted) || is_dns_label(namespace)
        }
    };
    if !good {
        report.error(
            at,
            format!("{} is not a namespace; '*' is any, '.' this one", shown(namespace)),
        );
    }
    host_part(at, name, of, report);
}

fn host_part(at: &str, host: &str, of: HostOf, report: &mut Report) {
    if host != "*" && !host.contains('.') {
        report.error(
            at,
            format!(
                "{} must be a full name such as name.namespace.svc.cluster.local",
                shown(host)
            ),
        );
    }
    if let Err(problem) = text::wildcard_domain(host)
        && (of == HostOf::Sidecar || !text::is_ip_address(host))
    {
        report.error(at, problem);
    }
    report.check(at, text::partial_wildcard(host));
}
