//! Whether an Istio object makes sense, as Istio judges it: the same objects are refused, and the same are accepted
//! with a warning; the words are ours.
//!
//! Decoding has found what is not of the right form; schemas know bounds and rules; this knows what the fields mean
//! together. It sees one object at a time and nothing else of the mesh.

mod authentication;
mod authorization;
mod connection_pool;
mod destination_rule;
mod envoy_filter;
mod extension_provider;
mod extensions;
mod gateway;
mod http_route;
mod jwks;
mod load_balancer;
pub mod mesh_config;
mod mesh_networks;
mod overlap;
mod proxy_config;
mod report;
mod selector;
mod service_entry;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
pub mod text;
mod tls;
mod url;
mod virtual_service;
mod workload;

use crate::{
    codec::FieldProblem,
    decode::{Node, SpannedObject},
    diagnostic::{Code, Diagnostic, Severity},
    istio,
    metadata::Metadata,
    resource::{Resource, Spec},
};

pub use self::{
    connection_pool::default_traffic_policy,
    extension_provider::{provider as extension_provider, service as extension_service},
    load_balancer::{localities, locality_setting, zone_aware_setting},
    mesh_networks::mesh_networks,
    proxy_config::mesh_proxy_config,
    report::{Finding, Report},
    selector::{ExportTo, export_to},
    tls::{client as client_tls, is_cipher},
};

/// What validation knows of an object besides its spec.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The object's metadata.
    pub metadata: &'a Metadata,
}

impl Context<'_> {
    /// The namespace.
    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// Objects made from Gateway API resources by a control plane may do a little more than those of users.
    fn annotated(&self, key: &str, value: &str) -> bool {
        self.metadata.annotations.get(key).is_some_and(|v| v == value)
    }
}

