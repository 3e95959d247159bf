//! Listeners of one gateway that cannot be had at the same time: those that come first win.

use std::{cmp::Ordering, collections::BTreeMap};

use corten_api::gateway_api::{Gateway, ListenerSet, gateway::Listener, listener_set::ListenerEntry};

use crate::{
    class::Role,
    index::Index,
    reference::{Key, Kind, ParentKey},
    selector,
};

/// Why listeners lost, by their owner and name.
pub(crate) type Conflicts = BTreeMap<ParentKey, BTreeMap<String, &'static str>>;

/// Finds the listeners that lose against earlier ones: a gateway's own come first, then those of its ListenerSets, the
/// oldest first. A listener that lost stands in nobody's way.
pub(crate) fn conflicts(index: &Index<'_>, gateway: &Gateway, sets: &[&ListenerSet]) -> Conflicts {
    let mut conflicts = Conflicts::new();
    let role = index.role(&gateway.spec.gateway_class_name);
    if !role.is_some_and(Role::takes_listener_sets) {
        return conflicts;
    }
    let own = (gateway_key(gateway), gateway.spec.listeners.clone());
    let mut sets: Vec<&ListenerSet> = sets
        .iter()
        .copied()
        .filter(|set| selector::takes_listeners_of(index, gateway, &set.metadata.namespace))
        .collect();
    sets.sort_by(|a, b| older(a, b));
    let sets = sets.into_iter().map(|set| {
        let listeners = set.spec.listeners.iter().map(entry).collect();
        (set_key(set), listeners)
    });
    let mut accepted: Vec<Listener> = Vec::new();
    for (owner, listeners) in std::iter::once(own).chain(sets) {
        for listener in listeners {
            match accepted.iter().find(|prior| !distinct(&listener, prior)) {
                Some(prior) => {
                    let lost = conflicts.entry(owner.clone()).or_default();
                    lost.insert(listener.name.clone(), reason(&listener, prior));
                }
                None => accepted.push(listener),
            }
        }
    }
    conflicts
}

pub(crate) fn gateway_key(gateway: &Gateway) -> ParentKey {
    ParentKey {
        kind: Kind::GATEWAY,
        key: Key::new(&gateway.metadata.namespace, &gateway.metadata.name),
    }
}

pub(crate) fn set_key(set: &ListenerSet) -> ParentKey {
    ParentKey {
        kind: Kind::LISTENER_SET,
        key: Key::new(&set.metadata.namespace, &set.metadata.name),
    }
}

/// The gateway that a ListenerSet adds to.
pub(crate) fn gateway_of(set: &ListenerSet) -> Key {
    let parent = &set.spec.parent_ref;
    let namespace = parent.namespace.as_deref().unwrap_or(&set.metadata.namespace);
    Key::new(namespace, &parent.name)
}

/// A listener of a ListenerSet as one of a gateway; the ports of HTTP and HTTPS need not be given.
pub(crate) fn entry(entry: &ListenerEntry) -> Listener {
    let mut listener = Listener {
        allowed_routes: entry.allowed_routes.clone(),
        hostname: entry.hostname.clone(),
        name: entry.name.clone(),
        port: entry.port,
        protocol: entry.protocol.clone(),
        tls: entry.tls.clone(),
    };
    if !listener.port.is_given() {
        listener.port.0 = match listener.protocol.as_str() {
            "HTTP" => 80,
            "HTTPS" => 443,
            _ => 0,
        };
    }
    listener
}

fn older(a: &ListenerSet, b: &ListenerSet) -> Ordering {
    let (a, b) = (&a.metadata, &b.metadata);
    let key = |m: &corten_api::metadata::Metadata| format!("{}/{}", m.namespace, m.name);
    a.creation_timestamp
        .cmp(&b.creation_timestamp)
        .then_with(|| key(a).cmp(&key(b)))
}

fn is_l4(listener: &Listener) -> bool {
    matches!(listener.protocol.as_str(), "TCP" | "UDP")
}

fn has_names(listener: &Listener) -> bool {
    matches!(listener.protocol.as_str(), "HTTP" | "HTTPS" | "TLS")
}

fn hostname(listener: &Listener) -> &str {
    let hostname = listener.hostname.as_ref().map(corten_core::Host::as_str);
    hostname.filter(|hostname| !hostname.is_empty()).unwrap_or("*")
}

fn distinct(a: &Listener, b: &Listener) -> bool {
    if a.port != b.port {
        return true;
    }
    match (is_l4(a), has_names(a), is_l4(b), has_names(b)) {
        (true, _, true, _) | (true, _, _, true) | (_, true, true, _) => false,
        (_, true, _, true) => hostname(a) != hostname(b),
        _ => a.protocol != b.protocol,
    }
}

fn reason(listener: &Listener, prior: &Listener) -> &'static str {
    let l4 = is_l4(listener) && is_l4(prior);
    if l4 || listener.protocol != prior.protocol {
        "ProtocolConflict"
    } else {
        "HostnameConflict"
    }
}

#[cfg(test)]
mod tests {
    use corten_core::{Host, Port};

    use super::*;

    fn listener(protocol: &str, port: u16, hostname: &str) -> Listener {
        Listener {
            protocol: protocol.to_owned(),
            port: Port(port),
            hostname: (!hostname.is_empty()).then(|| Host::from(hostname)),
            ..Listener::default()
        }
    }

    #[test]
    fn names_tell_http_listeners_apart_and_nothing_tells_l4_ones() {
        let check = |a: &Listener, b: &Listener, expect: Option<&str>| {
            let found = (!distinct(a, b)).then(|| reason(a, b));
            assert_eq!(found, expect, "{a:?} {b:?}");
        };
        let http = listener("HTTP", 80, "a.example");
        check(&http, &listener("HTTP", 81, "a.example"), None);
        check(&http, &listener("HTTP", 80, "b.example"), None);
        check(&http, &listener("HTTP", 80, "a.example"), Some("HostnameConflict"));
        check(&http, &listener("TLS", 80, "a.example"), Some("ProtocolConflict"));
        check(&http, &listener("HTTP", 80, ""), None);
        check(&http, &listener("TCP", 80, ""), Some("ProtocolConflict"));
        check(
            &listener("TCP", 80, ""),
            &listener("UDP", 80, ""),
            Some("ProtocolConflict"),
        );
        check(&listener("HBONE", 80, ""), &listener("HTTP", 80, ""), None);
        check(
            &listener("HTTP", 80, ""),
            &listener("HTTP", 80, "*"),
            Some("HostnameConflict"),
        );
    }
}
