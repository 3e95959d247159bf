//! Conditions for the objects whose fate the model decides.

use std::{collections::HashMap, sync::Arc};

use corten_api::istio::selector::PolicyTargetReference;

use super::{authorization::Converted, binding::Refusal, services::Candidate};
use crate::{
    input::{AuthorizationPolicy, GatewayClass, ObjectKey, ObjectKind, ServiceEntry},
    map::Map,
    service::Visibility,
    settings::Settings,
    status::{
        Condition, Status, VISIBILITY_APPLIED, WAYPOINT_ACCEPTED, WAYPOINT_BOUND, WAYPOINT_MISSING, ZTUNNEL_ACCEPTED,
        reason,
    },
    text::Name,
    waypoint::Waypoint,
};

/// The controller of waypoints.
const WAYPOINT_CONTROLLER: &str = "istio.io/mesh-controller";

fn condition(kind: &'static str, holds: bool, reason: &'static str, message: String, generation: i64) -> Condition {
    Condition {
        kind,
        ancestor: None,
        holds,
        reason,
        message,
        generation,
    }
}

fn status(conditions: Vec<Condition>) -> Option<Status> {
    (!conditions.is_empty()).then_some(Status { conditions })
}

/// Of a Service or ServiceEntry.
pub(crate) fn of_candidate(
    candidate: &Candidate,
    entry: Option<&ServiceEntry>,
    settings: &Settings,
    generation: i64,
) -> Option<Status> {
    let mut conditions: Vec<Condition> = entry
        .and_then(|_| visibility(candidate, settings, generation))
        .into_iter()
        .collect();
    if candidate.services.is_empty() {
        return status(conditions);
    }
    match &candidate.waypoint {
        Some(waypoint) => {
            let mut message = format!("attached to waypoint {waypoint}");
            match candidate.ingress {
                Some(true) => message.push_str("; traffic from gateways goes through it"),
                Some(false) => message.push_str(
                    "; traffic from gateways does not go through it, unless label istio.io/ingress-use-waypoint is true",
                ),
                None => {}
            }
            // What else is wrong is the canary: traffic flows through the waypoint itself.
            if let Some(refusal) = &candidate.refusal {
                message.push_str("; its canary is not used: ");
                message.push_str(&refusal.message);
            }
            conditions.push(condition(
                WAYPOINT_BOUND,
                true,
                reason::WAYPOINT_ACCEPTED,
                message,
                generation,
            ));
        }
        None => conditions.extend(candidate.refusal.as_ref().map(|refusal| refused(refusal, generation))),
    }
    if let Some(entry) = entry.filter(|_| candidate.waypoint.is_none()) {
        let wildcard = candidate
            .services
            .iter()
            .any(|service| service.hostname.starts_with('*'));
        if entry.races_connections {
            let message = "only a waypoint can race connections, and the ServiceEntry has none: bind it to one";
            conditions.push(condition(
                WAYPOINT_MISSING,
                true,
                "NoWaypointForRacingConnectStrategy",
                message.to_owned(),
                generation,
            ));
        } else if wildcard {
            let message = "only a waypoint can serve wildcard hosts, and the ServiceEntry has none: bind it to one";
            conditions.push(condition(
                WAYPOINT_MISSING,
                true,
                "NoWaypointForWildcardService",
                message.to_owned(),
                generation,
            ));
        }
    }
    status(conditions)
}

/// Who sees a ServiceEntry, where the mesh's settings say anything about it.
fn visibility(candidate: &Candidate, settings: &Settings, generation: i64) -> Option<Condition> {
    settings.visibility.as_ref()?;
    let (reason, message) = match candidate.visibility {
        Visibility::Public => ("Public", "visible to the whole mesh (PUBLIC)"),
        Visibility::Namespace => (
            "Namespace",
            "visible to its own namespace only (NAMESPACE), by the mesh's serviceEntryVisibility",
        ),
        Visibility::None => (
            "None",
            "visible to nobody (NONE), by the mesh's serviceEntryVisibility: it is not used",
        ),
    };
    Some(condition(
        VISIBILITY_APPLIED,
        true,
        reason,
        message.to_owned(),
        generation,
    ))
}

fn refused(refusal: &Refusal, generation: i64) -> Condition {
    condition(
        WAYPOINT_BOUND,
        false,
        refusal.reason,
        refusal.message.clone(),
        generation,
    )
}

/// Of a WorkloadEntry.
pub(crate) fn of_entry(waypoint: Option<&Name>, refusal: Option<&Refusal>, generation: i64) -> Option<Status> {
    let bound = waypoint.map(|waypoint| {
        let message = format!("attached to waypoint {waypoint}");
        condition(WAYPOINT_BOUND, true, reason::WAYPOINT_ACCEPTED, message, generation)
    });
    status(
        bound
            .or_else(|| refusal.map(|refusal| refused(refusal, generation)))
            .into_iter()
            .collect(),
    )
}

/// What targets of policies are looked up in.
pub(crate) struct Targets<'a> {
    pub(crate) root_namespace: &'a Name,
    pub(crate) classes: &'a HashMap<Name, Arc<GatewayClass>>,
    pub(crate) waypoints: &'a Map<Name, Arc<Waypoint>>,
    /// The waypoint of a Service or ServiceEntry; `None`: there is no such object.
    pub(crate) waypoint_of: &'a dyn Fn(&ObjectKey) -> Option<Option<Name>>,
}

