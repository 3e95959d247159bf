//! Slices that mirror the Endpoints which a user wrote for a service without selector, so that readers of slices see those too.

use std::net::IpAddr;

use corten_apiserver::resources::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{MANAGED_BY, SERVICE_NAME, labels_without, legacy, selector_of, slice};
use crate::controllers::action::{Action, Controller};
use crate::controllers::cache::{Change, Objects};
use crate::controllers::object::{self, Key};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// So many addresses of a subset are mirrored.
const ADDRESSES_MAX: usize = 1000;

/// The loop.
pub(crate) struct MirroredSlices;

impl Controller for MirroredSlices {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        if change.is(&SERVICES) || change.is(&ENDPOINTS) {
            vec![Key::of(change.object())]
        } else if change.is(&ENDPOINT_SLICES) {
            slice::service_of(change.object(), CONTROLLER).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let slices = slice::of_service(key, CONTROLLER, objects);
        let is_selected = objects
            .get(&SERVICES, key)
            .map(|service| selector_of(service).is_some());
        let endpoints = objects.get(&ENDPOINTS, key).filter(|endpoints| {
            is_selected == Some(false)
                && object::label(endpoints, SKIP) != Some("true")
                && !legacy::is_managed(endpoints)
        });
        let wanted = endpoints.map(|endpoints| wanted(endpoints)).unwrap_or_default();
        reconcile(wanted, &slices)
    }
}

/// Makes the slices be those that are wanted; one with the same family and ports is kept.
fn reconcile(wanted: Vec<Value>, slices: &[&Value]) -> Vec<Action> {
    let mut surplus = slices.to_vec();
    let mut actions = Vec::new();
    for mut slice in wanted {
        let alike = |other: &&Value| other["addressType"] == slice["addressType"] && other["ports"] == slice["ports"];
        let Some(at) = surplus.iter().position(alike) else {
            actions.push(Action::Create {
                resource: ENDPOINT_SLICES,
                object: slice,
                announce: None,
            });
            continue;
        };
        let existing = surplus.remove(at);
        let labels = slice["metadata"]["labels"].take();
        let mut updated = existing.clone();
        updated["endpoints"] = slice["endpoints"].take();
        object::put(&mut updated, &["metadata", "labels"], labels);
        if updated != *existing {
            actions.push(Action::Update {
                resource: ENDPOINT_SLICES,
                object: updated,
            });
        }
    }
    actions.extend(surplus.into_iter().map(slice::delete));
    actions
}

fn wanted(endpoints: &Value) -> Vec<Value> {
    let mut labels = labels_without(endpoints, &[SERVICE_NAME, MANAGED_BY]);
    labels.insert(SERVICE_NAME.to_owned(), json!(object::name(endpoints)));
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    let mut slices = Vec::new();
    for subset in object::items(endpoints, "/subsets") {
        for family in ["IPv4", "IPv6"] {
            let listed = |field: &str, ready: bool| -> Vec<Value> {
                object::items(subset, field)
                    .iter()
                    .take(ADDRESSES_MAX)
                    .filter(|address| family_of(address) == Some(family))
                    .map(|address| mirrored(address, ready))
                    .collect()
            };
            let mut found = listed("/addresses", true);
            found.extend(listed("/notReadyAddresses", false));
            if found.is_empty() {
                continue;
            }
            let ports: Vec<Value> = object::items(subset, "/ports").iter().map(named).collect();
            slices.push(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": object::namespace(endpoints),
                    "generateName": format!("{}-", object::name(endpoints)),
                    "labels": labels,
                    "ownerReferences": [object::controller_reference(endpoints)],
                },
                "addressType": family,
                "ports": ports,
                "endpoints": found,
            }));
        }
    }
    slices
}

fn family_of(address: &Value) -> Option<&'static str> {
    match object::text(address, "/ip").parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

fn named(port: &Value) -> Value {
    let mut port = port.clone();
    let name = object::text(&port, "/name").to_owned();
    object::put(&mut port, &["name"], json!(name));
    let protocol = super::protocol(&port).to_owned();
    object::put(&mut port, &["protocol"], json!(protocol));
    port
}

fn mirrored(address: &Value, ready: bool) -> Value {
    let mut endpoint = json!({
        "addresses": [object::text(address, "/ip")],
        "conditions": {"ready": ready},
    });
    for field in ["hostname", "nodeName", "targetRef"] {
        if let Some(value) = address.get(field) {
            endpoint[field] = value.clone();
        }
    }
    endpoint
}
