//! What a proxy's own configuration (ProxyConfig), or else the mesh's, says about HTTP connections: headers that proxies add or take away,
//! and limits of connections.

use corten_api::istio::proxy_config::{
    ConnectionSettings, ForwardClientCertDetails as Forwarded, HeadersWithUnderscoresAction as Underscores,
    PathWithEscapedSlashesAction as Slashes, Profile, ProxyHeaders,
};
use corten_core::Duration as Time;
use corten_envoy::{
    boolean,
    envoy::{
        config::core::v3::{HttpProtocolOptions, http_protocol_options::HeadersWithUnderscoresAction},
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager,
                http_connection_manager::{
                    ForwardClientCertDetails, PathWithEscapedSlashesAction, ServerHeaderTransformation,
                    SetCurrentClientCertDetails,
                },
            },
        },
    },
    google::protobuf::Duration,
    uint32,
};
use corten_routing::ProxyKind;

use super::filters;
use crate::{Context, cluster, route};

/// Changes a manager by what the configuration says of headers. What comes in is told who called.
pub(crate) fn headers(cx: &Context<'_>, inbound: bool, manager: &mut HttpConnectionManager) {
    let Some(said) = route::proxy_headers(cx) else {
        return;
    };
    server(said, manager);
    if said.request_id.as_ref().and_then(|id| id.disabled) == Some(true) {
        manager.generate_request_id = boolean(false);
    }
    manager.append_x_forwarded_port = said.x_forwarded_port.as_ref().and_then(|port| port.enabled) == Some(true);
    if inbound {
        if let Some(details) = forwarded(said.forwarded_client_cert) {
            manager.forward_client_cert_details = details.into();
        }
        if let Some(details) = &said.set_current_client_cert_details {
            manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
                subject: boolean(details.subject != Some(false)),
                uri: details.uri != Some(false),
                dns: details.dns != Some(false),
                cert: details.cert == Some(true),
                chain: details.chain == Some(true),
                ..SetCurrentClientCertDetails::default()
            });
        }
    }
    if let Some(format) = cluster::header_format(cx) {
        let options = manager.http_protocol_options.get_or_insert_default();
        options.header_key_format = Some(format);
    }
    if said.envoy_debug_headers.as_ref().and_then(|headers| headers.disabled) == Some(true)
        && let Some(router) = manager.http_filters.last_mut()
    {
        let silent = Router {
            suppress_envoy_headers: true,
            ..Router::default()
        };
        *router = filters::http("envoy.filters.http.router", &silent);
    }
}

/// What answers say that they come from.
pub(crate) fn server(said: &ProxyHeaders, manager: &mut HttpConnectionManager) {
    let Some(server) = &said.server else {
        return;
    };
    if server.disabled == Some(true) {
        manager.server_name.clear();
        manager.server_header_transformation = ServerHeaderTransformation::PassThrough.into();
    } else if !server.value.is_empty() {
        manager.server_name.clone_from(&server.value);
    }
}

/// What becomes of a header that says who called; `None`: what usually does.
pub(crate) fn forwarded(said: Forwarded) -> Option<ForwardClientCertDetails> {
    Some(match said {
        Forwarded::Undefined => return None,
        Forwarded::Sanitize => ForwardClientCertDetails::Sanitize,
        Forwarded::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        Forwarded::AppendForward => ForwardClientCertDetails::AppendForward,
        Forwarded::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        Forwarded::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    })
}

