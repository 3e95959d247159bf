//! Containers: names, images, ports, environment, mounts.

use std::collections::BTreeSet;

use corten_schema::{ErrorKind, FieldError};
use serde_json::Value;

use super::{Faults, each, format, names, one_of, port, probes, quantities, required, required_format, text};
use crate::object;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ID_MAX: i64 = 2_147_483_647;

/// The fields of a pod that an environment variable can have.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The containers of a pod, those that start it included; `path` is the specification's.
pub(super) fn containers(faults: &mut Faults, path: &str, spec: &Value, volumes: &BTreeSet<&str>) {
    let grace = spec["terminationGracePeriodSeconds"].as_i64();
    let mut taken = BTreeSet::new();
    if object::items(&spec["containers"]).is_empty() {
        faults.push(FieldError::required(std::format!("{path}.containers"), ""));
    }
    for list in ["containers", "initContainers"] {
        for (path, container) in each(spec, path, list) {
            common(faults, &path, container, volumes);
            let name = text(container, "name");
            if !name.is_empty() && !taken.insert(name) {
                faults.push(FieldError::duplicate(std::format!("{path}.name"), name));
            }
            let ends = list == "initContainers" && container["restartPolicy"] != "Always";
            if ends {
                for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                    if !container[key].is_null() {
                        faults.push(FieldError::forbidden(
                            std::format!("{path}.{key}"),
                            "may not be set for init containers without restartPolicy=Always",
                        ));
                    }
                }
            } else {
                probes::lifecycle(faults, &path, container, grace);
                probes::probes(faults, &path, container);
            }
        }
    }
    host_ports(faults, path, spec);
}

fn common(faults: &mut Faults, path: &str, container: &Value, volumes: &BTreeSet<&str>) {
    required_format(
        faults,
        &std::format!("{path}.name"),
        text(container, "name"),
        names::label,
    );
    let image = text(container, "image");
    required(faults, &std::format!("{path}.image"), image);
    if image != image.trim() {
        let why = "must not have leading or trailing whitespace";
        faults.push(FieldError::invalid(std::format!("{path}.image"), image, why));
    }
    let policy = &container["terminationMessagePolicy"];
    let allowed = ["File", "FallbackToLogsOnError"];
    one_of(
        faults,
        &std::format!("{path}.terminationMessagePolicy"),
        policy,
        &allowed,
    );
    ports(faults, path, container);
    for (path, variable) in each(container, path, "env") {
        required_format(
            faults,
            &std::format!("{path}.name"),
            text(variable, "name"),
            names::environment,
        );
        value_from(faults, &std::format!("{path}.valueFrom"), variable);
    }
    let list = std::format!("{path}.envFrom");
    for (path, source) in each(container, path, "envFrom") {
        env_from(faults, &list, &path, source);
    }
    mounts(faults, path, container, volumes);
    let policy = &container["imagePullPolicy"];
    let allowed = ["Always", "IfNotPresent", "Never"];
    one_of(faults, &std::format!("{path}.imagePullPolicy"), policy, &allowed);
    quantities::resources(faults, &std::format!("{path}.resources"), &container["resources"]);
    security(
        faults,
        &std::format!("{path}.securityContext"),
        &container["securityContext"],
    );
}

fn ports(faults: &mut Faults, path: &str, container: &Value) {
    let mut taken = BTreeSet::new();
    for (path, entry) in each(container, path, "ports") {
        let name = text(entry, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            let name_path = std::format!("{path}.name");
            if !wrong.is_empty() {
                format(faults, &name_path, name, names::port_name);
            } else if !taken.insert(name) {
                faults.push(FieldError::duplicate(name_path, name));
            }
        }
        match entry["containerPort"].as_i64().unwrap_or(0) {
            0 => faults.push(FieldError::required(std::format!("{path}.containerPort"), "")),
            number => port(faults, &std::format!("{path}.containerPort"), number),
        }
        if let Some(number) = entry["hostPort"].as_i64().filter(|number| *number != 0) {
            port(faults, &std::format!("{path}.hostPort"), number);
        }
        one_of(faults, &std::format!("{path}.protocol"), &entry["protocol"], &PROTOCOLS);
    }
}

/// Ports of the host are had by one container only, and are the container's own on the host's network.
fn host_ports(faults: &mut Faults, path: &str, spec: &Value) {
    let on_host = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        let mut taken = BTreeSet::new();
        for (path, container) in each(spec, path, list) {
            for (path, entry) in each(container, &path, "ports") {
                let own = entry["containerPort"].as_i64().unwrap_or(0);
                let host = match entry["hostPort"].as_i64().unwrap_or(0) {
                    0 if on_host => own,
                    host => host,
                };
                if host == 0 {
                    continue;
                }
                let path = std::format!("{path}.hostPort");
                if on_host && host != own {
                    let why = "must match `containerPort` when `hostNetwork` is true";
                    faults.push(FieldError::invalid(path.as_str(), host, why));
                }
                let key = std::format!("{}/{}/{host}", text(entry, "protocol"), text(entry, "hostIP"));
                // Containers that start a pod run one after the other.
                if list == "containers" && !taken.insert(key.clone()) {
                    faults.push(FieldError::duplicate(path, key));
                }
            }
        }
    }
}

