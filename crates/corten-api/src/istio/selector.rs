//! How resources choose the workloads they apply to.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message};

/// The workload selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WorkloadSelector {
    /// The match labels.
    #[api(
        values(
            max_length = 63,
            rule(r#"!self.contains("*")"#, "wildcard not allowed in label value match")
        ),
        max_properties = 4096,
        rule(r#"self.all(key, !key.contains("*"))"#, "wildcard not allowed in label key match"),
        rule("self.all(key, key.size() != 0)", "key must not be empty")
    )]
    pub match_labels: BTreeMap<String, String>,
}

/// The port selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PortSelector {
    /// The number.
    #[api(required, maximum = 65535, minimum = 1)]
    pub number: Port,
}

/// An object that a policy is attached to.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PolicyTargetReference {
    /// The API group.
    #[api(
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: String,
    /// The kind.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: String,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(rule("self.size() == 0", "cross namespace referencing is not currently supported"))]
    pub namespace: String,
}

/// The workload mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum WorkloadMode {
    /// Both sides.
    #[default]
    Undefined,
    /// Requests that leave the workload.
    Client,
    /// Requests that arrive at the workload.
    Server,
    /// Both sides.
    ClientAndServer,
}
