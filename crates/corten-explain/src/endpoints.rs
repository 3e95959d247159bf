//! The share of calls that each endpoint of a cluster gets: by health, priority, locality and weight.

use corten_envoy::envoy::config::cluster::v3::{Cluster, cluster::common_lb_config::LocalityConfigSpecifier};
use corten_envoy::envoy::config::core::v3::{HealthStatus, Metadata, address, envoy_internal_address};
use corten_envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use corten_envoy::google::protobuf::value::Kind;

use crate::listener::address_text;
use crate::trace::{Choice, EndpointShare};

/// How many more endpoints than needed are taken to be there, in percent, unless the endpoints come with another number.
const OVERPROVISIONING_PERCENT: u32 = 140;
/// Under which percentage of healthy endpoints health is ignored, unless the cluster says otherwise.
const PANIC_PERCENT: f64 = 50.0;
/// Under what name endpoints behind internal listeners say which address is meant.
const TARGET_METADATA: &str = "envoy.filters.listener.original_dst";

struct Group<'a> {
    locality: &'a LocalityLbEndpoints,
    endpoints: Vec<(usize, &'a LbEndpoint)>,
}

/// Every endpoint with its share, and why the shares are so, where that is not plain.
pub(crate) fn shares(
    cluster: &Cluster,
    assignment: &ClusterLoadAssignment,
    transport: &dyn Fn(Option<&Metadata>) -> Choice,
) -> (Vec<EndpointShare>, String) {
    let mut found = Vec::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for locality in &assignment.endpoints {
        let mut endpoints = Vec::new();
        for endpoint in &locality.lb_endpoints {
            endpoints.push((found.len(), endpoint));
            found.push(shown(locality, endpoint, transport));
        }
        groups.push(Group { locality, endpoints });
    }
    let priorities = groups
        .iter()
        .map(|group| group.locality.priority)
        .max()
        .map_or(0, |last| last + 1);
    let of = |priority: u32| groups.iter().filter(move |group| group.locality.priority == priority);
    let overprovisioning = assignment
        .policy
        .as_ref()
        .and_then(|policy| policy.overprovisioning_factor.as_ref())
        .map_or(OVERPROVISIONING_PERCENT, |factor| factor.value);
    let health: Vec<f64> = (0..priorities).map(|priority| healthy_percent(of(priority))).collect();
    let panic = cluster
        .common_lb_config
        .as_ref()
        .and_then(|config| config.healthy_panic_threshold.as_ref())
        .map_or(PANIC_PERCENT, |percent| percent.value);
    let mut notes = Vec::new();
    for (priority, (load, panics)) in (0..priorities).zip(loads(&health, overprovisioning, panic)) {
        if load <= 0.0 {
            continue;
        }
        if panics {
            notes.push(format!(
                "too few endpoints of priority {priority} are healthy, so health is ignored"
            ));
        }
        spread(cluster, of(priority), load, panics, &mut found);
    }
    if found
        .iter()
        .any(|endpoint| endpoint.priority > 0 && endpoint.share > 0.0)
        && !found
            .iter()
            .any(|endpoint| endpoint.priority == 0 && endpoint.share > 0.0)
    {
        notes.push("no endpoint of the first priority can be used".to_owned());
    }
    (found, notes.join("; "))
}

/// The load of each priority, as a share, and whether health is ignored there.
fn loads(health: &[f64], overprovisioning: u32, panic: f64) -> Vec<(f64, bool)> {
    let available: Vec<f64> = health
        .iter()
        .map(|health| (health * f64::from(overprovisioning) / 100.0).min(100.0))
        .collect();
    let total = available.iter().sum::<f64>().min(100.0);
    if total <= 0.0 {
        // Nothing is healthy: either health is ignored, or nothing is used.
        let ignores = panic > 0.0;
        return health
            .iter()
            .enumerate()
            .map(|(priority, _)| (if ignores && priority == 0 { 1.0 } else { 0.0 }, ignores))
            .collect();
    }
    let mut left = 100.0;
    let mut loads = Vec::new();
    for (available, health) in available.iter().zip(health) {
        let load = (available * 100.0 / total).min(left);
        left -= load;
        loads.push((load / 100.0, total < 100.0 && *health < panic));
    }
    loads
}

fn is_healthy(endpoint: &LbEndpoint) -> bool {
    matches!(endpoint.health_status(), HealthStatus::Unknown | HealthStatus::Healthy)
}

fn is_degraded(endpoint: &LbEndpoint) -> bool {
    endpoint.health_status() == HealthStatus::Degraded
}

