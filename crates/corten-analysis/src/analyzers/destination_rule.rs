//! DestinationRules: hosts that nobody has, subsets without pods, TLS that does not verify the server.

use std::collections::BTreeMap;

use corten_api::istio::destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode};

use crate::catalogue;
use crate::hosts::Hosts;
use crate::objects::{Item, Labels, World};
use crate::report::Report;
use crate::selector;
use corten_api::kubernetes::core;

pub(super) fn certificates(world: &World, report: &mut Report) {
    for rule in &world.destination_rules {
        let Some(policy) = &rule.spec.traffic_policy else {
            continue;
        };
        let selects = rule.spec.workload_selector.is_some();
        let name = rule.object.full_name();
        let common = |mode: &'static str| {
            [
                ("destinationrule", name.as_str()),
                ("namespace", rule.object.namespace()),
                ("mode", mode),
                ("host", rule.spec.host.as_str()),
            ]
        };
        if let Some(mode) = unverified(policy.tls.as_ref(), selects) {
            let kind = &catalogue::NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL;
            report.add_once(kind, &rule.object, "spec.trafficPolicy.tls", &common(mode));
        }
        for (index, settings) in policy.port_level_settings.iter().enumerate() {
            let Some(mode) = unverified(settings.tls.as_ref(), selects) else {
                continue;
            };
            let port = settings
                .port
                .as_ref()
                .map_or_else(String::new, |port| port.number.to_string());
            let mut parameters = common(mode).to_vec();
            parameters.push(("port", &port));
            let path = format!("spec.trafficPolicy.portLevelSettings[{index}].tls");
            let kind = &catalogue::NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL;
            report.add_once(kind, &rule.object, &path, &parameters);
        }
    }
}

/// The mode of TLS settings that take any certificate of the server. Credentials bring the authority, for rules that select workloads.
fn unverified(tls: Option<&ClientTLSSettings>, selects_workloads: bool) -> Option<&'static str> {
    let tls = tls?;
    let mode = match tls.mode {
        ClientTLSSettingsTLSmode::Simple => "SIMPLE",
        ClientTLSSettingsTLSmode::Mutual => "MUTUAL",
        _ => return None,
    };
    let verified = !tls.ca_certificates.is_empty() || (!tls.credential_name.is_empty() && selects_workloads);
    (!verified).then_some(mode)
}

pub(super) fn subsets(world: &World, report: &mut Report) {
    let hosts = Hosts::of(world);
    let nodes: BTreeMap<&str, &Labels> = world.nodes.iter().map(|node| (node.name(), &node.labels)).collect();
    let pods: Vec<Labels> = world.pods.iter().map(|pod| with_place(pod, &nodes)).collect();
    for rule in &world.destination_rules {
        let spec = &rule.spec;
        let Some(host) = hosts.find(spec.host.as_str(), rule.object.namespace(), &spec.export_to) else {
            let parameters = [("host", spec.host.as_str())];
            report.add_once(
                &catalogue::UNKNOWN_DESTINATION_RULE_HOST,
                &rule.object,
                "spec.host",
                &parameters,
            );
            continue;
        };
        // Of subsets with the same name the last one counts.
        let by_name: BTreeMap<&str, usize> = spec
            .subsets
            .iter()
            .enumerate()
            .map(|(index, subset)| (subset.name.as_str(), index))
            .collect();
        for (name, index) in by_name {
            let mut wanted = host.workloads.cloned().unwrap_or_default();
            wanted.extend(spec.subsets[index].labels.clone());
            if !pods.iter().any(|labels| selector::matches(&wanted, labels)) {
                let path = format!("spec.subsets[{index}]");
                let kind = &catalogue::DESTINATION_RULE_SUBSET_NOT_SELECT_PODS;
                report.add_once(kind, &rule.object, &path, &[("subset", name)]);
            }
        }
    }
}

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A pod's labels with those that say where it runs. A zone without a region is none, nor a subzone without a zone.
fn with_place(pod: &Item<core::Pod>, nodes: &BTreeMap<&str, &Labels>) -> Labels {
    let mut labels = pod.object.labels.clone();
    let node = pod
        .spec
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    let of_node = |key: &str| {
        nodes
            .get(node)
            .and_then(|labels| labels.get(key))
            .filter(|value| !value.is_empty())
    };
    if let Some(region) = of_node(REGION) {
        labels.insert(REGION.to_owned(), region.clone());
    }
    if let Some(zone) = of_node(ZONE) {
        labels.insert(ZONE.to_owned(), zone.clone());
        if let Some(subzone) = of_node(SUBZONE) {
            labels.insert(SUBZONE.to_owned(), subzone.clone());
        }
    }
    if !node.is_empty() {
        labels.insert(HOSTNAME.to_owned(), node.to_owned());
    }
    labels
}
