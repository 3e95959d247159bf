//! ServiceEntries: TCP without an address, and hosts whose ports have several protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalogue;
use crate::hosts::{EVERYWHERE, scopes};
use crate::objects::{Object, World};
use crate::report::Report;

pub(super) fn addresses(world: &World, report: &mut Report) {
    let metadata = world
        .mesh_config
        .default_config
        .as_ref()
        .map(|config| &config.proxy_metadata);
    let is_on = |key: &str| {
        metadata
            .and_then(|metadata| metadata.get(key))
            .is_some_and(|value| value == "true")
    };
    let allocates = is_on("ISTIO_META_DNS_AUTO_ALLOCATE") || is_on("PILOT_ENABLE_IP_AUTOALLOCATE");
    if is_on("ISTIO_META_DNS_CAPTURE") && allocates {
        return;
    }
    for entry in &world.service_entries {
        let given = entry
            .object
            .spanned
            .root
            .get("status")
            .and_then(|status| status.get("addresses"));
        let has_address = given.is_some_and(|list| !list.items().is_empty());
        if has_address || !entry.spec.addresses.is_empty() {
            continue;
        }
        for (index, port) in entry.spec.ports.iter().enumerate() {
            if port.protocol.is_empty() || port.protocol.eq_ignore_ascii_case("TCP") {
                let name = format!("spec.ports[{index}].name");
                report.add(&catalogue::SERVICE_ENTRY_ADDRESSES_REQUIRED, &entry.object, &name, &[]);
            }
        }
    }
}

/// A host's port as it is seen from somewhere, and who says which protocol it has.
type Ports<'a> = BTreeMap<(String, &'a str, u32), Vec<(String, &'a Arc<Object>)>>;

pub(super) fn protocols(world: &World, report: &mut Report) {
    let mut ports: Ports<'_> = BTreeMap::new();
    for entry in &world.service_entries {
        for scope in scopes(&entry.spec.export_to, entry.object.namespace()) {
            for host in &entry.spec.hosts {
                for port in &entry.spec.ports {
                    let place = ports
                        .entry((scope.clone(), host.as_str(), port.number.0.into()))
                        .or_default();
                    place.push((port.protocol.to_ascii_uppercase(), &entry.object));
                }
            }
        }
    }
    let mut reported: BTreeSet<(&str, &str)> = BTreeSet::new();
    for ((scope, host, port), own) in &ports {
        let mut entries: Vec<&(String, &Arc<Object>)> = own.iter().collect();
        if scope != EVERYWHERE {
            entries.extend(ports.get(&(EVERYWHERE.to_owned(), *host, *port)).into_iter().flatten());
        }
        let protocols: BTreeSet<&str> = entries.iter().map(|(protocol, _)| protocol.as_str()).collect();
        if protocols.len() < 2 {
            continue;
        }
        let names: BTreeSet<String> = entries.iter().map(|(_, object)| object.full_name()).collect();
        let names = Vec::from_iter(names).join(", ");
        let protocols = Vec::from_iter(protocols).join(", ");
        for (_, object) in entries {
            if reported.insert(object.key()) {
                let parameters = [
                    ("serviceEntryNames", &*names),
                    ("host", *host),
                    ("port", &*port.to_string()),
                    ("protocols", &*protocols),
                ];
                report.add(
                    &catalogue::CONFLICTING_SERVICE_ENTRY_PROTOCOL,
                    object,
                    "metadata.name",
                    &parameters,
                );
            }
        }
    }
}
