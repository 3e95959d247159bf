//! Which workloads an object applies to, and which namespaces see it.

use std::collections::{BTreeMap, BTreeSet};

use corten_core::is_dns_label;

use super::{Report, text::shown};
use crate::istio::{
    selector::{PolicyTargetReference, WorkloadSelector},
    sidecar,
};

/// Objects a policy can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// How a policy chooses: by selector, by one target, or by several; one of them.
pub(super) struct Attachment<'a> {
    pub(super) selector: Option<&'a WorkloadSelector>,
    pub(super) target_ref: Option<&'a PolicyTargetReference>,
    pub(super) target_refs: &'a [PolicyTargetReference],
}

impl Attachment<'_> {
    pub(super) fn validate(&self, report: &mut Report) {
        let given = [
            self.selector.is_some(),
            self.target_ref.is_some(),
            !self.target_refs.is_empty(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            report.error("spec", "only one of selector, targetRef and targetRefs may be given");
        }
        selector(self.selector, report);
        if let Some(target) = self.target_ref {
            target_ref("spec.targetRef", target, report);
        }
        for (i, target) in self.target_refs.iter().enumerate() {
            target_ref(&format!("spec.targetRefs[{i}]"), target, report);
        }
    }
}

fn target_ref(at: &str, target: &PolicyTargetReference, report: &mut Report) {
    if target.name.is_empty() {
        report.error(format!("{at}.name"), "required");
    }
    if !target.namespace.is_empty() {
        report.error(
            format!("{at}.namespace"),
            "a target must be in the same namespace; remove this",
        );
    }
    let group = if target.group == "core" {
        ""
    } else {
        target.group.as_str()
    };
    if !TARGETS.contains(&(group, target.kind.as_str())) {
        let message = format!(
            "{}/{} cannot be a target; a Service, ServiceEntry, Gateway (gateway.networking.k8s.io) or GatewayClass can",
            target.group, target.kind
        );
        report.error(at, message);
    }
}

/// A selector of policies.
pub(super) fn selector(selector: Option<&WorkloadSelector>, report: &mut Report) {
    if let Some(selector) = selector {
        labels("spec.selector.matchLabels", &selector.match_labels, report);
        if selector.match_labels.is_empty() {
            report.warning("spec.selector", "has no labels and so selects all workloads");
        }
    }
}

/// A selector of the networking kinds.
pub(super) fn workload_selector(selector: Option<&sidecar::WorkloadSelector>, report: &mut Report) {
    if let Some(selector) = selector {
        labels("spec.workloadSelector.labels", &selector.labels, report);
        if selector.labels.is_empty() {
            report.warning(
                "spec.workloadSelector",
                "has no labels and so selects all workloads of the namespace",
            );
        }
    }
}

fn labels(at: &str, labels: &BTreeMap<String, String>, report: &mut Report) {
    for (key, value) in labels {
        if key.is_empty() {
            report.error(at, "a label's key must not be empty");
        }
        if key.contains('*') || value.contains('*') {
            report.error(
                format!("{at}[{key}]"),
                "labels are compared as they are; wildcards are not supported",
            );
        }
    }
}

/// What the checks of `exportTo` depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportTo<'a> {
    /// The namespace of the object.
    pub namespace: &'a str,
    /// A ServiceEntry may be hidden from everyone (`~`).
    pub service_entry: bool,
    /// A DestinationRule with a workload selector stays in its namespace.
    pub selected_workloads: bool,
}

/// The namespaces an object is visible in.
pub fn export_to(entries: &[String], of: ExportTo<'_>, report: &mut Report) {
    const AT: &str = "spec.exportTo";
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (i, entry) in entries.iter().enumerate() {
        let at = format!("{AT}[{i}]");
        let namespace = if entry == "." { of.namespace } else { entry.as_str() };
        if seen.contains(namespace) {
            report.error(at, format!("{} is already given", shown(entry)));
            continue;
        }
        match namespace {
            "~" if of.service_entry => {}
            "~" => {
                report.error(at, "'~' (no one) is for ServiceEntry only");
                continue;
            }
            "*" | "." => {}
            name if is_dns_label(name) => {}
            name => {
                report.error(at, format!("{} must be '.', '*' or a namespace", shown(name)));
                continue;
            }
        }
        seen.insert(namespace);
    }
    if of.selected_workloads && !seen.is_empty() {
        if !seen.contains(of.namespace) {
            report.error(
                AT,
                "a rule with a workload selector applies to its own namespace only; export it to '.'",
            );
        } else if seen.len() > 1 {
            report.error(
                AT,
                "a rule with a workload selector applies to its own namespace only; remove the others",
            );
        }
    }
    if entries.len() > 1 && seen.contains("*") {
        report.error(AT, "'*' exports to all namespaces; remove the others");
    }
    if entries.len() > 1 && seen.contains("~") {
        report.error(AT, "'~' exports to no one; remove it or the others");
    }
}
