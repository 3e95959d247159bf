//! What a request of the agent means, as a state machine: pods and their namespaces in, starts and stops out.

use std::collections::{HashMap, HashSet};

use corten_proto::zds::workload_request::Payload;
use corten_proto::zds::{WorkloadInfo, WorkloadRequest};

/// Kubernetes' uid of a pod.
pub type PodUid = String;

/// Why a request was refused; the connection is given up after telling it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A pod without a name.
    #[error("pod {0}: the request to add it lacks workload_info")]
    NoInfo(PodUid),
    /// The number of open files is wrong.
    #[error("the request carries {got} open files instead of {want}")]
    Files {
        /// How many came.
        got: usize,
        /// How many should.
        want: usize,
    },
    /// Something that belongs to the snapshot came after it.
    #[error("{0} after the end of the snapshot")]
    Late(&'static str),
    /// None of the known requests.
    #[error("a request of an unknown kind")]
    Unknown,
}

/// What is to be done about a request before it is acknowledged. `N` is a network namespace.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<N> {
    /// Nothing.
    None,
    /// Serve this pod.
    Start {
        /// The pod.
        uid: PodUid,
        /// Who it is.
        info: WorkloadInfo,
        /// Where it is.
        namespace: N,
    },
    /// The pod has moved to another namespace: stop, then start.
    Replace {
        /// The pod.
        uid: PodUid,
        /// Who it is.
        info: WorkloadInfo,
        /// Where it is now.
        namespace: N,
    },
    /// Stop serving these pods.
    Stop(Vec<PodUid>),
}

/// A namespace can be told from another.
pub trait Namespace {
    /// The same number for the same namespace.
    fn inode(&self) -> u64;
}

/// The pods served, and how far the present connection to the agent is.
#[derive(Debug, Default)]
pub struct Pods {
    /// Namespaces of the pods being served.
    served: HashMap<PodUid, u64>,
    /// Pods that could not be started, to be tried again.
    pending: HashSet<PodUid>,
    /// Who was named since the connection began; absent after the snapshot.
    snapshot: Option<HashSet<PodUid>>,
    /// Whether a snapshot was completed on the present connection.
    synchronized: bool,
}

impl Pods {
    /// A connection begins: a snapshot is expected.
    pub fn connected(&mut self) {
        self.snapshot = Some(HashSet::new());
        self.synchronized = false;
    }

    /// The connection is gone: pods stay as they are.
    pub fn disconnected(&mut self) {
        self.snapshot = None;
        self.synchronized = false;
    }

    /// Whether all pods are known and served.
    pub fn is_ready(&self) -> bool {
        self.synchronized && self.pending.is_empty()
    }

    /// How many pods could not be started.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many pods are served.
    pub fn served(&self) -> usize {
        self.served.len()
    }

    /// What a request asks for.
    pub fn request<N: Namespace>(
        &mut self,
        request: WorkloadRequest,
        mut namespaces: Vec<N>,
    ) -> Result<Action<N>, ProtocolError> {
        let payload = request.payload.ok_or(ProtocolError::Unknown)?;
        let want = usize::from(matches!(payload, Payload::Add(_)));
        if namespaces.len() != want {
            let got = namespaces.len();
            return Err(ProtocolError::Files { got, want });
        }
        match payload {
            Payload::Add(add) => {
                let uid = add.uid;
                let info = add.workload_info.ok_or_else(|| ProtocolError::NoInfo(uid.clone()))?;
                let namespace = namespaces.pop().ok_or(ProtocolError::Unknown)?;
                if let Some(named) = &mut self.snapshot {
                    named.insert(uid.clone());
                }
                Ok(match self.served.get(&uid) {
                    Some(inode) if *inode == namespace.inode() => Action::None,
                    Some(_) => Action::Replace { uid, info, namespace },
                    None => Action::Start { uid, info, namespace },
                })
            }
            Payload::Keep(keep) => {
                let named = self.snapshot.as_mut().ok_or(ProtocolError::Late("keep"))?;
                named.insert(keep.uid);
                Ok(Action::None)
            }
            Payload::Del(del) => {
                self.pending.remove(&del.uid);
                if let Some(named) = &mut self.snapshot {
                    // It stops when the snapshot is complete, as everything that was not named.
                    named.remove(&del.uid);
                    return Ok(Action::None);
                }
                Ok(match self.served.remove(&del.uid) {
                    Some(_) => Action::Stop(vec![del.uid]),
                    None => Action::None,
                })
            }
            Payload::SnapshotSent(_) => {
                let named = self.snapshot.take().ok_or(ProtocolError::Late("a second snapshot"))?;
                self.synchronized = true;
                self.pending.retain(|uid| named.contains(uid));
                let gone: Vec<PodUid> = self
                    .served
                    .keys()
                    .filter(|uid| !named.contains(*uid))
                    .cloned()
                    .collect();
                self.served.retain(|uid, _| named.contains(uid));
                Ok(if gone.is_empty() {
                    Action::None
                } else {
                    Action::Stop(gone)
                })
            }
        }
    }

    /// A pod is being served.
    pub fn started(&mut self, uid: &str, inode: u64) {
        self.pending.remove(uid);
        self.served.insert(uid.to_owned(), inode);
    }

    /// A pod could not be started; it will be tried again.
    pub fn failed(&mut self, uid: &str) {
        self.served.remove(uid);
        self.pending.insert(uid.to_owned());
    }

    /// Whether a pod still waits to be tried again.
    pub fn is_pending(&self, uid: &str) -> bool {
        self.pending.contains(uid)
    }
}

#[cfg(test)]
mod tests;
