//! Changes of the tables as the control plane sends them, and why some are refused.

use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Message, WORKLOAD_TYPE, security, workload};

/// One resource added, replaced or removed.
#[derive(Debug, Clone)]
pub enum Change {
    /// A workload or service, new or changed.
    Address {
        /// Its resource name.
        name: String,
        /// It.
        address: Box<workload::Address>,
    },
    /// A policy, new or changed.
    Authorization {
        /// Its resource name, by which workloads refer to it.
        name: String,
        /// It.
        policy: Box<security::Authorization>,
    },
    /// A resource whose bytes are no message.
    Undecodable {
        /// Its resource name.
        name: String,
        /// It is a policy.
        is_policy: bool,
        /// What the decoder says.
        reason: String,
    },
    /// A workload (by uid) or service (by `namespace/hostname`) is gone.
    RemoveAddress(String),
    /// A policy is gone.
    RemoveAuthorization(String),
}

impl Change {
    /// From an xDS resource; `None` for types that are not ours.
    pub fn upsert(type_url: &str, name: &str, body: &[u8]) -> Option<Change> {
        let decoded = match type_url {
            ADDRESS_TYPE => workload::Address::decode(body).map(|address| Change::Address {
                name: name.to_owned(),
                address: Box::new(address),
            }),
            WORKLOAD_TYPE => workload::Workload::decode(body).map(|workload| Change::Address {
                name: name.to_owned(),
                address: Box::new(workload::Address {
                    r#type: Some(workload::address::Type::Workload(workload)),
                }),
            }),
            AUTHORIZATION_TYPE => security::Authorization::decode(body).map(|policy| Change::Authorization {
                name: name.to_owned(),
                policy: Box::new(policy),
            }),
            _ => return None,
        };
        Some(decoded.unwrap_or_else(|error| Change::Undecodable {
            name: name.to_owned(),
            is_policy: type_url == AUTHORIZATION_TYPE,
            reason: format!("cannot be decoded: {error}"),
        }))
    }

    /// From the name of a removed xDS resource.
    pub fn remove(type_url: &str, name: &str) -> Option<Change> {
        match type_url {
            ADDRESS_TYPE | WORKLOAD_TYPE => Some(Change::RemoveAddress(name.to_owned())),
            AUTHORIZATION_TYPE => Some(Change::RemoveAuthorization(name.to_owned())),
            _ => None,
        }
    }
}

/// A resource that was refused; all others of the same batch are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its resource name.
    pub name: String,
    /// Which field is wrong, and how.
    pub reason: String,
}

/// A field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub(crate) struct Invalid {
    field: &'static str,
    problem: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Invalid {
        Invalid {
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn address(field: &'static str, bytes: &[u8]) -> Invalid {
        Invalid::new(
            field,
            format!("has an address of {} bytes instead of 4 or 16", bytes.len()),
        )
    }

    pub(crate) fn unknown(field: &'static str, number: i32) -> Invalid {
        Invalid::new(field, format!("is {number}, which this version does not know"))
    }
}
