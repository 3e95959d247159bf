//! The life of `corten up`: two processes that stand and fall together.
//!
//! The *outer* one ([`outer`]) stays in the host's namespaces: it holds the lock, opens the sockets that clients outside connect to,
//! starts the other and waits. The *inner* one ([`process_one`]) is process 1 of namespaces of its own and holds everything else.
//! When either dies, by whatever signal, the kernel ends the other and takes away all that was in the namespaces.
//! See `docs/life-of-up.md`.

mod outer;
pub(crate) mod process_one;
mod resolvers;
mod teardown;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::instance::{Holder, InstanceError};
use crate::mesh::Stock;
use crate::refusal::Refusal;

pub use outer::run;
pub use teardown::{DownError, Stopped, down};

/// What `corten up` was asked for.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// How many nodes.
    pub nodes: usize,
    /// The API's port on 127.0.0.1: this one or none. By default the one of the last time if it is free, else any.
    pub port: Option<u16>,
    /// Commands for images that are not built in.
    pub images: BTreeMap<String, String>,
    /// Whether to bring the mesh.
    pub mesh: bool,
    /// Halves of the mesh that are Istio's own programs.
    pub stock: Stock,
    /// Log levels, as `CORTEN_LOG` has them.
    pub log_levels: Option<String>,
}

/// What the inner process is told when it starts; everything it does not have to find out by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The instance's name.
    pub name: String,
    /// The process outside.
    pub outer_pid: i32,
    /// The directory of all instances.
    pub state_home: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Commands for images that are not built in.
    pub images: BTreeMap<String, String>,
    /// Whether the mesh runs.
    pub mesh: bool,
    /// Halves of the mesh that are Istio's own programs.
    pub stock: Stock,
    /// Where clients outside reach the API.
    pub server: SocketAddr,
    /// Where the helper programs are.
    pub programs: PathBuf,
    /// Log levels.
    pub log_levels: Option<String>,
}

/// Why an instance could not be started, or ended otherwise than by request.
#[derive(Debug, Error)]
pub enum UpError {
    /// The state directory will not do.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Somebody runs it already.
    #[error("{name:?} is already running{}: stop it with `corten down{1}`, or start another one with `corten up --name OTHER`", by_process(.holder), name_flag(.name))]
    Running {
        /// Its name.
        name: String,
        /// Who.
        holder: Option<Holder>,
    },
    /// The port is taken.
    #[error(
        "port {port} on 127.0.0.1 is in use: choose another with --port, or leave --port out to have a free one chosen"
    )]
    PortInUse {
        /// Which.
        port: u16,
    },
    /// The port cannot be opened for another reason.
    #[error("cannot listen on 127.0.0.1 port {port}: {source}")]
    Listen {
        /// Which (0: any).
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refuses the namespaces.
    #[error("{}\n  what to do: {}\n  `corten doctor` checks everything that is needed", .0.problem, .0.remedy)]
    Refused(Refusal),
    /// The inner process said why it cannot go on.
    #[error("{0}")]
    Failed(String),
    /// The inner process died without a word.
    #[error("the runtime's process 1 ended unexpectedly ({how}): its log is {}", log.display())]
    Died {
        /// How.
        how: String,
        /// Where it may have said why.
        log: PathBuf,
    },
    /// Something else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Says who holds an instance, as far as is known.
fn by_process(holder: &Option<Holder>) -> String {
    holder
        .map(|holder| format!(" as process {}", holder.pid))
        .unwrap_or_default()
}

/// The flag that names an instance in a command to type.
fn name_flag(name: &str) -> String {
    if name == crate::instance::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

/// Attaches what was attempted to an I/O error.
fn attempt(action: impl Into<String>) -> impl FnOnce(io::Error) -> UpError {
    move |source| UpError::System {
        action: action.into(),
        source,
    }
}

/// The word that makes this executable be process 1 of the runtime instead of the user's command.
pub(crate) const ROLE: &str = "corten-process-one";
