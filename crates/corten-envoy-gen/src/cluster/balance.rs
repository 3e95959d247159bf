//! How an endpoint is picked.

use corten_api::istio::destination_rule::{
    BackendUtilizationLB, ConsistentHashLB, ConsistentHashLBHashAlgorithm, LoadBalancerSettings,
    LoadBalancerSettingsLbPolicy as Algorithm, SimpleLB, WarmupConfiguration,
};
use corten_envoy::{
    any,
    envoy::{
        config::{
            cluster::v3::{
                Cluster, LoadBalancingPolicy,
                cluster::{
                    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
                    SlowStartConfig,
                },
                load_balancing_policy,
            },
            core::v3::{RuntimeDouble, TypedExtensionConfig},
        },
        extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin,
        r#type::v3::Percent,
    },
    google::protobuf::{FloatValue, UInt64Value},
};

use super::policy::span;

/// The points on a ring where nobody says.
const RING_SIZE: u64 = 1024;

/// Whether the address called is to be the address reached.
pub(super) fn is_passthrough(settings: Option<&LoadBalancerSettings>) -> bool {
    let policy = settings.and_then(|settings| settings.lb_policy.as_ref());
    matches!(policy, Some(Algorithm::Simple(SimpleLB::Passthrough)))
}

/// Picks an endpoint as the settings say; by the fewest requests where they say nothing.
pub(super) fn apply(cluster: &mut Cluster, settings: Option<&LoadBalancerSettings>) {
    let (policy, config) = match settings.and_then(|settings| settings.lb_policy.as_ref()) {
        Some(Algorithm::Simple(SimpleLB::Random)) => (LbPolicy::Random, None),
        Some(Algorithm::Simple(SimpleLB::Passthrough)) => (LbPolicy::ClusterProvided, None),
        Some(Algorithm::Simple(SimpleLB::RoundRobin)) => {
            let config = slow_start(settings).map(|slow| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow),
                })
            });
            (LbPolicy::RoundRobin, config)
        }
        Some(Algorithm::Simple(SimpleLB::LeastRequest | SimpleLB::LeastConn | SimpleLB::Unspecified)) | None => {
            let config = slow_start(settings).map(|slow| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
        Some(Algorithm::ConsistentHash(hash)) => consistent(hash),
        Some(Algorithm::BackendUtilization(wanted)) => {
            cluster.load_balancing_policy = Some(by_utilization(wanted));
            (LbPolicy::LoadBalancingPolicyConfig, None)
        }
    };
    cluster.lb_policy = policy.into();
    if config.is_some() {
        cluster.lb_config = config;
    }
}

fn consistent(hash: &ConsistentHashLB) -> (LbPolicy, Option<LbConfig>) {
    let size = |value: u64| (value != 0).then_some(UInt64Value { value });
    let ring = |minimum_ring_size| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(minimum_ring_size),
            ..RingHashLbConfig::default()
        })
    };
    match &hash.hash_algorithm {
        Some(ConsistentHashLBHashAlgorithm::Maglev(maglev)) => {
            let config = size(maglev.table_size).map(|table_size| {
                LbConfig::MaglevLbConfig(MaglevLbConfig {
                    table_size: Some(table_size),
                })
            });
            (LbPolicy::Maglev, config)
        }
        Some(ConsistentHashLBHashAlgorithm::RingHash(settings)) => {
            (LbPolicy::RingHash, size(settings.minimum_ring_size).map(ring))
        }
        None => {
            let points = size(hash.minimum_ring_size).unwrap_or(UInt64Value { value: RING_SIZE });
            (LbPolicy::RingHash, Some(ring(points)))
        }
    }
}

fn slow_start(settings: Option<&LoadBalancerSettings>) -> Option<SlowStartConfig> {
    let settings = settings?;
    if let Some(warmup) = &settings.warmup {
        return Some(warm(warmup));
    }
    settings.warmup_duration_secs.map(|window| SlowStartConfig {
        slow_start_window: span(Some(window)),
        ..SlowStartConfig::default()
    })
}

fn warm(warmup: &WarmupConfiguration) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: span(warmup.duration),
        aggression: Some(RuntimeDouble {
            default_value: warmup.aggression.unwrap_or(1.0),
            // Envoy demands a key; nobody sets this one.
            runtime_key: "(".to_owned(),
        }),
        min_weight_percent: Some(Percent {
            value: warmup.minimum_percent.unwrap_or(10.0),
        }),
    }
}

fn by_utilization(wanted: &BackendUtilizationLB) -> LoadBalancingPolicy {
    let penalty = |percent: u32| FloatValue {
        value: f32::from(u16::try_from(percent).unwrap_or(u16::MAX)) / 100.0,
    };
    let config = ClientSideWeightedRoundRobin {
        blackout_period: span(wanted.weight_stabilization_period),
        weight_expiration_period: span(wanted.weight_expiration_period),
        weight_update_period: span(wanted.weight_update_period),
        error_utilization_penalty: (wanted.error_utilization_penalty_percent > 0)
            .then(|| penalty(wanted.error_utilization_penalty_percent)),
        metric_names_for_computing_utilization: wanted.metric_names_for_computing_utilization.clone(),
        ..ClientSideWeightedRoundRobin::default()
    };
    LoadBalancingPolicy {
        policies: vec![load_balancing_policy::Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "envoy.load_balancing_policies.client_side_weighted_round_robin".to_owned(),
                typed_config: Some(any(&config)),
            }),
        }],
    }
}
