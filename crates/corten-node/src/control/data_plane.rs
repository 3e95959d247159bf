//! All shards as one: pods are given to the shard that has fewest, and stay there.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_linux::NetNs;
use corten_proto::zds::WorkloadInfo;
use tokio::sync::oneshot;

use super::names::Names;
use crate::inpod::client::Runner;
use crate::inpod::state::Pods;
use crate::shard::{self, Command, Common, Handle, Mailbox, PodNamespace, PodView};

/// The shards and which pod is where.
pub struct DataPlane {
    common: Arc<Common>,
    mailboxes: Vec<Arc<Mailbox>>,
    handles: Mutex<Vec<Handle>>,
    homes: Mutex<HashMap<String, usize>>,
}

impl DataPlane {
    /// Starts the shards.
    pub fn start(common: Arc<Common>) -> io::Result<Arc<DataPlane>> {
        let handles = (0..common.config.shards)
            .map(|index| shard::start(index, common.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Arc::new(DataPlane {
            common,
            mailboxes: handles.iter().map(|handle| handle.mailbox.clone()).collect(),
            handles: Mutex::new(handles),
            homes: Mutex::default(),
        }))
    }

    /// What all shards read.
    pub fn common(&self) -> &Arc<Common> {
        &self.common
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in &self.mailboxes {
            mailbox.send(command());
        }
    }

    /// There are new tables.
    pub fn tables_changed(&self) {
        self.tell(|| Command::Tables);
    }

    /// There are new certificates.
    pub fn certificates_changed(&self) {
        self.tell(|| Command::Certificates);
    }

    /// Begins to serve a pod; resolves when its listeners listen.
    pub async fn add_pod(&self, uid: &str, info: &WorkloadInfo, namespace: NetNs) -> Result<(), String> {
        self.serve(uid, info, namespace, shard::Serve::Pod).await
    }

    /// Answers tunnels to this proxy's own pod, whose network namespace the calling thread is in.
    pub async fn serve_itself(&self, info: &WorkloadInfo) -> Result<(), String> {
        let namespace = NetNs::current().map_err(|error| error.to_string())?;
        self.serve("", info, namespace, shard::Serve::Itself).await
    }

    async fn serve(&self, uid: &str, info: &WorkloadInfo, namespace: NetNs, serve: shard::Serve) -> Result<(), String> {
        let namespace = PodNamespace::new(namespace).map_err(|error| error.to_string())?;
        let home = {
            let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
            let mut counts = vec![0_usize; self.mailboxes.len()];
            homes.values().for_each(|home| counts[*home] += 1);
            let least = (0..counts.len()).min_by_key(|shard| counts[*shard]).unwrap_or(0);
            homes.insert(uid.to_owned(), least);
            least
        };
        let (done, outcome) = oneshot::channel();
        self.mailboxes[home].send(Command::AddPod {
            uid: uid.to_owned(),
            info: info.clone(),
            namespace,
            serve,
            done,
        });
        let outcome = outcome
            .await
            .unwrap_or_else(|_| Err("the data path has ended".to_owned()));
        if outcome.is_err() {
            self.forget(uid);
        }
        outcome
    }

    /// Stops accepting for a pod.
    pub async fn remove_pod(&self, uid: &str) {
        let Some(home) = self.forget(uid) else { return };
        let (done, finished) = oneshot::channel();
        self.mailboxes[home].send(Command::RemovePod {
            uid: uid.to_owned(),
            done,
        });
        // A shard that has ended has no listeners either.
        let _ = finished.await;
    }

    fn forget(&self, uid: &str) -> Option<usize> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }

    /// All pods and their connections.
    pub async fn dump(&self) -> Vec<PodView> {
        let mut all = Vec::new();
        for mailbox in &self.mailboxes {
            let (answer, dumped) = oneshot::channel();
            mailbox.send(Command::Dump(answer));
            all.extend(dumped.await.unwrap_or_default());
        }
        all.sort_by(|a, b| a.uid.cmp(&b.uid));
        all
    }

    /// Stops accepting, and waits until all connections have ended or the deadline has passed.
    pub async fn drain(&self, deadline: Duration) {
        self.tell(|| Command::Drain(deadline));
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || handles.into_iter().for_each(|handle| drop(handle.join())));
        let _ = joined.await;
    }
}

/// What the node agent asks for, done by the shards.
pub struct Serve {
    /// The shards.
    pub data_plane: Arc<DataPlane>,
    /// Their DNS proxies, if questions are captured.
    pub names: Option<Names>,
    /// Told whether all pods are served.
    pub ready: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Runner for Serve {
    async fn start(&mut self, uid: &str, info: &WorkloadInfo, namespace: NetNs) -> Result<(), String> {
        let copy = namespace.duplicate().map_err(|error| error.to_string())?;
        self.data_plane.add_pod(uid, info, namespace).await?;
        if let Some(names) = &self.names
            && let Err(error) = names.add(uid, info, copy).await
        {
            self.data_plane.remove_pod(uid).await;
            return Err(error);
        }
        self.data_plane.common.metrics.proxies_started.increment();
        tracing::info!(uid, name = info.name, namespace = info.namespace, "pod is served");
        Ok(())
    }

    async fn stop(&mut self, uid: &str) {
        if let Some(names) = &self.names {
            names.remove(uid);
        }
        self.data_plane.remove_pod(uid).await;
        self.data_plane.common.metrics.proxies_stopped.increment();
        tracing::info!(uid, "pod is no longer served");
    }

    fn status(&mut self, pods: &Pods) {
        let metrics = &self.data_plane.common.metrics;
        metrics
            .proxies_active
            .set(i64::try_from(pods.served()).unwrap_or(i64::MAX));
        metrics
            .proxies_pending
            .set(i64::try_from(pods.pending()).unwrap_or(i64::MAX));
        (self.ready)(pods.is_ready());
    }
}