fn healthy_percent<'a>(groups: impl Iterator<Item = &'a Group<'a>>) -> f64 {
    let (mut healthy, mut all) = (0_u32, 0_u32);
    for (_, endpoint) in groups.flat_map(|group| &group.endpoints) {
        all += 1;
        healthy += u32::from(is_healthy(endpoint) || is_degraded(endpoint));
    }
    if all == 0 {
        0.0
    } else {
        f64::from(healthy) * 100.0 / f64::from(all)
    }
}

/// Spreads a priority's load over its endpoints.
fn spread<'a>(
    cluster: &Cluster,
    groups: impl Iterator<Item = &'a Group<'a>> + Clone,
    load: f64,
    panics: bool,
    found: &mut [EndpointShare],
) {
    let weight =
        |endpoint: &LbEndpoint| f64::from(endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value));
    let healthy_only = groups
        .clone()
        .flat_map(|group| &group.endpoints)
        .any(|(_, endpoint)| is_healthy(endpoint));
    let usable = |endpoint: &LbEndpoint| panics || is_healthy(endpoint) || (!healthy_only && is_degraded(endpoint));
    let of_group = |group: &Group<'_>| {
        group
            .endpoints
            .iter()
            .filter(|(_, endpoint)| usable(endpoint))
            .map(|(_, endpoint)| weight(endpoint))
            .sum::<f64>()
    };
    let by_locality = matches!(
        cluster
            .common_lb_config
            .as_ref()
            .and_then(|config| config.locality_config_specifier.as_ref()),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    );
    let locality_weight = |group: &Group<'_>| {
        let usable = of_group(group) > 0.0;
        f64::from(
            group
                .locality
                .load_balancing_weight
                .as_ref()
                .map_or(0, |weight| weight.value),
        ) * f64::from(u8::from(usable))
    };
    let total: f64 = if by_locality {
        groups.clone().map(locality_weight).sum()
    } else {
        groups.clone().map(of_group).sum()
    };
    if total <= 0.0 {
        return;
    }
    for group in groups {
        let weights = of_group(group);
        let part = if by_locality {
            locality_weight(group) / total
        } else {
            weights / total
        };
        for (at, endpoint) in group.endpoints.iter().filter(|(_, endpoint)| usable(endpoint)) {
            found[*at].share = load * part * weight(endpoint) / weights;
        }
    }
}

fn shown(
    locality: &LocalityLbEndpoints,
    endpoint: &LbEndpoint,
    transport: &dyn Fn(Option<&Metadata>) -> Choice,
) -> EndpointShare {
    let (address, id) = match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(inner)) => {
            let id = match inner.address.as_ref().and_then(|address| address.address.as_ref()) {
                Some(address::Address::EnvoyInternalAddress(internal)) => {
                    let Some(envoy_internal_address::AddressNameSpecifier::ServerListenerName(_)) =
                        &internal.address_name_specifier
                    else {
                        return shown_unknown(locality, endpoint, transport);
                    };
                    internal.endpoint_id.parse().ok()
                }
                _ => None,
            };
            (address_text(inner.address.as_ref()), id)
        }
        Some(HostIdentifier::EndpointName(name)) => (name.clone(), None),
        None => return shown_unknown(locality, endpoint, transport),
    };
    let place = locality.locality.as_ref().map_or(String::new(), |place| {
        let parts = [&*place.region, &*place.zone, &*place.sub_zone];
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("/")
    });
    EndpointShare {
        address,
        share: 0.0,
        weight: endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
        priority: locality.priority,
        health: endpoint.health_status().as_str_name().to_owned(),
        locality: place,
        target: target(endpoint.metadata.as_ref()).or(id),
        transport: transport(endpoint.metadata.as_ref()),
    }
}

fn shown_unknown(
    locality: &LocalityLbEndpoints,
    endpoint: &LbEndpoint,
    transport: &dyn Fn(Option<&Metadata>) -> Choice,
) -> EndpointShare {
    EndpointShare {
        address: "none".to_owned(),
        share: 0.0,
        weight: 0,
        priority: locality.priority,
        health: endpoint.health_status().as_str_name().to_owned(),
        locality: String::new(),
        target: None,
        transport: transport(None),
    }
}

/// The address that an internal listener is to reach for the endpoint.
fn target(metadata: Option<&Metadata>) -> Option<std::net::SocketAddr> {
    let local = metadata?.filter_metadata.get(TARGET_METADATA)?.fields.get("local")?;
    match &local.kind {
        Some(Kind::StringValue(text)) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
