//! Carries packets between the node agent and the [state machine](super::state); connects again whenever the agent goes away.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_linux::{NetNs, fds};
use corten_proto::zds::workload_response::Payload;
use corten_proto::zds::{Ack, PACKET_MAX, Version, WorkloadInfo, WorkloadRequest, WorkloadResponse, ZdsHello};
use corten_rt::Drain;
use prost::Message;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::state::{Action, Namespace, PodUid, Pods};

/// A pod that could not be started is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

impl Namespace for (NetNs, u64) {
    fn inode(&self) -> u64 {
        self.1
    }
}

/// Who serves pods.
pub trait Runner {
    /// Begins to serve a pod; everything that listens does so when this resolves.
    fn start(&mut self, uid: &str, info: &WorkloadInfo, namespace: NetNs) -> impl Future<Output = Result<(), String>>;
    /// Ends it, connections included.
    fn stop(&mut self, uid: &str) -> impl Future<Output = ()>;
    /// The numbers of pods served and waiting, and whether all are there.
    fn status(&mut self, pods: &Pods);
}

/// Runs until the drain: serves the pods that the agent behind a socket names.
pub async fn run(path: PathBuf, mut runner: impl Runner, mut drain: Drain) {
    let mut session = Session::default();
    let mut backoff = BACKOFF_MIN;
    loop {
        let outcome = tokio::select! {
            () = drain.wait() => return,
            // Being dropped in the middle loses a request that was not acknowledged, which only the process's end does.
            outcome = session.serve(&path, &mut runner, &mut backoff) => outcome,
        };
        session.pods.disconnected();
        runner.status(&session.pods);
        if let Err(error) = outcome {
            tracing::warn!(socket = %path.display(), %error, "no connection to the node agent, trying again");
        }
        let pause = tokio::time::sleep(backoff);
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::select! {
            () = drain.wait() => return,
            () = session.retry_until(pause, &mut runner) => {}
        }
    }
}

/// Why a connection to the agent ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot connect: {0}; is the node agent running?")]
    Connect(#[source] io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the agent closed it")]
    Closed,
    #[error("a packet of more than {PACKET_MAX} bytes")]
    TooLong,
    #[error("a packet that is not a request: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("{0}")]
    Protocol(#[from] super::state::ProtocolError),
}

#[derive(Default)]
struct Session {
    pods: Pods,
    /// What is needed to try a pod again.
    waiting: HashMap<PodUid, (WorkloadInfo, NetNs, u64)>,
    retry_at: Option<Instant>,
}

impl Session {
    async fn serve(
        &mut self,
        path: &Path,
        runner: &mut impl Runner,
        backoff: &mut Duration,
    ) -> Result<(), SessionError> {
        let socket = connect(path).map_err(SessionError::Connect)?;
        send(
            &socket,
            &ZdsHello {
                version: Version::V1.into(),
            }
            .encode_to_vec(),
        )
        .await?;
        self.pods.connected();
        loop {
            let received = {
                let receive = receive(&socket);
                tokio::pin!(receive);
                loop {
                    let retry_at = self.retry_at;
                    tokio::select! {
                        received = &mut receive => break received?,
                        () = at(retry_at) => self.retry(runner).await,
                    }
                }
            };
            let (request, namespaces) = received;
            let outcome = self.request(request, namespaces, runner).await;
            let error = outcome.as_ref().map_or_else(ToString::to_string, Clone::clone);
            let payload = Some(Payload::Ack(Ack { error }));
            send(&socket, &WorkloadResponse { payload }.encode_to_vec()).await?;
            runner.status(&self.pods);
            outcome?;
            *backoff = BACKOFF_MIN;
        }
    }

    /// Does what a request asks for. The text is what the agent is told went wrong, empty if nothing did.
    async fn request(
        &mut self,
        request: WorkloadRequest,
        namespaces: Vec<(NetNs, u64)>,
        runner: &mut impl Runner,
    ) -> Result<String, SessionError> {
        match self.pods.request(request, namespaces)? {
            Action::None => {}
            Action::Start { uid, info, namespace } => return Ok(self.start(uid, info, namespace, runner).await),
            Action::Replace { uid, info, namespace } => {
                runner.stop(&uid).await;
                return Ok(self.start(uid, info, namespace, runner).await);
            }
            Action::Stop(uids) => {
                for uid in uids {
                    runner.stop(&uid).await;
                }
            }
        }
        let Session { pods, waiting, .. } = self;
        waiting.retain(|uid, _| pods.is_pending(uid));
        Ok(String::new())
    }

    async fn start(
        &mut self,
        uid: PodUid,
        info: WorkloadInfo,
        (namespace, inode): (NetNs, u64),
        runner: &mut impl Runner,
    ) -> String {
        let started = match namespace.duplicate() {
            Ok(copy) => runner.start(&uid, &info, copy).await,
            Err(error) => Err(error.to_string()),
        };
        match started {
            Ok(()) => {
                self.waiting.remove(&uid);
                self.pods.started(&uid, inode);
                String::new()
            }
            Err(error) => {
                let (name, in_namespace) = (&info.name, &info.namespace);
                tracing::error!(pod = name, namespace = in_namespace, %error, "a pod cannot be served");
                self.pods.failed(&uid);
                self.waiting.insert(uid, (info, namespace, inode));
                self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
                error
            }
        }
    }

    /// Tries the pods again that could not be started.
    async fn retry(&mut self, runner: &mut impl Runner) {
        self.retry_at = None;
        for (uid, (info, namespace, inode)) in std::mem::take(&mut self.waiting) {
            if self.pods.is_pending(&uid) {
                self.start(uid, info, (namespace, inode), runner).await;
            }
        }
        runner.status(&self.pods);
    }

    /// Goes on trying while there is no connection.
    async fn retry_until(&mut self, end: tokio::time::Sleep, runner: &mut impl Runner) {
        tokio::pin!(end);
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                () = &mut end => return,
                () = at(retry_at) => self.retry(runner).await,
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn connect(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    fds::watched(socket)
}

async fn send(socket: &AsyncFd<OwnedFd>, packet: &[u8]) -> io::Result<()> {
    loop {
        let mut ready = socket.writable().await?;
        let sent = ready.try_io(|socket| Ok(rustix::net::send(socket, packet, SendFlags::NOSIGNAL)?));
        match sent {
            Ok(outcome) => return outcome.map(drop),
            Err(_would_block) => {}
        }
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> Result<(WorkloadRequest, Vec<(NetNs, u64)>), SessionError> {
    // One byte more than allowed tells what was cut from what just fits.
    let mut packet = [0; PACKET_MAX + 1];
    let (length, files) = loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| fds::receive(socket, &mut packet)) {
            Ok(outcome) => break outcome?,
            Err(_would_block) => {}
        }
    };
    if length == 0 {
        return Err(SessionError::Closed);
    }
    let packet = packet.get(..length).filter(|packet| packet.len() <= PACKET_MAX);
    let request = WorkloadRequest::decode(packet.ok_or(SessionError::TooLong)?)?;
    let mut namespaces = Vec::with_capacity(files.len());
    for file in files {
        let namespace = NetNs::from_fd(file);
        let inode = namespace.inode()?;
        namespaces.push((namespace, inode));
    }
    Ok((request, namespaces))
}

#[cfg(test)]
mod tests;
