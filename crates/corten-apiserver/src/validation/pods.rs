//! Pods and their templates, and what an update may change of a pod.

use corten_schema::FieldError;
use serde_json::{Value, json};

use super::{Faults, containers, each, format, metadata, names, one_of, required, text, volumes};
use crate::object;

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with a pod.
pub(crate) fn pod(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    specification(&mut faults, "spec", &new["spec"]);
    match old {
        None => {
            if !object::items(&new["spec"]["ephemeralContainers"]).is_empty() {
                faults.push(FieldError::forbidden(
                    "spec.ephemeralContainers",
                    "cannot be set on create",
                ));
            }
        }
        Some(old) => changes(&mut faults, &new["spec"], &old["spec"]),
    }
    faults
}

/// The specification of a pod, or of a template's pods.
pub(super) fn specification(faults: &mut Faults, path: &str, spec: &Value) {
    let known = volumes::volumes(faults, path, spec);
    containers::containers(faults, path, spec, &known);
    let field = |key: &str| std::format!("{path}.{key}");
    let allowed = ["Always", "OnFailure", "Never"];
    one_of(faults, &field("restartPolicy"), &spec["restartPolicy"], &allowed);
    let allowed = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(faults, &field("dnsPolicy"), &spec["dnsPolicy"], &allowed);
    metadata::labels(faults, &field("nodeSelector"), &spec["nodeSelector"]);
    security(faults, &field("securityContext"), spec);
    dns(faults, &field("dnsConfig"), spec);
    for (path, gate) in each(spec, path, "readinessGates") {
        let path = std::format!("{path}.conditionType");
        format(faults, &path, text(gate, "conditionType"), names::qualified);
    }
    spread(faults, path, spec);
    for (key, check) in [
        ("serviceAccountName", names::subdomain as names::Format),
        ("nodeName", names::subdomain),
    ] {
        if !text(spec, key).is_empty() {
            format(faults, &field(key), text(spec, key), check);
        }
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        super::within(faults, &field("activeDeadlineSeconds"), seconds, 1, 2_147_483_647);
    }
    for key in ["hostname", "subdomain"] {
        if !text(spec, key).is_empty() {
            format(faults, &field(key), text(spec, key), names::label);
        }
    }
    for (path, toleration) in each(spec, path, "tolerations") {
        tolerate(faults, &path, toleration);
    }
    for (path, alias) in each(spec, path, "hostAliases") {
        format(faults, &std::format!("{path}.ip"), text(alias, "ip"), names::address);
        for (path, name) in each(alias, &path, "hostnames") {
            format(faults, &path, name.as_str().unwrap_or(""), names::subdomain);
        }
    }
}

fn security(faults: &mut Faults, path: &str, spec: &Value) {
    let context = &spec["securityContext"];
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        let path = std::format!("{path}.shareProcessNamespace");
        faults.push(FieldError::invalid(path, true, why));
    }
    containers::ids(faults, path, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    for (path, group) in each(context, path, "supplementalGroups") {
        super::within(faults, &path, group.as_i64().unwrap_or(0), 0, 2_147_483_647);
    }
}

fn dns(faults: &mut Faults, path: &str, spec: &Value) {
    let config = &spec["dnsConfig"];
    let servers = object::items(&config["nameservers"]);
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            faults.push(FieldError::required(path, why));
        } else if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            faults.push(FieldError::required(std::format!("{path}.nameservers"), why));
        }
    }
    for (path, server) in each(config, path, "nameservers") {
        format(faults, &path, server.as_str().unwrap_or(""), names::address);
    }
    for (path, domain) in each(config, path, "searches") {
        let domain = domain.as_str().unwrap_or("");
        let bare = domain.strip_suffix('.').unwrap_or(domain).replace('_', "-");
        // Underscores are part of names of services; only what is wrong without them is said.
        let wrong = if domain == "." {
            Vec::new()
        } else {
            names::subdomain(&bare)
        };
        faults.extend(wrong.into_iter().map(|w| FieldError::invalid(path.as_str(), domain, w)));
    }
    for (path, option) in each(config, path, "options") {
        required(faults, &path, text(option, "name"));
    }
}

