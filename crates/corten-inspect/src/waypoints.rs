//! The waypoints of a cluster, from its Gateways.

use serde_json::Value;

use crate::envoy::{items, text};
use crate::table::{columns, row};

/// The class of Gateways that are waypoints.
pub const CLASS: &str = "istio-waypoint";

/// The Gateways that are waypoints, by namespace and name.
pub fn select(gateways: &[Value]) -> Vec<&Value> {
    let mut found: Vec<&Value> = gateways
        .iter()
        .filter(|it| it["spec"]["gatewayClassName"] == CLASS)
        .collect();
    found.sort_by_key(|it| place(it));
    found
}

fn place(gateway: &Value) -> (&str, &str) {
    let metadata = &gateway["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

/// The condition that says whether a waypoint runs.
fn programmed(gateway: &Value) -> Option<&Value> {
    items(&gateway["status"]["conditions"]).find(|it| it["type"] == "Programmed")
}

/// Whether a waypoint says that it runs.
pub fn is_programmed(gateway: &Value) -> bool {
    programmed(gateway).is_some_and(|it| it["status"] == "True")
}

/// What is said about whether a waypoint runs.
pub fn message(gateway: &Value) -> &str {
    programmed(gateway).map_or("no control plane has looked at it", |it| text(&it["message"]))
}

/// The table of waypoints, with their namespaces where those of several are shown.
pub fn list(waypoints: &[&Value], namespaces: bool) -> String {
    let heading = row(["NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"]);
    let rows = waypoints.iter().map(|gateway| {
        let labels = &gateway["metadata"]["labels"];
        let label = |key: &str, otherwise: &'static str| labels[key].as_str().unwrap_or(otherwise).to_owned();
        let (namespace, name) = place(gateway);
        let state = programmed(gateway).map_or("Unknown", |it| text(&it["status"]));
        let (revision, kind) = (label("istio.io/rev", "default"), label("istio.io/waypoint-for", "none"));
        row([namespace, name, &revision, &kind, state])
    });
    within(std::iter::once(heading).chain(rows).collect(), namespaces)
}

/// The table of what is known of how far they are.
pub fn status(waypoints: &[&Value], namespaces: bool) -> String {
    let heading = row(["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"]);
    let rows = waypoints.iter().map(|gateway| {
        let (namespace, name) = place(gateway);
        let condition = |key: &str| programmed(gateway).map_or("", |it| text(&it[key]));
        let state = match condition("status") {
            "" => "Unknown",
            state => state,
        };
        row([
            namespace,
            name,
            state,
            "Programmed",
            condition("reason"),
            condition("message"),
        ])
    });
    within(std::iter::once(heading).chain(rows).collect(), namespaces)
}

fn within(mut rows: Vec<Vec<String>>, namespaces: bool) -> String {
    if !namespaces {
        rows.iter_mut().for_each(|row| _ = row.remove(0));
    }
    columns(&rows, 5)
}
