//! XBackendTrafficPolicies.

use corten_api::{
    gateway_api::{
        XBackendTrafficPolicy,
        policy::{LocalPolicyTargetReference, PolicyStatus},
        shared::ParentReference,
        x_backend_traffic_policy::RetryConstraint,
    },
    istio::destination_rule::{LoadBalancerSettings, RetryBudget},
};
use corten_core::Duration;

use super::{Demand, PolicyResult, Referred, ancestor, ignored, is_ignored, merge_policy, refer};
use crate::{
    class::MESH_CONTROLLER,
    condition::{Conditions, Problem, listed},
    index::Index,
    reference::{Key, Kind},
};

/// Converts a policy.
pub(crate) fn convert(index: &Index<'_>, policy: &XBackendTrafficPolicy) -> PolicyResult<PolicyStatus> {
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
    let mut conditions = Conditions::default().good("Accepted", "Accepted", "Configuration is valid");
    let mut unsupported = Vec::new();
    if policy.spec.session_persistence.is_some() {
        unsupported.push("sessionPersistence".to_owned());
    }
    if !unsupported.is_empty() {
        let message = format!(
            "Configuration is valid, but Istio does not support the following fields: {}",
            listed(&unsupported)
        );
        conditions.say("Accepted", None, message);
    }
    let (mut entries, mut demands) = (Vec::new(), Vec::new());
    for target in &policy.spec.target_refs {
        let found = refer(index, &meta.namespace, &target.group, &target.kind, &target.name);
        let problem = match found {
            Ok(Referred::Service(_)) => None,
            Ok(_) => Some(format!("unsupported reference kind: {}", target.kind)),
            Err(error) => Some(error.to_string()),
        };
        match problem {
            Some(why) => {
                let message = format!("targetRefs invalid: {why}");
                conditions.fail("Accepted", Problem::new("TargetNotFound", message));
            }
            None => demands.push(Demand {
                source: ("XBackendTrafficPolicy", Key::new(&meta.namespace, &meta.name)),
                created: meta.creation_timestamp,
                target: (Kind::SERVICE, Key::new(&meta.namespace, &target.name)),
                host: index.service_host(&target.name, &meta.namespace),
                section: None,
                port: None,
                tls: None,
                load_balancer: Some(LoadBalancerSettings::default()),
                retry_budget: policy.spec.retry_constraint.as_ref().map(retry_budget),
            }),
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
    PolicyResult {
        status: merge_policy(existing, entries),
        demands,
        problems: conditions.problems().cloned().collect(),
    }
}

fn as_parent(target: &LocalPolicyTargetReference) -> ParentReference {
    ParentReference {
        group: Some(target.group.clone()),
        kind: Some(target.kind.clone()),
        name: target.name.clone(),
        ..ParentReference::default()
    }
}

/// How many requests may be retries, with the Gateway API's defaults: of the last ten seconds, ten at least.
fn retry_budget(constraint: &RetryConstraint) -> RetryBudget {
    let budget = constraint.budget.clone().unwrap_or_default();
    let count = constraint.min_retry_rate.as_ref().and_then(|rate| rate.count);
    RetryBudget {
        // Percentages are at most 100, which every float has.
        percent: budget
            .percent
            .and_then(|percent| u8::try_from(percent).ok())
            .map(f64::from),
        min_retry_concurrency: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(10),
        budget_interval: Some(budget.interval.unwrap_or(Duration::from_secs(10))),
    }
}
