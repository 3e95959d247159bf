//! What a traffic policy says about connections and hosts: pools, limits, keepalive, hosts that fail.

use corten_api::istio::destination_rule::{
    ConnectionPoolSettings, HTTPSettings, HTTPSettingsH2UpgradePolicy, OutlierDetection as Outliers, RetryBudget,
    TcpKeepalive,
};
use corten_api::istio::mesh_config::MeshConfigH2UpgradePolicy;
use corten_core::{Duration, Protocol};
use corten_envoy::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
                circuit_breakers::{Thresholds, thresholds},
            },
            common::matcher::v3::{
                HttpHeadersMatch, MatchPredicate,
                match_predicate::{MatchSet, Rule},
            },
            core::v3::{HttpProtocolOptions, KeepaliveSettings, TcpKeepalive as Keepalive},
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::upstreams::http::v3::http_protocol_options,
        r#type::{
            matcher::v3::{StringMatcher, string_matcher::MatchPattern},
            v3::Percent,
        },
    },
    google::protobuf,
    seconds, uint32,
};

use super::http::{Http, Speaks};
use crate::Context;

/// A span of time that proxies take only if it is not nothing.
fn longer_than_none(duration: Option<Duration>) -> Option<protobuf::Duration> {
    span(duration).filter(|span| span.seconds != 0 || span.nanos != 0)
}

/// A span of time as a message; negative ones are none.
pub(super) fn span(duration: Option<Duration>) -> Option<protobuf::Duration> {
    duration.and_then(Duration::to_std).map(corten_envoy::duration)
}

fn positive(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

/// How long connecting may take where no rule says.
pub(super) fn connect_timeout(cx: &Context<'_>) -> protobuf::Duration {
    longer_than_none(cx.mesh().connect_timeout).unwrap_or_else(|| seconds(10))
}

/// No limits: what counts limits the connections before.
pub(super) fn unlimited() -> CircuitBreakers {
    let all = || uint32(u32::MAX);
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: all(),
            max_pending_requests: all(),
            max_requests: all(),
            max_retries: all(),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// Whether a host is spoken to in HTTP/2 although its port does not say so.
pub(super) fn upgrades(cx: &Context<'_>, protocol: Protocol, pool: Option<&ConnectionPoolSettings>) -> bool {
    if let Some(http) = pool.and_then(|pool| pool.http.as_ref()) {
        if http.use_client_protocol {
            return false;
        }
        match http.h2_upgrade_policy {
            HTTPSettingsH2UpgradePolicy::Upgrade => return true,
            HTTPSettingsH2UpgradePolicy::DoNotUpgrade => return false,
            HTTPSettingsH2UpgradePolicy::Default => {}
        }
    }
    protocol.is_http() && cx.mesh().h2_upgrade_policy == MeshConfigH2UpgradePolicy::Upgrade
}

/// Limits, timeouts and keepalive. Limits that nobody set are as high as they can be: Envoy's own are for the edge, not for a
/// mesh in which every pod is a client.
pub(super) fn connections(
    cx: &Context<'_>,
    cluster: &mut Cluster,
    http: &mut Http,
    pool: Option<&ConnectionPoolSettings>,
    budget: Option<&RetryBudget>,
) {
    let of_http = pool.and_then(|pool| pool.http.as_ref());
    let of_tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let limit = |set: Option<u32>| uint32(set.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(of_tcp.and_then(|tcp| positive(tcp.max_connections))),
        max_pending_requests: limit(of_http.and_then(|http| positive(http.http1_max_pending_requests))),
        max_requests: limit(of_http.and_then(|http| positive(http.http2_max_requests))),
        max_retries: limit(of_http.and_then(|http| positive(http.max_retries))),
        retry_budget: budget.map(retry_budget),
        ..Thresholds::default()
    };
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![thresholds],
        ..CircuitBreakers::default()
    });
    let own_timeout = of_tcp.and_then(|tcp| longer_than_none(tcp.connect_timeout));
    cluster.connect_timeout = own_timeout.or_else(|| Some(connect_timeout(cx)));
    keepalive(cluster, cx.mesh().tcp_keepalive.as_ref());
    keepalive(cluster, of_tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()));

    let idle = of_http
        .and_then(|http| span(http.idle_timeout))
        .or_else(|| of_tcp.and_then(|tcp| span(tcp.idle_timeout)));
    let lifetime = of_tcp.and_then(|tcp| span(tcp.max_connection_duration));
    let requests = of_http.and_then(|http| positive(http.max_requests_per_connection));
    if idle.is_some() || lifetime.is_some() || requests.is_some() {
        let common = http.common.get_or_insert_default();
        *common = HttpProtocolOptions {
            idle_timeout: idle.or(common.idle_timeout),
            max_connection_duration: lifetime,
            max_requests_per_connection: requests.and_then(uint32),
            ..std::mem::take(common)
        };
    }
    if let Some(settings) = of_http {
        http2(http, settings);
        if settings.use_client_protocol {
            http.as_client();
        }
    }
}

