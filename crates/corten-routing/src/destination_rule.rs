//! DestinationRules as they take effect: merged by host, and found by the client's, the service's and the mesh's namespace.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use corten_api::istio::{
    destination_rule::{ClientTLSSettingsTLSmode, DestinationRuleSpec, PortTrafficPolicy, TrafficPolicy},
    mesh_config::MeshConfig,
};
use corten_core::{Host, LabelMap};
use corten_model::{Name, Settings};

use crate::{
    config::{Configs, by_age},
    virtual_service::full_host,
    visibility::Visibility,
};

/// A DestinationRule, or several that were merged.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// The namespace.
    pub namespace: Name,
    /// The name of the first one.
    pub name: Name,
    /// The names of all that were merged.
    pub from: Vec<Name>,
    /// Who sees it.
    pub visibility: Visibility,
    /// The labels of the clients it is for; `None`: all.
    pub selector: Option<LabelMap>,
    /// It was made of a policy of the Gateway API: what users write counts before it.
    pub generated: bool,
    /// What is wanted, with full host names.
    pub spec: DestinationRuleSpec,
}

impl DestinationRule {
    /// Istio's path of the object, as telemetry and metadata carry it.
    pub fn path(&self) -> String {
        format!(
            "/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}",
            self.namespace, self.name
        )
    }
}

/// The annotation of rules that were made of policies of the Gateway API: the objects those are for.
const PARENTS: &str = "internal.istio.io/parents";

/// The rules of a namespace by host.
type Hosts = HashMap<Host, Vec<Arc<DestinationRule>>>;

/// All DestinationRules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DestinationRules {
    namespaces: HashMap<Name, Hosts>,
    root: Name,
}

impl DestinationRules {
    pub(crate) fn new(configs: &Configs, settings: &Settings, mesh: &MeshConfig) -> DestinationRules {
        let mut rules = DestinationRules {
            namespaces: HashMap::new(),
            root: Name::clone(&settings.root_namespace),
        };
        let mut all = by_age(&configs.destination_rules);
        all.sort_by_key(|config| config.spec.workload_selector.is_none());
        for config in all {
            let mut spec = config.spec.clone();
            spec.host = full_host(&spec.host, &config.namespace, &settings.domain);
            let selector = spec
                .workload_selector
                .as_ref()
                .map(|selector| selector.match_labels.clone());
            let visibility = if selector.is_some() {
                Visibility::of(["."], [], &config.namespace)
            } else {
                Visibility::of(
                    spec.export_to.iter().map(String::as_str),
                    mesh.default_destination_rule_export_to.iter().map(String::as_str),
                    &config.namespace,
                )
            };
            let rule = DestinationRule {
                namespace: Name::clone(&config.namespace),
                name: Name::clone(&config.name),
                from: vec![Name::clone(&config.name)],
                visibility,
                selector,
                generated: config.annotations.contains_key(PARENTS),
                spec,
            };
            let hosts = rules.namespaces.entry(Name::clone(&config.namespace)).or_default();
            add(hosts.entry(rule.spec.host.clone()).or_default(), rule);
        }
        rules
    }

