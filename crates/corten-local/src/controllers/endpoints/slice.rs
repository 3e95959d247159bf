//! EndpointSlice from services and pods, at most 100 endpoints a slice.
//!
//! Slices are kept as they are where possible: endpoints stay in their slice, new ones fill the slices that change anyway, then the fullest slice
//! that has room, then new slices. So a change of one pod writes one slice.

use std::collections::BTreeMap;

use corten_apiserver::resources::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    HEADLESS, MANAGED_BY, SERVICE_NAME, hostname, is_headless, labels_without, pods_of, ports, publishes_unready,
    selector_of, services_of_pod, set_trigger_time, target,
};
use crate::controllers::action::{Action, Controller, place};
use crate::controllers::cache::{Change, Objects};
use crate::controllers::object::{self, Key};
use crate::controllers::pod;

/// Who manages the slices, as their label says.
pub(super) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// A slice holds so many endpoints.
const ENDPOINTS_MAX: usize = 100;

/// The loop.
pub(crate) struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&SERVICES) {
            vec![Key::of(change.object())]
        } else if change.is(&PODS) {
            services_of_pod(change, objects)
        } else if change.is(&ENDPOINT_SLICES) {
            service_of(change.object(), CONTROLLER).into_iter().collect()
        } else if change.is(&NODES) && change.differs("/metadata/labels") {
            // The zone of a node is part of its endpoints.
            objects.all(&SERVICES).map(|service| Key::of(service)).collect()
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let slices: Vec<&Value> = of_service(key, CONTROLLER, objects);
        let service = objects
            .get(&SERVICES, key)
            .filter(|service| selector_of(service).is_some());
        let Some(service) = service else {
            // A service that lost its selector keeps its slices, as in Kubernetes; one that is gone does not.
            let is_gone = objects.get(&SERVICES, key).is_none();
            return slices.into_iter().filter(|_| is_gone).map(delete).collect();
        };
        let pods = pods_of(service, objects);
        let zone = |node: &str| {
            let node = objects.get(&NODES, &Key::new("", node))?;
            Some(
                object::label(node, "topology.kubernetes.io/zone")
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        reconcile(service, &pods, &slices, &zone)
    }
}

/// The service of a slice that the named controller manages.
pub(super) fn service_of(slice: &Value, controller: &str) -> Option<Key> {
    if object::label(slice, MANAGED_BY) != Some(controller) {
        return None;
    }
    Some(Key::new(object::namespace(slice), object::label(slice, SERVICE_NAME)?))
}

/// The slices of a service that the named controller manages.
pub(super) fn of_service<'a>(key: &Key, controller: &str, objects: &'a Objects) -> Vec<&'a Value> {
    objects
        .within(&ENDPOINT_SLICES, &key.namespace)
        .filter(|slice| service_of(slice, controller).as_ref() == Some(key))
        .map(|slice| &**slice)
        .collect()
}

pub(super) fn delete(slice: &Value) -> Action {
    Action::Delete {
        place: place(&ENDPOINT_SLICES, slice),
        uid: object::uid(slice).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: None,
    }
}

/// The wanted endpoints of one address family that share their ports.
struct Group {
    ports: Vec<Value>,
    endpoints: Vec<Value>,
}

/// What to do about a service's slices. `zone` gives the zone of a node that exists, perhaps empty.
pub(super) fn reconcile(
    service: &Value,
    pods: &[&Value],
    slices: &[&Value],
    zone: &dyn Fn(&str) -> Option<String>,
) -> Vec<Action> {
    if object::is_deleting(service) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let families: Vec<&str> = object::items(service, "/spec/ipFamilies")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let families = if families.is_empty() { vec!["IPv4"] } else { families };
    for slice in slices {
        if !families.contains(&object::text(slice, "/addressType")) {
            actions.push(delete(slice));
        }
    }
    for family in families {
        let groups = groups(service, pods, family, zone);
        let slices: Vec<&Value> = slices
            .iter()
            .copied()
            .filter(|slice| object::text(slice, "/addressType") == family)
            .collect();
        pack(service, pods, family, groups, &slices, &mut actions);
    }
    actions
}