/// What the configuration says of connections: the proxy's own, else the mesh's; at the edge, with what an edge needs.
pub(crate) fn connections(cx: &Context<'_>) -> Option<ConnectionSettings> {
    let own = cx.proxy_config().and_then(|config| config.connection_settings.as_ref());
    let mesh = cx.mesh().default_config.as_ref();
    let said = own.or_else(|| mesh.and_then(|config| config.connection_settings.as_ref()))?;
    let mut settings = said.clone();
    if settings.profile == Profile::Edge && cx.proxy.kind == ProxyKind::Router {
        let number = |said: &mut Option<i32>, usual: i32| *said = said.or(Some(usual));
        let time = |said: &mut Option<Time>, usual: i64| *said = said.or(Some(Time::from_secs(usual)));
        number(&mut settings.listener_per_connection_buffer_limit_bytes, 32 << 10);
        time(&mut settings.http_idle_timeout, 3600);
        time(&mut settings.http_stream_idle_timeout, 300);
        time(&mut settings.http_request_timeout, 300);
        time(&mut settings.http_request_headers_timeout, 60);
        number(&mut settings.http_max_concurrent_streams, 100);
        number(&mut settings.http2_initial_stream_window_size, 64 << 10);
        number(&mut settings.http2_initial_connection_window_size, 1 << 20);
        if settings.http_headers_with_underscores_action == Underscores::HeadersWithUnderscoresUnspecified {
            settings.http_headers_with_underscores_action = Underscores::HeadersWithUnderscoresRejectRequest;
        }
        settings.http_merge_slashes = settings.http_merge_slashes.or(Some(true));
        if settings.http_path_with_escaped_slashes_action == Slashes::PathWithEscapedSlashesUnspecified {
            settings.http_path_with_escaped_slashes_action = Slashes::UnescapeAndRedirect;
        }
    }
    Some(settings)
}

/// Changes a manager by that.
pub(crate) fn limit(cx: &Context<'_>, manager: &mut HttpConnectionManager) {
    let Some(said) = connections(cx) else {
        return;
    };
    let time = |said: Option<Time>| said.map(route::span);
    let common = HttpProtocolOptions {
        idle_timeout: time(said.http_idle_timeout),
        max_connection_duration: time(said.http_max_connection_duration),
        max_stream_duration: time(said.http_max_stream_duration),
        headers_with_underscores_action: match said.http_headers_with_underscores_action {
            Underscores::HeadersWithUnderscoresUnspecified | Underscores::HeadersWithUnderscoresAllow => {
                HeadersWithUnderscoresAction::Allow
            }
            Underscores::HeadersWithUnderscoresRejectRequest => HeadersWithUnderscoresAction::RejectRequest,
            Underscores::HeadersWithUnderscoresDropHeader => HeadersWithUnderscoresAction::DropHeader,
        }
        .into(),
        ..HttpProtocolOptions::default()
    };
    if common != HttpProtocolOptions::default() {
        let options = manager.common_http_protocol_options.get_or_insert_default();
        let idle = common.idle_timeout.or(options.idle_timeout);
        *options = HttpProtocolOptions {
            idle_timeout: idle,
            ..common
        };
    }
    let put = |to: &mut Option<Duration>, said: Option<Time>| *to = time(said).or(*to);
    put(&mut manager.stream_idle_timeout, said.http_stream_idle_timeout);
    put(&mut manager.request_timeout, said.http_request_timeout);
    put(&mut manager.request_headers_timeout, said.http_request_headers_timeout);
    put(&mut manager.drain_timeout, said.http_drain_timeout);
    // Less than nothing is no limit.
    let number = |said: Option<i32>| said.and_then(|said| u32::try_from(said).ok()).and_then(uint32);
    let streams = number(said.http_max_concurrent_streams);
    let windows = (
        number(said.http2_initial_stream_window_size),
        number(said.http2_initial_connection_window_size),
    );
    if streams.is_some() || windows.0.is_some() || windows.1.is_some() {
        let options = manager.http2_protocol_options.get_or_insert_default();
        options.max_concurrent_streams = streams;
        options.initial_stream_window_size = windows.0;
        options.initial_connection_window_size = windows.1;
    }
    if let Some(merges) = said.http_merge_slashes {
        manager.merge_slashes = merges;
    }
    let slashes = match said.http_path_with_escaped_slashes_action {
        Slashes::PathWithEscapedSlashesUnspecified => return,
        Slashes::KeepUnchanged => PathWithEscapedSlashesAction::KeepUnchanged,
        Slashes::RejectRequest => PathWithEscapedSlashesAction::RejectRequest,
        Slashes::UnescapeAndRedirect => PathWithEscapedSlashesAction::UnescapeAndRedirect,
        Slashes::UnescapeAndForward => PathWithEscapedSlashesAction::UnescapeAndForward,
    };
    manager.path_with_escaped_slashes_action = slashes.into();
}