fn http2(http: &mut Http, settings: &HTTPSettings) {
    if let Speaks::Two(options) = &mut http.speaks {
        options.max_concurrent_streams = positive(settings.max_concurrent_streams).and_then(uint32);
        options.connection_keepalive = settings.http2_keep_alive.as_ref().map(|keepalive| KeepaliveSettings {
            interval: span(keepalive.interval),
            timeout: span(keepalive.timeout),
            ..KeepaliveSettings::default()
        });
    }
}

fn retry_budget(budget: &RetryBudget) -> thresholds::RetryBudget {
    thresholds::RetryBudget {
        budget_percent: Some(Percent {
            value: budget.percent.unwrap_or(20.0),
        }),
        budget_interval: span(budget.budget_interval),
        min_retry_concurrency: uint32(if budget.min_retry_concurrency > 0 {
            budget.min_retry_concurrency
        } else {
            3
        }),
    }
}

/// Probes of silent connections; what says nothing leaves it to the operating system.
fn keepalive(cluster: &mut Cluster, settings: Option<&TcpKeepalive>) {
    let Some(settings) = settings else { return };
    let options: &mut UpstreamConnectionOptions = cluster.upstream_connection_options.get_or_insert_default();
    let keepalive: &mut Keepalive = options.tcp_keepalive.get_or_insert_default();
    let whole = |duration: Option<Duration>| {
        let seconds = duration.and_then(Duration::to_std)?.as_secs();
        uint32(u32::try_from(seconds).unwrap_or(u32::MAX))
    };
    if settings.probes > 0 {
        keepalive.keepalive_probes = uint32(settings.probes);
    }
    keepalive.keepalive_time = whole(settings.time).or(keepalive.keepalive_time);
    keepalive.keepalive_interval = whole(settings.interval).or(keepalive.keepalive_interval);
}

/// When hosts are left out for a while. Success rates never count: they compare hosts of which meshes have few.
/// `spreads`: the service asks for near endpoints, so that those which are not ready are known, and never called.
pub(super) fn outliers(cluster: &mut Cluster, http: &mut Http, settings: &Outliers, spreads: bool) {
    let enforced = |count: u32| uint32(if count > 0 { 100 } else { 0 });
    let mut detection = OutlierDetection {
        enforcing_success_rate: uint32(0),
        consecutive_5xx: settings.consecutive_5xx_errors.and_then(uint32),
        enforcing_consecutive_5xx: settings.consecutive_5xx_errors.and_then(enforced),
        consecutive_gateway_failure: settings.consecutive_gateway_errors.and_then(uint32),
        enforcing_consecutive_gateway_failure: settings.consecutive_gateway_errors.and_then(enforced),
        interval: longer_than_none(settings.interval),
        base_ejection_time: longer_than_none(settings.base_ejection_time),
        max_ejection_percent: positive(settings.max_ejection_percent.min(100)).and_then(uint32),
        ..OutlierDetection::default()
    };
    if settings.split_external_local_origin_errors {
        detection.split_external_local_origin_errors = true;
        detection.enforcing_local_origin_success_rate = uint32(0);
        if let Some(count) = settings.consecutive_local_origin_failures.filter(|count| *count > 0) {
            detection.consecutive_local_origin_failure = uint32(count);
            detection.enforcing_consecutive_local_origin_failure = uint32(100);
        }
    }
    cluster.outlier_detection = Some(detection);
    if settings.min_health_percent >= 0 {
        let percent = if spreads {
            0
        } else {
            settings.min_health_percent.min(100)
        };
        let common = cluster.common_lb_config.get_or_insert_default();
        common.healthy_panic_threshold = Some(Percent { value: percent.into() });
    }
    let codes = &settings.outlier_detection_http_error_codes;
    if !codes.is_empty() {
        http.outliers = Some(http_protocol_options::OutlierDetection {
            error_matcher: Some(any_status(codes)),
        });
    }
}

fn any_status(codes: &[u32]) -> MatchPredicate {
    let mut rules: Vec<MatchPredicate> = codes.iter().map(|code| status(*code)).collect();
    if rules.len() > 1 {
        return MatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules })),
        };
    }
    rules.pop().unwrap_or_default()
}

fn status(code: u32) -> MatchPredicate {
    let header = HeaderMatcher {
        name: ":status".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(code.to_string())),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    MatchPredicate {
        rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![header],
        })),
    }
}
