//! Which places are preferred: weights, priorities, and what the cluster is told of them.
//!
//! A DestinationRule counts before what the service asks for, and that before what the mesh does.

use std::collections::BTreeMap;

use corten_api::istio::{
    destination_rule::{
        Distribute, LoadBalancerSettings, LocalityLoadBalancerSetting, LocalityLoadBalancerSettingFailover,
        ZoneAwareLoadBalancerSetting, ZoneAwareLoadBalancerSettingFailover,
    },
    mesh_config::MeshConfig,
};
use corten_core::{LabelMap, Locality};
use corten_envoy::{
    envoy::{
        config::cluster::v3::{
            Cluster,
            cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig},
        },
        r#type::v3::Percent,
    },
    google::protobuf::UInt64Value,
};
use corten_model::input::TrafficDistribution;
use corten_routing::{Proxy, ProxyKind};

use super::{Group, Member};

/// What prefers places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Preference {
    /// Weights, or failover from place to place. `forced`: also without anything that finds out which endpoints fail.
    Places {
        /// The setting.
        setting: LocalityLoadBalancerSetting,
        /// It counts without outlier detection.
        forced: bool,
    },
    /// The own zone, as far as it has capacity.
    Zones(ZoneAwareLoadBalancerSetting),
}

const NETWORK: &str = "topology.istio.io/network";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const NODE: &str = "kubernetes.io/hostname";

/// What prefers places for a service; `None`: nothing does.
pub(crate) fn effective(
    mesh: &MeshConfig,
    rule: Option<&LoadBalancerSettings>,
    service: TrafficDistribution,
) -> Option<Preference> {
    if let Some(zones) = rule.and_then(|rule| rule.zone_aware_lb_setting.clone()) {
        return Some(Preference::Zones(zones));
    }
    let places = |setting: &LocalityLoadBalancerSetting| {
        (setting.enabled != Some(false)).then(|| Preference::Places {
            setting: setting.clone(),
            forced: false,
        })
    };
    if let Some(setting) = rule.and_then(|rule| rule.locality_lb_setting.as_ref()) {
        return places(setting);
    }
    let labels: &[&str] = match service {
        TrafficDistribution::Any => &[],
        TrafficDistribution::SameZone => &[NETWORK, REGION, ZONE],
        TrafficDistribution::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, NODE],
    };
    if !labels.is_empty() {
        return Some(Preference::Places {
            setting: LocalityLoadBalancerSetting {
                failover_priority: labels.iter().map(|label| (*label).to_owned()).collect(),
                ..LocalityLoadBalancerSetting::default()
            },
            forced: true,
        });
    }
    if let Some(zones) = mesh.zone_aware_lb_setting.clone() {
        return Some(Preference::Zones(zones));
    }
    match &mesh.locality_lb_setting {
        Some(setting) => places(setting),
        None => places(&LocalityLoadBalancerSetting::default()),
    }
}

/// Tells a cluster that its places have weights, or that zones count.
pub(crate) fn configure(cluster: &mut Cluster, preference: Option<&Preference>, kind: ProxyKind) {
    let detects = cluster.outlier_detection.is_some();
    let weighted = || LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
    let specifier = match preference {
        Some(Preference::Places { setting, forced }) => {
            let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
            (!setting.distribute.is_empty() || ((*forced || detects) && fails_over)).then(weighted)
        }
        // A waypoint has no zone of its own that clients would share.
        Some(Preference::Zones(_)) if kind == ProxyKind::Waypoint => None,
        Some(Preference::Zones(setting)) => Some(LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
            routing_enabled: (setting.enabled == Some(false)).then_some(Percent { value: 0.0 }),
            min_cluster_size: setting.min_cluster_size.map(|value| UInt64Value { value }),
            ..ZoneAwareLbConfig::default()
        })),
        None => None,
    };
    if specifier.is_some() {
        cluster
            .common_lb_config
            .get_or_insert_default()
            .locality_config_specifier = specifier;
    }
}

/// Orders and weighs groups of endpoints for a proxy. `detects`: hosts that fail are found out.
pub(crate) fn apply(groups: &mut Vec<Group>, preference: &Preference, proxy: &Proxy, detects: bool) {
    let own = &proxy.locality;
    match preference {
        Preference::Places { setting, .. } if !setting.distribute.is_empty() => {
            distribute(groups, own, &setting.distribute)
        }
        Preference::Places { setting, forced } if *forced || detects => {
            if setting.failover_priority.is_empty() {
                by_place(groups, own, &setting.failover);
            } else {
                by_labels(groups, proxy, &setting.failover_priority);
                if !setting.failover.is_empty() {
                    by_place(groups, own, &setting.failover);
                }
            }
        }
        Preference::Places { .. } => {}
        Preference::Zones(setting) if setting.enabled == Some(false) || proxy.kind == ProxyKind::Waypoint => {}
        Preference::Zones(setting) => {
            if !setting.failover_priority.is_empty() {
                by_labels(groups, proxy, &setting.failover_priority);
            }
            by_region(groups, &own.region, &setting.failover);
        }
    }
}

