//! The ProxyConfig of the mesh: how proxies run.

use super::{
    Report,
    text::{self, shown},
    tls,
};
use corten_core::Duration;

use crate::istio::proxy_config::{
    AuthenticationPolicy, ConnectionSettings, PrivateKeyProvider, PrivateKeyProviderProvider, ProxyConfig,
    ProxyConfigClusterName, Tracing, TracingTracer,
};

/// The configuration of all proxies.
pub fn mesh_proxy_config(at: &str, config: &ProxyConfig, report: &mut Report) {
    for (field, value) in [("configPath", &config.config_path), ("binaryPath", &config.binary_path)] {
        if value.is_empty() {
            report.error(format!("{at}.{field}"), "required");
        }
    }
    match &config.cluster_name {
        Some(ProxyConfigClusterName::ServiceCluster(name)) if name.is_empty() => {
            report.error(format!("{at}.serviceCluster"), "must not be empty");
        }
        Some(_) => {}
        None => report.error(at, "needs serviceCluster or tracingServiceName"),
    }
    report.check(
        format!("{at}.drainDuration"),
        drain(config.drain_duration.unwrap_or_default()),
    );
    if config.discovery_address.is_empty() {
        report.error(
            format!("{at}.discoveryAddress"),
            "required: host:port of the control plane",
        );
    }
    if let Some(tracing) = &config.tracing {
        validate_tracing(&format!("{at}.tracing"), tracing, report);
    }
    let service_address = |service: &Option<_>| {
        let service: &Option<crate::istio::proxy_config::RemoteService> = service;
        service
            .as_ref()
            .map(|service| service.address.clone())
            .unwrap_or_default()
    };
    let addresses = [
        ("discoveryAddress", config.discovery_address.clone()),
        ("statsdUdpAddress", config.statsd_udp_address.clone()),
        (
            "envoyMetricsServiceAddress",
            config.envoy_metrics_service_address.clone(),
        ),
        (
            "envoyMetricsService.address",
            service_address(&config.envoy_metrics_service),
        ),
        (
            "envoyAccessLogService.address",
            service_address(&config.envoy_access_log_service),
        ),
    ];
    for (field, address) in addresses.iter().filter(|(_, address)| !address.is_empty()) {
        report.check(format!("{at}.{field}"), text::proxy_address(address));
    }
    if config.proxy_metadata.contains_key("ISTIO_META_DNS_AUTO_ALLOCATE") {
        let at = format!("{at}.proxyMetadata[ISTIO_META_DNS_AUTO_ALLOCATE]");
        report.warning(at, "deprecated; the control plane allocates addresses by itself");
    }
    report.check(format!("{at}.proxyAdminPort"), text::port(config.proxy_admin_port));
    report.check(format!("{at}.statusPort"), text::port(config.status_port));
    if config.control_plane_auth_policy == AuthenticationPolicy::Inherit {
        report.error(format!("{at}.controlPlaneAuthPolicy"), "must be NONE or MUTUAL_TLS");
    }
    if let Some(provider) = &config.private_key_provider {
        private_keys(&format!("{at}.privateKeyProvider"), provider, report);
    }
    if let Some(settings) = &config.connection_settings {
        connection_settings(&format!("{at}.connectionSettings"), settings, report);
    }
}

fn drain(duration: Duration) -> Result<(), String> {
    text::duration(duration)?;
    if duration.subsec_nanos() == 0 {
        Ok(())
    } else {
        Err(format!("{duration} is not whole seconds"))
    }
}

fn validate_tracing(at: &str, tracing: &Tracing, report: &mut Report) {
    // The address may name the node of the proxy, which only the proxy knows.
    let on_node = |address: &str| address.replacen("$(HOST_IP)", "127.0.0.1", 1);
    match &tracing.tracer {
        Some(TracingTracer::Lightstep(tracer)) => {
            report.check(format!("{at}.lightstep.address"), text::proxy_address(&tracer.address));
            if tracer.access_token.is_empty() {
                report.error(format!("{at}.lightstep.accessToken"), "required");
            }
        }
        Some(TracingTracer::Zipkin(tracer)) => {
            report.check(
                format!("{at}.zipkin.address"),
                text::proxy_address(&on_node(&tracer.address)),
            );
        }
        Some(TracingTracer::Datadog(tracer)) => {
            report.check(
                format!("{at}.datadog.address"),
                text::proxy_address(&on_node(&tracer.address)),
            );
        }
        Some(TracingTracer::Stackdriver(_) | TracingTracer::OpenCensusAgent(_)) | None => {}
    }
    if let Some(settings) = &tracing.tls_settings {
        tls::client(&format!("{at}.tlsSettings"), settings, "", report);
    }
}

fn private_keys(at: &str, provider: &PrivateKeyProvider, report: &mut Report) {
    let (name, delay) = match &provider.provider {
        Some(PrivateKeyProviderProvider::Cryptomb(p)) => ("cryptomb", p.poll_delay),
        Some(PrivateKeyProviderProvider::Qat(p)) => ("qat", p.poll_delay),
        None => return report.error(at, "needs cryptomb or qat"),
    };
    if delay.is_none_or(|delay| delay == Duration::ZERO) {
        report.error(format!("{at}.{name}.pollDelay"), "required, and must not be 0");
    }
}

fn connection_settings(at: &str, settings: &ConnectionSettings, report: &mut Report) {
    const WINDOW_LEAST: i32 = 65535;
    let least = [
        (
            "listenerPerConnectionBufferLimitBytes",
            settings.listener_per_connection_buffer_limit_bytes,
            0,
        ),
        (
            "clusterPerConnectionBufferLimitBytes",
            settings.cluster_per_connection_buffer_limit_bytes,
            0,
        ),
        ("httpMaxConcurrentStreams", settings.http_max_concurrent_streams, 1),
        (
            "http2InitialStreamWindowSize",
            settings.http2_initial_stream_window_size,
            WINDOW_LEAST,
        ),
        (
            "http2InitialConnectionWindowSize",
            settings.http2_initial_connection_window_size,
            WINDOW_LEAST,
        ),
        ("listenerConnectionLimit", settings.listener_connection_limit, 1),
        (
            "globalDownstreamConnectionLimit",
            settings.global_downstream_connection_limit,
            1,
        ),
    ];
    for (field, value, least) in least {
        if let Some(value) = value.filter(|value| *value < least) {
            report.error(format!("{at}.{field}"), format!("{value} is less than {least}"));
        }
    }
    let timeouts = [
        ("httpIdleTimeout", settings.http_idle_timeout),
        ("httpMaxConnectionDuration", settings.http_max_connection_duration),
        ("httpDrainTimeout", settings.http_drain_timeout),
        ("httpRequestTimeout", settings.http_request_timeout),
        ("httpRequestHeadersTimeout", settings.http_request_headers_timeout),
        ("httpStreamIdleTimeout", settings.http_stream_idle_timeout),
        ("httpMaxStreamDuration", settings.http_max_stream_duration),
    ];
    for (field, timeout) in timeouts {
        if let Some(timeout) = timeout.filter(|timeout| *timeout < Duration::ZERO) {
            report.error(
                format!("{at}.{field}"),
                format!("{} is negative", shown(&timeout.to_string())),
            );
        }
    }
}
