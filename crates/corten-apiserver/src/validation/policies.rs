//! Network policies.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, each, format, names, one_of, port_or_name, required_format, selectors, text};
use crate::object;

/// What is wrong with a network policy.
pub(crate) fn network_policy(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let spec = &new["spec"];
    selectors::selector(&mut faults, "spec.podSelector", &spec["podSelector"]);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (path, rule) in each(spec, "spec", rules) {
            for (path, port) in each(rule, &path, "ports") {
                ports(&mut faults, &path, port);
            }
            for (path, other) in each(rule, &path, peers) {
                peer(&mut faults, &path, other);
            }
        }
    }
    let types = object::items(&spec["policyTypes"]);
    if types.len() > 2 {
        let why = "may not specify more than two policyTypes";
        faults.push(FieldError::invalid(
            "spec.policyTypes",
            spec["policyTypes"].clone(),
            why,
        ));
        return faults;
    }
    for (path, kind) in each(spec, "spec", "policyTypes") {
        one_of(&mut faults, &path, kind, &["Ingress", "Egress"]);
    }
    faults
}

fn ports(faults: &mut Faults, path: &str, entry: &Value) {
    let field = |key: &str| std::format!("{path}.{key}");
    one_of(faults, &field("protocol"), &entry["protocol"], &["TCP", "UDP", "SCTP"]);
    let (port, end) = (&entry["port"], entry["endPort"].as_i64());
    if port.is_null() {
        if let Some(end) = end {
            let why = "may not be specified when `port` is not specified";
            faults.push(FieldError::invalid(field("endPort"), end, why));
        }
        return;
    }
    port_or_name(faults, &field("port"), port);
    match (port.as_i64(), end) {
        (Some(first), Some(end)) if end < first => {
            let why = "must be greater than or equal to `port`";
            faults.push(FieldError::invalid(field("endPort"), first, why));
        }
        (Some(_), Some(end)) => super::port(faults, &field("endPort"), end),
        (None, Some(end)) => {
            let why = "may not be specified when `port` is non-numeric";
            faults.push(FieldError::invalid(field("endPort"), end, why));
        }
        _ => {}
    }
}

fn peer(faults: &mut Faults, path: &str, peer: &Value) {
    let mut selected = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if !peer[key].is_null() {
            selected += 1;
            selectors::selector(faults, &std::format!("{path}.{key}"), &peer[key]);
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        ip_block(faults, &std::format!("{path}.ipBlock"), block);
        if selected > 0 {
            faults.push(FieldError::forbidden(
                path,
                "may not specify both ipBlock and another peer",
            ));
        }
    } else if selected == 0 {
        faults.push(FieldError::required(path, "must specify a peer"));
    }
}

fn ip_block(faults: &mut Faults, path: &str, block: &Value) {
    let range = text(block, "cidr");
    required_format(faults, &std::format!("{path}.cidr"), range, names::cidr);
    let Some(whole) = names::parse_cidr(range) else { return };
    for (path, except) in each(block, path, "except") {
        let except = except.as_str().unwrap_or("");
        match names::parse_cidr(except) {
            None => format(faults, &path, except, names::cidr),
            Some(part) if !is_strict_subset(part, whole) => {
                faults.push(FieldError::invalid(path, except, "must be a strict subset of `cidr`"));
            }
            Some(_) => {}
        }
    }
}

fn is_strict_subset(part: (std::net::IpAddr, u8), whole: (std::net::IpAddr, u8)) -> bool {
    use std::net::IpAddr;
    let prefix = |address: IpAddr, length: u8| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits())
            .checked_shr(32 - u32::from(length))
            .unwrap_or(0),
        IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - u32::from(length)).unwrap_or(0),
    };
    part.0.is_ipv4() == whole.0.is_ipv4() && part.1 > whole.1 && prefix(part.0, whole.1) == prefix(whole.0, whole.1)
}
