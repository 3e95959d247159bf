//! What filters do on a route: faults and cross-origin requests.

use std::collections::HashMap;

use corten_api::istio::virtual_service::{
    AbortErrorType, CorsPolicy, DelayHttpDelayType, HTTPFaultInjection, HTTPRoute, Percent, StringMatch,
    StringMatchMatchType, UnmatchedPreflights,
};
use corten_envoy::{
    any, boolean,
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                cors::v3::CorsPolicy as Cors,
                fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            },
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{http::span, matching};

/// The settings of filters for a route.
pub(super) fn of_route(route: &HTTPRoute) -> HashMap<String, Any> {
    let fault = route.fault.as_ref().and_then(fault).map(|fault| any(&fault));
    let cors = route.cors_policy.as_ref().map(|policy| any(&cors(policy)));
    let named = [("envoy.filters.http.fault", fault), ("envoy.filters.http.cors", cors)];
    named
        .into_iter()
        .filter_map(|(name, config)| Some((name.to_owned(), config?)))
        .collect()
}

/// A share in parts of a million.
pub(super) fn share(percent: &Percent) -> FractionalPercent {
    let parts = percent.value * 10_000.0;
    FractionalPercent {
        numerator: parts.clamp(0.0, 1_000_000.0) as u32,
        denominator: DenominatorType::Million.into(),
    }
}

/// A share in parts of a hundred.
pub(super) fn percent(value: u32) -> FractionalPercent {
    FractionalPercent {
        numerator: value,
        denominator: DenominatorType::Hundred.into(),
    }
}

pub(super) fn fraction(value: FractionalPercent) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(value),
        ..RuntimeFractionalPercent::default()
    }
}

fn fault(wanted: &HTTPFaultInjection) -> Option<HttpFault> {
    let delay = wanted.delay.as_ref().and_then(|delay| {
        let Some(DelayHttpDelayType::FixedDelay(fixed)) = &delay.http_delay_type else {
            return None;
        };
        let written = u32::try_from(delay.percent).unwrap_or_default();
        Some(FaultDelay {
            percentage: Some(delay.percentage.as_ref().map_or_else(|| percent(written), share)),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(span(*fixed))),
        })
    });
    let abort = wanted.abort.as_ref().and_then(|abort| {
        let error = match abort.error_type.as_ref()? {
            AbortErrorType::HttpStatus(status) => ErrorType::HttpStatus(u32::try_from(*status).ok()?),
            AbortErrorType::GrpcStatus(status) => ErrorType::GrpcStatus(grpc_status(status)?),
            AbortErrorType::Http2Error(_) => return None,
        };
        Some(FaultAbort {
            percentage: abort.percentage.as_ref().map(share),
            error_type: Some(error),
            ..FaultAbort::default()
        })
    });
    (delay.is_some() || abort.is_some()).then(|| HttpFault {
        delay,
        abort,
        ..HttpFault::default()
    })
}

/// The number of a status of gRPC.
pub(super) fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    (0u32..)
        .zip(NAMES)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| number)
}

fn cors(policy: &CorsPolicy) -> Cors {
    let exact = |origin: &String| StringMatch {
        match_type: Some(StringMatchMatchType::Exact(origin.clone())),
    };
    let origins: Vec<StringMatch> = if policy.allow_origins.is_empty() {
        policy.allow_origin.iter().map(exact).collect()
    } else {
        policy.allow_origins.clone()
    };
    Cors {
        allow_origin_string_match: origins.iter().filter_map(matching::text).collect(),
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map(|age| (age.as_nanos() / 1_000_000_000).to_string())
            .unwrap_or_default(),
        allow_credentials: policy.allow_credentials.and_then(boolean),
        filter_enabled: Some(fraction(percent(100))),
        forward_not_matching_preflights: boolean(policy.unmatched_preflights != UnmatchedPreflights::Ignore),
        ..Cors::default()
    }
}
