//! DestinationRules from what policies ask for: of several that ask for the same, the oldest is heard.

use std::collections::BTreeMap;

use corten_api::{
    istio::{
        DestinationRule,
        destination_rule::{DestinationRuleSpec, PortTrafficPolicy, TrafficPolicy},
        virtual_service::PortSelector,
    },
    metadata::Metadata,
};
use corten_core::{Host, Port};

use super::Demand;
use crate::{
    annotation,
    index::Index,
    reference::{Key, Kind},
};

/// Merges demands by backend and host.
pub(crate) fn rules(index: &Index<'_>, demands: Vec<Demand>) -> Vec<DestinationRule> {
    let mut groups: BTreeMap<(Kind<'static>, Key, String), Vec<Demand>> = BTreeMap::new();
    for demand in demands {
        let (kind, key) = demand.target.clone();
        groups.entry((kind, key, demand.host.clone())).or_default().push(demand);
    }
    groups
        .into_iter()
        .map(|((kind, key, host), mut group)| {
            group.sort_by(|a, b| (a.created, &a.source.1).cmp(&(b.created, &b.source.1)));
            merge(index, kind, &key, &host, &group)
        })
        .collect()
}

fn merge(index: &Index<'_>, kind: Kind<'static>, key: &Key, host: &str, group: &[Demand]) -> DestinationRule {
    let mut policy = TrafficPolicy::default();
    let mut named: BTreeMap<&str, &Demand> = BTreeMap::new();
    let mut numbered: BTreeMap<u16, &Demand> = BTreeMap::new();
    let mut parents: Vec<String> = Vec::new();
    for demand in group {
        if demand.tls.is_some() {
            match (demand.port, &demand.section) {
                (Some(port), _) => {
                    numbered.entry(port).or_insert(demand);
                }
                (None, Some(name)) => {
                    named.entry(name).or_insert(demand);
                }
                (None, None) if policy.tls.is_some() => continue,
                (None, None) => policy.tls.clone_from(&demand.tls),
            }
        }
        if demand.load_balancer.is_some() {
            if policy.load_balancer.is_some() {
                continue;
            }
            policy.load_balancer.clone_from(&demand.load_balancer);
        }
        if demand.retry_budget.is_some() {
            if policy.retry_budget.is_some() {
                continue;
            }
            policy.retry_budget.clone_from(&demand.retry_budget);
        }
        let (kind, source) = &demand.source;
        let parent = format!("{kind}/{}.{}", source.namespace, source.name);
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    let numbers = ports(index, kind, key);
    let by_name = named.into_iter().map(|(name, demand)| {
        let number = numbers.iter().find(|(known, _)| known == name);
        (number.map_or(0, |(_, number)| *number), demand)
    });
    let mut settings: Vec<PortTrafficPolicy> = by_name
        .chain(numbered)
        .map(|(number, demand)| PortTrafficPolicy {
            port: Some(PortSelector { number: Port(number) }),
            tls: demand.tls.clone(),
            ..PortTrafficPolicy::default()
        })
        .collect();
    settings.sort_by_key(|settings| settings.port.as_ref().map(|port| port.number));
    policy.port_level_settings = settings;
    DestinationRule {
        metadata: Metadata {
            name: name(kind, key, host),
            namespace: key.namespace.clone(),
            annotations: BTreeMap::from([(annotation::PARENTS.to_owned(), parents.join(","))]),
            ..Metadata::default()
        },
        spec: DestinationRuleSpec {
            host: Host::from(host),
            traffic_policy: Some(policy),
            ..DestinationRuleSpec::default()
        },
        status: None,
    }
}

/// The rules with the names that servers' certificates must have. Istio leaves a certificate's name unchecked where a rule names a server
/// and no other names; the Gateway API says that the host name of a policy is also the name that is checked.
pub fn checked(mut rules: Vec<DestinationRule>) -> Vec<DestinationRule> {
    for policy in rules.iter_mut().filter_map(|rule| rule.spec.traffic_policy.as_mut()) {
        let ports = policy.port_level_settings.iter_mut().map(|port| &mut port.tls);
        for tls in std::iter::once(&mut policy.tls).chain(ports).flatten() {
            if tls.subject_alt_names.is_empty() && !tls.sni.is_empty() {
                tls.subject_alt_names.push(tls.sni.clone());
            }
        }
    }
    rules
}

/// The ports of a backend by name.
fn ports(index: &Index<'_>, kind: Kind<'static>, key: &Key) -> Vec<(String, u16)> {
    match kind {
        Kind::SERVICE => index.service(&key.namespace, &key.name).map(|s| s.ports.clone()),
        Kind::SERVICE_ENTRY => index.service_entry(&key.namespace, &key.name).map(|entry| {
            let ports = entry.spec.ports.iter();
            ports.map(|port| (port.name.clone(), port.number.0)).collect()
        }),
        _ => None,
    }
    .unwrap_or_default()
}

/// The name of a rule; what has several hosts has a rule for each.
fn name(kind: Kind<'static>, key: &Key, host: &str) -> String {
    let generated = annotation::GENERATED;
    match kind {
        Kind::SERVICE_ENTRY | Kind::X_BACKEND => format!("{}~{}~{generated}", key.name, host.replace('.', "-")),
        _ => format!("{}~{generated}", key.name),
    }
}
