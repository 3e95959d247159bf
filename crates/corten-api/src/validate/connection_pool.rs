//! Connection pools and outlier detection, of a DestinationRule and of the mesh.

use corten_core::Duration;

use super::{Report, text};
use crate::istio::{
    destination_rule::{
        ConnectionPoolSettings, HTTPSettings, HTTPSettingsH2UpgradePolicy, OutlierDetection, TCPSettings,
    },
    mesh_config::DefaultTrafficPolicy,
};

/// The policy towards all hosts of the mesh.
pub fn default_traffic_policy(at: &str, policy: &DefaultTrafficPolicy, report: &mut Report) {
    if let Some(pool) = &policy.connection_pool {
        let at = format!("{at}.connectionPool");
        // The mesh's default says nothing of keep-alives.
        let mut pool = pool.clone();
        if let Some(http) = &mut pool.http {
            http.http2_keep_alive = None;
        }
        connection_pool(&at, &pool, report);
    }
    if let Some(outlier) = &policy.outlier_detection {
        outlier_detection(&format!("{at}.outlierDetection"), outlier, Deprecations::Ignore, report);
    }
}

/// How large and how long-lived connections may be.
pub(super) fn connection_pool(at: &str, pool: &ConnectionPoolSettings, report: &mut Report) {
    if pool.http.is_none() && pool.tcp.is_none() {
        report.error(at, "needs tcp or http");
    }
    if let Some(http) = &pool.http {
        validate_http(&format!("{at}.http"), http, report);
    }
    if let Some(tcp) = &pool.tcp {
        validate_tcp(&format!("{at}.tcp"), tcp, report);
    }
}

fn not_negative(at: &str, fields: &[(&str, i32)], report: &mut Report) {
    for (field, value) in fields.iter().filter(|(_, value)| *value < 0) {
        report.error(format!("{at}.{field}"), format!("{value} must not be negative"));
    }
}

pub(super) fn durations(at: &str, fields: &[(&str, Option<Duration>)], report: &mut Report) {
    for (field, duration) in fields {
        if let Some(duration) = duration {
            report.check(format!("{at}.{field}"), text::duration(*duration));
        }
    }
}

fn validate_http(at: &str, http: &HTTPSettings, report: &mut Report) {
    let numbers = [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ];
    not_negative(at, &numbers, report);
    durations(at, &[("idleTimeout", http.idle_timeout)], report);
    if http.h2_upgrade_policy == HTTPSettingsH2UpgradePolicy::Upgrade && http.use_client_protocol {
        report.error(
            format!("{at}.useClientProtocol"),
            "must not be true when h2UpgradePolicy is UPGRADE",
        );
    }
    if let Some(keep_alive) = &http.http2_keep_alive {
        for (field, duration) in [("interval", keep_alive.interval), ("timeout", keep_alive.timeout)] {
            let at = format!("{at}.http2KeepAlive.{field}");
            match duration {
                Some(duration) => report.check(at, text::duration(duration)),
                None => report.error(at, "required"),
            }
        }
    }
}

fn validate_tcp(at: &str, tcp: &TCPSettings, report: &mut Report) {
    not_negative(at, &[("maxConnections", tcp.max_connections)], report);
    // Less than a millisecond of idle time means none at all, which is allowed.
    let idle = tcp.idle_timeout.filter(|idle| idle.as_nanos() / 1_000_000 != 0);
    let fields = [
        ("connectTimeout", tcp.connect_timeout),
        ("maxConnectionDuration", tcp.max_connection_duration),
        ("idleTimeout", idle),
    ];
    durations(at, &fields, report);
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let at = format!("{at}.tcpKeepalive");
        durations(
            &at,
            &[("time", keepalive.time), ("interval", keepalive.interval)],
            report,
        );
    }
}

/// Whether old fields are warned about.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Deprecations {
    Warn,
    Ignore,
}

/// When a host that fails is left out.
pub(super) fn outlier_detection(at: &str, outlier: &OutlierDetection, old: Deprecations, report: &mut Report) {
    durations(
        at,
        &[
            ("baseEjectionTime", outlier.base_ejection_time),
            ("interval", outlier.interval),
        ],
        report,
    );
    if outlier.consecutive_errors != 0 && old == Deprecations::Warn {
        let message = "deprecated; use consecutiveGatewayErrors or consecutive5xxErrors";
        report.warning(format!("{at}.consecutiveErrors"), message);
    }
    let local = outlier
        .consecutive_local_origin_failures
        .is_some_and(|failures| failures > 0);
    if local && !outlier.split_external_local_origin_errors {
        let message = "has no effect unless splitExternalLocalOriginErrors is true";
        report.error(format!("{at}.consecutiveLocalOriginFailures"), message);
    }
    report.check(
        format!("{at}.maxEjectionPercent"),
        text::percent(outlier.max_ejection_percent),
    );
    report.check(
        format!("{at}.minHealthPercent"),
        text::percent(outlier.min_health_percent),
    );
}