fn groups(
    service: &Value,
    pods: &[&Value],
    family: &str,
    zone: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for pod in pods {
        let node = object::text(pod, "/spec/nodeName");
        let zone = zone(node);
        if zone.is_none() && !publishes_unready(service) {
            // The pod is about to go with its node.
            continue;
        }
        let Some(endpoint) = endpoint(service, pod, family, &zone.unwrap_or_default()) else {
            continue;
        };
        let ports = ports(service, pod);
        groups
            .entry(ports_key(&ports))
            .or_insert_with(|| Group {
                ports,
                endpoints: Vec::new(),
            })
            .endpoints
            .push(endpoint);
    }
    groups
}

fn ports_key(ports: &[Value]) -> String {
    let mut ports: Vec<String> = ports.iter().map(Value::to_string).collect();
    ports.sort();
    ports.join(",")
}

fn endpoint(service: &Value, pod: &Value, family: &str, zone: &str) -> Option<Value> {
    let addresses: Vec<&str> = object::items(pod, "/status/podIPs")
        .iter()
        .map(|ip| object::text(ip, "/ip"))
        .filter(|ip| ip.contains(':') == (family == "IPv6") && !ip.is_empty())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let serving = pod::is_ready(pod);
    let terminating = object::is_deleting(pod);
    let ready = publishes_unready(service) || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target(pod),
    });
    let node = object::text(pod, "/spec/nodeName");
    for (field, value) in [
        ("nodeName", node),
        ("zone", zone),
        ("hostname", hostname(pod, service).unwrap_or_default()),
    ] {
        if !value.is_empty() {
            endpoint[field] = json!(value);
        }
    }
    if ready && let Some(hints) = hints(service, node, zone) {
        endpoint["hints"] = hints;
    }
    Some(endpoint)
}

