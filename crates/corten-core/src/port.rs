//! Port numbers, and ports of services.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// A port number; 0 stands for "not given" in resources whose numbers cannot be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(pub u16);

impl Port {
    /// Whether a number was given.
    pub fn is_given(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A port as a service declares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The name.
    pub name: String,
    /// The number.
    pub port: Port,
    /// What is spoken there.
    pub protocol: Protocol,
}
