//! What a cluster would add to objects that come from files: addresses of services, and the pods of workloads.
//!
//! Files say what is wanted, and a mesh is made of what is. So that the same code answers questions about files, what a cluster would
//! fill in is filled in here, the same way every time: addresses come from ranges that are for documentation and tests
//! (RFC 2544, RFC 5737), in the order of the objects' names.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// The first address of services (198.18.0.0/16) and of pods (198.19.0.0/16).
const SERVICES: [u8; 2] = [198, 18];
const PODS: [u8; 2] = [198, 19];

/// Kinds that make pods, and where their template is.
const WORKLOADS: [(&str, &str); 6] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// The label by which a pod says that its sidecar takes the mesh's mutual TLS; injectors set it.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";

/// What a node agent says of a pod once its connections go through the node proxy.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The class of gateways that are waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// Fills in what a cluster would: the namespace of objects that name none, the addresses of services that have none, one pod for each
/// workload whose pods are not among the objects, under the workload's name, the port of workloads that a service's port leads to, what an injector says of such a pod if it gave it a
/// sidecar, what a node agent says of it if its connections go through the node proxy, and where waypoints are.
pub fn complete(objects: &mut Vec<Value>, namespace: &str) {
    for object in objects.iter_mut() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let is_global = matches!(
            kind,
            "Namespace" | "Node" | "GatewayClass" | "CustomResourceDefinition" | "IngressClass"
        );
        if !is_global && object["metadata"]["namespace"].as_str().unwrap_or_default().is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
    }
    let pods = pods(objects);
    objects.extend(pods);
    let injected: Vec<usize> = (0..objects.len())
        .filter(|at| objects.get(*at).is_some_and(|pod| is_injected(pod, objects)))
        .collect();
    for at in injected {
        if let Some(pod) = objects.get_mut(at) {
            pod["metadata"]["labels"][TLS_MODE] = json!("istio");
        }
    }
    let captured: Vec<usize> = (0..objects.len())
        .filter(|at| objects.get(*at).is_some_and(|pod| is_captured(pod, objects)))
        .collect();
    for at in captured {
        if let Some(pod) = objects.get_mut(at) {
            pod["metadata"]["annotations"][REDIRECTION] = json!("enabled");
        }
    }
    for gateway in objects.iter_mut().filter(|object| is_waypoint(object)) {
        let (namespace, name) = name(gateway);
        let host = format!("{name}.{namespace}.svc.cluster.local");
        gateway["status"]["addresses"] = json!([{"type": "Hostname", "value": host}]);
    }
    let services = objects
        .iter_mut()
        .filter(|object| object["kind"] == "Service" && object["apiVersion"] == "v1");
    let ports = services.filter_map(|service| service.pointer_mut("/spec/ports")?.as_array_mut());
    for port in ports.flatten().filter(|port| port["targetPort"].is_null()) {
        port["targetPort"] = port["port"].clone();
    }
    let mut place: Vec<usize> = (0..objects.len()).collect();
    place.sort_by_key(|at| objects.get(*at).map(name));
    // What has an address keeps it, and nothing gets the same.
    let known = objects
        .iter()
        .flat_map(|object| [&object["spec"]["clusterIP"], &object["status"]["podIP"]]);
    let taken: HashSet<String> = known.filter_map(|ip| ip.as_str().map(str::to_owned)).collect();
    let (mut services, mut instances) = (free(SERVICES, &taken), free(PODS, &taken));
    for at in place {
        let Some(object) = objects.get_mut(at) else { continue };
        match object["kind"].as_str() {
            Some("Service") if object["apiVersion"] == "v1" && wants_address(object) => {
                object["spec"]["clusterIP"] = json!(services.next());
            }
            Some("Pod") if object["apiVersion"] == "v1" && object["status"]["podIP"].is_null() => {
                object["status"] = json!({
                    "phase": "Running",
                    "podIP": instances.next(),
                    "conditions": [{"type": "Ready", "status": "True"}],
                });
            }
            _ => {}
        }
    }
}

