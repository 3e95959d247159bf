//! Policies about backends: what they ask for, merged into one DestinationRule for each backend and host.

pub(crate) mod backend;
pub(crate) mod rule;
pub(crate) mod tls;
pub(crate) mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use corten_api::{
    codec::Timestamp,
    gateway_api::{
        policy::{PolicyAncestorStatus, PolicyStatus},
        shared::ParentReference,
    },
    istio::{
        ServiceEntry,
        destination_rule::{ClientTLSSettings, LoadBalancerSettings, RetryBudget},
    },
};

use crate::{
    class::{GATEWAY_CONTROLLER, MESH_CONTROLLER},
    condition::{Conditions, Problem},
    index::Index,
    input::{ConfigMap, Service},
    reference::{Key, Kind},
};

/// The gateways that send to a backend, by the backend.
pub(crate) type Ancestors = BTreeMap<(Kind<'static>, Key), BTreeSet<Key>>;

/// What a policy asks for a backend's host.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    /// Kind, namespace and name of the policy.
    pub(crate) source: (&'static str, Key),
    /// When the policy was made.
    pub(crate) created: Option<Timestamp>,
    /// The backend.
    pub(crate) target: (Kind<'static>, Key),
    /// The host.
    pub(crate) host: String,
    /// The port by name.
    pub(crate) section: Option<String>,
    /// The port by number.
    pub(crate) port: Option<u16>,
    pub(crate) tls: Option<ClientTLSSettings>,
    pub(crate) load_balancer: Option<LoadBalancerSettings>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

/// What became of a policy.
#[derive(Debug)]
pub(crate) struct PolicyResult<S> {
    pub(crate) status: S,
    pub(crate) demands: Vec<Demand>,
    pub(crate) problems: Vec<Problem>,
}

/// Something a policy refers to in its own namespace.
pub(crate) enum Referred<'a> {
    Service(&'a Service),
    ServiceEntry(&'a ServiceEntry),
    ConfigMap(&'a ConfigMap),
    Secret,
}

/// Finds what a policy refers to; otherwise why not.
pub(crate) fn refer<'a>(
    index: &Index<'a>,
    namespace: &str,
    group: &str,
    kind: &str,
    name: &str,
) -> Result<Referred<'a>, ReferError> {
    let found = match (Kind { group, kind }) {
        Kind::SERVICE => index.service(namespace, name).map(Referred::Service),
        Kind::SERVICE_ENTRY => index.service_entry(namespace, name).map(Referred::ServiceEntry),
        Kind::CONFIG_MAP => index.config_map(namespace, name).map(Referred::ConfigMap),
        Kind::SECRET => index.secret(namespace, name).map(|_| Referred::Secret),
        _ => return Err(ReferError::Kind(kind.to_owned())),
    };
    found.ok_or_else(|| ReferError::Missing {
        key: Key::new(namespace, name),
        kind: kind.to_owned(),
    })
}

/// Why a reference leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReferError {
    /// To a kind that nothing is known of.
    #[error("unsupported kind {0}")]
    Kind(String),
    /// There is no such object.
    #[error("reference {key} (of kind {kind}) not found")]
    Missing { key: Key, kind: String },
}

/// A new entry of a policy's status, over what there was.
pub(crate) fn ancestor(
    index: &Index<'_>,
    existing: &[PolicyAncestorStatus],
    reference: ParentReference,
    conditions: &Conditions,
    generation: i64,
    controller: &str,
) -> PolicyAncestorStatus {
    let known = existing.iter().find(|known| known.ancestor_ref == reference);
    let known = known.map_or(&[][..], |known| &known.conditions);
    PolicyAncestorStatus {
        conditions: conditions.over(known, generation, index.now),
        ancestor_ref: reference,
        controller_name: controller.to_owned(),
    }
}

/// Writes our entries over those of a status: others' stay, ours keep their places or go, new ones follow, and no more
/// than there is room for.
pub(crate) fn merge<A: Clone>(
    existing: &[A],
    mut fresh: Vec<A>,
    room: usize,
    of: impl Fn(&A) -> (&str, &ParentReference),
) -> Vec<A> {
    let mut merged = Vec::new();
    for entry in existing {
        let (controller, reference) = of(entry);
        if ![GATEWAY_CONTROLLER, MESH_CONTROLLER].contains(&controller) {
            merged.push(entry.clone());
        } else if let Some(i) = fresh.iter().position(|fresh| of(fresh).1 == reference) {
            merged.push(fresh.remove(i));
        }
    }
    merged.extend(fresh);
    merged.truncate(room);
    merged
}

/// As [`merge`], for policies.
pub(crate) fn merge_policy(existing: &[PolicyAncestorStatus], fresh: Vec<PolicyAncestorStatus>) -> PolicyStatus {
    PolicyStatus {
        ancestors: merge(existing, fresh, 16, |a| (&a.controller_name, &a.ancestor_ref)),
    }
}

/// The status of a policy that is to be left alone.
pub(crate) fn ignored(
    index: &Index<'_>,
    existing: &[PolicyAncestorStatus],
    generation: i64,
    targets: impl Iterator<Item = ParentReference>,
) -> PolicyStatus {
    let mut conditions = Conditions::default();
    let message = format!(
        "Ignored by Istio due to annotation {}=true",
        crate::annotation::IGNORE_POLICY
    );
    conditions.fail("Accepted", Problem::new("IgnoredByIstio", message));
    let fresh = targets
        .map(|target| ancestor(index, existing, target, &conditions, generation, MESH_CONTROLLER))
        .collect();
    merge_policy(existing, fresh)
}

/// Whether a policy is to be left alone.
pub(crate) fn is_ignored(annotations: &BTreeMap<String, String>) -> bool {
    let annotation = annotations.get(crate::annotation::IGNORE_POLICY);
    annotation.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