fn value_from(faults: &mut Faults, path: &str, variable: &Value) {
    let source = &variable["valueFrom"];
    if source.is_null() {
        return;
    }
    let mut sources = 0;
    for key in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"] {
        let reference = &source[key];
        if reference.is_null() {
            continue;
        }
        sources += 1;
        let path = std::format!("{path}.{key}");
        match key {
            "fieldRef" => field(faults, &path, reference, &FIELDS),
            "resourceFieldRef" => resource(faults, &path, reference),
            _ => {
                format(
                    faults,
                    &std::format!("{path}.name"),
                    text(reference, "name"),
                    names::subdomain,
                );
                required_format(
                    faults,
                    &std::format!("{path}.key"),
                    text(reference, "key"),
                    names::config_key,
                );
            }
        }
    }
    let why = if sources == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
    } else if !text(variable, "value").is_empty() {
        "may not be specified when `value` is not empty"
    } else if sources > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    faults.push(FieldError::invalid(path, "", why));
}

/// A field of the pod that is referred to.
pub(super) fn field(faults: &mut Faults, path: &str, reference: &Value, supported: &[&str]) {
    let name = text(reference, "fieldPath");
    let field_path = std::format!("{path}.fieldPath");
    if name.is_empty() {
        faults.push(FieldError::required(field_path, ""));
        return;
    }
    let subscript = name
        .strip_prefix("metadata.labels['")
        .or_else(|| name.strip_prefix("metadata.annotations['"))
        .and_then(|rest| rest.strip_suffix("']"));
    if let Some(key) = subscript {
        format(faults, path, key, names::qualified);
        return;
    }
    let known = FIELDS.contains(&name)
        || matches!(
            name,
            "metadata.labels" | "metadata.annotations" | "spec.restartPolicy" | "spec.schedulerName" | "status.phase"
        );
    if !known {
        let why = std::format!("error converting fieldPath: field label not supported: {name}");
        faults.push(FieldError::invalid(field_path, name, why));
    } else if !supported.contains(&name) {
        faults.push(FieldError::not_supported(field_path, name, supported));
    }
}

/// A container's request or limit that is referred to.
pub(super) fn resource(faults: &mut Faults, path: &str, reference: &Value) {
    let name = text(reference, "resource");
    let path = std::format!("{path}.resource");
    if name.is_empty() {
        faults.push(FieldError::required(path, ""));
    } else if !RESOURCES.contains(&name) && !name.contains(".hugepages-") {
        faults.push(FieldError::not_supported(path, name, RESOURCES));
    }
}

fn env_from(faults: &mut Faults, list: &str, path: &str, source: &Value) {
    format(
        faults,
        &std::format!("{path}.prefix"),
        text(source, "prefix"),
        names::environment,
    );
    let mut sources = 0;
    for key in ["configMapRef", "secretRef"] {
        if !source[key].is_null() {
            sources += 1;
            let path = std::format!("{path}.{key}.name");
            required_format(faults, &path, text(&source[key], "name"), names::subdomain);
        }
    }
    match sources {
        0 => faults.push(FieldError::invalid(
            list,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        )),
        1 => {}
        _ => faults.push(FieldError::invalid(
            list,
            "",
            "may not have more than one field specified at a time",
        )),
    }
}

fn mounts(faults: &mut Faults, container_path: &str, container: &Value, volumes: &BTreeSet<&str>) {
    let mut taken = BTreeSet::new();
    for (path, mount) in each(container, container_path, "volumeMounts") {
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        required(faults, &std::format!("{path}.name"), name);
        if !volumes.contains(name) {
            faults.push(FieldError::not_found(std::format!("{path}.name"), name));
        }
        required(faults, &std::format!("{path}.mountPath"), target);
        if !target.is_empty() && !taken.insert(target) {
            faults.push(FieldError::invalid(
                std::format!("{path}.mountPath"),
                target,
                "must be unique",
            ));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        let parts = std::format!("{container_path}.volumeMounts");
        format(faults, &std::format!("{parts}.subPath"), sub, names::descending_path);
        if !expression.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                faults.push(FieldError::invalid(std::format!("{path}.subPathExpr"), expression, why));
            }
            format(
                faults,
                &std::format!("{parts}.subPathExpr"),
                expression,
                names::descending_path,
            );
        }
    }
}

fn security(faults: &mut Faults, path: &str, context: &Value) {
    ids(faults, path, context, &["runAsUser", "runAsGroup"]);
    let allowed = ["Default", "Unmasked"];
    one_of(
        faults,
        &std::format!("{path}.procMount"),
        &context["procMount"],
        &allowed,
    );
    if context["allowPrivilegeEscalation"] == false && context["privileged"] == true {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        let shown = super::ordered(context, &["privileged", "allowPrivilegeEscalation"]);
        faults.push(super::structure(ErrorKind::Invalid, path, &shown, why));
    }
}

/// Numbers of users and groups.
pub(super) fn ids(faults: &mut Faults, path: &str, context: &Value, fields: &[&str]) {
    for field in fields {
        if let Some(id) = context[*field].as_i64() {
            super::within(faults, &std::format!("{path}.{field}"), id, 0, ID_MAX);
        }
    }
}
