//! Load balancing: hashing, localities, warm-up.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, text, text::shown};
use crate::istio::destination_rule::{
    ConsistentHashLB, ConsistentHashLBHashAlgorithm, ConsistentHashLBHashKey, LoadBalancerSettings,
    LoadBalancerSettingsLbPolicy, LocalityLoadBalancerSetting, OutlierDetection, ZoneAwareLoadBalancerSetting,
};

/// The larger tables are beyond what proxies accept.
const MAGLEV_TABLE_MAX: u64 = 5_000_011;
const TOPOLOGY: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

/// How an endpoint is picked.
pub(super) fn load_balancer(
    at: &str,
    settings: &LoadBalancerSettings,
    outlier: Option<&OutlierDetection>,
    report: &mut Report,
) {
    if let Some(LoadBalancerSettingsLbPolicy::ConsistentHash(hash)) = &settings.lb_policy {
        consistent_hash(&format!("{at}.consistentHash"), hash, report);
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        report.error(at, "only one of localityLbSetting and zoneAwareLbSetting may be given");
    }
    if let Some(setting) = &settings.locality_lb_setting {
        locality_setting(&format!("{at}.localityLbSetting"), setting, outlier.is_some(), report);
    }
    if let Some(setting) = &settings.zone_aware_lb_setting {
        zone_aware_setting(&format!("{at}.zoneAwareLbSetting"), setting, outlier.is_some(), report);
    }
    if let Some(warmup) = &settings.warmup {
        let at = format!("{at}.warmup");
        match warmup.duration {
            Some(duration) => report.check(format!("{at}.duration"), text::duration(duration)),
            None => report.error(format!("{at}.duration"), "required"),
        }
        if warmup.minimum_percent.is_some_and(|percent| percent > 100.0) {
            report.error(format!("{at}.minimumPercent"), "must be at most 100");
        }
        if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
            report.error(format!("{at}.aggression"), "must be greater than 0");
        }
    }
}

fn consistent_hash(at: &str, hash: &ConsistentHashLB, report: &mut Report) {
    if let Some(ConsistentHashLBHashKey::HttpCookie(cookie)) = &hash.hash_key {
        let at = format!("{at}.httpCookie");
        if cookie.name.is_empty() {
            report.error(format!("{at}.name"), "required");
        }
        let mut names = BTreeSet::new();
        for (i, attribute) in cookie.attributes.iter().enumerate() {
            let at = format!("{at}.attributes[{i}].name");
            if attribute.name.is_empty() {
                report.error(at, "required");
            } else if !names.insert(&attribute.name) {
                report.error(at, format!("{} is already given", shown(&attribute.name)));
            }
        }
    }
    if hash.minimum_ring_size != 0 {
        report.warning(
            format!("{at}.minimumRingSize"),
            "deprecated; use ringHash.minimumRingSize",
        );
        if hash.hash_algorithm.is_some() {
            report.error(
                format!("{at}.minimumRingSize"),
                "cannot be given beside ringHash or maglev; remove it",
            );
        }
    }
    if let Some(ConsistentHashLBHashAlgorithm::Maglev(maglev)) = &hash.hash_algorithm {
        let at = format!("{at}.maglev.tableSize");
        match maglev.table_size {
            0 => report.error(at, "required"),
            size if size >= MAGLEV_TABLE_MAX => report.error(at, format!("must be less than {MAGLEV_TABLE_MAX}")),
            size if !is_prime(size) => report.error(at, format!("{size} is not a prime number")),
            _ => {}
        }
    }
}

/// For numbers below [`MAGLEV_TABLE_MAX`]. One counts, as it does for Istio.
fn is_prime(number: u64) -> bool {
    number < 4
        || (number % 2 == 1
            && (3..)
                .step_by(2)
                .take_while(|f| f * f <= number)
                .all(|f| !number.is_multiple_of(f)))
}

