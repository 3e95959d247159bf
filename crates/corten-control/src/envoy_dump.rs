//! What an L7 proxy is sent, in the form in which Envoy shows what it has: so that both can be laid side by side.

use std::sync::PoisonError;

use corten_envoy::{to_json, type_name};
use corten_xds::server::{Resource, Shared, WatchView};
use serde_json::{Value, json};

use crate::clients::Client;
use crate::resources::{CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE};

/// A section of the dump.
struct Section {
    /// The type's name in few letters, as callers ask for it.
    short: &'static str,
    type_url: &'static str,
    /// The section's own type, below `envoy.admin.v3`.
    name: &'static str,
    /// Its list.
    list: &'static str,
    /// Where a resource stands in an entry.
    key: &'static str,
}

/// The sections in Istio's order.
const SECTIONS: [Section; 5] = [
    Section {
        short: "cds",
        type_url: CLUSTER,
        name: "ClustersConfigDump",
        list: "dynamicActiveClusters",
        key: "cluster",
    },
    Section {
        short: "eds",
        type_url: ENDPOINT,
        name: "EndpointsConfigDump",
        list: "dynamicEndpointConfigs",
        key: "endpointConfig",
    },
    Section {
        short: "lds",
        type_url: LISTENER,
        name: "ListenersConfigDump",
        list: "dynamicListeners",
        key: "listener",
    },
    Section {
        short: "rds",
        type_url: ROUTE,
        name: "RoutesConfigDump",
        list: "dynamicRouteConfigs",
        key: "routeConfig",
    },
    Section {
        short: "ecds",
        type_url: EXTENSION,
        name: "EcdsConfigDump",
        list: "ecdsFilters",
        key: "ecdsFilter",
    },
];

/// The dump of a client: all sections but endpoints, or those that are asked for.
pub(crate) fn of(client: &Client, own: &Shared, wanted: Option<&str>, endpoints: bool) -> Value {
    let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
    let is_wanted = |section: &&Section| match wanted {
        Some(wanted) => wanted.split(',').any(|it| it.eq_ignore_ascii_case(section.short)),
        None => endpoints || section.short != "eds",
    };
    let configs = SECTIONS.iter().filter(is_wanted).map(|section| {
        let view = types.get(section.type_url).and_then(|state| state.view.as_ref());
        own.read(|store| {
            let entries = store
                .resources(section.type_url)
                .filter(|resource| view.is_some_and(|view| is_watched(view, resource)))
                .map(|resource| entry(section, resource));
            json!({
                "@type": format!("type.googleapis.com/envoy.admin.v3.{}", section.name),
                section.list: entries.collect::<Vec<Value>>(),
            })
        })
    });
    json!({"configs": configs.collect::<Vec<Value>>()})
}

/// Whether a client asks for a resource, by its name or for all of the type.
fn is_watched(view: &WatchView, resource: &Resource) -> bool {
    view.wildcard || view.names.iter().any(|name| **name == **resource.name())
}

fn entry(section: &Section, resource: &Resource) -> Value {
    let mut shown = match to_json(type_name(section.type_url), &resource.body()) {
        Ok(shown) => shown,
        // Of a type that only its receiver knows.
        Err(why) => json!({"name": &**resource.name(), "unreadable": why.to_string()}),
    };
    shown["@type"] = json!(section.type_url);
    let version = resource.version();
    if section.type_url == LISTENER {
        let state = json!({"versionInfo": version, section.key: shown});
        return json!({"name": &**resource.name(), "activeState": state});
    }
    json!({"versionInfo": version, section.key: shown})
}
