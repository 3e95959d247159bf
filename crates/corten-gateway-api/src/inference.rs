//! InferencePools: their status. Who sends to them is read from the status of routes, which says who accepted them.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::{
    gateway_api::{
        HTTPRoute,
        shared::{ConditionStatus, RouteParentStatus},
    },
    inference::{
        InferencePool, InferencePoolSpecEndpointPickerRefFailureMode as FailureMode, InferencePoolStatus,
        InferencePoolStatusParent, InferencePoolStatusParentParentRef,
    },
};
use serde_json::{Value, json};

use crate::{
    class::{EAST_WEST_CONTROLLER, GATEWAY_CONTROLLER, MESH_CONTROLLER, REMOTE_CONTROLLER, Role},
    condition::Conditions,
    index::Index,
    reference::{Key, Kind},
    route::{
        destination::{PICKER_FAILURE_MODE, PICKER_PORT, PICKER_SERVICE, pool_service},
        matching::name,
    },
};

/// The label of a pool's service with the pool's name.
const POOL: &str = "istio.io/inferencepool-name";
/// The label that says what a service is for.
const SERVICE_SEMANTICS: &str = "internal.istio.io/service-semantics";
/// The first port of a pool's service; each of the pool's ports has one.
const FIRST_PORT: usize = 54321;

/// The gateways that send to a pool.
fn gateways<'a>(
    pool: &InferencePool,
    routes: &[&'a HTTPRoute],
) -> BTreeMap<Key, (&'a HTTPRoute, &'a RouteParentStatus)> {
    let ours = [
        GATEWAY_CONTROLLER,
        REMOTE_CONTROLLER,
        MESH_CONTROLLER,
        EAST_WEST_CONTROLLER,
    ];
    let mut gateways = BTreeMap::new();
    for route in routes.iter().filter(|route| refers(route, pool)) {
        let parents = route.status.as_ref().map_or(&[][..], |status| &status.parents);
        for parent in parents
            .iter()
            .filter(|parent| ours.contains(&parent.controller_name.as_str()))
        {
            let named = parent
                .parent_ref
                .namespace
                .as_deref()
                .filter(|namespace| !namespace.is_empty());
            let namespace = named.unwrap_or(&route.metadata.namespace);
            let gateway = Key::new(namespace, &parent.parent_ref.name);
            gateways.entry(gateway).or_insert((*route, parent));
        }
    }
    gateways
}

/// Whether a route names a pool.
fn refers(route: &HTTPRoute, pool: &InferencePool) -> bool {
    let mut backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    backends.any(|backend| {
        let kind = Kind::of(backend.group.as_deref(), backend.kind.as_deref(), Kind::NONE);
        let named = backend.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = named.unwrap_or(&route.metadata.namespace);
        kind == Kind::INFERENCE_POOL && backend.name == pool.metadata.name && namespace == pool.metadata.namespace
    })
}

/// The status of a pool.
pub(crate) fn status(index: &Index<'_>, pool: &InferencePool, routes: &[&HTTPRoute]) -> InferencePoolStatus {
    let gateways = gateways(pool, routes);
    let existing = pool.status.as_ref().map_or(&[][..], |status| &status.parents);
    let key = |parent: &InferencePoolStatusParent| {
        let named = parent
            .parent_ref
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty());
        Key::new(named.unwrap_or(&pool.metadata.namespace), &parent.parent_ref.name)
    };
    let others = existing.iter().filter(|parent| {
        let key = key(parent);
        let waiting = parent.parent_ref.kind.as_deref() == Some("Status") && parent.parent_ref.name == "default";
        let ours = index
            .gateway(&key.namespace, &key.name)
            .is_some_and(|gateway| Role::of_built_in(&gateway.spec.gateway_class_name, index.settings).is_some());
        !gateways.contains_key(&key) && !ours && !waiting
    });
    let mut parents: Vec<InferencePoolStatusParent> = others.cloned().collect();
    parents.extend(gateways.iter().map(|(gateway, (route, parent))| {
        let known = existing.iter().find(|existing| {
            existing.parent_ref.name == gateway.name
                && existing.parent_ref.namespace.as_deref().unwrap_or_default() == gateway.namespace
        });
        let kept: Vec<_> = known
            .map_or(&[][..], |known| &known.conditions)
            .iter()
            .filter(|condition| matches!(condition.type_.as_str(), "Accepted" | "ResolvedRefs"))
            .cloned()
            .collect();
        let mut conditions = Conditions::default();
        accepted(&mut conditions, gateway, route, parent);
        resolved(index, &mut conditions, pool);
        InferencePoolStatusParent {
            conditions: conditions.over(&kept, pool.metadata.generation, index.now),
            controller_name: None,
            parent_ref: InferencePoolStatusParentParentRef {
                // As Istio writes it, whose group is that of its own gateways.
                group: Some("networking.istio.io".to_owned()),
                kind: Some("Gateway".to_owned()),
                name: gateway.name.clone(),
                namespace: Some(gateway.namespace.clone()),
            },
        }
    }));
    InferencePoolStatus { parents }
}