/// Weights and failover between places.
pub fn locality_setting(at: &str, setting: &LocalityLoadBalancerSetting, detects_outliers: bool, report: &mut Report) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        report.error(at, "only one of distribute and failover may be given");
        return;
    }
    let topology = setting
        .failover_priority
        .iter()
        .find(|label| TOPOLOGY.contains(&label.as_str()));
    if let (false, Some(label)) = (setting.failover.is_empty(), topology) {
        report.error(
            format!("{at}.failoverPriority"),
            format!("{} cannot be given beside failover", shown(label)),
        );
        return;
    }
    for (i, distribute) in setting.distribute.iter().enumerate() {
        let at = format!("{at}.distribute[{i}].to");
        if distribute.to.values().any(|weight| !(1..=100).contains(weight)) {
            report.error(at, "a weight is from 1 to 100");
            return;
        }
        let sum: u32 = distribute.to.values().sum();
        if sum != 100 {
            report.error(at, format!("the weights add up to {sum}, not to 100"));
            return;
        }
        report.check(at, localities(distribute.to.keys().map(String::as_str)));
    }
    report.check(
        format!("{at}.distribute"),
        localities(setting.distribute.iter().map(|d| d.from.as_str())),
    );
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if fails_over && !detects_outliers {
        report.warning(at, "without outlierDetection failover never happens");
    }
    let pairs = setting.failover.iter().map(|f| (f.from.as_str(), f.to.as_str()));
    failover(at, pairs, report);
}

/// Failover that knows zones by itself.
pub fn zone_aware_setting(
    at: &str,
    setting: &ZoneAwareLoadBalancerSetting,
    detects_outliers: bool,
    report: &mut Report,
) {
    for (i, label) in setting.failover_priority.iter().enumerate() {
        if TOPOLOGY.contains(&label.as_str()) {
            let message = format!("{}: regions and zones are considered anyway; remove it", shown(label));
            report.error(format!("{at}.failoverPriority[{i}]"), message);
        }
    }
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if fails_over && !detects_outliers {
        report.warning(at, "without outlierDetection failover never happens");
    }
    let pairs = setting.failover.iter().map(|f| (f.from.as_str(), f.to.as_str()));
    failover(at, pairs, report);
}

fn failover<'a>(at: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>, report: &mut Report) {
    for (i, (from, to)) in pairs.enumerate() {
        let at = format!("{at}.failover[{i}]");
        if from == to {
            report.error(&at, format!("fails over from {} to itself", shown(from)));
        }
        if from.contains('/') || to.contains('/') {
            report.error(&at, "names regions only, without zones");
        }
        if from.contains('*') || to.contains('*') {
            report.error(&at, "regions must be named; wildcards are not supported");
        }
    }
}

/// Places that must not overlap: `region/zone/subzone`, where an end may be `*` or missing.
pub fn localities<'a>(places: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for place in places {
        let overlaps = || Err(format!("{} overlaps with another one", shown(place)));
        let stars = place.matches('*').count();
        if stars > 1 || (stars == 1 && !place.ends_with('*')) {
            return Err(format!("{} may have one wildcard, at its end", shown(place)));
        }
        if seen.contains_key("*") {
            return overlaps();
        }
        let parts: Vec<&str> = place.splitn(3, '/').collect();
        if parts.contains(&"") {
            return Err(format!(
                "{} must not have an empty region, zone or subzone",
                shown(place)
            ));
        }
        let region = parts.first().copied().unwrap_or_default();
        let known = seen.contains_key(region);
        let zones = seen.entry(region).or_default();
        match parts.as_slice() {
            [_, zone, rest @ ..] => {
                if zones.contains_key("*") {
                    return overlaps();
                }
                let subzone = rest.first().copied().unwrap_or("*");
                let subzones = zones.entry(zone).or_default();
                let clash = if rest.is_empty() {
                    !subzones.is_empty()
                } else {
                    subzones.contains("*")
                };
                if clash || !subzones.insert(subzone) {
                    return overlaps();
                }
            }
            _ if known => return overlaps(),
            _ => _ = zones.entry("*").or_default().insert("*"),
        }
    }
    Ok(())
}
