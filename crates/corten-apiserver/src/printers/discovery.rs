//! Endpoints and endpoint slices.

use serde_json::Value;

use super::core::list;
use super::{Printer, age, first_three, or_none};
use crate::object::{name, text};

pub(super) const ENDPOINTS: Printer = Printer {
    columns: &[("Name", "string", 0), ("Endpoints", "string", 0), ("Age", "string", 0)],
    cells: |object, now| vec![name(object).into(), or_none(&endpoints(object)), age::of(object, now)],
};

/// Every address with every port of its subset, the first three of them.
fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(object, &["subsets"]) {
        let addresses = list(subset, &["addresses"]);
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.iter().map(|address| text(address, &["ip"]).to_owned()));
        }
        for port in ports {
            for address in addresses {
                let ip = text(address, &["ip"]);
                let host = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                all.push(format!("{host}:{}", port["port"]));
            }
        }
    }
    first_three(&all)
}

pub(super) const ENDPOINT_SLICES: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("AddressType", "string", 0),
        ("Ports", "string", 0),
        ("Endpoints", "string", 0),
        ("Age", "string", 0),
    ],
    cells: |object, now| {
        let ports: Vec<String> = list(object, &["ports"])
            .iter()
            .map(|port| port_or_unset(&port["port"]))
            .collect();
        let addresses: Vec<String> = list(object, &["endpoints"])
            .iter()
            .flat_map(|endpoint| list(endpoint, &["addresses"]))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let unset = |shown: String| if shown.is_empty() { "<unset>".to_owned() } else { shown };
        vec![
            name(object).into(),
            text(object, &["addressType"]).into(),
            unset(first_three(&ports)).into(),
            unset(first_three(&addresses)).into(),
            age::of(object, now),
        ]
    },
};

fn port_or_unset(port: &Value) -> String {
    if port.is_null() {
        "<unset>".to_owned()
    } else {
        port.to_string()
    }
}
