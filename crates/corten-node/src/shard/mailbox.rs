//! How the control side speaks to a shard, and what all shards read.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use corten_identity::Identities;
use corten_proto::zds::WorkloadInfo;
use corten_traffic::{Name, Settings, Tables, Workload};
use tokio::sync::{mpsc, oneshot};

use super::holds::Holds;
use super::poll::{Slot, Waker};
use super::sockets::PodNamespace;
use crate::config::Config;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;

/// What every shard reads and nobody changes but the control side.
pub struct Common {
    /// Settings.
    pub config: Arc<Config>,
    /// Those that decisions depend on.
    pub traffic: Settings,
    /// Workloads, services, policies.
    pub tables: Arc<ArcSwap<Tables>>,
    /// Certificates.
    pub identities: Arc<Identities>,
    /// Which of them pods have.
    pub holds: Holds,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access: Arc<AccessLog>,
    /// Names to be resolved; when it is full, connections to names fail.
    pub resolver: mpsc::Sender<Resolve>,
    /// Shards that are at rest.
    pub resting: AtomicUsize,
}

/// A name that a connection needs.
#[derive(Debug)]
pub struct Resolve {
    /// The name.
    pub hostname: Name,
    /// Which family is better.
    pub prefer_ipv6: bool,
    /// The workload that asks.
    pub source: Arc<Workload>,
    /// Who asks.
    pub(crate) asker: Asker,
}

/// Where the answer goes.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) flow: Slot,
}

impl Resolve {
    /// What the question is counted by.
    pub fn labels(&self) -> [(&'static str, String); 9] {
        let source = &self.source;
        [
            ("source_workload", source.workload_name.to_string()),
            ("source_canonical_service", source.canonical_name.to_string()),
            ("source_canonical_revision", source.canonical_revision.to_string()),
            ("source_workload_namespace", source.namespace.to_string()),
            ("source_principal", source.identity.to_string()),
            ("source_app", source.canonical_name.to_string()),
            ("source_version", source.canonical_revision.to_string()),
            ("source_cluster", source.cluster.to_string()),
            ("hostname", self.hostname.to_string()),
        ]
    }

    /// Gives the answer back.
    pub fn answer(self, address: Result<IpAddr, String>) {
        self.asker.mailbox.send(Command::Resolved {
            flow: self.asker.flow,
            address,
        });
    }
}

/// What of a pod is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// All of its connections.
    Pod,
    /// Tunnels to it: it is this proxy itself, whose own servers are called so.
    Itself,
}

/// What a shard can be told.
#[derive(Debug)]
pub enum Command {
    /// Serve a pod.
    AddPod {
        /// Its uid.
        uid: String,
        /// Who it is.
        info: WorkloadInfo,
        /// Where it is.
        namespace: PodNamespace,
        /// What of it is served.
        serve: Serve,
        /// Told when its listeners listen.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Stop accepting for a pod; what is established goes on until it ends.
    RemovePod {
        /// Its uid.
        uid: String,
        /// Told when no listener is left.
        done: oneshot::Sender<()>,
    },
    /// There are new tables.
    Tables,
    /// Certificates have changed.
    Certificates,
    /// A name was resolved.
    Resolved {
        /// For which flow.
        #[doc(hidden)]
        flow: Slot,
        /// Its address, or why there is none.
        address: Result<IpAddr, String>,
    },
    /// Tell what is open.
    Dump(oneshot::Sender<Vec<PodView>>),
    /// Stop accepting, let connections end, until the deadline.
    Drain(Duration),
}

/// A pod and its connections.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its uid.
    pub uid: String,
    /// Who it is.
    pub info: WorkloadInfo,
    /// Its connections.
    pub connections: Vec<ConnectionView>,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// The pod is called.
    pub inbound: bool,
    /// Who calls.
    pub source: SocketAddr,
    /// What was asked for.
    pub original_destination: Option<String>,
    /// What was reached.
    pub actual_destination: Option<String>,
    /// `TCP`, `HBONE` or `DOUBLEHBONE`.
    pub protocol: &'static str,
}

/// Commands for one shard. Not bounded: each command has a bounded cause (a pod, a change, a question of the shard itself).
#[derive(Debug)]
pub struct Mailbox {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Arc<Mailbox>> {
        Ok(Arc::new(Mailbox {
            commands: Mutex::default(),
            waker: Waker::new()?,
        }))
    }

    /// Tells the shard something.
    pub fn send(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        // News of the same kind are one: the shard looks at what is newest.
        let repeated = |known: &Command| {
            matches!(
                (known, &command),
                (Command::Tables, Command::Tables) | (Command::Certificates, Command::Certificates)
            )
        };
        if !commands.iter().any(repeated) {
            commands.push(command);
        }
        drop(commands);
        self.waker.wake();
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(crate) fn take(&self) -> Vec<Command> {
        self.waker.clear();
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
