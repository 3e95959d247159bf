//! The columns in which kinds are shown: what `kubectl get` prints.
//!
//! Pure functions from an object and the present time to cells. Columns and their wording are part of Kubernetes' contract with its users, so they are
//! those of Kubernetes 1.34. How a table is put together and sent is none of this module's business.

mod age;
mod apps;
mod core;
mod custom;
mod discovery;
mod pods;
mod policy;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;

use crate::resources::{self, ResourceId};

pub use age::human as human_span;
pub(crate) use custom::Columns as CustomColumns;

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// The heading.
    pub(crate) name: String,
    /// The OpenAPI type of its cells.
    pub(crate) type_: String,
    /// The OpenAPI format; `name` marks the column that names the object.
    pub(crate) format: String,
    /// What the column says.
    pub(crate) description: String,
    /// Columns above 0 are shown by `-o wide` only.
    pub(crate) priority: i64,
}

/// How a built-in kind is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Heading, type and priority of each column.
    columns: &'static [Heading],
    /// The cells of one object, as many as there are columns.
    pub(crate) cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// A column of a built-in kind: heading, type, priority.
type Heading = (&'static str, &'static str, i64);

impl Printer {
    /// The columns in order.
    pub(crate) fn columns(&self) -> Vec<Column> {
        self.columns
            .iter()
            .map(|(name, type_, priority)| Column {
                name: (*name).to_owned(),
                type_: (*type_).to_owned(),
                format: if *name == "Name" {
                    "name".to_owned()
                } else {
                    String::new()
                },
                description: String::new(),
                priority: *priority,
            })
            .collect()
    }
}

/// The printer of a built-in resource; kinds without their own are shown by name and age.
pub(crate) fn printer(id: &ResourceId) -> Printer {
    let table: &[(ResourceId, Printer)] = &[
        (resources::PODS, pods::PODS),
        (resources::NAMESPACES, core::NAMESPACES),
        (resources::NODES, core::NODES),
        (resources::SERVICES, core::SERVICES),
        (resources::CONFIG_MAPS, core::CONFIG_MAPS),
        (resources::SECRETS, core::SECRETS),
        (resources::SERVICE_ACCOUNTS, core::SERVICE_ACCOUNTS),
        (resources::EVENTS, core::EVENTS),
        (resources::ENDPOINTS, discovery::ENDPOINTS),
        (resources::ENDPOINT_SLICES, discovery::ENDPOINT_SLICES),
        (resources::LEASES, core::LEASES),
        (resources::DEPLOYMENTS, apps::DEPLOYMENTS),
        (resources::REPLICA_SETS, apps::REPLICA_SETS),
        (resources::STATEFUL_SETS, apps::STATEFUL_SETS),
        (resources::DAEMON_SETS, apps::DAEMON_SETS),
        (resources::CONTROLLER_REVISIONS, apps::CONTROLLER_REVISIONS),
        (resources::CUSTOM_RESOURCE_DEFINITIONS, policy::CREATED),
        (resources::MUTATING_WEBHOOK_CONFIGURATIONS, policy::WEBHOOKS),
        (resources::VALIDATING_WEBHOOK_CONFIGURATIONS, policy::WEBHOOKS),
        (resources::ROLES, policy::CREATED),
        (resources::CLUSTER_ROLES, policy::CREATED),
        (resources::ROLE_BINDINGS, policy::BINDINGS),
        (resources::CLUSTER_ROLE_BINDINGS, policy::BINDINGS),
        (resources::NETWORK_POLICIES, policy::NETWORK_POLICIES),
    ];
    if id.group == "events.k8s.io" {
        return core::EVENTS;
    }
    table
        .iter()
        .find(|(known, _)| known == id)
        .map_or(core::PLAIN, |(_, printer)| *printer)
}

/// A cell that stands for "nothing there".
const NONE: &str = "<none>";

/// A text cell, or `<none>` when the text is empty.
fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { NONE } else { text })
}

/// The first three of a list joined by commas, and how many more there are.
fn first_three(items: &[String]) -> String {
    if items.len() > 3 {
        format!("{} + {} more...", items[..3].join(","), items.len() - 3)
    } else {
        items.join(",")
    }
}