/// Whether the route that sends to the pool was accepted.
fn accepted(conditions: &mut Conditions, gateway: &Key, route: &HTTPRoute, parent: &RouteParentStatus) {
    let condition = parent.conditions.iter().find(|condition| condition.type_ == "Accepted");
    let (status, reason, message) = match condition {
        Some(condition) if condition.status == ConditionStatus::True => (
            ConditionStatus::True,
            "Accepted",
            "Referenced by an HTTPRoute accepted by the parentRef Gateway".to_owned(),
        ),
        Some(condition) => {
            let meta = &route.metadata;
            let message = format!(
                "Referenced HTTPRoute {}/{} not accepted by Gateway {gateway}: {}",
                meta.namespace, meta.name, condition.message
            );
            (ConditionStatus::False, "HTTPRouteNotAccepted", message)
        }
        None => (
            ConditionStatus::Unknown,
            "Accepted",
            "Referenced by an HTTPRoute unknown parentRef Gateway status".to_owned(),
        ),
    };
    conditions.set("Accepted", status, reason, message);
}

/// Whether there is somebody who picks endpoints.
fn resolved(index: &Index<'_>, conditions: &mut Conditions, pool: &InferencePool) {
    let picker = &pool.spec.endpoint_picker_ref;
    let kind = picker
        .kind
        .as_deref()
        .filter(|kind| !kind.is_empty())
        .unwrap_or("Service");
    let problem = if kind != "Service" {
        Some(format!("Unsupported ExtensionRef kind {kind}"))
    } else if picker.name.is_empty() {
        Some("ExtensionRef not defined".to_owned())
    } else if index.service(&pool.metadata.namespace, &picker.name).is_none() {
        Some(format!("Referenced ExtensionRef not found {}", picker.name))
    } else {
        None
    };
    match problem {
        Some(message) => conditions.set("ResolvedRefs", ConditionStatus::False, "InvalidExtensionRef", message),
        None => {
            let message = "Referenced ExtensionRef resolved successfully";
            conditions.set("ResolvedRefs", ConditionStatus::True, "ResolvedRefs", message);
        }
    }
}

/// The Service that stands for a pool, which makes its endpoints known; `None`: no gateway sends there, or nobody picks.
pub(crate) fn service(pool: &InferencePool, routes: &[&HTTPRoute]) -> Option<Value> {
    let gateways: BTreeSet<Key> = gateways(pool, routes).into_keys().collect();
    let picker = &pool.spec.endpoint_picker_ref;
    let picker_port = picker.port.as_ref().filter(|_| !gateways.is_empty())?;
    let mode = picker.failure_mode.unwrap_or(FailureMode::FailClose);
    let ports = pool.spec.target_ports.iter().enumerate().map(|(i, target)| {
        let mut port = json!({
            "name": format!("http-{i}"), "protocol": "TCP", "port": FIRST_PORT + i, "targetPort": target.number,
        });
        if let Some(protocol) = &pool.spec.app_protocol {
            port["appProtocol"] = json!(name(protocol));
        }
        port
    });
    let meta = &pool.metadata;
    Some(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": pool_service(&meta.name),
            "namespace": meta.namespace,
            "labels": {
                POOL: meta.name,
                PICKER_SERVICE: picker.name,
                PICKER_PORT: picker_port.number.to_string(),
                PICKER_FAILURE_MODE: name(&mode),
                SERVICE_SEMANTICS: "inferencepool",
            },
            "ownerReferences": [{
                "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "name": meta.name, "uid": meta.uid,
            }],
        },
        "spec": {
            "selector": pool.spec.selector.match_labels,
            "type": "ClusterIP",
            "clusterIP": "None",
            "ports": ports.collect::<Vec<Value>>(),
        },
    }))
}
