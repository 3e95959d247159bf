//! BackendTLSPolicies.

use std::collections::BTreeSet;

use corten_api::{
    gateway_api::{
        BackendTLSPolicy,
        backend_tls_policy::{BackendTLSPolicyValidation, SubjectAltName, SubjectAltNameType},
        policy::LocalPolicyTargetReferenceWithSectionName as Target,
        shared::ParentReference,
    },
    istio::destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode},
};

use super::{
    Ancestors, Demand, PolicyResult, ReferError, Referred, ancestor, ignored, is_ignored, merge_policy, refer,
};
use crate::{
    certificate::Roots,
    class::{GATEWAY_CONTROLLER, MESH_CONTROLLER},
    condition::{Conditions, Problem},
    index::Index,
    reference::{GATEWAY_GROUP, Key, Kind},
};
use corten_api::gateway_api::policy::PolicyStatus;

/// A certificate that nothing is signed by, so that connections fail.
const NONE: &str = "invalid://";

/// Converts a policy; `all` are those that might target the same.
pub(crate) fn convert(
    index: &Index<'_>,
    policy: &BackendTLSPolicy,
    all: &[&BackendTLSPolicy],
    ancestors: &Ancestors,
) -> PolicyResult<PolicyStatus> {
    let meta = &policy.metadata;
    let existing = policy.status.as_ref().map_or(&[][..], |status| &status.ancestors);
    if is_ignored(&meta.annotations) {
        let targets = policy.spec.target_refs.iter().map(as_parent);
        return PolicyResult {
            status: ignored(index, existing, meta.generation, targets),
            demands: Vec::new(),
            problems: Vec::new(),
        };
    }
    let mut conditions = accepted();
    let validation = &policy.spec.validation;
    let tls = ClientTLSSettings {
        mode: ClientTLSSettingsTLSmode::Simple,
        sni: validation.hostname.to_string(),
        subject_alt_names: alternative_names(&validation.subject_alt_names),
        credential_name: credential(index, validation, &meta.namespace, &mut conditions),
        ..ClientTLSSettings::default()
    };
    let (mut entries, mut demands) = (Vec::new(), Vec::new());
    let mut gateways: BTreeSet<&Key> = BTreeSet::new();
    for target in &policy.spec.target_refs {
        match find(index, target, &meta.namespace) {
            // As in Istio, a problem with one target stays with those that follow.
            Err(message) => conditions.fail(
                "Accepted",
                Problem::new("TargetNotFound", format!("targetRefs invalid: {message}")),
            ),
            Ok((kind, hosts)) => {
                let backend = (kind, Key::new(&meta.namespace, &target.name));
                gateways.extend(ancestors.get(&backend).into_iter().flatten());
                match stronger(policy, target, all) {
                    Some(other) => {
                        let message = format!("Conflicts with BackendTLSPolicy \"{other}\" targeting the same backend");
                        conditions.fail("Accepted", Problem::new("Conflicted", message));
                    }
                    None => demands.extend(hosts.into_iter().map(|host| Demand {
                        source: ("BackendTLSPolicy", Key::new(&meta.namespace, &meta.name)),
                        created: meta.creation_timestamp,
                        target: backend.clone(),
                        host,
                        section: section(target).map(str::to_owned),
                        port: None,
                        tls: Some(tls.clone()),
                        load_balancer: None,
                        retry_budget: None,
                    })),
                }
            }
        }
        let reference = as_parent(target);
        let entry = ancestor(
            index,
            existing,
            reference,
            &conditions,
            meta.generation,
            MESH_CONTROLLER,
        );
        entries.push(entry);
    }
    let mut gateways: Vec<&Key> = gateways.into_iter().collect();
    gateways.sort_by_cached_key(ToString::to_string);
    entries.extend(gateways.into_iter().map(|gateway| {
        let reference = ParentReference {
            group: Some(GATEWAY_GROUP.to_owned()),
            kind: Some("Gateway".to_owned()),
            name: gateway.name.clone(),
            ..ParentReference::default()
        };
        ancestor(
            index,
            existing,
            reference,
            &conditions,
            meta.generation,
            GATEWAY_CONTROLLER,
        )
    }));
    PolicyResult {
        status: merge_policy(existing, entries),
        demands,
        problems: conditions.problems().cloned().collect(),
    }
}

/// The conditions of a policy without problems.
pub(super) fn accepted() -> Conditions {
    Conditions::default()
        .good("Accepted", "Accepted", "Configuration is valid")
        .good("ResolvedRefs", "ResolvedRefs", "Configuration is valid")
}

