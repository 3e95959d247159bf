//! Endpoints and endpoint slices: addresses that can be reached, and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, each, format, immutable, names, one_of, port, required, text};
use crate::object;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// What is wrong with an endpoint slice.
pub(crate) fn endpoint_slice(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let kind = text(new, "addressType");
    if kind.is_empty() {
        faults.push(FieldError::required("addressType", ""));
    } else {
        one_of(
            &mut faults,
            "addressType",
            &new["addressType"],
            &["FQDN", "IPv4", "IPv6"],
        );
    }
    for (path, endpoint) in each(new, "", "endpoints") {
        slice_endpoint(&mut faults, &path, kind, endpoint);
    }
    let mut taken = BTreeSet::new();
    for (path, entry) in each(new, "", "ports") {
        let name = text(entry, "name");
        let name_path = std::format!("{path}.name");
        if !name.is_empty() {
            format(&mut faults, &name_path, name, names::label);
        }
        if !taken.insert(name) {
            faults.push(FieldError::duplicate(name_path, name));
        }
        one_of(
            &mut faults,
            &std::format!("{path}.protocol"),
            &entry["protocol"],
            &PROTOCOLS,
        );
        if !text(entry, "appProtocol").is_empty() {
            let protocol = text(entry, "appProtocol");
            format(
                &mut faults,
                &std::format!("{path}.appProtocol"),
                protocol,
                names::qualified,
            );
        }
    }
    if let Some(old) = old {
        immutable(&mut faults, "addressType", &new["addressType"], &old["addressType"]);
    }
    faults
}

fn slice_endpoint(faults: &mut Faults, path: &str, kind: &str, endpoint: &Value) {
    let addresses = object::items(&endpoint["addresses"]);
    if addresses.is_empty() {
        let path = std::format!("{path}.addresses");
        faults.push(FieldError::required(path, "must contain at least 1 address"));
    }
    for (item, address) in each(endpoint, path, "addresses") {
        let address = address.as_str().unwrap_or("");
        if kind == "FQDN" {
            format(faults, &item, address, names::subdomain);
            continue;
        }
        if !matches!(kind, "IPv4" | "IPv6") {
            continue;
        }
        let Ok(parsed) = address.parse::<IpAddr>() else {
            format(faults, &item, address, names::address);
            continue;
        };
        if parsed.is_ipv4() != (kind == "IPv4") {
            let why = std::format!("must be an {kind} address");
            faults.push(FieldError::invalid(std::format!("{path}.addresses"), address, why));
        }
        reachable(faults, &item, address);
    }
    if !text(endpoint, "hostname").is_empty() {
        format(
            faults,
            &std::format!("{path}.hostname"),
            text(endpoint, "hostname"),
            names::label,
        );
    }
    if !text(endpoint, "nodeName").is_empty() {
        format(
            faults,
            &std::format!("{path}.nodeName"),
            text(endpoint, "nodeName"),
            names::subdomain,
        );
    }
}

/// An address that other machines can reach.
pub(super) fn reachable(faults: &mut Faults, path: &str, address: &str) {
    let Ok(parsed) = address.parse::<IpAddr>() else {
        faults.push(FieldError::invalid(path, address, "must be a valid IP address"));
        return;
    };
    let (link_local, local_multicast) = match parsed {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] == 0xff02),
    };
    for (wrong, why) in [
        (
            parsed.is_unspecified(),
            std::format!("may not be unspecified ({address})"),
        ),
        (
            parsed.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ] {
        if wrong {
            faults.push(FieldError::invalid(path, address, why));
        }
    }
}

/// What is wrong with endpoints.
pub(crate) fn endpoints(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    for (path, subset) in each(new, "", "subsets") {
        let none = |key: &str| object::items(&subset[key]).is_empty();
        if none("addresses") && none("notReadyAddresses") {
            let why = "must specify `addresses` or `notReadyAddresses`";
            faults.push(FieldError::required(path.as_str(), why));
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (path, address) in each(subset, &path, key) {
                let ip = text(address, "ip");
                let ip_path = std::format!("{path}.ip");
                format(&mut faults, &ip_path, ip, names::address);
                if !text(address, "hostname").is_empty() {
                    let name = text(address, "hostname");
                    format(&mut faults, &std::format!("{path}.hostname"), name, names::label);
                }
                if !text(address, "nodeName").is_empty() {
                    let name = text(address, "nodeName");
                    format(&mut faults, &std::format!("{path}.nodeName"), name, names::subdomain);
                }
                reachable(&mut faults, &ip_path, ip);
            }
        }
        let several = object::items(&subset["ports"]).len() > 1;
        for (path, entry) in each(subset, &path, "ports") {
            let name = text(entry, "name");
            if several {
                required(&mut faults, &std::format!("{path}.name"), name);
            }
            if !name.is_empty() {
                format(&mut faults, &std::format!("{path}.name"), name, names::label);
            }
            port(
                &mut faults,
                &std::format!("{path}.port"),
                entry["port"].as_i64().unwrap_or(0),
            );
            one_of(
                &mut faults,
                &std::format!("{path}.protocol"),
                &entry["protocol"],
                &PROTOCOLS,
            );
        }
    }
    faults
}
