//! One proxy: its hello, all pods, then one request after the other.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use corten_proto::zds::workload_request::Payload;
use corten_proto::zds::workload_response::Payload as Answer;
use corten_proto::zds::{
    AddWorkload, KeepWorkload, SnapshotSent, Version, WorkloadRequest, WorkloadResponse, ZdsHello,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::packet::{PacketError, receive, send};
use super::{File, Limits, Pods, RequestError, Workload};

/// A request on its way to a proxy.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) payload: Payload,
    pub(super) netns: Option<File>,
    pub(super) answer: oneshot::Sender<Result<(), RequestError>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("it did not say hello as version 1, but as {0}")]
    Hello(i32),
    #[error("it sent something without being asked")]
    Unasked,
    #[error("it took longer than {0:?} to {1}")]
    Late(Duration, &'static str),
    #[error("its answer was none")]
    NoAnswer,
}

/// Serves a proxy until the connection ends.
pub(super) async fn serve(
    socket: AsyncFd<OwnedFd>,
    mut requests: mpsc::Receiver<Request>,
    pods: &Arc<dyn Pods>,
    limits: Limits,
) -> Ended {
    let connection = Connection { socket, limits };
    match connection.run(&mut requests, pods).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

struct Connection {
    socket: AsyncFd<OwnedFd>,
    limits: Limits,
}

impl Connection {
    async fn run(
        &self,
        requests: &mut mpsc::Receiver<Request>,
        pods: &Arc<dyn Pods>,
    ) -> Result<std::convert::Infallible, Ended> {
        let hello: ZdsHello = self.in_time("say hello", receive(&self.socket)).await?;
        if hello.version() != Version::V1 {
            return Err(Ended::Hello(hello.version));
        }
        for workload in pods.snapshot() {
            self.tell(workload).await?;
        }
        self.ask(Payload::SnapshotSent(SnapshotSent {}), None)
            .await?
            .unwrap_or_else(|refusal| tracing::warn!(%refusal, "the node proxy refused the end of the snapshot"));
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                // Nothing is to come now but the end; what does come is of no request.
                unasked = receive::<WorkloadResponse>(&self.socket) => {
                    unasked?;
                    return Err(Ended::Unasked);
                }
            };
            // The server has dropped this connection.
            let Some(request) = request else {
                return Err(PacketError::Closed.into());
            };
            self.request(request).await?;
        }
    }

    async fn request(&self, request: Request) -> Result<(), Ended> {
        let asked = self.ask(request.payload, request.netns.as_ref()).await;
        // Nobody waits any more: that changes nothing for the proxy.
        match asked {
            Ok(outcome) => drop(request.answer.send(outcome.map_err(RequestError::Refused))),
            Err(Ended::Packet(PacketError::TooLong)) => {
                let refused = RequestError::Refused(PacketError::TooLong.to_string());
                drop(request.answer.send(Err(refused)));
            }
            Err(ended) => {
                drop(request.answer.send(Err(RequestError::Lost(ended.to_string()))));
                return Err(ended);
            }
        }
        Ok(())
    }

    /// One pod of the snapshot. That the proxy cannot serve it now keeps no other from being served.
    async fn tell(&self, workload: Workload) -> Result<(), Ended> {
        let (name, namespace) = (workload.info.name.clone(), workload.info.namespace.clone());
        let (payload, netns) = payload(workload);
        match self.ask(payload, netns.as_ref()).await {
            Ok(Err(refusal)) => tracing::warn!(pod = name, namespace, %refusal, "the node proxy refused a pod"),
            Err(Ended::Packet(PacketError::TooLong)) => {
                tracing::error!(pod = name, namespace, "{}", PacketError::TooLong);
            }
            outcome => drop(outcome?),
        }
        Ok(())
    }

    /// Sends a request and waits for its answer; the inner error is the proxy's own.
    async fn ask(&self, payload: Payload, netns: Option<&File>) -> Result<Result<(), String>, Ended> {
        let request = WorkloadRequest { payload: Some(payload) };
        self.in_time("take a request", send(&self.socket, &request, netns))
            .await?;
        let answer: WorkloadResponse = self.in_time("answer", receive(&self.socket)).await?;
        match answer.payload {
            Some(Answer::Ack(ack)) if ack.error.is_empty() => Ok(Ok(())),
            Some(Answer::Ack(ack)) => Ok(Err(ack.error)),
            None => Err(Ended::NoAnswer),
        }
    }

    async fn in_time<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, PacketError>>,
    ) -> Result<T, Ended> {
        let limit = self.limits.deadline;
        let done = timeout(limit, work).await;
        Ok(done.map_err(|_| Ended::Late(limit, what))??)
    }
}

/// The request for a pod: serve it, or keep serving it where its namespace is not known.
pub(super) fn payload(workload: Workload) -> (Payload, Option<File>) {
    let Workload { uid, info, netns } = workload;
    match netns {
        Some(netns) => {
            let add = AddWorkload {
                uid,
                workload_info: Some(info),
            };
            (Payload::Add(add), Some(netns))
        }
        None => (Payload::Keep(KeepWorkload { uid }), None),
    }
}