fn as_parent(target: &Target) -> ParentReference {
    ParentReference {
        group: Some(target.group.clone()),
        kind: Some(target.kind.clone()),
        name: target.name.clone(),
        section_name: target.section_name.clone(),
        ..ParentReference::default()
    }
}

fn section(target: &Target) -> Option<&str> {
    target.section_name.as_deref().filter(|name| !name.is_empty())
}

/// The kind and the hosts of a target; otherwise why there is none.
fn find(index: &Index<'_>, target: &Target, namespace: &str) -> Result<(Kind<'static>, Vec<String>), String> {
    let found = refer(index, namespace, &target.group, &target.kind, &target.name);
    let (kind, hosts, ports): (_, Vec<String>, Vec<&str>) = match found.map_err(|error| error.to_string())? {
        Referred::Service(service) => (
            Kind::SERVICE,
            vec![index.service_host(&target.name, namespace)],
            service.ports.iter().map(|(name, _)| name.as_str()).collect(),
        ),
        Referred::ServiceEntry(entry) => (
            Kind::SERVICE_ENTRY,
            entry.spec.hosts.iter().map(ToString::to_string).collect(),
            entry.spec.ports.iter().map(|port| port.name.as_str()).collect(),
        ),
        Referred::ConfigMap(_) | Referred::Secret => {
            return Err(format!("unsupported reference kind: {}", target.kind));
        }
    };
    match section(target) {
        Some(name) if !ports.contains(&name) => Err(format!(
            "sectionName \"{name}\" does not exist in {} {namespace}/{}",
            kind.kind, target.name
        )),
        _ => Ok((kind, hosts)),
    }
}

/// The policy with the same target that goes before this one. Objects are told apart by what an API server identifies
/// them with; those that never met one do not conflict, and the oldest is heard.
fn stronger<'a>(policy: &BackendTLSPolicy, target: &Target, all: &[&'a BackendTLSPolicy]) -> Option<&'a str> {
    let own = &policy.metadata;
    let same = |other: &Target| {
        (&other.group, &other.kind, &other.name, &other.section_name)
            == (&target.group, &target.kind, &target.name, &target.section_name)
    };
    let stronger = all.iter().find(|other| {
        let meta = &other.metadata;
        meta.namespace == own.namespace
            && meta.uid != own.uid
            && !is_ignored(&meta.annotations)
            && other.spec.target_refs.iter().any(same)
            && (meta.creation_timestamp, &meta.name) < (own.creation_timestamp, &own.name)
    });
    stronger.map(|other| other.metadata.name.as_str())
}

/// The names a backend's certificate must have.
pub(super) fn alternative_names(names: &[SubjectAltName]) -> Vec<String> {
    let named = names.iter().map(|name| match name.type_ {
        SubjectAltNameType::Hostname => name.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        SubjectAltNameType::Uri => name.uri.clone().unwrap_or_default(),
    });
    named.collect()
}

/// The name under which a backend's authorities are asked for; empty: those of the system.
pub(super) fn credential(
    index: &Index<'_>,
    validation: &BackendTLSPolicyValidation,
    namespace: &str,
    conditions: &mut Conditions,
) -> String {
    if let Some(known) = &validation.well_known_ca_certificates {
        if known != "System" {
            let message = format!("Unknown wellKnownCACertificates: {known}");
            conditions.fail("Accepted", Problem::new("Invalid", message));
        }
        return String::new();
    }
    let [reference, others @ ..] = validation.ca_certificate_refs.as_slice() else {
        return String::new();
    };
    if !others.is_empty() {
        conditions.add("Accepted", "; warning: only the first caCertificateRefs will be used");
    }
    let found = refer(index, namespace, &reference.group, &reference.kind, &reference.name);
    let (reason, message, why) = match found {
        Ok(Referred::ConfigMap(map)) => match &map.roots {
            Roots::Missing(why) => ("InvalidCACertificateRef", "Certificate invalid", why.clone()),
            Roots::Usable | Roots::Malformed => return format!("configmap://{namespace}/{}", reference.name),
        },
        Ok(_) => {
            let why = format!("unsupported reference kind: {}", reference.kind);
            ("InvalidKind", "Certificate reference invalid", why)
        }
        Err(error @ ReferError::Kind(_)) => ("InvalidKind", "Certificate reference not supported", error.to_string()),
        Err(error @ ReferError::Missing { .. }) => (
            "InvalidCACertificateRef",
            "Certificate reference not found",
            error.to_string(),
        ),
    };
    conditions.fail("ResolvedRefs", Problem::new(reason, format!("{message}: {why}")));
    let message = format!("Certificate reference invalid: {why}");
    conditions.fail("Accepted", Problem::new("NoValidCACertificate", message));
    NONE.to_owned()
}