/// Gives the places that a rule for the own place names their shares, each in proportion to what it has; the others get nothing.
fn distribute(groups: &mut [Group], own: &Locality, rules: &[Distribute]) {
    let Some(rule) = rules
        .iter()
        .find(|rule| own.matches(&Locality::from(rule.from.as_str())))
    else {
        return;
    };
    let mut named = vec![false; groups.len()];
    for (to, share) in &rule.to {
        let to = Locality::from(to.as_str());
        let fits: Vec<usize> = (0..groups.len())
            .filter(|at| !named[*at] && groups[*at].locality.matches(&to))
            .collect();
        let total: u64 = fits.iter().map(|at| u64::from(groups[*at].weight)).sum();
        for at in fits {
            named[at] = true;
            let part = (u64::from(groups[at].weight) * u64::from(*share)).div_ceil(total.max(1));
            if part > 0 {
                groups[at].weight = u32::try_from(part).unwrap_or(u32::MAX);
            }
        }
    }
    for (group, named) in groups.iter_mut().zip(named) {
        if !named {
            group.members.clear();
        }
    }
}

/// The own place first, then those that share most with it; of other regions, the one that a rule names first.
fn by_place(groups: &mut [Group], own: &Locality, rules: &[LocalityLoadBalancerSettingFailover]) {
    let named = rules.iter().find(|rule| rule.from == own.region).map(|rule| &rule.to);
    for group in groups.iter_mut() {
        let place = &group.locality;
        let distance = match named {
            _ if place == own => 0,
            _ if place.region == own.region && place.zone == own.zone => 1,
            _ if place.region == own.region => 2,
            Some(named) if place.region != *named => 4,
            _ => 3,
        };
        group.priority = group.priority * 5 + distance;
    }
    close_gaps(groups);
}

/// The own region first, in which zones are then balanced; then the region that a rule names.
fn by_region(groups: &mut [Group], own: &str, rules: &[ZoneAwareLoadBalancerSettingFailover]) {
    let named = rules.iter().find(|rule| rule.from == own).map(|rule| rule.to.as_str());
    for group in groups.iter_mut() {
        let region = group.locality.region.as_str();
        let distance = match named {
            _ if region == own => 0,
            Some(named) if region == named => 1,
            _ => 2,
        };
        group.priority = group.priority * 3 + distance;
    }
    close_gaps(groups);
}

/// Endpoints that share the first labels with the proxy first. The network, where it is the first label, is weighed by itself:
/// all of the own network come before all of others, and labels that follow order both.
fn by_labels(groups: &mut Vec<Group>, proxy: &Proxy, labels: &[String]) {
    let wanted: Vec<(&str, Option<&str>)> = labels
        .iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (label.as_str(), None),
        })
        .collect();
    let own = |key: &str| own_label(proxy, key);
    let mut split: Vec<Group> = Vec::new();
    for group in groups.drain(..) {
        let mut parts: BTreeMap<usize, Vec<Member>> = BTreeMap::new();
        for member in group.members {
            parts.entry(distance(&member, &wanted, own)).or_default().push(member);
        }
        split.extend(parts.into_iter().map(|(distance, members)| Group {
            locality: group.locality.clone(),
            priority: u32::try_from(distance).unwrap_or(u32::MAX),
            weight: super::weight_of(&members),
            members,
        }));
    }
    *groups = split;
    close_gaps(groups);
}

fn distance(member: &Member, wanted: &[(&str, Option<&str>)], own: impl Fn(&str) -> String) -> usize {
    let mut apart = 0;
    for (at, (key, value)) in wanted.iter().enumerate() {
        let ours = value.map_or_else(|| own(key), str::to_owned);
        if member.label(key).unwrap_or_default() == ours {
            continue;
        }
        if at == 0 && *key == NETWORK {
            apart = wanted.len();
            continue;
        }
        return apart + wanted.len() - at;
    }
    apart
}

/// A label of the proxy: of its place where it has one, else its workload's own.
fn own_label(proxy: &Proxy, key: &str) -> String {
    let of_place = match key {
        REGION => proxy.locality.region.as_str(),
        ZONE => proxy.locality.zone.as_str(),
        SUBZONE => proxy.locality.subzone.as_str(),
        NETWORK => &proxy.network,
        "topology.istio.io/cluster" => &proxy.cluster,
        NODE => &proxy.node,
        _ => "",
    };
    let labels: &LabelMap = &proxy.labels;
    match of_place {
        "" => labels.get(key).cloned().unwrap_or_default(),
        value => value.to_owned(),
    }
}

/// Priorities count from 0 without gaps: Envoy takes no others.
fn close_gaps(groups: &mut [Group]) {
    let mut used: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in groups {
        let at = used.binary_search(&group.priority).unwrap_or_default();
        group.priority = u32::try_from(at).unwrap_or(u32::MAX);
    }
}
