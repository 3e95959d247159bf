//! The ports of a gateway's Service.

use std::collections::BTreeSet;

use corten_api::{codec::Json, gateway_api::gateway::Listener};
use serde_json::json;

/// The port for health checks, and one for each port that listeners have.
pub(super) fn of(listeners: &[Listener]) -> Vec<Json> {
    let mut ports = vec![port("status-port", 15021, "tcp")];
    let mut numbers = BTreeSet::new();
    let mut names = BTreeSet::from(["status-port".to_owned()]);
    for (i, listener) in listeners.iter().enumerate() {
        let number = listener.port.0;
        if !numbers.insert(number) {
            continue;
        }
        let protocol = listener.protocol.to_lowercase();
        let mut wanted = listener.name.replace('.', "-");
        if wanted.is_empty() {
            wanted = format!("{protocol}-{i}");
        }
        let name = unique(&wanted, number, &names);
        ports.push(port(&name, number, &protocol));
        names.insert(name);
    }
    ports
}

fn port(name: &str, number: u16, protocol: &str) -> Json {
    json!({ "name": name, "port": number, "protocol": "TCP", "appProtocol": protocol })
}

/// The most letters that a port's name has.
const NAME_MAX: usize = 63;

/// A name that no port has yet: names of listeners are longer, and may differ only in what ports cannot have.
fn unique(wanted: &str, number: u16, taken: &BTreeSet<String>) -> String {
    let cut = |length: usize| wanted.chars().take(length).collect::<String>();
    let mut name = cut(NAME_MAX);
    let mut suffix = format!("-{number}");
    while taken.contains(&name) {
        name = format!("{}{suffix}", cut(NAME_MAX.saturating_sub(suffix.len())));
        suffix.push('x');
    }
    name
}

#[cfg(test)]
mod tests {
    use corten_core::Port;

    use super::*;

    fn check(listeners: &[(&str, u16)], expect: &[(&str, u64)]) {
        let listeners: Vec<Listener> = listeners
            .iter()
            .map(|(name, port)| Listener {
                name: (*name).to_owned(),
                port: Port(*port),
                protocol: "HTTP".to_owned(),
                ..Listener::default()
            })
            .collect();
        let made = of(&listeners);
        let made: Vec<(&str, u64)> = made
            .iter()
            .skip(1)
            .map(|port| (port["name"].as_str().unwrap(), port["port"].as_u64().unwrap()))
            .collect();
        assert_eq!(made, expect);
    }

    #[test]
    fn each_number_is_one_port_with_a_name_of_its_own() {
        check(&[("a", 80), ("b", 80), ("c", 81)], &[("a", 80), ("c", 81)]);
        check(&[("a.b", 80), ("a-b", 81)], &[("a-b", 80), ("a-b-81", 81)]);
        check(
            &[("", 80), ("status-port", 81)],
            &[("http-0", 80), ("status-port-81", 81)],
        );
        let long = "x".repeat(70);
        check(
            &[(&long, 80), (&long, 81)],
            &[(&"x".repeat(63), 80), (&format!("{}-81", "x".repeat(60)), 81)],
        );
    }
}
