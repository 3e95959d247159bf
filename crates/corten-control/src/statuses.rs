//! What the model says about objects, as conditions in their status; and the mesh's own configuration, from text.

use corten_api::istio::mesh_config::MeshConfig;
use corten_core::NamespacedName;
use corten_model::{ObjectKey, ObjectKind, Status, status};
use corten_store_kube::{Condition, Kind, StatusOf, StatusWriter, kinds};
use serde_json::Value;

const SERVICES: StatusOf = StatusOf {
    manager: "istio-ambient-service",
    types: &[
        status::WAYPOINT_BOUND,
        status::WAYPOINT_MISSING,
        status::VISIBILITY_APPLIED,
    ],
    events: false,
};
const WORKLOAD_ENTRIES: StatusOf = StatusOf {
    manager: "istio-ambient-workloadentry",
    types: &[status::WAYPOINT_BOUND],
    events: false,
};
const NODE_POLICIES: StatusOf = StatusOf {
    manager: "istio-ambient-ztunnel-policy",
    types: &[status::ZTUNNEL_ACCEPTED],
    events: false,
};
const WAYPOINT_POLICIES: StatusOf = StatusOf {
    manager: "istio-ambient-waypoint-policy",
    types: &[status::WAYPOINT_ACCEPTED],
    events: false,
};

/// Who writes which conditions of a kind.
fn managers(kind: ObjectKind) -> (Option<Kind>, &'static [StatusOf]) {
    match kind {
        ObjectKind::Service => (Some(kinds::SERVICES), &[SERVICES]),
        ObjectKind::ServiceEntry => (Some(kinds::SERVICE_ENTRIES), &[SERVICES]),
        ObjectKind::WorkloadEntry => (Some(kinds::WORKLOAD_ENTRIES), &[WORKLOAD_ENTRIES]),
        ObjectKind::AuthorizationPolicy => (Some(kinds::AUTHORIZATION_POLICIES), &[NODE_POLICIES, WAYPOINT_POLICIES]),
        _ => (None, &[]),
    }
}

/// Whether objects of the kind get conditions.
pub(crate) fn is_written(kind: ObjectKind) -> bool {
    managers(kind).0.is_some()
}

/// Whether an object has a condition of ours.
pub(crate) fn has_ours(kind: ObjectKind, object: &Value) -> bool {
    let (_, managers) = managers(kind);
    let Some(conditions) = object["status"]["conditions"].as_array() else {
        return false;
    };
    let ours = |condition: &Value| {
        managers
            .iter()
            .any(|of| of.types.iter().any(|type_| condition["type"] == *type_))
    };
    conditions.iter().any(ours)
}

/// Says what an object's conditions should be; none: there should be none of ours. What node proxies reject is not accepted, whatever else is said.
pub(crate) fn want(writer: &StatusWriter, key: &ObjectKey, status: Option<&Status>, rejected: Option<&str>) {
    let (Some(kind), managers) = managers(key.kind) else {
        return;
    };
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    for of in managers {
        let wanted: Vec<Condition> = of
            .types
            .iter()
            // Of conditions about several objects the list can hold one of a type.
            .filter_map(|type_| conditions.iter().find(|condition| condition.kind == *type_))
            .map(|condition| {
                let rejected = rejected.filter(|_| condition.kind == status::ZTUNNEL_ACCEPTED);
                Condition {
                    type_: condition.kind.to_owned(),
                    status: Some(condition.holds && rejected.is_none()),
                    reason: rejected.map_or(condition.reason, |_| "RejectedByProxy").to_owned(),
                    message: rejected.map_or_else(|| condition.message.clone(), str::to_owned),
                    observed_generation: Some(condition.generation),
                }
            })
            .collect();
        let object = NamespacedName::new(&*key.namespace, &*key.name);
        writer.set(kind, object, *of, wanted);
    }
}

/// The mesh's configuration from its text, over the defaults, and what is wrong with it.
pub(crate) fn mesh_config(text: &str) -> (MeshConfig, Vec<String>) {
    let (root, diagnostics) = corten_api::decode::document("mesh", text);
    let mut problems: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    // No document at all changes no default.
    let Some(root) = root.or_else(|| corten_api::decode::document("mesh", "{}").0) else {
        return (MeshConfig::default(), problems);
    };
    let (config, wrong) = corten_api::validate::mesh_config_over_defaults(&root);
    problems.extend(
        wrong
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message)),
    );
    (config, problems)
}

/// What is wrong with the text of the mesh's networks, and what of it takes no effect.
pub(crate) fn mesh_networks(text: &str) -> Vec<String> {
    let (root, diagnostics) = corten_api::decode::document("meshNetworks", text);
    let mut problems: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    if let Some(root) = root {
        let wrong = corten_api::validate::mesh_networks_text(&root).into_iter();
        let unheard = corten_api::validate::unhonoured_networks(&root);
        let shown = wrong.chain(unheard);
        problems.extend(shown.map(|problem| format!("meshNetworks: {}: {}", problem.path, problem.message)));
    }
    problems
}