fn spread(faults: &mut Faults, path: &str, spec: &Value) {
    for (path, constraint) in each(spec, path, "topologySpreadConstraints") {
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            let why = "must be greater than zero";
            faults.push(FieldError::invalid(std::format!("{path}.maxSkew"), skew, why));
        }
        if text(constraint, "topologyKey").is_empty() {
            faults.push(FieldError::required(
                std::format!("{path}.topologyKey"),
                "can not be empty",
            ));
        }
        let when = json!(text(constraint, "whenUnsatisfiable"));
        let allowed = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(faults, &std::format!("{path}.whenUnsatisfiable"), &when, &allowed);
    }
}

fn tolerate(faults: &mut Faults, path: &str, toleration: &Value) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    let field = |key: &str| std::format!("{path}.{key}");
    if !key.is_empty() {
        format(faults, &field("key"), key, names::qualified);
    }
    if key.is_empty() && operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        faults.push(FieldError::invalid(field("operator"), operator, why));
    }
    if !toleration["tolerationSeconds"].is_null() && toleration["effect"] != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        faults.push(FieldError::invalid(field("effect"), text(toleration, "effect"), why));
    }
    let value = text(toleration, "value");
    match operator {
        "" | "Equal" => format(faults, &field("value"), value, names::label_value),
        "Exists" if !value.is_empty() => faults.push(FieldError::invalid(
            field("operator"),
            value,
            "value must be empty when `operator` is 'Exists'",
        )),
        "Exists" => {}
        other => faults.push(FieldError::not_supported(field("operator"), other, ["Equal", "Exists"])),
    }
    if !text(toleration, "effect").is_empty() {
        one_of(faults, &field("effect"), &toleration["effect"], &EFFECTS);
    }
}

fn changes(faults: &mut Faults, new: &Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        if object::items(&new[list]).len() != object::items(&old[list]).len() {
            let why = match list {
                "containers" => "pod updates may not add or remove containers",
                _ => "pod updates may not add or remove init containers",
            };
            faults.push(FieldError::forbidden(std::format!("spec.{list}"), why));
            return;
        }
    }
    deadline(faults, &new["activeDeadlineSeconds"], &old["activeDeadlineSeconds"]);
    for (index, toleration) in object::items(&old["tolerations"]).iter().enumerate() {
        let kept = object::items(&new["tolerations"]).iter().any(|other| {
            ["key", "operator", "value", "effect"]
                .iter()
                .all(|k| other[*k] == toleration[*k])
        });
        if !kept {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            let path = std::format!("spec.tolerations[{index}]");
            faults.push(FieldError::forbidden(path, why));
        }
    }
    if fixed(new, old) != fixed(old, old) {
        faults.push(FieldError::forbidden("spec", UNCHANGEABLE));
    }
}

fn deadline(faults: &mut Faults, new: &Value, old: &Value) {
    let path = "spec.activeDeadlineSeconds";
    match (new.as_i64(), old.as_i64()) {
        (Some(now), Some(before)) if now > before => {
            let why = std::format!("must be less than or equal to previous value of {before}");
            faults.push(FieldError::invalid(path, now, why));
        }
        (None, Some(_)) => {
            faults.push(FieldError::invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

/// What of a specification must stay as it is in `old`.
fn fixed(spec: &Value, old: &Value) -> Value {
    let mut fixed = spec.clone();
    let map = object::as_map(&mut fixed);
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        map.remove(key);
    }
    // Whoever gives a waiting pod its node does so by an update: there is no binding.
    if text(old, "nodeName").is_empty() {
        map.remove("nodeName");
    }
    let before = &old["terminationGracePeriodSeconds"];
    if before.as_i64().is_some_and(|before| before < 0) && spec["terminationGracePeriodSeconds"] == 1 {
        map.insert("terminationGracePeriodSeconds".to_owned(), before.clone());
    }
    for list in ["containers", "initContainers"] {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            object::as_map(container).remove("image");
        }
    }
    // An absent field and an empty one are the same.
    map.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(set) => *set,
        Value::Number(_) => true,
    });
    fixed
}
