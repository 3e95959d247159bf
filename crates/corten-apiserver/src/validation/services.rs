//! Services: ports, addresses, and what each type may have.

use std::collections::BTreeSet;

use corten_schema::{ErrorKind, FieldError};
use serde_json::{Value, json};

use super::{Faults, each, endpoints, format, join, metadata, names, one_of, port, port_or_name, text};
use crate::object;

const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// What is wrong with a service; addresses that are taken or out of range are the allocator's matter.
pub(crate) fn service(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let spec = &new["spec"];
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    if object::items(&spec["ports"]).is_empty() && !headless && kind != "ExternalName" {
        faults.push(FieldError::required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        if !object::items(&spec["clusterIPs"]).is_empty() || !text(spec, "clusterIP").is_empty() {
            let why = "may not be set for ExternalName services";
            faults.push(FieldError::forbidden("spec.clusterIPs", why));
        }
        let name = text(spec, "externalName");
        let bare = name.strip_suffix('.').unwrap_or(name);
        super::required_format(&mut faults, "spec.externalName", bare, names::subdomain);
    }
    ports(&mut faults, spec, kind, headless);
    metadata::labels(&mut faults, "spec.selector", &spec["selector"]);
    affinity(&mut faults, spec);
    families(&mut faults, spec, kind);
    for (path, address) in each(spec, "spec", "externalIPs") {
        let address = address.as_str().unwrap_or("");
        let before = faults.len();
        format(&mut faults, &path, address, names::address);
        if faults.len() == before {
            endpoints::reachable(&mut faults, &path, address);
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(&mut faults, "spec.type", &spec["type"], &kinds);
    balancer(&mut faults, spec, kind);
    traffic(&mut faults, spec, kind);
    if let Some(old) = old {
        changes(&mut faults, spec, &old["spec"]);
    }
    faults
}

fn ports(faults: &mut Faults, spec: &Value, kind: &str, headless: bool) {
    let several = object::items(&spec["ports"]).len() > 1;
    let mut taken = BTreeSet::new();
    for (path, entry) in each(spec, "spec", "ports") {
        let name = text(entry, "name");
        let name_path = join(&path, "name");
        if name.is_empty() {
            if several {
                faults.push(FieldError::required(name_path, ""));
            }
        } else {
            format(faults, &name_path, name, names::label);
            if !taken.insert(name) {
                faults.push(FieldError::duplicate(name_path, name));
            }
        }
        port(faults, &join(&path, "port"), entry["port"].as_i64().unwrap_or(0));
        one_of(
            faults,
            &join(&path, "protocol"),
            &entry["protocol"],
            &["SCTP", "TCP", "UDP"],
        );
        let target = match &entry["targetPort"] {
            Value::Null => &entry["port"],
            target if *target == 0 || *target == "" => &entry["port"],
            target => target,
        };
        if !headless || !target.is_null() {
            port_or_name(faults, &join(&path, "targetPort"), target);
        }
        if !text(entry, "appProtocol").is_empty() {
            let protocol = text(entry, "appProtocol");
            format(faults, &join(&path, "appProtocol"), protocol, names::qualified);
        }
        if matches!(kind, "ClusterIP" | "ExternalName") && entry["nodePort"].as_i64().unwrap_or(0) != 0 {
            let why = std::format!("may not be used when `type` is '{kind}'");
            faults.push(FieldError::forbidden(join(&path, "nodePort"), why));
        }
    }
    let mut taken = BTreeSet::new();
    for (path, entry) in each(spec, "spec", "ports") {
        let (protocol, number) = (text(entry, "protocol"), entry["port"].as_i64().unwrap_or(0));
        if !taken.insert((protocol, number)) {
            let shown = std::format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            faults.push(super::structure(ErrorKind::Duplicate, path, &shown, ""));
        }
    }
}

fn affinity(faults: &mut Faults, spec: &Value) {
    one_of(
        faults,
        "spec.sessionAffinity",
        &spec["sessionAffinity"],
        &["ClientIP", "None"],
    );
    let config = &spec["sessionAffinityConfig"];
    if spec["sessionAffinity"] == "ClientIP"
        && let Some(seconds) = config["clientIP"]["timeoutSeconds"].as_i64()
        && !(1..=AFFINITY_SECONDS_MAX).contains(&seconds)
    {
        let why = std::format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        faults.push(FieldError::invalid(path, seconds, why));
    }
}

fn families(faults: &mut Faults, spec: &Value, kind: &str) {
    if kind == "ExternalName" {
        return;
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(faults, "spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], &policies);
    let mut taken = BTreeSet::new();
    for (path, family) in each(spec, "spec", "ipFamilies") {
        one_of(faults, &path, family, &["IPv4", "IPv6"]);
        if !taken.insert(family.as_str()) {
            faults.push(FieldError::duplicate(path, family.clone()));
        }
    }
    let first = text(spec, "clusterIP");
    let mut all = object::strings(&spec["clusterIPs"]);
    if all.is_empty() && !first.is_empty() {
        all.push(first);
    }
    if let Some(other) = all.first()
        && *other != first
    {
        let why = "first value must match `clusterIP`";
        faults.push(FieldError::invalid("spec.clusterIPs", json!(all), why));
        return;
    }
    if all.len() > 1 && all.contains(&"None") {
        let why = "'None' must be the first and only value";
        faults.push(FieldError::invalid("spec.clusterIPs", json!(all), why));
    }
    for (index, address) in all.iter().enumerate() {
        let path = std::format!("spec.clusterIPs[{index}]");
        if index == 0 && *address == "None" {
            if matches!(kind, "NodePort" | "LoadBalancer") {
                let why = std::format!("may not be set to 'None' for {kind} services");
                faults.push(FieldError::invalid(path, *address, why));
            }
            continue;
        }
        format(faults, &path, address, names::address);
    }
}

fn balancer(faults: &mut Faults, spec: &Value, kind: &str) {
    let balanced = kind == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = object::strings(&spec["loadBalancerSourceRanges"]);
    if !balanced && !ranges.is_empty() {
        faults.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", only));
    } else {
        for (index, range) in ranges.iter().enumerate() {
            let path = std::format!("spec.LoadBalancerSourceRanges[{index}]");
            format(faults, &path, range.trim(), names::cidr);
        }
    }
    if !balanced && !spec["allocateLoadBalancerNodePorts"].is_null() {
        faults.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", only));
    }
    let class = text(spec, "loadBalancerClass");
    if !class.is_empty() {
        if balanced {
            format(faults, "spec.loadBalancerClass", class, names::qualified);
        } else {
            faults.push(FieldError::forbidden("spec.loadBalancerClass", only));
        }
    }
}

fn traffic(faults: &mut Faults, spec: &Value, kind: &str) {
    let external = &spec["externalTrafficPolicy"];
    let reached = matches!(kind, "NodePort" | "LoadBalancer") || !object::items(&spec["externalIPs"]).is_empty();
    if let Some(policy) = external.as_str().filter(|policy| !policy.is_empty()) {
        if reached {
            one_of(faults, "spec.externalTrafficPolicy", external, &["Cluster", "Local"]);
        } else {
            let why = "may only be set for externally-accessible services";
            faults.push(FieldError::invalid("spec.externalTrafficPolicy", policy, why));
        }
    }
    if let Some(check) = spec["healthCheckNodePort"].as_i64().filter(|port| *port != 0)
        && !(kind == "LoadBalancer" && *external == "Local")
    {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        faults.push(FieldError::invalid("spec.healthCheckNodePort", check, why));
    }
    let policies = ["Cluster", "Local"];
    one_of(
        faults,
        "spec.internalTrafficPolicy",
        &spec["internalTrafficPolicy"],
        &policies,
    );
    let ways = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    one_of(faults, "spec.trafficDistribution", &spec["trafficDistribution"], &ways);
}

fn changes(faults: &mut Faults, new: &Value, old: &Value) {
    let is_name = |spec: &Value| text(spec, "type") == "ExternalName";
    let before = text(old, "clusterIP");
    if is_name(new) || is_name(old) || before.is_empty() || before == text(new, "clusterIP") {
        return;
    }
    let all = if new["clusterIPs"].is_null() {
        json!([new["clusterIP"]])
    } else {
        new["clusterIPs"].clone()
    };
    faults.push(FieldError::invalid(
        "spec.clusterIPs[0]",
        all,
        "may not change once set",
    ));
}
