//! Events, leases and namespaces.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, each, format, metadata, names, not_negative, required, text};
use crate::object;

/// What is wrong with an event.
pub(crate) fn event(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    // The two versions name the same fields differently.
    let key = if new["involvedObject"].is_object() || new["apiVersion"] == "v1" {
        "involvedObject"
    } else {
        "regarding"
    };
    let (about, own) = (text(&new[key], "namespace"), object::namespace(new));
    let whole_cluster = about.is_empty() && matches!(own, "default" | "kube-system");
    if about != own && !whole_cluster {
        let path = std::format!("{key}.namespace");
        faults.push(FieldError::invalid(path, about, "does not match event.namespace"));
    }
    if old.is_none() && !new["eventTime"].is_null() {
        let (component, instance) = if key == "regarding" {
            ("reportingController", "reportingInstance")
        } else {
            ("reportingComponent", "reportingInstance")
        };
        required(&mut faults, component, text(new, component));
        format(&mut faults, component, text(new, component), names::qualified);
        required(&mut faults, instance, text(new, instance));
        required(&mut faults, "action", text(new, "action"));
        required(&mut faults, "reason", text(new, "reason"));
    }
    faults
}

/// What is wrong with a lease.
pub(crate) fn lease(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let spec = &new["spec"];
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|s| *s <= 0) {
        let path = "spec.leaseDurationSeconds";
        faults.push(FieldError::invalid(path, seconds, "must be greater than 0"));
    }
    not_negative(&mut faults, "spec.leaseTransitions", &spec["leaseTransitions"]);
    faults
}

/// What is wrong with a namespace.
pub(crate) fn namespace(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    for (_, finalizer) in each(&new["spec"], "spec", "finalizers") {
        let finalizer = finalizer.as_str().unwrap_or("");
        let before = faults.len();
        format(&mut faults, "spec.finalizers", finalizer, names::qualified);
        if faults.len() == before && !finalizer.contains('/') && !metadata::is_standard_finalizer(finalizer) {
            faults.push(FieldError::invalid(
                "spec.finalizers",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    faults
}
