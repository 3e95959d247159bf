//! The metadata every Kubernetes object has.

use std::collections::BTreeMap;

use corten_derive::Message;

use crate::codec::{Json, Timestamp};

/// Name, namespace, labels and the rest of what Kubernetes keeps with an object.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct Metadata {
    /// The name, unique in its namespace and kind.
    pub name: String,
    /// A prefix from which the API server makes a name.
    pub generate_name: String,
    /// The namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// Identifies this object among all that had its name.
    pub uid: String,
    /// The revision of the store at its last change.
    pub resource_version: String,
    /// Counts changes of what is wanted.
    pub generation: i64,
    /// When it was created.
    pub creation_timestamp: Option<Timestamp>,
    /// When it was asked to go.
    pub deletion_timestamp: Option<Timestamp>,
    /// How long it has to go.
    pub deletion_grace_period_seconds: Option<i64>,
    /// What selectors see.
    pub labels: BTreeMap<String, String>,
    /// Notes of tools.
    pub annotations: BTreeMap<String, String>,
    /// What it is deleted with.
    pub owner_references: Vec<Json>,
    /// What must be done before it may go.
    pub finalizers: Vec<String>,
    /// Who owns which field.
    pub managed_fields: Vec<Json>,
    /// No longer used by Kubernetes, but still sent by old tools.
    pub self_link: String,
}
