//! Endpoints of services: which pods stand behind a service, under which addresses and ports.
//!
//! The three loops over it are `slice` (EndpointSlice), `legacy` (Endpoints) and `mirror` (slices from Endpoints that a user made).

mod legacy;
mod mirror;
mod slice;
#[cfg(test)]
mod tests;

pub(crate) use legacy::LegacyEndpoints;
pub(crate) use mirror::MirroredSlices;
pub(crate) use slice::EndpointSlices;

use corten_apiserver::resources::{PODS, SERVICES};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::{pod, selector};

const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The services that a change of a pod concerns.
fn services_of_pod(change: &Change, objects: &Objects) -> Vec<Key> {
    let is_relevant = change.differs("/metadata/labels")
        || change.differs("/metadata/deletionTimestamp")
        || change.differs("/spec/nodeName")
        || change.differs("/status/podIPs")
        || change.differs("/status/phase")
        || change.differs("/status/conditions");
    if !is_relevant {
        return Vec::new();
    }
    let namespace = object::namespace(change.object());
    objects
        .within(&SERVICES, namespace)
        .filter(|service| {
            selector_of(service).is_some_and(|wanted| {
                change
                    .sides()
                    .any(|side| selector::matches_map(wanted, object::labels(side)))
            })
        })
        .map(|service| Key::of(service))
        .collect()
}

/// The selector of a service whose endpoints are ours to find.
fn selector_of(service: &Value) -> Option<&Map<String, Value>> {
    let is_external = object::text(service, "/spec/type") == "ExternalName";
    object::map(service, "/spec/selector").filter(|wanted| !is_external && !wanted.is_empty())
}

/// The pods that a service selects, those that may have endpoints only.
fn pods_of<'a>(service: &'a Value, objects: &'a Objects) -> Vec<&'a Value> {
    let Some(wanted) = selector_of(service) else {
        return Vec::new();
    };
    objects
        .within(&PODS, object::namespace(service))
        .filter(|pod| selector::matches_map(wanted, object::labels(pod)))
        .filter(|pod| !pod::is_finished(pod) && !object::items(pod, "/status/podIPs").is_empty())
        .map(|pod| &**pod)
        .collect()
}

fn is_headless(service: &Value) -> bool {
    matches!(object::text(service, "/spec/clusterIP"), "" | "None")
}

fn publishes_unready(service: &Value) -> bool {
    object::flag(service, "/spec/publishNotReadyAddresses")
}

/// The host name under which a pod is known below the service, if it is.
fn hostname<'a>(pod: &'a Value, service: &Value) -> Option<&'a str> {
    let hostname = object::text(pod, "/spec/hostname");
    let is_known = !hostname.is_empty() && object::text(pod, "/spec/subdomain") == object::name(service);
    is_known.then_some(hostname)
}

/// The ports of a service on one pod: named target ports are looked up in the pod's containers, and left out where it has none of the name.
fn ports(service: &Value, pod: &Value) -> Vec<Value> {
    object::items(service, "/spec/ports")
        .iter()
        .filter_map(|port| {
            let mut found = json!({
                "name": object::text(port, "/name"),
                "port": target_port(port, pod)?,
                "protocol": protocol(port),
            });
            if let Some(app) = port.get("appProtocol").filter(|app| app.is_string()) {
                found["appProtocol"] = app.clone();
            }
            Some(found)
        })
        .collect()
}

fn protocol(port: &Value) -> &str {
    match object::text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

fn target_port(port: &Value, pod: &Value) -> Option<i64> {
    match port.get("targetPort") {
        Some(Value::String(wanted)) => {
            let sidecars = object::items(pod, "/spec/initContainers")
                .iter()
                .filter(|container| object::text(container, "/restartPolicy") == "Always");
            object::items(pod, "/spec/containers")
                .iter()
                .chain(sidecars)
                .flat_map(|container| object::items(container, "/ports"))
                .find(|p| object::text(p, "/name") == wanted && protocol(p) == protocol(port))
                .and_then(|p| object::number(p, "/containerPort"))
        }
        Some(Value::Number(number)) if number.as_i64() != Some(0) => number.as_i64(),
        _ => object::number(port, "/port"),
    }
}

/// The object reference by which an endpoint names its pod.
fn target(pod: &Value) -> Value {
    json!({
        "kind": "Pod",
        "namespace": object::namespace(pod),
        "name": object::name(pod),
        "uid": object::uid(pod),
    })
}

/// The labels of a service, without those in `reserved`.
fn labels_without(service: &Value, reserved: &[&str]) -> Map<String, Value> {
    object::labels(service)
        .into_iter()
        .flatten()
        .filter(|(name, _)| !reserved.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The earliest moment that asked for a change after the one already recorded: the service was made, or a pod's readiness changed.
fn trigger_time(service: &Value, pods: &[&Value], recorded: Option<Timestamp>) -> Option<Timestamp> {
    let ready = pods
        .iter()
        .filter_map(|pod| object::time(object::condition(pod, "Ready")?, "/lastTransitionTime"));
    ready
        .chain(object::creation(service))
        .filter(|time| recorded.is_none_or(|recorded| *time > recorded))
        .min()
}

/// Writes the trigger time of a change onto what changes.
fn set_trigger_time(endpoints: &mut Value, service: &Value, pods: &[&Value]) {
    let recorded = object::annotation(endpoints, TRIGGER_TIME).and_then(|time| time.parse().ok());
    match trigger_time(service, pods, recorded) {
        Some(time) => {
            object::set_annotation(endpoints, TRIGGER_TIME, &object::seconds(time));
        }
        None => {
            if let Some(annotations) = endpoints
                .pointer_mut("/metadata/annotations")
                .and_then(Value::as_object_mut)
            {
                annotations.remove(TRIGGER_TIME);
            }
        }
    }
}
