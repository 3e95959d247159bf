//! Whether a peer may connect to a workload.

use std::sync::Arc;

use crate::{
    name::Name,
    policy::{Action, Peer, Policy},
    tables::Tables,
    trie::hash,
    workload::Workload,
};

/// A decision and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The connection may pass.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// What policies in dry run would have done.
    pub dry_run: DryRun,
}

/// Why a verdict is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No ALLOW policy applies, and no DENY policy matched.
    NoAllowPolicies,
    /// This ALLOW policy matched.
    Allowed(Name),
    /// This DENY policy matched.
    Denied(Name),
    /// This policy could not be compiled, so it denies.
    Broken(Name),
    /// The workload refers to this policy, and it is not known.
    Unknown(Name),
    /// ALLOW policies apply, and none matched.
    NotAllowed,
}

impl Reason {
    /// The policy that decided, by resource name.
    pub fn policy(&self) -> Option<&Name> {
        match self {
            Reason::Allowed(key) | Reason::Denied(key) | Reason::Broken(key) | Reason::Unknown(key) => Some(key),
            Reason::NoAllowPolicies | Reason::NotAllowed => None,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::NoAllowPolicies => f.write_str("no allow policies apply"),
            Reason::Allowed(key) => write!(f, "allowed by policy {key}"),
            Reason::Denied(key) => write!(f, "explicitly denied by: {key}"),
            Reason::Broken(key) => write!(f, "policy {key} could not be compiled and denies"),
            Reason::Unknown(key) => write!(f, "policy {key} applies to the workload and is not known, which denies"),
            Reason::NotAllowed => f.write_str("allow policies exist, but none allowed"),
        }
    }
}

/// What policies in dry run would have done. Compares to the log lines of ztunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DryRun {
    /// A DENY policy matched.
    pub denied_by: Option<Name>,
    /// An ALLOW policy matched.
    pub allowed_by: Option<Name>,
    /// There are ALLOW policies in dry run, no enforced ones, and none matched.
    pub not_allowed: bool,
}

impl DryRun {
    /// Whether nothing is to be said.
    pub fn is_empty(&self) -> bool {
        *self == DryRun::default()
    }
}

impl Tables {
    /// Whether a peer may connect to a local workload.
    ///
    /// Applicable are the global policies, those of the workload's namespace, and those the workload lists. Enforced DENY policies come
    /// first; without any enforced ALLOW policy the rest may pass; else one must match.
    ///
    /// A policy that the workload lists and that is not known denies. Here we differ from ztunnel, which skips it: a DENY that comes late or
    /// was removed too early would let pass what it was written to stop. A control plane sends policies before or with the workloads that list
    /// them, so that the difference is seen only when something is wrong.
    pub fn authorize(&self, local: &Workload, peer: &Peer<'_>) -> Verdict {
        let mut verdict = Verdict {
            allowed: true,
            reason: Reason::NoAllowPolicies,
            dry_run: DryRun::default(),
        };
        let mut allows = false;
        let mut allows_in_dry_run = false;
        let mut matched: Option<Name> = None;
        let mut denied: Option<Reason> = None;
        for found in self.applicable(local) {
            let policy = match found {
                Ok(policy) => policy,
                Err(key) => {
                    denied.get_or_insert_with(|| Reason::Unknown(key.clone()));
                    continue;
                }
            };
            let (allow, dry_run) = (policy.action == Action::Allow, policy.dry_run);
            allows |= allow && !dry_run;
            allows_in_dry_run |= allow && dry_run;
            // One match of a kind is enough; what decides is found out only once.
            let slot = match (allow, dry_run) {
                (true, false) => &mut matched,
                (true, true) => &mut verdict.dry_run.allowed_by,
                (false, true) => &mut verdict.dry_run.denied_by,
                (false, false) => {
                    if !is_denial(&denied) && policy.matches(peer) {
                        denied = Some(match policy.broken {
                            Some(_) => Reason::Broken(policy.key.clone()),
                            None => Reason::Denied(policy.key.clone()),
                        });
                    }
                    continue;
                }
            };
            if slot.is_none() && policy.matches(peer) {
                *slot = Some(policy.key.clone());
            }
        }
        verdict.dry_run.not_allowed = !allows && allows_in_dry_run && verdict.dry_run.allowed_by.is_none();
        (verdict.allowed, verdict.reason) = match (denied, matched) {
            (Some(reason), _) => (false, reason),
            (None, Some(key)) => (true, Reason::Allowed(key)),
            (None, None) if allows => (false, Reason::NotAllowed),
            (None, None) => (true, Reason::NoAllowPolicies),
        };
        verdict
    }

    /// The policies that apply to a workload; a name where the workload lists one that is not known.
    pub fn applicable<'a>(&'a self, local: &'a Workload) -> impl Iterator<Item = Result<&'a Arc<Policy>, &'a Name>> {
        let scoped = |namespace: &str| self.by_scope.get(hash(namespace), |n| *n == namespace).iter();
        // A namespace policy of no namespace is none; a workload without namespace must not see global policies twice.
        let of_namespace = if local.namespace.is_empty() {
            None
        } else {
            Some(scoped(&local.namespace))
        };
        let listed = local.policies.iter().map(|key| self.policy(key).ok_or(key));
        of_namespace
            .into_iter()
            .flatten()
            .chain(scoped(""))
            .map(Ok)
            .chain(listed)
    }
}

/// A match is a better reason than a policy that is not known.
fn is_denial(reason: &Option<Reason>) -> bool {
    matches!(reason, Some(Reason::Denied(_) | Reason::Broken(_)))
}

#[cfg(test)]
mod tests;
