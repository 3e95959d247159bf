//! ZDS, the agent's side: hands the network namespaces of enrolled pods to the node proxies that connect.
//!
//! A proxy that connects is told of all pods first, then of each as it comes and goes. Of several (during an upgrade) only the latest gets
//! new pods, while all learn which pods leave. Requests are answered in order, one at a time: an answer that comes too late would be taken
//! for that of the next request, so a connection that is late once is closed.

mod connection;
mod packet;
mod server;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use corten_linux::NetNs;
pub use corten_proto::zds::WorkloadInfo;

pub use packet::PacketError;
pub use server::{Handle, Server};

/// A pod as it is handed over.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Kubernetes' uid of the pod.
    pub uid: String,
    /// Who it is.
    pub info: WorkloadInfo,
    /// Its namespace; absent where it is not known now, and the proxy is to keep what it has.
    pub netns: Option<Arc<NetNs>>,
}

/// What the server needs of the agent.
pub trait Pods: Send + Sync + 'static {
    /// All pods that are to be served now: what a proxy is told first.
    fn snapshot(&self) -> Vec<Workload>;
    /// How many proxies are connected; called when it changes.
    fn connected(&self, proxies: usize);
}

/// Limits of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For each packet written, and for each answer.
    pub deadline: Duration,
    /// Requests that wait for a connection that is busy; more are refused.
    pub queue_max: usize,
    /// The shortest time between two connections taken.
    pub accept_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            deadline: Duration::from_secs(5),
            queue_max: 100,
            accept_interval: Duration::from_millis(200),
        }
    }
}

/// Why a request to a proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no proxy.
    #[error("no node proxy is connected; is ztunnel running on this node?")]
    NotConnected,
    /// It said no.
    #[error("the node proxy refused: {0}")]
    Refused(String),
    /// It went away, or was too late.
    #[error("the node proxy did not answer: {0}")]
    Lost(String),
    /// Too many requests wait for it already.
    #[error("the node proxy is behind by {0} requests")]
    Busy(usize),
}

/// A file sent along.
type File = Arc<NetNs>;

/// The files of a packet that carries none.
fn no_files(files: &[OwnedFd]) -> bool {
    files.is_empty()
}

#[cfg(test)]
mod tests;
