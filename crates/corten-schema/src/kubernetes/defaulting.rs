//! Defaults of built-in kinds that depend on other fields of the object, on top of those the schemas hold.

use super::schema;
use crate::defaults;
use crate::schema::Schema;
use base64::Engine as _;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// What the admission plugins of an API server add to a new pod, after ownership was recorded: its priority and how long
/// it stays on a node that is in trouble.
pub fn admit_pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    set(spec, "preemptionPolicy", "PreemptLowerPriority");
    set(spec, "priority", 0);
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Value::Array(tolerations) = tolerations else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let text = |name: &str| toleration.get(name).and_then(Value::as_str).unwrap_or_default();
            matches!(text("effect"), "" | "NoExecute") && (text("key") == key || text("key").is_empty())
        };
        if !tolerations.iter().any(covers) {
            let effect = "NoExecute";
            tolerations.push(json!({"effect": effect, "key": key, "operator": "Exists", "tolerationSeconds": 300}));
        }
    }
}

/// Completes an object of a built-in kind as the API server does before it is validated and stored. Kinds that are not
/// built in are left alone.
pub fn set_defaults(group: &str, version: &str, kind: &str, object: &mut Value) {
    let Some(schema) = schema(group, version, kind) else {
        return;
    };
    drop_empty(schema, object);
    defaults::apply(schema, object);
    let Value::Object(object) = object else { return };
    match (group, kind) {
        ("", "Pod") => pod(object),
        ("", "Service") => service(object),
        ("", "PodTemplate") => template(object.get_mut("template")),
        ("", "Namespace") => namespace(object),
        ("", "Secret") => secret(object),
        ("", "Event") => event(object, &["eventTime", "firstTimestamp", "lastTimestamp"]),
        ("events.k8s.io", "Event") => {
            event(
                object,
                &["eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"],
            );
        }
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replica_set(object),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => subjects(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => custom_resource_definition(object),
        _ => {}
    }
}

/// Drops empty lists and maps where they mean the same as none: everywhere but in required fields.
fn drop_empty(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                // An empty list of managers asks to forget them.
                let optional = !schema.required.contains(name) && name != "managedFields";
                let property = schema.properties.get(name).filter(|_| optional);
                match (property, value) {
                    (Some(_), Value::Array(items)) => !items.is_empty(),
                    (Some(property), Value::Object(fields)) => !(fields.is_empty() && property.is_map()),
                    _ => true,
                }
            });
            for (name, value) in fields {
                if let Some(inner) = schema.field(name) {
                    drop_empty(inner, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &schema.items {
                items.iter_mut().for_each(|item| drop_empty(inner, item));
            }
        }
        _ => {}
    }
}

fn fields<'a>(object: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    object.get_mut(name)?.as_object_mut()
}

fn set(object: &mut Fields, name: &str, value: impl Into<Value>) {
    if object.get(name).is_none_or(Value::is_null) {
        object.insert(name.to_owned(), value.into());
    }
}

fn text<'a>(object: &'a Fields, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn pod(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for resources in containers.filter_map(|container| container.get_mut("resources")?.as_object_mut()) {
            requests_from_limits(resources);
        }
    }
}

fn requests_from_limits(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if let Value::Object(requests) = requests {
        for (name, quantity) in limits {
            requests.entry(name).or_insert(quantity);
        }
    }
}

fn template(template: Option<&mut Value>) {
    let Some(Value::Object(template)) = template else {
        return;
    };
    if let Some(spec) = fields(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Fields) {
    set(spec, "securityContext", json!({}));
    // Each of the two names of the service account follows the other.
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        let name = text(spec, from).to_owned();
        if !name.is_empty() {
            set(spec, to, name);
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            let policy = if is_latest(text(container, "image")) {
                "Always"
            } else {
                "IfNotPresent"
            };
            set(container, "imagePullPolicy", policy);
        }
    }
    let volumes = spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for volume in volumes.filter_map(Value::as_object_mut) {
        if volume.keys().all(|key| key == "name") {
            set(volume, "emptyDir", json!({}));
        }
    }
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    if host_network {
        host_ports(spec);
    }
}

