//! How often, and after which failures, a request is tried again.

use corten_api::istio::virtual_service::HTTPRetry;
use corten_envoy::{
    any,
    envoy::{
        config::route::v3::{
            RetryPolicy,
            retry_policy::{RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority},
        },
        extensions::retry::{
            host::previous_hosts::v3::PreviousHostsPredicate,
            priority::previous_priorities::v3::PreviousPrioritiesConfig,
        },
    },
    uint32,
};

use super::http::span;

/// After what a request is tried again that nobody said anything about.
const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// The same for requests to the workload itself: only what certainly was not seen by it.
const DEFAULT_INBOUND: &str = "reset-before-request";
const STATUS_CODES: &str = "retriable-status-codes";

/// The policy of a route to other workloads; `None`: requests are not tried again. With consistent hashing, an endpoint that
/// failed may be chosen once more: there is no other.
pub(super) fn outbound(wanted: Option<&HTTPRetry>, hashed: bool) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        num_retries: uint32(2),
        retry_on: DEFAULT.to_owned(),
        host_selection_retry_max_attempts: 5,
        retry_host_predicate: if hashed { Vec::new() } else { vec![other_hosts()] },
        ..RetryPolicy::default()
    };
    let Some(wanted) = wanted else {
        return Some(policy);
    };
    fill(&mut policy, wanted)?;
    policy.per_try_timeout = wanted.per_try_timeout.map(span);
    match wanted.retry_ignore_previous_hosts {
        Some(true) => policy.retry_host_predicate = vec![other_hosts()],
        Some(false) => policy.retry_host_predicate.clear(),
        None => {}
    }
    if wanted.retry_remote_localities == Some(true) {
        let config = PreviousPrioritiesConfig { update_frequency: 2 };
        policy.retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(any(&config))),
        });
    }
    Some(policy)
}

/// The policy of a route to the workload itself.
pub(super) fn inbound(wanted: Option<&HTTPRetry>) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        num_retries: uint32(2),
        retry_on: DEFAULT_INBOUND.to_owned(),
        ..RetryPolicy::default()
    };
    if let Some(wanted) = wanted {
        fill(&mut policy, wanted)?;
    }
    Some(policy)
}

/// Fills in what both know; `None`: no attempts are wanted.
fn fill(policy: &mut RetryPolicy, wanted: &HTTPRetry) -> Option<()> {
    let attempts = u32::try_from(wanted.attempts).ok().filter(|attempts| *attempts > 0)?;
    policy.num_retries = uint32(attempts);
    if !wanted.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&wanted.retry_on);
    }
    policy.retry_back_off = wanted.backoff.map(|backoff| RetryBackOff {
        base_interval: Some(span(backoff)),
        max_interval: None,
    });
    Some(())
}

/// Numbers among the conditions are status codes, and those are tried again under a condition of their own.
fn conditions(text: &str) -> (String, Vec<u32>) {
    let mut codes = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) if is_status(code) => codes.push(code),
            _ => named.push(part),
        }
    }
    if !codes.is_empty() && !named.iter().any(|name| name.contains(STATUS_CODES)) {
        named.push(STATUS_CODES);
    }
    (named.join(","), codes)
}

/// Whether a number is a status of HTTP that has a name.
pub(super) fn is_status(code: u32) -> bool {
    matches!(
        code,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

fn other_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(
            &PreviousHostsPredicate {},
        ))),
    }
}
