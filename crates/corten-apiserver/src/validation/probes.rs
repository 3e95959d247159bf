//! Probes and lifecycle hooks: one handler each, and its bounds.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, format, names, not_negative, one_of, port, port_or_name, text};
use crate::object;

/// The probes of a container; `path` is the container's.
pub(super) fn probes(faults: &mut Faults, path: &str, container: &Value) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if probe.is_null() {
            continue;
        }
        let path = &std::format!("{path}.{name}");
        handler(faults, path, probe, None);
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            not_negative(faults, &std::format!("{path}.{field}"), &probe[field]);
        }
        let grace = probe["terminationGracePeriodSeconds"].as_i64();
        let grace_path = std::format!("{path}.terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            if let Some(grace) = grace {
                let why = "must not be set for readinessProbes";
                faults.push(FieldError::invalid(grace_path, grace, why));
            }
            continue;
        }
        if let Some(grace) = grace.filter(|grace| *grace <= 0) {
            faults.push(FieldError::invalid(grace_path, grace, "must be greater than 0"));
        }
        if let Some(threshold) = probe["successThreshold"].as_i64().filter(|t| !matches!(t, 0 | 1)) {
            let path = std::format!("{path}.successThreshold");
            faults.push(FieldError::invalid(path, threshold, "must be 1"));
        }
    }
}

/// The hooks of a container; `grace` is what the pod has to end.
pub(super) fn lifecycle(faults: &mut Faults, path: &str, container: &Value, grace: Option<i64>) {
    for name in ["postStart", "preStop"] {
        let hook = &container["lifecycle"][name];
        if !hook.is_null() {
            handler(
                faults,
                &std::format!("{path}.lifecycle.{name}"),
                hook,
                Some(grace.unwrap_or(30)),
            );
        }
    }
}

fn handler(faults: &mut Faults, path: &str, handler: &Value, grace: Option<i64>) {
    let mut found = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = &handler[kind];
        if action.is_null() {
            continue;
        }
        let path = &std::format!("{path}.{kind}");
        found += 1;
        if found > 1 {
            faults.push(FieldError::forbidden(path, "may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" => {
                if object::items(&action["command"]).is_empty() {
                    faults.push(FieldError::required(std::format!("{path}.command"), ""));
                }
            }
            "httpGet" => http_get(faults, path, action),
            "tcpSocket" => port_or_name(faults, &std::format!("{path}.port"), &action["port"]),
            "grpc" => port(
                faults,
                &std::format!("{path}.port"),
                action["port"].as_i64().unwrap_or(0),
            ),
            _ => {
                let (seconds, grace) = (action["seconds"].as_i64().unwrap_or(0), grace.unwrap_or(30));
                if seconds < 0 || seconds > grace {
                    let why =
                        std::format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    faults.push(FieldError::invalid(path, seconds, why));
                }
            }
        }
    }
    if found == 0 {
        faults.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(faults: &mut Faults, path: &str, action: &Value) {
    if action["path"] == "" {
        faults.push(FieldError::required(std::format!("{path}.path"), ""));
    }
    port_or_name(faults, &std::format!("{path}.port"), &action["port"]);
    one_of(
        faults,
        &std::format!("{path}.scheme"),
        &action["scheme"],
        &["HTTP", "HTTPS"],
    );
    for header in object::items(&action["httpHeaders"]) {
        format(
            faults,
            &std::format!("{path}.httpHeaders"),
            text(header, "name"),
            names::header,
        );
    }
}
