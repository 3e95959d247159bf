//! The listening socket, and which proxies are connected.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_proto::zds::DelWorkload;
use corten_proto::zds::workload_request::Payload;
use corten_rt::{Drain, TaskGroup};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Request, payload, serve};
use super::{Limits, Pods, RequestError, Workload, packet};

/// The proxies that are connected, the latest last.
#[derive(Debug, Default)]
struct Proxies {
    next: u64,
    all: Vec<(u64, mpsc::Sender<Request>)>,
}

/// The agent's way to the proxies.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    proxies: Arc<Mutex<Proxies>>,
}

/// The socket that proxies connect to.
pub struct Server {
    listener: AsyncFd<OwnedFd>,
    path: PathBuf,
    pods: Arc<dyn Pods>,
    limits: Limits,
    handle: Handle,
}

impl Handle {
    /// Whether a proxy is connected.
    pub fn is_connected(&self) -> bool {
        !self.lock().all.is_empty()
    }

    /// Hands a pod to the latest proxy; done when it serves it.
    pub async fn add(&self, workload: Workload) -> Result<(), RequestError> {
        let latest = self.lock().all.last().map(|(_, sender)| sender.clone());
        let (payload, netns) = payload(workload);
        ask(latest.ok_or(RequestError::NotConnected)?, payload, netns).await
    }

    /// Takes a pod from all proxies; done when none serves it. That there is none is no error.
    pub async fn delete(&self, uid: &str) -> Result<(), RequestError> {
        let all: Vec<_> = self.lock().all.iter().map(|(_, sender)| sender.clone()).collect();
        let mut first = Ok(());
        for proxy in all {
            let del = Payload::Del(DelWorkload { uid: uid.to_owned() });
            match ask(proxy, del, None).await {
                // One that is gone serves nobody.
                Ok(()) | Err(RequestError::Lost(_) | RequestError::NotConnected) => {}
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Proxies> {
        self.proxies.lock().expect("no panic while the proxies are locked")
    }

    fn register(&self, queue_max: usize) -> (u64, mpsc::Receiver<Request>, usize) {
        let (sender, requests) = mpsc::channel(queue_max);
        let mut proxies = self.lock();
        proxies.next += 1;
        let id = proxies.next;
        proxies.all.push((id, sender));
        (id, requests, proxies.all.len())
    }

    fn forget(&self, id: u64) -> usize {
        let mut proxies = self.lock();
        proxies.all.retain(|(other, _)| *other != id);
        proxies.all.len()
    }
}

async fn ask(proxy: mpsc::Sender<Request>, payload: Payload, netns: Option<super::File>) -> Result<(), RequestError> {
    let (answer, answered) = oneshot::channel();
    let request = Request { payload, netns, answer };
    proxy.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => RequestError::Busy(proxy.max_capacity()),
        mpsc::error::TrySendError::Closed(_) => RequestError::NotConnected,
    })?;
    let lost = |_| Err(RequestError::Lost("the connection ended".into()));
    answered.await.unwrap_or_else(lost)
}

impl Server {
    /// Binds the socket. Nothing is accepted before [`run`](Self::run).
    pub fn bind(path: &Path, pods: Arc<dyn Pods>, limits: Limits) -> io::Result<Server> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        Ok(Server {
            listener: packet::listen(path)?,
            path: path.to_owned(),
            pods,
            limits,
            handle: Handle::default(),
        })
    }

    /// The way to the proxies that connect.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts and serves proxies until the drain.
    pub async fn run(self, mut drain: Drain) {
        let tasks = TaskGroup::new("zds");
        loop {
            let accepted = tokio::select! {
                () = drain.wait() => break,
                accepted = packet::accept(&self.listener) => accepted,
            };
            match accepted {
                Ok(socket) => self.take(&tasks, socket),
                Err(error) => tracing::warn!(socket = %self.path.display(), %error, "cannot accept a node proxy"),
            }
            // A proxy that fails at once, over and over, must not keep the agent busy.
            tokio::select! {
                () = drain.wait() => break,
                () = tokio::time::sleep(self.limits.accept_interval) => {}
            }
        }
        // Proxies go on serving; they connect to the next agent.
        tasks.shutdown(std::time::Duration::ZERO).await;
    }

    /// Registered before its hello: pods that come while the snapshot is sent wait in the connection's queue and follow it.
    fn take(&self, tasks: &TaskGroup, socket: AsyncFd<OwnedFd>) {
        let (id, requests, count) = self.handle.register(self.limits.queue_max);
        self.pods.connected(count);
        tracing::info!(proxy = id, "node proxy connected");
        let (pods, limits, handle) = (self.pods.clone(), self.limits, self.handle.clone());
        tasks.spawn(format!("proxy {id}"), async move {
            // Whatever ends this, the proxy no longer counts.
            let registered = Registered {
                id,
                handle,
                pods: pods.clone(),
            };
            let ended = serve(socket, requests, &pods, limits).await;
            tracing::info!(proxy = id, reason = %ended, "node proxy disconnected");
            drop(registered);
        });
    }
}

struct Registered {
    id: u64,
    handle: Handle,
    pods: Arc<dyn Pods>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let count = self.handle.forget(self.id);
        self.pods.connected(count);
    }
}