/// On the host's network a container port is a port of the host.
fn host_ports(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let ports = containers
            .filter_map(|container| container.get_mut("ports")?.as_array_mut())
            .flatten();
        for port in ports.filter_map(Value::as_object_mut) {
            if let Some(number) = port.get("containerPort").cloned() {
                set(port, "hostPort", number);
            }
        }
    }
}

/// Whether an image is named without a tag or with the tag `latest`.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    match (name.split_once('@'), name.split_once(':')) {
        (Some(_), _) => false,
        (None, Some((_, tag))) => tag == "latest",
        (None, None) => true,
    }
}

fn service(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    let type_ = text(spec, "type").to_owned();
    let ports = spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number == 0,
        };
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if matches!(type_.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(type_.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if type_ == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if text(spec, "sessionAffinity") == "ClientIP" {
        set(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    } else {
        spec.remove("sessionAffinityConfig");
    }
}

fn namespace(object: &mut Fields) {
    let Some(metadata) = fields(object, "metadata") else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if name.is_empty() {
        return;
    }
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Value::Object(labels) = labels {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// `stringData` is a way to write `data`; it is never read back.
fn secret(object: &mut Fields) {
    let Some(Value::Object(plain)) = object.remove("stringData") else {
        return;
    };
    let data = object.entry("data").or_insert_with(|| json!({}));
    if let Value::Object(data) = data {
        for (key, value) in plain {
            let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}

/// Times of events print even where there is none.
fn event(object: &mut Fields, times: &[&str]) {
    for time in times {
        object.entry(*time).or_insert(Value::Null);
    }
}

fn deployment(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    template(spec.get_mut("template"));
    set(spec, "strategy", json!({}));
    let Some(strategy) = fields(spec, "strategy") else {
        return;
    };
    set(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        if let Some(rolling) = fields(strategy, "rollingUpdate") {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
}

fn stateful_set(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    template(spec.get_mut("template"));
    let claims = spec
        .get_mut("volumeClaimTemplates")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for claim in claims.filter_map(Value::as_object_mut) {
        set(claim, "apiVersion", "v1");
        set(claim, "kind", "PersistentVolumeClaim");
        if let Some(status) = fields(claim, "status") {
            set(status, "phase", "Pending");
        }
    }
    set(spec, "updateStrategy", json!({}));
    set(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    let Some(strategy) = fields(spec, "updateStrategy") else {
        return;
    };
    set(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        if let Some(rolling) = fields(strategy, "rollingUpdate") {
            set(rolling, "partition", 0);
        }
    }
}

fn daemon_set(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    template(spec.get_mut("template"));
    set(spec, "updateStrategy", json!({}));
    let Some(strategy) = fields(spec, "updateStrategy") else {
        return;
    };
    set(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        if let Some(rolling) = fields(strategy, "rollingUpdate") {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
}

fn replica_set(object: &mut Fields) {
    if let Some(spec) = fields(object, "spec") {
        template(spec.get_mut("template"));
    }
}

fn network_policy(object: &mut Fields) {
    let Some(spec) = fields(object, "spec") else { return };
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    set(
        spec,
        "policyTypes",
        if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        },
    );
}

fn subjects(object: &mut Fields) {
    let subjects = object
        .get_mut("subjects")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for subject in subjects.filter_map(Value::as_object_mut) {
        if matches!(text(subject, "kind"), "User" | "Group") {
            set(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

fn custom_resource_definition(object: &mut Fields) {
    let Some(names) = fields(object, "spec").and_then(|spec| fields(spec, "names")) else {
        return;
    };
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        set(names, "singular", kind.to_lowercase());
        set(names, "listKind", format!("{kind}List"));
    }
}
