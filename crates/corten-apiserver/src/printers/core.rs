//! Kinds of the core group but pods, and what has nothing to show besides its age.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Printer, age, or_none};
use crate::object::{at, name, text};

/// A kind without columns of its own.
pub(super) const PLAIN: Printer = Printer {
    columns: &[("Name", "string", 0), ("Age", "string", 0)],
    cells: |object, now| vec![name(object).into(), age::of(object, now)],
};

pub(super) const NAMESPACES: Printer = Printer {
    columns: &[("Name", "string", 0), ("Status", "string", 0), ("Age", "string", 0)],
    cells: |object, now| {
        vec![
            name(object).into(),
            text(object, &["status", "phase"]).into(),
            age::of(object, now),
        ]
    },
};

pub(super) const NODES: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Status", "string", 0),
        ("Roles", "string", 0),
        ("Age", "string", 0),
        ("Version", "string", 0),
        ("Internal-IP", "string", 1),
        ("External-IP", "string", 1),
        ("OS-Image", "string", 1),
        ("Kernel-Version", "string", 1),
        ("Container-Runtime", "string", 1),
    ],
    cells: node,
};

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = list(object, &["status", "conditions"]);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| condition["status"].as_str().unwrap_or("")) {
        Some("True") => "Ready".to_owned(),
        Some("False") => "NotReady".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if at(object, &["spec", "unschedulable"]) == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = at(object, &["metadata", "labels"]).as_object();
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str(),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let addresses = list(object, &["status", "addresses"]);
        or_none(
            addresses
                .iter()
                .find(|address| address["type"] == kind)
                .map_or("", |address| text(address, &["address"])),
        )
    };
    let info = |field: &str| match text(object, &["status", "nodeInfo", field]) {
        "" => Value::from("<unknown>"),
        known => Value::from(known),
    };
    vec![
        name(object).into(),
        status.into(),
        or_none(&roles.join(",")),
        age::of(object, now),
        text(object, &["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

pub(super) const SERVICES: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Type", "string", 0),
        ("Cluster-IP", "string", 0),
        ("External-IP", "string", 0),
        ("Port(s)", "string", 0),
        ("Age", "string", 0),
        ("Selector", "string", 1),
    ],
    cells: service,
};

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let type_ = text(object, &["spec", "type"]);
    let cluster_ip = match at(object, &["spec", "clusterIPs", "0"]).as_str() {
        Some(first) => first,
        None => list(object, &["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or_else(|| text(object, &["spec", "clusterIP"])),
    };
    let ports: Vec<String> = list(object, &["spec", "ports"])
        .iter()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            match port["nodePort"].as_u64() {
                Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port["port"]),
                _ => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    vec![
        name(object).into(),
        type_.into(),
        or_none(cluster_ip),
        external_ip(object, type_).into(),
        or_none(&ports.join(",")),
        age::of(object, now),
        or_none(&selector(at(object, &["spec", "selector"]))),
    ]
}

fn external_ip(object: &Value, type_: &str) -> String {
    let mut addresses: Vec<String> = Vec::new();
    if type_ == "ExternalName" {
        return text(object, &["spec", "externalName"]).to_owned();
    }
    if type_ == "LoadBalancer" {
        for ingress in list(object, &["status", "loadBalancer", "ingress"]) {
            let address = ingress["ip"].as_str().or_else(|| ingress["hostname"].as_str());
            addresses.extend(address.map(str::to_owned));
        }
    }
    addresses.extend(
        list(object, &["spec", "externalIPs"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    match (addresses.is_empty(), type_) {
        (false, _) => addresses.join(","),
        (true, "LoadBalancer") => "<pending>".to_owned(),
        (true, _) => super::NONE.to_owned(),
    }
}

pub(super) const CONFIG_MAPS: Printer = Printer {
    columns: &[("Name", "string", 0), ("Data", "string", 0), ("Age", "string", 0)],
    cells: |object, now| {
        vec![
            name(object).into(),
            (size(&object["data"]) + size(&object["binaryData"])).into(),
            age::of(object, now),
        ]
    },
};

pub(super) const SECRETS: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Type", "string", 0),
        ("Data", "string", 0),
        ("Age", "string", 0),
    ],
    cells: |object, now| {
        vec![
            name(object).into(),
            text(object, &["type"]).into(),
            size(&object["data"]).into(),
            age::of(object, now),
        ]
    },
};

pub(super) const SERVICE_ACCOUNTS: Printer = Printer {
    columns: &[("Name", "string", 0), ("Secrets", "string", 0), ("Age", "string", 0)],
    cells: |object, now| {
        vec![
            name(object).into(),
            list(object, &["secrets"]).len().into(),
            age::of(object, now),
        ]
    },
};

pub(super) const LEASES: Printer = Printer {
    columns: &[("Name", "string", 0), ("Holder", "string", 0), ("Age", "string", 0)],
    cells: |object, now| {
        vec![
            name(object).into(),
            text(object, &["spec", "holderIdentity"]).into(),
            age::of(object, now),
        ]
    },
};

pub(super) const EVENTS: Printer = Printer {
    columns: &[
        ("Last Seen", "string", 0),
        ("Type", "string", 0),
        ("Reason", "string", 0),
        ("Object", "string", 0),
        ("Subobject", "string", 1),
        ("Source", "string", 1),
        ("Message", "string", 0),
        ("First Seen", "string", 1),
        ("Count", "string", 1),
        ("Name", "string", 1),
    ],
    cells: event,
};

/// Events come in two generations; a field is read under its old and its new name.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |old: &[&str], new: &[&str]| -> Value {
        let found = at(object, old);
        if found.is_null() {
            at(object, new).clone()
        } else {
            found.clone()
        }
    };
    let series = at(object, &["series"]);
    let first = match either(&["firstTimestamp"], &["deprecatedFirstTimestamp"]) {
        Value::Null => at(object, &["eventTime"]).clone(),
        first => first,
    };
    let last = match (
        at(series, &["lastObservedTime"]),
        either(&["lastTimestamp"], &["deprecatedLastTimestamp"]),
    ) {
        (Value::Null, Value::Null) => first.clone(),
        (Value::Null, last) => last,
        (observed, _) => observed.clone(),
    };
    let count = series["count"]
        .as_i64()
        .or_else(|| either(&["count"], &["deprecatedCount"]).as_i64())
        .filter(|count| *count > 0);
    let about = match at(object, &["involvedObject"]) {
        Value::Null => at(object, &["regarding"]),
        about => about,
    };
    let component = either(&["source", "component"], &["deprecatedSource", "component"]);
    let component = component
        .as_str()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| text(object, &["reportingComponent"]));
    let component = if component.is_empty() {
        text(object, &["reportingController"])
    } else {
        component
    };
    let host = either(&["source", "host"], &["deprecatedSource", "host"]);
    let host = host
        .as_str()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| text(object, &["reportingInstance"]));
    let source = if host.is_empty() || component.is_empty() {
        format!("{component}{host}")
    } else {
        format!("{component}, {host}")
    };
    let message = either(&["message"], &["note"]);
    vec![
        age::since(&last, now).into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        format!("{}/{}", text(about, &["kind"]).to_lowercase(), text(about, &["name"])).into(),
        text(about, &["fieldPath"]).into(),
        source.into(),
        message.as_str().unwrap_or("").trim().into(),
        age::since(&first, now).into(),
        json!(count.unwrap_or(1)),
        name(object).into(),
    ]
}

/// The items of a list, or none.
pub(super) fn list<'v>(object: &'v Value, path: &[&str]) -> &'v [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The number of entries of a map.
fn size(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

/// A plain selector, `key=value` by key.
pub(super) fn selector(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect::<Vec<_>>()
        .join(",")
}

/// A label selector with expressions, as tables show it.
pub(super) fn label_selector(value: &Value) -> String {
    let mut parts: Vec<(String, String)> = value["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for expression in list(value, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let mut values: Vec<&str> = list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let shown = match text(expression, &["operator"]) {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), shown));
    }
    parts.sort();
    parts.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>().join(",")
}
