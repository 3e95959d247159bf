//! The older Endpoints object: one per service, of the service's first address family.

use std::collections::BTreeMap;

use corten_apiserver::resources::{ENDPOINTS, PODS, SERVICES};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    HEADLESS, hostname, is_headless, labels_without, pods_of, ports, publishes_unready, selector_of, services_of_pod,
    set_trigger_time, target,
};
use crate::controllers::action::{Action, Controller, place};
use crate::controllers::cache::{Change, Objects};
use crate::controllers::object::{self, Key};
use crate::controllers::pod;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
pub(super) const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// So many addresses are listed at most.
const ADDRESSES_MAX: usize = 1000;

/// The loop.
pub(crate) struct LegacyEndpoints;

impl Controller for LegacyEndpoints {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key> {
        if change.is(&SERVICES) || change.is(&ENDPOINTS) {
            vec![Key::of(change.object())]
        } else if change.is(&PODS) {
            services_of_pod(change, objects)
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let current = objects.get(&ENDPOINTS, key).map(|endpoints| &**endpoints);
        let Some(service) = objects.get(&SERVICES, key) else {
            return current.filter(|c| is_managed(c)).map(delete).into_iter().collect();
        };
        if selector_of(service).is_none() {
            return Vec::new();
        }
        let pods = pods_of(service, objects);
        reconcile(service, &pods, current).into_iter().collect()
    }
}

/// Whether the object was made here, and not by a user.
pub(super) fn is_managed(endpoints: &Value) -> bool {
    object::label(endpoints, MANAGED_BY) == Some(CONTROLLER)
}

fn delete(endpoints: &Value) -> Action {
    Action::Delete {
        place: place(&ENDPOINTS, endpoints),
        uid: object::uid(endpoints).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: None,
    }
}

/// The write that a service's endpoints need, if any.
pub(super) fn reconcile(service: &Value, pods: &[&Value], current: Option<&Value>) -> Option<Action> {
    let mut wanted = match current {
        Some(current) => current.clone(),
        None => json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"namespace": object::namespace(service), "name": object::name(service)},
        }),
    };
    let mut labels = labels_without(service, &[HEADLESS, MANAGED_BY]);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    object::put(&mut wanted, &["metadata", "labels"], Value::Object(labels));
    let (subsets, is_over) = subsets(service, pods);
    if !subsets.is_empty() {
        wanted["subsets"] = json!(subsets);
    } else if let Some(fields) = wanted.as_object_mut() {
        fields.remove("subsets");
    }
    if is_over {
        object::set_annotation(&mut wanted, OVER_CAPACITY, "truncated");
    } else if let Some(annotations) = wanted
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(OVER_CAPACITY);
    }
    if current == Some(&wanted) {
        return None;
    }
    set_trigger_time(&mut wanted, service, pods);
    Some(match current {
        Some(_) => Action::Update {
            resource: ENDPOINTS,
            object: wanted,
        },
        None => Action::Create {
            resource: ENDPOINTS,
            object: wanted,
            announce: None,
        },
    })
}

/// An address in the order of the list, whether it is ready, and how it is written.
type Address = (String, bool, String);

/// The subsets: ports that the same addresses have stand together. And whether addresses had to be left out.
fn subsets(service: &Value, pods: &[&Value]) -> (Vec<Value>, bool) {
    let mut by_port: BTreeMap<Option<String>, Vec<Address>> = BTreeMap::new();
    for pod in pods.iter().take(ADDRESSES_MAX) {
        if object::is_deleting(pod) && !publishes_unready(service) {
            continue;
        }
        let Some((ip, address)) = address(service, pod) else {
            continue;
        };
        let ready = publishes_unready(service) || pod::is_ready(pod);
        let entry = (ip, ready, address.to_string());
        let ports = ports(service, pod);
        if ports.is_empty() && object::items(service, "/spec/ports").is_empty() && is_headless(service) {
            by_port.entry(None).or_default().push(entry);
            continue;
        }
        for mut port in ports {
            if object::text(&port, "/name").is_empty() {
                port.as_object_mut().map(|port| port.remove("name"));
            }
            by_port.entry(Some(port.to_string())).or_default().push(entry.clone());
        }
    }
    let mut by_addresses: BTreeMap<Vec<Address>, Vec<Value>> = BTreeMap::new();
    for (port, mut addresses) in by_port {
        addresses.sort();
        let ports = by_addresses.entry(addresses).or_default();
        // Written a few lines above; it reads back.
        ports.extend(port.and_then(|port| serde_json::from_str(&port).ok()));
    }
    let subsets = by_addresses
        .into_iter()
        .map(|(addresses, ports)| subset(&addresses, ports))
        .collect();
    (subsets, pods.len() > ADDRESSES_MAX)
}

fn subset(addresses: &[Address], ports: Vec<Value>) -> Value {
    let listed = |ready: bool| -> Vec<Value> {
        addresses
            .iter()
            .filter(|(_, is_ready, _)| *is_ready == ready)
            .filter_map(|(_, _, address)| serde_json::from_str(address).ok())
            .collect()
    };
    let mut subset = json!({});
    for (field, values) in [
        ("addresses", listed(true)),
        ("notReadyAddresses", listed(false)),
        ("ports", ports),
    ] {
        if !values.is_empty() {
            subset[field] = json!(values);
        }
    }
    subset
}

fn address(service: &Value, pod: &Value) -> Option<(String, Value)> {
    let wants_v6 = object::text(service, "/spec/ipFamilies/0") == "IPv6";
    let ip = object::items(pod, "/status/podIPs")
        .iter()
        .map(|ip| object::text(ip, "/ip"))
        .find(|ip| ip.contains(':') == wants_v6 && !ip.is_empty())?;
    let mut address = json!({"ip": ip, "targetRef": target(pod)});
    let node = object::text(pod, "/spec/nodeName");
    if !node.is_empty() {
        address["nodeName"] = json!(node);
    }
    if let Some(hostname) = hostname(pod, service) {
        address["hostname"] = json!(hostname);
    }
    Some((ip.to_owned(), address))
}