    /// The same, with those that are equal to one of those `held` being that one.
    #[must_use]
    pub(crate) fn sharing(mut self, held: &DestinationRules) -> DestinationRules {
        for (namespace, hosts) in &mut self.namespaces {
            let Some(known) = held.namespaces.get(namespace) else {
                continue;
            };
            for (host, rules) in hosts {
                for (rule, known) in rules.iter_mut().zip(known.get(host).into_iter().flatten()) {
                    if rule == known {
                        *rule = Arc::clone(known);
                    }
                }
            }
        }
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DestinationRule>> {
        self.namespaces.values().flat_map(HashMap::values).flatten()
    }

    /// The rule that a client with these labels follows towards a host of a service's namespace.
    pub fn find(&self, client: &str, labels: &LabelMap, service: &str, host: &Host) -> Option<&Arc<DestinationRule>> {
        let own = |rule: &DestinationRule| {
            if *client == *self.root {
                rule.visibility.is_private_to(client)
            } else {
                rule.visibility.includes(client)
            }
        };
        let seen = |rule: &DestinationRule| rule.visibility.includes(client);
        let found = self
            .level(client, host, own)
            .or_else(|| self.level(service, host, seen))
            .or_else(|| self.level(&self.root, host, seen))?;
        let selected = found.iter().find(|rule| {
            let wanted = rule.selector.as_ref().filter(|_| *rule.namespace == *client);
            wanted.is_some_and(|wanted| corten_core::Labels(wanted).is_subset_of(labels))
        });
        selected
            .or_else(|| found.iter().rev().find(|rule| rule.selector.is_none()))
            .copied()
    }

    /// The rules of a namespace for the host, or else for the most specific wildcard that covers it; `None`: none at all.
    fn level(
        &self,
        namespace: &str,
        host: &Host,
        seen: impl Fn(&DestinationRule) -> bool,
    ) -> Option<Vec<&Arc<DestinationRule>>> {
        let hosts = self.namespaces.get(namespace)?;
        let visible = |rules: &'_ Vec<Arc<DestinationRule>>| rules.iter().any(|rule| seen(rule));
        let exact = hosts.get(host).filter(|rules| visible(rules));
        let found = exact.or_else(|| {
            let wildcards = hosts.iter().filter(|(of, _)| of.is_wildcard() && host.is_subset_of(of));
            let wildcards = wildcards.filter(|(_, rules)| visible(rules));
            wildcards
                .min_by(|(a, _), (b, _)| a.specificity(b))
                .map(|(_, rules)| rules)
        })?;
        Some(found.iter().filter(|rule| seen(rule)).collect())
    }
}

/// Adds a rule to those of its host: merged into those with the same visibility that have its selector, or any at all where it
/// has none; beside them unless one took it as its own.
fn add(held: &mut Vec<Arc<DestinationRule>>, rule: DestinationRule) {
    let mut beside = true;
    for into in held.iter_mut().filter(|other| other.visibility == rule.visibility) {
        // A rule for all clients adds to those for some of them, and stays one for the others.
        let same = into.selector == rule.selector;
        if !same && rule.selector.is_some() {
            continue;
        }
        let into = Arc::make_mut(into);
        for subset in &rule.spec.subsets {
            if !into.spec.subsets.iter().any(|known| known.name == subset.name) {
                into.spec.subsets.push(subset.clone());
            }
        }
        let (ours, theirs) = (&mut into.spec.traffic_policy, &rule.spec.traffic_policy);
        match (into.generated, rule.generated) {
            (false, true) => *ours = under(ours.take(), theirs.clone()),
            (true, false) => *ours = under(theirs.clone(), ours.take()),
            (true, true) | (false, false) => {
                if ours.is_none() {
                    ours.clone_from(theirs);
                }
            }
        }
        into.from.push(Name::clone(&rule.name));
        beside &= !same;
    }
    if beside {
        held.push(Arc::new(rule));
    }
}

/// A user's policy with what it leaves out from one that was made of a policy of the Gateway API.
fn under(user: Option<TrafficPolicy>, generated: Option<TrafficPolicy>) -> Option<TrafficPolicy> {
    let (user, generated) = match (user, generated) {
        (Some(user), Some(generated)) => (user, generated),
        (user, generated) => return user.or(generated),
    };
    let mut ports = user.port_level_settings.clone();
    for settings in generated.port_level_settings.clone() {
        let number = |settings: &PortTrafficPolicy| settings.port.as_ref().map(|port| port.number);
        match ports.iter_mut().find(|known| number(known) == number(&settings)) {
            None => ports.push(settings),
            Some(known) => {
                known.load_balancer = known.load_balancer.take().or(settings.load_balancer);
                known.connection_pool = known.connection_pool.take().or(settings.connection_pool);
                known.outlier_detection = known.outlier_detection.take().or(settings.outlier_detection);
                known.tls = known.tls.take().or(settings.tls);
            }
        }
    }
    let mut merged = over(generated, &user);
    merged.port_level_settings = ports;
    Some(merged)
}

/// What a rule wants of connections to a port: the settings of the port replace those of all ports, and a subset's own come on top.
pub fn policy_for(rule: &DestinationRuleSpec, port: u16, subset: Option<&str>) -> Option<TrafficPolicy> {
    let base = rule.traffic_policy.as_ref().map(|policy| for_port(policy, port));
    let subset = subset.and_then(|name| rule.subsets.iter().find(|subset| subset.name == name));
    let Some(own) = subset.and_then(|subset| subset.traffic_policy.as_ref()) else {
        return base;
    };
    Some(merge_policies(base, own, port))
}

/// Puts a subset's policy over another, for a port: the settings that the subset has for the port replace the other's even
/// where they say nothing.
pub fn merge_policies(base: Option<TrafficPolicy>, own: &TrafficPolicy, port: u16) -> TrafficPolicy {
    let of_port = of_port(own, port).is_some();
    let own = for_port(own, port);
    let Some(mut base) = base else { return own };
    if of_port {
        base.connection_pool = None;
        base.outlier_detection = None;
        base.load_balancer = None;
        base.tls = None;
    }
    over(base, &own)
}

/// A policy with the fields of another in place of its own, where that has them; without settings of single ports.
fn over(mut base: TrafficPolicy, own: &TrafficPolicy) -> TrafficPolicy {
    fn replace<T: Clone>(base: &mut Option<T>, own: &Option<T>) {
        if own.is_some() {
            base.clone_from(own);
        }
    }
    base.port_level_settings.clear();
    replace(&mut base.connection_pool, &own.connection_pool);
    replace(&mut base.outlier_detection, &own.outlier_detection);
    replace(&mut base.load_balancer, &own.load_balancer);
    replace(&mut base.tls, &own.tls);
    replace(&mut base.tunnel, &own.tunnel);
    replace(&mut base.proxy_protocol, &own.proxy_protocol);
    replace(&mut base.retry_budget, &own.retry_budget);
    base
}

/// The TLS that a rule asks for by itself, for a port and subset; `None`: it leaves that to the mesh.
pub fn tls_mode(rule: &DestinationRuleSpec, port: u16, subset: Option<&str>) -> Option<ClientTLSSettingsTLSmode> {
    let of = |policy: &TrafficPolicy| {
        let own = of_port(policy, port).and_then(|settings| settings.tls.as_ref());
        own.or(policy.tls.as_ref()).map(|tls| tls.mode)
    };
    let own = subset.and_then(|name| rule.subsets.iter().find(|subset| subset.name == name));
    own.and_then(|subset| subset.traffic_policy.as_ref())
        .and_then(of)
        .or_else(|| rule.traffic_policy.as_ref().and_then(of))
}

/// The settings of a port, if there are any.
fn of_port(policy: &TrafficPolicy, port: u16) -> Option<&PortTrafficPolicy> {
    let is_it = |settings: &&PortTrafficPolicy| settings.port.as_ref().is_some_and(|of| of.number.0 == port);
    policy.port_level_settings.iter().find(is_it)
}

/// A policy for one port.
pub fn for_port(policy: &TrafficPolicy, port: u16) -> TrafficPolicy {
    match of_port(policy, port) {
        Some(settings) => TrafficPolicy {
            load_balancer: settings.load_balancer.clone(),
            connection_pool: settings.connection_pool.clone(),
            outlier_detection: settings.outlier_detection.clone(),
            tls: settings.tls.clone(),
            ..TrafficPolicy::default()
        },
        None => TrafficPolicy {
            port_level_settings: Vec::new(),
            ..policy.clone()
        },
    }
}
