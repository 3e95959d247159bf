//! A pod as its shard knows it: its namespace, its listeners, its pool of tunnels, what it uses.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use corten_core::Identity;
use corten_proto::zds::WorkloadInfo;
use corten_traffic::{Expected, Tables, Workload};

use super::mailbox::{Common, Serve};
use super::poll::{Slot, Token};
use super::sockets::PodNamespace;

/// A pod being served.
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) info: WorkloadInfo,
    pub(crate) namespace: PodNamespace,
    pub(crate) serve: Serve,
    /// What the control plane says of it. Kept when the control plane forgets it: connections may outlive the pod's entry.
    pub(crate) workload: Option<Arc<Workload>>,
    /// The header that describes it.
    pub(crate) baggage: Arc<str>,
    pub(crate) listeners: Vec<Slot>,
    /// Tunnels to other nodes.
    pub(crate) pool: HashMap<PoolKey, Vec<Slot>>,
    /// Flows that wait for the workload or for a certificate.
    pub(crate) waiting: Vec<Slot>,
    /// Callers that wait for the same.
    pub(crate) callers: Vec<WaitingCaller>,
    /// Tunnels that are not read while too much is buffered.
    pub(crate) stalled: Vec<Slot>,
    /// It is no longer ours; what is established goes on.
    pub(crate) leaving: bool,
    /// Sockets of its applications and tunnels: of calls it makes, and of calls it gets.
    pub(crate) connections: [usize; 2],
    /// Callers that have not said who they are yet, the oldest first; who has since is among them until it is looked at.
    pub(crate) handshakes: VecDeque<Slot>,
    /// When it was last told that it has as much as it may.
    pub(crate) told_full: Option<Instant>,
    /// Flows.
    pub(crate) flows: usize,
    /// Bytes that wait to be written.
    pub(crate) buffered: usize,
    /// What is ready to be worked on.
    pub(crate) ready: VecDeque<Token>,
    /// In the shard's list of pods with work.
    pub(crate) active: bool,
}

/// Somebody connected to the tunnel listener before we can answer.
pub(crate) struct WaitingCaller {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: SocketAddr,
    pub(crate) deadline: Instant,
    pub(crate) transparent: bool,
}

/// What tunnels of a pod are told apart by. Tunnels are never shared by client addresses: the other side sees the address as the caller's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) source: Arc<Identity>,
    pub(crate) expected: Expected,
    pub(crate) destination: SocketAddr,
    pub(crate) client: IpAddr,
}

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Outbound,
    InboundPlain,
    InboundTunnel,
}

/// A listening socket of a pod.
pub(crate) struct Listener {
    pub(crate) pod: Slot,
    pub(crate) role: Role,
    pub(crate) socket: OwnedFd,
    /// Foreign source addresses can be used with what it accepts.
    pub(crate) transparent: bool,
    /// Not accepting: the pod has as many connections as it may.
    pub(crate) paused: bool,
    pub(crate) queued: bool,
}

impl Pod {
    pub(crate) fn new(uid: String, info: WorkloadInfo, namespace: PodNamespace, serve: Serve) -> Pod {
        Pod {
            uid,
            info,
            namespace,
            serve,
            workload: None,
            baggage: Arc::from(""),
            listeners: Vec::new(),
            pool: HashMap::new(),
            waiting: Vec::new(),
            callers: Vec::new(),
            stalled: Vec::new(),
            leaving: false,
            connections: [0; 2],
            handshakes: VecDeque::new(),
            told_full: None,
            flows: 0,
            buffered: 0,
            ready: VecDeque::new(),
            active: false,
        }
    }

    /// Looks itself up. Says whether anything changed.
    pub(crate) fn refresh(&mut self, common: &Common, tables: &Tables) -> bool {
        let WorkloadInfo {
            name,
            namespace,
            service_account,
        } = &self.info;
        let Some(found) = tables.local(namespace, name, service_account) else {
            return false;
        };
        if self.workload.as_ref().is_some_and(|known| Arc::ptr_eq(known, found)) {
            return false;
        }
        self.baggage = found.baggage().into();
        common.holds.take(&found.identity);
        if let Some(before) = self.workload.replace(found.clone()) {
            common.holds.release(&before.identity, &common.identities);
        }
        true
    }
}
