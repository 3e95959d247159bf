//! The main CNI plugin of the local runtime: a veth pair between a pod and its node's bridge, an address of each family, routes.
//!
//! It speaks the Container Network Interface 1.1.0 (ADD, DEL, CHECK, GC, STATUS, VERSION) and nothing else: it reads one JSON
//! document, does its work in the network namespace it was started in (the node's) and in the pod's, writes one document and ends.
//! It knows nothing of Kubernetes.
//!
//! **Why a pod's address has no subnet.** Two pods on one bridge would answer each other directly, past the node: a reply to a
//! connection whose destination the node had translated (a service) would then arrive untranslated, from an address that the client
//! never called. So a pod's address is a /32 (/128) whose only neighbour is the gateway, and redirects are not accepted: every packet
//! passes the node's routing and connection tracking, in both directions. (Isolating the bridge's ports from each other would enforce
//! that, but breaks translated packets where bridge netfilter is on, which then bridges them itself.)

mod addresses;
mod attach;
mod config;

use serde_json::{Value, json};

pub use config::{Call, Command};

/// The versions of the interface this plugin speaks.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Why a call failed, in the interface's categories.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration wants a version we do not speak.
    #[error("version {0:?} is not spoken here; use one of {VERSIONS:?}")]
    Version(String),
    /// A variable is missing or wrong.
    #[error("{0}")]
    Environment(String),
    /// A file could not be read or written.
    #[error("{0}")]
    Io(String),
    /// The configuration is not JSON of the expected form.
    #[error("cannot read the configuration: {0}")]
    Decode(String),
    /// The configuration cannot be carried out.
    #[error("{0}")]
    Config(String),
    /// All addresses are taken.
    #[error("{0}")]
    Full(String),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] corten_linux::net::NetlinkError),
    /// The pod is not attached as it should be.
    #[error("{0}")]
    Check(String),
    /// The plugin cannot serve any ADD at present.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// The code: below 100 they are the interface's.
    pub fn code(&self) -> u32 {
        match self {
            Error::Version(_) => 1,
            Error::Environment(_) => 4,
            Error::Io(_) => 5,
            Error::Decode(_) => 6,
            Error::Config(_) => 7,
            Error::Full(_) => 11,
            Error::Unavailable(_) => 50,
            Error::Kernel(_) => 100,
            Error::Check(_) => 101,
        }
    }

    /// The error as the interface wants it printed.
    pub fn document(&self, version: &str) -> Value {
        let text = self.to_string();
        json!({ "cniVersion": version, "code": self.code(), "msg": text, "details": "corten-bridge" })
    }
}

/// Handles one call: the variables and the standard input in; what to print out, as success or as failure.
pub fn run(variable: &dyn Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Value> {
    let parsed: Value = serde_json::from_slice(input).unwrap_or_default();
    let version = parsed["cniVersion"].as_str().unwrap_or("1.1.0").to_owned();
    handle(variable, input).map_err(|error| error.document(&version))
}

fn handle(variable: &dyn Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Error> {
    let command = Command::parse(variable)?;
    if command == Command::Version {
        return Ok(Some(json!({ "cniVersion": "1.1.0", "supportedVersions": VERSIONS })));
    }
    let call = Call::parse(command, variable, input)?;
    match command {
        Command::Add => attach::add(&call).map(Some),
        Command::Del => attach::delete(&call).map(|()| None),
        Command::Check => attach::check(&call).map(|()| None),
        Command::Gc => attach::collect(&call).map(|()| None),
        Command::Status => attach::status(&call).map(|()| None),
        Command::Version => Ok(None),
    }
}

#[cfg(test)]
mod tests;