/// Of an AuthorizationPolicy.
pub(crate) fn of_policy(policy: &AuthorizationPolicy, converted: &Converted, targets: &Targets<'_>) -> Option<Status> {
    let generation = policy.meta.generation;
    let mut conditions = Vec::new();
    match &converted.complaint {
        Some((reason, message)) => {
            let enforced = converted.policy.is_some();
            conditions.push(condition(
                ZTUNNEL_ACCEPTED,
                enforced,
                reason,
                message.clone(),
                generation,
            ));
        }
        None if converted.policy.is_some() => {
            conditions.push(condition(
                ZTUNNEL_ACCEPTED,
                true,
                reason::ACCEPTED,
                "attached to ztunnel".to_owned(),
                generation,
            ));
        }
        None => {}
    }
    conditions.extend(flatten(&of_targets(policy, targets), generation));
    status(conditions)
}

/// The references of a policy: the one of old, and the list.
fn references(policy: &AuthorizationPolicy) -> impl Iterator<Item = &PolicyTargetReference> {
    policy.spec.target_refs.iter().chain(&policy.spec.target_ref)
}

/// Whether a waypoint enforces a policy, for each of the objects it is attached to.
pub(crate) fn of_targets(policy: &AuthorizationPolicy, targets: &Targets<'_>) -> Vec<Condition> {
    let of_target = |target: &PolicyTargetReference| {
        let namespace = if target.namespace.is_empty() {
            policy.meta.namespace.as_ref()
        } else {
            &target.namespace
        };
        let key = format!("{namespace}/{}", target.name);
        let (holds, reason, message) = match target.kind.as_str() {
            "GatewayClass" => class_target(namespace, target, targets),
            "Gateway" if targets.waypoints.contains_key(key.as_str()) => {
                (true, reason::ACCEPTED, format!("bound to {key}"))
            }
            "Gateway" => (false, reason::TARGET_NOT_FOUND, "not bound".to_owned()),
            "Service" => service_target(ObjectKind::Service, namespace, &target.name, targets),
            "ServiceEntry" => service_target(ObjectKind::ServiceEntry, namespace, &target.name, targets),
            kind => (
                false,
                reason::INVALID,
                format!("policies cannot be attached to a {kind}"),
            ),
        };
        let group = if target.group.is_empty() { "core" } else { &target.group };
        Condition {
            ancestor: Some(Arc::from(format!("{}.{group}:{key}", target.kind))),
            ..condition(WAYPOINT_ACCEPTED, holds, reason, message, policy.meta.generation)
        }
    };
    references(policy).map(of_target).collect()
}

fn class_target(
    namespace: &str,
    target: &PolicyTargetReference,
    targets: &Targets<'_>,
) -> (bool, &'static str, String) {
    let root = targets.root_namespace;
    if namespace != root.as_ref() {
        let message =
            format!("AuthorizationPolicy must be in the root namespace `{root}` when referencing a GatewayClass");
        return (false, reason::INVALID, message);
    }
    match targets.classes.get(target.name.as_str()) {
        None => (false, reason::TARGET_NOT_FOUND, "not bound".to_owned()),
        Some(class) if class.controller.as_ref() != WAYPOINT_CONTROLLER => {
            let message = format!("GatewayClass must use controller name `{WAYPOINT_CONTROLLER}` for waypoints");
            (false, reason::INVALID, message)
        }
        Some(class) => (true, reason::ACCEPTED, format!("bound to {}", class.meta.name)),
    }
}

fn service_target(
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    targets: &Targets<'_>,
) -> (bool, &'static str, String) {
    let what = kind.kind();
    match (targets.waypoint_of)(&ObjectKey::new(kind, namespace, name)) {
        None => (
            false,
            reason::TARGET_NOT_FOUND,
            format!("{what} {namespace}/{name} was not found"),
        ),
        Some(None) => {
            let message = format!("{what} {namespace}/{name} is not bound to a waypoint");
            (false, reason::ANCESTOR_NOT_BOUND, message)
        }
        Some(Some(waypoint)) => (true, reason::ACCEPTED, format!("bound to {waypoint}")),
    }
}

/// Conditions about several objects as the one that there is room for.
fn flatten(conditions: &[Condition], generation: i64) -> Option<Condition> {
    let [first, .., _] = conditions else {
        let only = conditions.first()?.clone();
        return Some(Condition { ancestor: None, ..only });
    };
    let unbound: Vec<&str> = conditions
        .iter()
        .filter(|c| !c.holds)
        .filter_map(|c| c.ancestor.as_deref())
        .collect();
    let holds = conditions.iter().any(|c| c.holds);
    let reason = match (holds, unbound.is_empty()) {
        (true, true) => reason::ACCEPTED,
        (true, false) => reason::PARTIALLY_INVALID,
        (false, _) => reason::INVALID,
    };
    let message = if unbound.is_empty() {
        String::new()
    } else {
        format!("Invalid targetRefs: {}", unbound.join(", "))
    };
    Some(condition(first.kind, holds, reason, message, generation))
}
