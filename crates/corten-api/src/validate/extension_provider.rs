//! Extension providers of the mesh: where traces, logs and authorization questions go.

use std::collections::BTreeSet;

use corten_core::Port;

use super::{
    Report,
    gateway::{HostOf, namespaced_host},
    text::{self, shown},
};
use crate::istio::extension_providers::{MeshConfigExtensionProvider, MeshConfigExtensionProviderProvider as Provider};

/// All providers. Istio goes on with those that are right, so these are warnings.
pub(super) fn providers(at: &str, providers: &[MeshConfigExtensionProvider], report: &mut Report) {
    let mut names = BTreeSet::new();
    let mut found = Report::default();
    for (i, entry) in providers.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if entry.name.is_empty() {
            found.error(format!("{at}.name"), "required");
        } else if !names.insert(&entry.name) {
            found.error(
                format!("{at}.name"),
                format!("there is another provider {}", shown(&entry.name)),
            );
        }
        match &entry.provider {
            Some(kind) => provider(&at, kind, &mut found),
            None => found.error(at, "needs a provider such as opentelemetry or envoyExtAuthzGrpc"),
        }
    }
    for finding in found.into_findings() {
        report.warning(
            finding.path,
            format!("{}; the provider cannot be used", finding.message),
        );
    }
}

/// One provider.
pub fn provider(at: &str, provider: &Provider, report: &mut Report) {
    let mut endpoint = |name: &str, host: &str, port: Port| {
        report.check(format!("{at}.{name}.port"), text::port(port.0));
        service(&format!("{at}.{name}.service"), host, report);
    };
    match provider {
        Provider::EnvoyExtAuthzHttp(p) => {
            endpoint("envoyExtAuthzHttp", &p.service, p.port);
            status_on_error(
                &format!("{at}.envoyExtAuthzHttp.statusOnError"),
                &p.status_on_error,
                report,
            );
            if !p.path_prefix.is_empty() && !p.path_prefix.starts_with('/') {
                report.error(format!("{at}.envoyExtAuthzHttp.pathPrefix"), "must begin with '/'");
            }
        }
        Provider::EnvoyExtAuthzGrpc(p) => {
            endpoint("envoyExtAuthzGrpc", &p.service, p.port);
            status_on_error(
                &format!("{at}.envoyExtAuthzGrpc.statusOnError"),
                &p.status_on_error,
                report,
            );
        }
        Provider::Zipkin(p) => endpoint("zipkin", &p.service, p.port),
        Provider::Lightstep(p) => {
            endpoint("lightstep", &p.service, p.port);
            if p.access_token.is_empty() {
                report.error(format!("{at}.lightstep.accessToken"), "required");
            }
        }
        Provider::Datadog(p) => endpoint("datadog", &p.service, p.port),
        Provider::Opencensus(p) => endpoint("opencensus", &p.service, p.port),
        Provider::Skywalking(p) => endpoint("skywalking", &p.service, p.port),
        Provider::EnvoyOtelAls(p) => endpoint("envoyOtelAls", &p.service, p.port),
        Provider::EnvoyHttpAls(p) => endpoint("envoyHttpAls", &p.service, p.port),
        Provider::EnvoyTcpAls(p) => endpoint("envoyTcpAls", &p.service, p.port),
        Provider::Opentelemetry(p) => {
            endpoint("opentelemetry", &p.service, p.port);
            if p.grpc.is_some() && p.http.is_some() {
                report.error(format!("{at}.opentelemetry"), "only one of grpc and http may be given");
            }
        }
        Provider::Prometheus(_) | Provider::Stackdriver(_) | Provider::EnvoyFileAccessLog(_) => {}
        Provider::Sds(_) => report.error(format!("{at}.sds"), "not supported"),
    }
}

/// A service of the mesh: a host name or IP address, or `namespace/host`.
pub fn service(at: &str, name: &str, report: &mut Report) {
    if name.is_empty() {
        report.error(at, "required");
    } else if name.contains('/') {
        namespaced_host(at, name, HostOf::Sidecar, report);
    } else if text::fqdn(name).is_err() && !text::is_ip_address(name) {
        let message = format!(
            "{} is not a host name; ports go into port, namespaces before a '/'",
            shown(name)
        );
        report.error(at, message);
    }
}

/// The statuses a proxy knows.
fn status_on_error(at: &str, status: &str, report: &mut Report) {
    let known = |code: u16| {
        matches!(code, 0 | 100 | 102 | 103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=417 | 421..=424 | 426 | 428
            | 429 | 431 | 500..=508 | 510 | 511)
    };
    if !status.is_empty() && !status.parse().is_ok_and(known) {
        report.error(
            at,
            format!("{} is not a status that a proxy can answer with", shown(status)),
        );
    }
}
