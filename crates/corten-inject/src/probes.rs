//! Probes of applications by way of the proxy: the kubelet has no certificate, and what it calls is to be the application.

use serde_json::{Map, Value, json};

use crate::object::{PROXY, STATUS, STATUS_PORT, annotation, containers, containers_mut, proxy_mut, push_env, truth};

const SWITCH: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// The variable that tells the proxy what is behind its paths.
const VARIABLE: &str = "ISTIO_KUBE_APP_PROBERS";
const PROBES: [(&str, &str); 3] = [
    ("readinessProbe", "readyz"),
    ("livenessProbe", "livez"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Rewrites the probes, unless the pod or the installation says otherwise.
pub(crate) fn rewrite(pod: &mut Value, by_default: bool, status_port: u16) {
    let wanted = annotation(pod, SWITCH).and_then(truth).unwrap_or(by_default);
    if !wanted || crate::object::proxy_list(pod).is_none() {
        return;
    }
    let injected_before = annotation(pod, STATUS).is_some();
    let kept = kept(pod, status_port);
    if !kept.is_empty()
        && let Some(proxy) = proxy_mut(pod)
    {
        keep(proxy, kept, injected_before);
    }
    let port = annotation(pod, STATUS_PORT)
        .and_then(|port| port.parse().ok())
        .unwrap_or(status_port);
    for list in ["containers", "initContainers"] {
        if pod["spec"][list].is_array() {
            for container in containers_mut(pod, list) {
                redirect(container, port);
            }
        }
    }
}

/// The original probes, by the path at which the proxy answers for them.
fn kept(pod: &Value, status_port: u16) -> Map<String, Value> {
    let mut kept = Map::new();
    let all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| containers(pod, list));
    for container in all.filter(|container| container["name"] != PROXY) {
        let name = container["name"].as_str().unwrap_or_default();
        for (field, end) in PROBES {
            let probe = &container[field];
            let handlers = ["httpGet", "tcpSocket", "grpc"];
            if let Some(mut one) = handler(container, probe, &handlers, status_port) {
                if !probe["timeoutSeconds"].is_null() && probe["timeoutSeconds"] != 0 {
                    one["timeoutSeconds"] = probe["timeoutSeconds"].clone();
                }
                kept.insert(format!("/app-health/{name}/{end}"), one);
            }
        }
        for (field, end) in HOOKS {
            let hook = &container["lifecycle"][field];
            if let Some(one) = handler(container, hook, &["httpGet", "tcpSocket"], status_port) {
                kept.insert(format!("/app-lifecycle/{name}/{end}"), one);
            }
        }
    }
    kept
}

/// What a probe does, with a port that is a number.
fn handler(container: &Value, probe: &Value, kinds: &[&str], status_port: u16) -> Option<Value> {
    let kind = kinds.iter().find(|kind| probe[**kind].is_object())?;
    let mut one = json!({*kind: probe[*kind]});
    if *kind == "grpc" {
        return Some(one);
    }
    let port = &mut one[*kind]["port"];
    if let Some(name) = port.as_str() {
        let mut ports = container["ports"].as_array().into_iter().flatten();
        *port = ports.find(|port| port["name"] == name)?["containerPort"].clone();
    } else if *port == status_port {
        // It has been rewritten already.
        return None;
    }
    Some(one)
}

fn keep(proxy: &mut Value, kept: Map<String, Value>, injected_before: bool) {
    let variables = proxy["env"].as_array_mut().into_iter().flatten();
    let mut variables = variables.filter(|variable| variable["name"] == VARIABLE);
    if injected_before && let Some(variable) = variables.next() {
        let before = variable["value"]
            .as_str()
            .and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
        let mut all = kept;
        // What was kept first is the application's own.
        all.extend(before.into_iter().flatten());
        variable["value"] = json!(Value::Object(all).to_string());
        return;
    }
    push_env(proxy, VARIABLE, &Value::Object(kept).to_string());
}

/// Leads a container's probes to the proxy.
fn redirect(container: &mut Value, port: u16) {
    if container["name"] == PROXY {
        return;
    }
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    for (field, end) in PROBES {
        lead(
            &mut container[field],
            &["httpGet", "tcpSocket", "grpc"],
            &format!("/app-health/{name}/{end}"),
            port,
        );
    }
    for (field, end) in HOOKS {
        if container["lifecycle"].is_object() {
            let path = format!("/app-lifecycle/{name}/{end}");
            lead(
                &mut container["lifecycle"][field],
                &["httpGet", "tcpSocket"],
                &path,
                port,
            );
        }
    }
    // Looking for what is not there left nulls.
    let absent = |fields: &mut Value| {
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    };
    absent(&mut container["lifecycle"]);
    absent(container);
}

fn lead(probe: &mut Value, kinds: &[&str], path: &str, port: u16) {
    let Some(kind) = kinds.iter().find(|kind| probe[**kind].is_object()) else {
        return;
    };
    let mut request = match *kind {
        "httpGet" => probe["httpGet"].clone(),
        _ => json!({}),
    };
    request["path"] = json!(path);
    request["port"] = json!(port);
    // The proxy speaks TLS with the application; the kubelet not with the proxy.
    if request["scheme"] == "HTTPS" {
        request["scheme"] = json!("HTTP");
    }
    if let Some(probe) = probe.as_object_mut() {
        probe.remove(*kind);
        probe.insert("httpGet".to_owned(), request);
    }
}
