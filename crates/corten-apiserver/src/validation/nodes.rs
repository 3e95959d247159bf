//! Nodes: taints, address ranges, and what is given once.

use std::collections::BTreeSet;

use corten_schema::{ErrorKind, FieldError};
use serde_json::Value;

use super::{Faults, each, format, names, one_of, quantities, text};
use crate::object;

/// What is wrong with a node.
pub(crate) fn node(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let spec = &new["spec"];
    taints(&mut faults, spec);
    let mut families = [0, 0];
    for (path, range) in each(spec, "spec", "podCIDRs") {
        let range = range.as_str().unwrap_or("");
        format(&mut faults, &path, range, names::cidr);
        if let Some((address, _)) = names::parse_cidr(range) {
            families[usize::from(address.is_ipv6())] += 1;
        }
    }
    if families.iter().any(|count| *count > 1) {
        let why = "may specify no more than one CIDR for each IP family";
        faults.push(FieldError::invalid("spec.podCIDRs", spec["podCIDRs"].clone(), why));
    }
    for list in ["capacity", "allocatable"] {
        for (name, amount) in new["status"][list].as_object().into_iter().flatten() {
            if quantities::parse(amount).is_some_and(|amount| amount < 0) {
                let path = std::format!("status.{list}.{name}");
                let why = "must be greater than or equal to 0";
                faults.push(FieldError::invalid(path, quantities::plain(amount), why));
            }
        }
    }
    if let Some(old) = old {
        let old = &old["spec"];
        let before = object::items(&old["podCIDRs"]);
        let first = text(old, "podCIDR");
        let moved = !first.is_empty() && first != text(spec, "podCIDR");
        if moved || (!before.is_empty() && before != object::items(&spec["podCIDRs"])) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            faults.push(FieldError::forbidden("spec.podCIDRs", why));
        }
        if !text(old, "providerID").is_empty() && old["providerID"] != spec["providerID"] {
            let why = "node updates may not change providerID except from \"\" to valid";
            faults.push(FieldError::forbidden("spec.providerID", why));
        }
    }
    faults
}

fn taints(faults: &mut Faults, spec: &Value) {
    let mut taken = BTreeSet::new();
    // The real API says these of the metadata.
    for (path, taint) in each(spec, "metadata", "taints") {
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        format(faults, &std::format!("{path}.key"), key, names::qualified);
        format(faults, &std::format!("{path}.value"), value, names::label_value);
        if effect.is_empty() {
            faults.push(FieldError::required(std::format!("{path}.effect"), ""));
        } else {
            let allowed = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            one_of(faults, &std::format!("{path}.effect"), &taint["effect"], &allowed);
        }
        if !taken.insert((key, effect)) {
            let added = &taint["timeAdded"];
            let shown =
                std::format!("{{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\"TimeAdded\":{added}}}");
            let why = "taints must be unique by key and effect pair";
            faults.push(super::structure(ErrorKind::Duplicate, path, &shown, why));
        }
    }
}