fn name(object: &Value) -> (String, String) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Whether an injector would give a pod a sidecar that does not run yet: by its own label, else by its namespace's.
fn is_injected(pod: &Value, objects: &[Value]) -> bool {
    let label = |object: &Value, key: &str| {
        object["metadata"]["labels"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let is_new = pod["kind"] == "Pod" && pod["apiVersion"] == "v1" && pod["status"]["podIP"].is_null();
    if !is_new || !label(pod, TLS_MODE).is_empty() || pod["spec"]["hostNetwork"] == true {
        return false;
    }
    let (of, _) = name(pod);
    let namespace = objects
        .iter()
        .find(|object| object["kind"] == "Namespace" && object["metadata"]["name"] == of);
    let of_namespace = |key: &str| namespace.map(|namespace| label(namespace, key)).unwrap_or_default();
    match (
        &*label(pod, "sidecar.istio.io/inject"),
        &*of_namespace("istio-injection"),
    ) {
        ("false", _) | (_, "disabled") => false,
        ("true", _) | (_, "enabled") => true,
        _ => !of_namespace("istio.io/rev").is_empty() || !label(pod, "istio.io/rev").is_empty(),
    }
}

/// Whether a node agent would redirect a pod that does not run yet: as its own label says, else as its namespace's does.
fn is_captured(pod: &Value, objects: &[Value]) -> bool {
    let is_new = pod["kind"] == "Pod" && pod["apiVersion"] == "v1" && pod["status"]["podIP"].is_null();
    let labels = &pod["metadata"]["labels"];
    if !is_new || pod["spec"]["hostNetwork"] == true || labels[TLS_MODE] == "istio" {
        return false;
    }
    let mode = |object: &Value| {
        object["metadata"]["labels"]["istio.io/dataplane-mode"]
            .as_str()
            .map(str::to_owned)
    };
    let (of, _) = name(pod);
    let namespace = objects
        .iter()
        .find(|object| object["kind"] == "Namespace" && object["metadata"]["name"] == of);
    let wanted = mode(pod).or_else(|| namespace.and_then(mode));
    wanted.is_some_and(|mode| mode == "ambient")
}

/// Whether a gateway is a waypoint of which nobody has said yet where it is.
fn is_waypoint(object: &Value) -> bool {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let addresses = object["status"]["addresses"].as_array();
    object["kind"] == "Gateway"
        && api.starts_with("gateway.networking.k8s.io/")
        && object["spec"]["gatewayClassName"] == WAYPOINT_CLASS
        && addresses.is_none_or(Vec::is_empty)
}

fn wants_address(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] != "ExternalName" && spec["clusterIP"].as_str().unwrap_or_default().is_empty()
}

/// The addresses of a range that nobody has, in order.
fn free(range: [u8; 2], taken: &HashSet<String>) -> impl Iterator<Item = String> {
    let address = move |number: u16| {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(range[0], range[1], high, low).to_string()
    };
    (1..=u16::MAX).map(address).filter(|address| !taken.contains(address))
}

/// A pod for each workload that has none.
fn pods(objects: &[Value]) -> Vec<Value> {
    let is_pod = |object: &&Value| object["kind"] == "Pod" && object["apiVersion"] == "v1";
    let has_pods = |namespace: &str, labels: &Value| {
        objects.iter().filter(is_pod).any(|pod| {
            let of = labels.as_object().into_iter().flatten();
            pod["metadata"]["namespace"] == namespace
                && of
                    .into_iter()
                    .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        })
    };
    let mut made = Vec::new();
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let Some(template) = WORKLOADS
            .iter()
            .find(|(of, _)| *of == kind)
            .and_then(|(_, path)| object.pointer(path))
        else {
            continue;
        };
        let (namespace, name) = name(object);
        let labels = &template["metadata"]["labels"];
        if has_pods(&namespace, labels) {
            continue;
        }
        let mut spec = template["spec"].clone();
        if spec["serviceAccountName"].is_null() {
            spec["serviceAccountName"] = json!("default");
        }
        made.push(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": template["metadata"]["annotations"]},
            "spec": spec,
        }));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_what_a_cluster_would_make_of_them() {
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "none"}, "spec": {"clusterIP": "None"}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {}}}}),
        ];
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"}}}));
        objects.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": "shop"}, "spec": {"gatewayClassName": "istio-waypoint"}}));
        complete(&mut objects, "default");
        assert_eq!(objects[0]["metadata"]["namespace"], "default");
        assert_eq!(
            objects[4]["status"]["addresses"][0]["value"],
            "waypoint.shop.svc.cluster.local"
        );
        assert_eq!(objects[0]["spec"]["clusterIP"], "198.18.0.1");
        assert_eq!(objects[1]["spec"]["clusterIP"], "None");
        let pod = &objects[5];
        assert_eq!(pod["metadata"]["annotations"][REDIRECTION], "enabled");
        assert_eq!(
            (&pod["metadata"]["name"], &pod["metadata"]["namespace"]),
            (&json!("web"), &json!("shop"))
        );
        assert_eq!(
            (&pod["status"]["podIP"], &pod["spec"]["serviceAccountName"]),
            (&json!("198.19.0.1"), &json!("default"))
        );
        let before = objects.clone();
        complete(&mut objects, "default");
        assert_eq!(objects, before, "what is complete stays as it is");
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "later", "namespace": "shop"}}));
        complete(&mut objects, "default");
        assert_eq!(objects[6]["status"]["podIP"], "198.19.0.2");
    }
}
