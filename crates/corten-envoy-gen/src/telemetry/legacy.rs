//! What the mesh's configuration says about logs and traces by itself, where no Telemetry does.

use corten_api::istio::proxy_config::{Tracing as Written, TracingTracer};
use corten_envoy::envoy::config::accesslog::v3::AccessLog;

use super::logging;
use crate::Context;

/// The log that the mesh's configuration asks for.
pub(super) fn access_log(cx: &Context<'_>) -> Vec<AccessLog> {
    let mesh = cx.mesh();
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    vec![logging::of_file(&mesh.access_log_file, logging::format_of_mesh(mesh))]
}

/// The cluster of the log service, which proxies have from the start.
const LOG_SERVICE: &str = "envoy_accesslog_service";

/// The log service of the proxy's configuration, for requests and for connections, where the mesh asks for it and the proxy has one: a
/// listener that names a cluster that is not there is refused.
pub(super) fn log_service(cx: &Context<'_>) -> Option<[AccessLog; 2]> {
    let service = cx.proxy_config()?.envoy_access_log_service.as_ref()?;
    let wanted = cx.mesh().enable_envoy_access_log_service && !service.address.is_empty();
    wanted.then(|| {
        [
            logging::over_grpc("http_envoy_accesslog", LOG_SERVICE, true),
            logging::over_grpc("tcp_envoy_accesslog", LOG_SERVICE, false),
        ]
    })
}

/// The same for what a listener has no filter chain for.
pub(super) fn log_service_of_listeners() -> AccessLog {
    logging::over_grpc("listener_envoy_accesslog", LOG_SERVICE, false)
}

/// What the proxy's configuration says about traces.
pub(super) fn tracing<'a>(cx: &'a Context<'_>) -> Option<&'a Written> {
    cx.proxy_config()?.tracing.as_ref()
}

/// Whether the bootstrap of proxies has the tracer.
pub(super) fn from_the_start(written: &Written) -> bool {
    matches!(
        &written.tracer,
        Some(TracingTracer::Zipkin(_) | TracingTracer::Datadog(_))
    )
}

/// Where a tracer is: `host:port` of a service, which is called as such.
pub(super) fn zipkin(written: &Written) -> Option<(&str, u16)> {
    let Some(TracingTracer::Zipkin(zipkin)) = &written.tracer else {
        return None;
    };
    if written.tls_settings.is_some() {
        return None;
    }
    let (host, port) = zipkin.address.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}
