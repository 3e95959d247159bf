//! DestinationRule.

use std::collections::BTreeSet;

use corten_core::Labels;

use super::{
    Context, Report, Validate,
    connection_pool::{Deprecations, connection_pool, outlier_detection},
    load_balancer::load_balancer,
    selector::{self, ExportTo, export_to},
    text::{self, shown},
    tls,
};
use crate::istio::destination_rule::{
    ClientTLSSettings, ConnectionPoolSettings, DestinationRuleSpec, LoadBalancerSettings, OutlierDetection,
    TrafficPolicy, TunnelSettings,
};

impl Validate for DestinationRuleSpec {
    fn validate(&self, context: Context<'_>, report: &mut Report) {
        report.check("spec.host", text::wildcard_domain(self.host.as_str()));
        let namespace = context.namespace();
        if let Some(policy) = &self.traffic_policy {
            traffic_policy("spec.trafficPolicy", policy, namespace, Warnings::Report, report);
        }
        let mut names = BTreeSet::new();
        for (i, subset) in self.subsets.iter().enumerate() {
            let at = format!("spec.subsets[{i}]");
            if !names.insert(&subset.name) {
                report.error(
                    format!("{at}.name"),
                    format!("there is another subset {}", shown(&subset.name)),
                );
            }
            report.check(format!("{at}.name"), subset_name(&subset.name));
            report.check(format!("{at}.labels"), Labels(&subset.labels).check());
            if let Some(policy) = &subset.traffic_policy {
                traffic_policy(
                    &format!("{at}.trafficPolicy"),
                    policy,
                    namespace,
                    Warnings::Drop,
                    report,
                );
            }
        }
        let of = ExportTo {
            namespace,
            service_entry: false,
            selected_workloads: self.workload_selector.is_some(),
        };
        export_to(&self.export_to, of, report);
        selector::selector(self.workload_selector.as_ref(), report);
    }
}

/// The name of a subset.
pub(super) fn subset_name(name: &str) -> Result<(), String> {
    text::label(name, "the name of a subset,")
}

/// Istio warns about a policy of a whole host, not about those of its subsets and ports.
#[derive(Clone, Copy, PartialEq)]
enum Warnings {
    Report,
    Drop,
}

fn traffic_policy(at: &str, policy: &TrafficPolicy, namespace: &str, warnings: Warnings, report: &mut Report) {
    let parts = Parts {
        outlier: policy.outlier_detection.as_ref(),
        pool: policy.connection_pool.as_ref(),
        balancer: policy.load_balancer.as_ref(),
        tls: policy.tls.as_ref(),
    };
    let others = !policy.port_level_settings.is_empty()
        || policy.tunnel.is_some()
        || policy.proxy_protocol.is_some()
        || policy.retry_budget.is_some();
    if parts.is_empty() && !others {
        report.error(at, "needs at least one field");
        return;
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        report.error(at, "only one of tunnel and proxyProtocol may be given");
        return;
    }
    parts.validate(at, namespace, warnings, report);
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        let at = format!("{at}.portLevelSettings[{i}]");
        if port.port.is_none() {
            report.error(format!("{at}.port"), "required");
        }
        let parts = Parts {
            outlier: port.outlier_detection.as_ref(),
            pool: port.connection_pool.as_ref(),
            balancer: port.load_balancer.as_ref(),
            tls: port.tls.as_ref(),
        };
        if parts.is_empty() {
            report.error(&at, "needs at least one field besides port");
        }
        parts.validate(&at, namespace, Warnings::Drop, report);
    }
    if let Some(tunnel) = &policy.tunnel {
        validate_tunnel(&format!("{at}.tunnel"), tunnel, report);
    }
}

/// What the policy of a host and that of one of its ports have in common.
struct Parts<'a> {
    outlier: Option<&'a OutlierDetection>,
    pool: Option<&'a ConnectionPoolSettings>,
    balancer: Option<&'a LoadBalancerSettings>,
    tls: Option<&'a ClientTLSSettings>,
}

impl Parts<'_> {
    fn is_empty(&self) -> bool {
        self.outlier.is_none() && self.pool.is_none() && self.balancer.is_none() && self.tls.is_none()
    }

    fn validate(&self, at: &str, namespace: &str, warnings: Warnings, report: &mut Report) {
        let mut found = Report::default();
        if let Some(outlier) = self.outlier {
            outlier_detection(
                &format!("{at}.outlierDetection"),
                outlier,
                Deprecations::Warn,
                &mut found,
            );
        }
        if let Some(pool) = self.pool {
            connection_pool(&format!("{at}.connectionPool"), pool, &mut found);
        }
        if let Some(balancer) = self.balancer {
            load_balancer(&format!("{at}.loadBalancer"), balancer, self.outlier, &mut found);
        }
        if let Some(settings) = self.tls {
            tls::client(&format!("{at}.tls"), settings, namespace, &mut found);
        }
        report.absorb(found, warnings == Warnings::Report);
    }
}

fn validate_tunnel(at: &str, tunnel: &TunnelSettings, report: &mut Report) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        report.error(
            format!("{at}.protocol"),
            format!("{} is neither CONNECT nor POST", shown(&tunnel.protocol)),
        );
    }
    let host = tunnel.target_host.as_str();
    if text::fqdn(host).is_err() && !text::is_ip_address(host) {
        report.error(
            format!("{at}.targetHost"),
            format!("{} is neither a host name nor an IP address", shown(host)),
        );
    }
    report.check(format!("{at}.targetPort"), text::port(tunnel.target_port.0));
}