/// A kind that can be validated.
pub(crate) trait Validate: Spec {
    /// Reports what is wrong with the spec; paths begin with `spec`.
    fn validate(&self, context: Context<'_>, report: &mut Report);
}

type Check = fn(&SpannedObject) -> Vec<Diagnostic>;

/// The validators, by kind; the group is that of the kind.
const CHECKS: &[(&str, &str, Check)] = &[
    entry::<istio::extensions::TrafficExtensionSpec>(),
    entry::<istio::extensions::WasmPluginSpec>(),
    entry::<istio::destination_rule::DestinationRuleSpec>(),
    entry::<istio::envoy_filter::EnvoyFilterSpec>(),
    entry::<istio::gateway::GatewaySpec>(),
    entry::<istio::proxy_config_resource::ProxyConfigSpec>(),
    entry::<istio::service_entry::ServiceEntrySpec>(),
    entry::<istio::sidecar::SidecarSpec>(),
    entry::<istio::virtual_service::VirtualServiceSpec>(),
    entry::<istio::workload_entry::WorkloadEntrySpec>(),
    entry::<istio::workload_group::WorkloadGroupSpec>(),
    entry::<istio::authorization_policy::AuthorizationPolicySpec>(),
    entry::<istio::peer_authentication::PeerAuthenticationSpec>(),
    entry::<istio::request_authentication::RequestAuthenticationSpec>(),
    entry::<istio::telemetry::TelemetrySpec>(),
];

const fn entry<S: Validate>() -> (&'static str, &'static str, Check) {
    (S::KIND.group, S::KIND.kind, check::<S>)
}

/// Decodes an object of any known kind, Kubernetes' own included, and validates it, if there is a validator for its kind. An object of an unknown
/// kind or version is no business of ours, and nothing is said about it.
pub fn object(object: &SpannedObject) -> Vec<Diagnostic> {
    let (group, kind) = (object.reference.group(), object.reference.kind.as_str());
    if let Some((_, _, check)) = CHECKS.iter().find(|(g, k, _)| *g == group && *k == kind) {
        return check(object);
    }
    match crate::kind(group, kind) {
        Some(registered) => (registered.check)(object),
        None => crate::kubernetes::check(object),
    }
}

fn check<S: Validate>(object: &SpannedObject) -> Vec<Diagnostic> {
    let (resource, mut diagnostics) = Resource::<S>::decode(object);
    if S::KIND.version(object.reference.version()).is_none() {
        let served: Vec<&str> = S::KIND.versions.iter().map(|v| v.name).collect();
        let message = format!(
            "no such version of {}; write {}/{}",
            S::KIND.kind,
            S::KIND.group,
            served.join(" or ")
        );
        diagnostics.push(object.diagnostic(Code::UNKNOWN_KIND, Severity::Error, "apiVersion", message));
    }
    // What could not be decoded is missing now, which would only be reported a second time.
    let decoded: Vec<String> = diagnostics
        .iter()
        .filter(|d| d.is_error())
        .map(|d| d.path.clone())
        .collect();
    for finding in self::resource(&resource) {
        let known = decoded
            .iter()
            .any(|path| path.starts_with(&finding.path) || finding.path.starts_with(path.as_str()));
        if !(known && finding.severity == Severity::Error && !finding.path.is_empty()) {
            diagnostics.push(object.diagnostic(Code::INVALID, finding.severity, &finding.path, finding.message));
        }
    }
    diagnostics
}

/// Validates a decoded object.
pub(crate) fn resource<S: Validate>(resource: &Resource<S>) -> Vec<Finding> {
    let mut report = Report::default();
    if metadata(&resource.metadata, S::KIND.kind, &mut report) {
        resource.spec.validate(
            Context {
                metadata: &resource.metadata,
            },
            &mut report,
        );
    }
    report.into_findings()
}

const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";
const INTERNAL: [&str; 2] = ["internal.istio.io/parent-namespace", "internal.istio.io/parents"];
const DRY_RUN: &str = "istio.io/dry-run";

/// Checks the annotations that only Istio itself may set; `false` when that settles the matter.
fn metadata(metadata: &Metadata, kind: &str, report: &mut Report) -> bool {
    let before = report.errors();
    let at = |key: &str| format!("metadata.annotations[{key}]");
    if metadata.annotations.contains_key(DRY_RUN) && kind != "AuthorizationPolicy" {
        report.error(
            at(DRY_RUN),
            "only AuthorizationPolicy has a dry run; remove the annotation",
        );
    }
    if metadata.annotations.contains_key(ALWAYS_REJECT) {
        report.error(at(ALWAYS_REJECT), "objects with this annotation are always refused");
    }
    for key in INTERNAL {
        if metadata.annotations.contains_key(key) {
            report.error(at(key), "set by the control plane only; remove it");
        }
    }
    report.errors() == before
}

/// Decodes and validates a `MeshConfig` as users write it: over the defaults.
pub fn mesh_config_text(root: &Node) -> Vec<FieldProblem> {
    mesh_config_over_defaults(root).1
}

/// The configuration of the mesh as users write it, over the defaults, and what is wrong with it: what cannot be decoded, and what makes no
/// sense or has no effect beside the rest.
pub fn mesh_config_over_defaults(root: &Node) -> (istio::mesh_config::MeshConfig, Vec<FieldProblem>) {
    let (config, mut problems) = mesh_config::over_defaults(root);
    let mut report = Report::default();
    mesh_config::mesh_config(&config, &mut report);
    problems.extend(report.into_findings().into_iter().map(|f| f.located(root)));
    (config, problems)
}

/// What of a `MeshNetworks` takes no effect: networks are known by labels alone.
pub fn unhonoured_networks(root: &Node) -> Vec<FieldProblem> {
    let (networks, _) = crate::codec::decode::<istio::mesh_networks::MeshNetworks>(root);
    let mut report = Report::default();
    mesh_networks::unhonoured(&networks.unwrap_or_default(), &mut report);
    let found = report.into_findings().into_iter();
    found.map(|finding| finding.located(root)).collect()
}

/// Decodes and validates a `MeshNetworks`.
pub fn mesh_networks_text(root: &Node) -> Vec<FieldProblem> {
    let (networks, mut problems) = crate::codec::decode::<istio::mesh_networks::MeshNetworks>(root);
    let mut report = Report::default();
    mesh_networks(&networks.unwrap_or_default(), &mut report);
    problems.extend(report.into_findings().into_iter().map(|f| f.located(root)));
    problems
}