/// For whom an endpoint is meant when the service wants its traffic kept close.
fn hints(service: &Value, node: &str, zone: &str) -> Option<Value> {
    let by_node = match object::text(service, "/spec/trafficDistribution") {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let mut hints = json!({});
    if !zone.is_empty() {
        hints["forZones"] = json!([{"name": zone}]);
    }
    if by_node && !node.is_empty() {
        hints["forNodes"] = json!([{"name": node}]);
    }
    hints.as_object().is_some_and(|h| !h.is_empty()).then_some(hints)
}

/// Who an endpoint is, whatever its state: two endpoints of one identity are one that changed.
fn identity(endpoint: &Value) -> String {
    format!(
        "{} {} {}",
        endpoint["addresses"], endpoint["targetRef"]["uid"], endpoint["hostname"]
    )
}

/// Distributes the groups over slices and collects what changes.
fn pack(
    service: &Value,
    pods: &[&Value],
    family: &str,
    groups: BTreeMap<String, Group>,
    slices: &[&Value],
    actions: &mut Vec<Action>,
) {
    let mut by_ports: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for slice in slices {
        by_ports
            .entry(ports_key(object::items(slice, "/ports")))
            .or_default()
            .push(slice);
    }
    let mut writes: Vec<(Option<&Value>, Value)> = Vec::new();
    let mut surplus: Vec<&Value> = Vec::new();
    let mut kept = 0;
    for (key, group) in groups {
        let existing = by_ports.remove(&key).unwrap_or_default();
        let packed = pack_group(group.endpoints, &existing);
        for (slice, endpoints) in existing.iter().zip(packed.existing) {
            if endpoints.is_empty() {
                surplus.push(slice);
                continue;
            }
            let updated = shaped(service, family, &group.ports, endpoints, Some(slice));
            kept += 1;
            if updated != **slice {
                writes.push((Some(*slice), updated));
            }
        }
        for endpoints in packed.fresh {
            writes.push((None, shaped(service, family, &group.ports, endpoints, None)));
        }
    }
    surplus.extend(by_ports.into_values().flatten());
    if kept == 0 && writes.is_empty() {
        // A service without endpoints has one empty slice.
        let placeholder = shaped(service, family, &[], Vec::new(), None);
        let is_there = |slice: &&Value| {
            object::items(slice, "/endpoints").is_empty()
                && object::items(slice, "/ports").is_empty()
                && slice.pointer("/metadata/labels") == placeholder.pointer("/metadata/labels")
        };
        match surplus.iter().position(is_there) {
            Some(at) => {
                surplus.remove(at);
            }
            None => writes.push((None, placeholder)),
        }
    }
    for (base, mut wanted) in writes {
        // What would be made takes the place of what would be deleted.
        let base = base.or_else(|| surplus.pop());
        if let Some(base) = base {
            wanted["metadata"]["name"] = base["metadata"]["name"].clone();
            wanted["metadata"]["uid"] = base["metadata"]["uid"].clone();
            wanted["metadata"]["resourceVersion"] = base["metadata"]["resourceVersion"].clone();
            if let Some(annotations) = base.pointer("/metadata/annotations") {
                wanted["metadata"]["annotations"] = annotations.clone();
            }
        }
        set_trigger_time(&mut wanted, service, pods);
        actions.push(match base {
            Some(_) => Action::Update {
                resource: ENDPOINT_SLICES,
                object: wanted,
            },
            None => Action::Create {
                resource: ENDPOINT_SLICES,
                object: wanted,
                announce: None,
            },
        });
    }
    actions.extend(surplus.into_iter().map(delete));
}

struct Packed {
    /// The endpoints of each existing slice.
    existing: Vec<Vec<Value>>,
    /// The endpoints of each new slice.
    fresh: Vec<Vec<Value>>,
}

fn pack_group(wanted: Vec<Value>, slices: &[&Value]) -> Packed {
    let mut left: BTreeMap<String, Value> = wanted.into_iter().map(|e| (identity(&e), e)).collect();
    let mut existing: Vec<Vec<Value>> = Vec::new();
    let mut changed: Vec<bool> = Vec::new();
    for slice in slices {
        let before = object::items(slice, "/endpoints");
        let after: Vec<Value> = before.iter().filter_map(|e| left.remove(&identity(e))).collect();
        changed.push(before != after);
        existing.push(after);
    }
    let mut left: Vec<Value> = left.into_values().rev().collect();
    // First the slices that change anyway, the fullest first; those left without endpoints are given up.
    let mut order: Vec<usize> = (0..existing.len()).filter(|i| changed[*i]).collect();
    order.sort_by_key(|i| std::cmp::Reverse(existing[*i].len()));
    for i in order
        .into_iter()
        .filter(|i| !existing[*i].is_empty())
        .collect::<Vec<_>>()
    {
        fill(&mut existing[i], &mut left);
    }
    let mut fresh = Vec::new();
    while !left.is_empty() {
        let with_room = (0..existing.len())
            .filter(|i| !changed[*i] && existing[*i].len() + left.len() <= ENDPOINTS_MAX)
            .max_by_key(|i| existing[*i].len());
        match with_room {
            Some(i) => fill(&mut existing[i], &mut left),
            None => {
                let mut slice = Vec::new();
                fill(&mut slice, &mut left);
                fresh.push(slice);
            }
        }
    }
    Packed { existing, fresh }
}

/// Moves endpoints from the end of `left` into a slice while it has room.
fn fill(slice: &mut Vec<Value>, left: &mut Vec<Value>) {
    let room = ENDPOINTS_MAX.saturating_sub(slice.len());
    let rest = left.split_off(left.len().saturating_sub(room));
    slice.extend(rest.into_iter().rev());
}

/// A slice with these contents, on the base of an existing one.
fn shaped(service: &Value, family: &str, ports: &[Value], endpoints: Vec<Value>, base: Option<&&Value>) -> Value {
    let mut slice = match base {
        Some(base) => (**base).clone(),
        None => json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": object::namespace(service),
                "generateName": format!("{}-", object::name(service)),
                "ownerReferences": [object::controller_reference(service)],
            },
            "addressType": family,
            "ports": ports,
        }),
    };
    let mut labels = labels_without(service, &[HEADLESS, SERVICE_NAME, MANAGED_BY]);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    labels.insert(SERVICE_NAME.to_owned(), json!(object::name(service)));
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    object::put(&mut slice, &["metadata", "labels"], Value::Object(labels));
    slice["endpoints"] = Value::Array(endpoints);
    slice
}
