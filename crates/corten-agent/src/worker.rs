//! Doing what the [machine](crate::machine) says: namespaces, the proxy, the node's probe set, the API.
//!
//! The order is what keeps traffic whole. Joining: the proxy listens before anything is redirected to it, and only then are others told
//! (the machine has that written). Leaving: what comes in is let past the proxy first, then all redirection ends, announcement next, the
//! proxy last.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use corten_enroll::zds::{self, WorkloadInfo};
use corten_enroll::{Backend, HostNetwork, NetworkError, PodNetwork, PodRules, State};
use corten_linux::NetNs;

use crate::discovery;
use crate::kubernetes::Kubernetes;
use crate::machine::{Job, Outcome, Task};
use crate::metrics::Metrics;
use crate::pod::{Pod, Redirection};

/// How the node's pods are redirected, where a pod does not say otherwise.
#[derive(Clone, Debug)]
pub struct Redirections {
    /// The rules.
    pub rules: PodRules,
    /// Rules of pods that were enrolled before this agent started are brought up to date.
    pub reconcile_at_start: bool,
    /// Where the node's processes are seen.
    pub proc: PathBuf,
    /// What stands before paths that the container runtime gives.
    pub host_prefix: PathBuf,
}

/// A pod that the proxy has been, or is being, given.
#[derive(Debug)]
struct Known {
    info: WorkloadInfo,
    /// Absent where it could not be found.
    network: Option<Arc<Mutex<PodNetwork>>>,
    rules: PodRules,
    /// Its rules are to be there: they are watched.
    is_enrolled: bool,
}

/// The pods that the proxy is to serve.
#[derive(Debug, Default)]
pub struct Served {
    pods: Mutex<BTreeMap<String, Known>>,
}

impl Served {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.pods.lock().expect("no panic while the served pods are locked")
    }

    /// All of them, as a proxy is told.
    pub fn snapshot(&self) -> Vec<zds::Workload> {
        let pods = self.lock();
        let workload = |(uid, known): (&String, &Known)| zds::Workload {
            uid: uid.clone(),
            info: known.info.clone(),
            netns: known.network.as_ref().map(|network| lock(network).netns().clone()),
        };
        pods.iter().map(workload).collect()
    }

    fn network(&self, uid: &str) -> Option<Arc<Mutex<PodNetwork>>> {
        self.lock().get(uid)?.network.clone()
    }

    /// What is needed to let a pod go.
    fn leaving(&self, uid: &str) -> Option<(Arc<Mutex<PodNetwork>>, PodRules)> {
        let pods = self.lock();
        let known = pods.get(uid)?;
        Some((known.network.clone()?, known.rules.clone()))
    }
}

fn lock(network: &Mutex<PodNetwork>) -> MutexGuard<'_, PodNetwork> {
    network.lock().expect("no panic while a namespace is locked")
}

/// Why a pod could not be enrolled, or released.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// No process of the pod was found.
    #[error("the pod's network namespace was not found: no process of it is seen in {0}")]
    NotFound(PathBuf),
    /// The namespace is not the pod's.
    #[error("the network namespace {path} has none of the pod's addresses ({addresses})")]
    Foreign {
        /// Where it was found.
        path: PathBuf,
        /// The pod's addresses.
        addresses: String,
    },
    /// The namespace could not be opened.
    #[error("cannot open the network namespace {path}: {source}")]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The namespace could not be changed.
    #[error("cannot change the pod's network namespace: {0}")]
    Network(#[from] NetworkError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] zds::RequestError),
    /// The API.
    #[error(transparent)]
    Write(#[from] crate::kubernetes::WriteError),
}

/// Where a namespace comes from.
#[derive(Clone, Debug)]
pub enum Place {
    /// A running pod: found by its processes.
    Running,
    /// The plugin says it.
    Given {
        /// The path, as the container runtime sees it.
        path: PathBuf,
        /// The addresses the pod has been given.
        addresses: Vec<IpAddr>,
    },
}

/// Carries out jobs.
pub struct Worker {
    redirections: Redirections,
    backend: Backend,
    own_namespace: u64,
    served: Arc<Served>,
    proxies: zds::Handle,
    host: Mutex<HostNetwork>,
    kubernetes: Kubernetes,
    metrics: Arc<Metrics>,
    /// Looking at every process is done once for all who ask within a moment.
    found: tokio::sync::Mutex<Option<(Instant, BTreeMap<String, PathBuf>)>>,
    /// Held by the repair that is under way.
    repairing: tokio::sync::Mutex<()>,
}

/// How often is looked whether a pod that was given back still has connections through the proxy.
const RELEASE_INTERVAL: Duration = Duration::from_millis(200);
/// A pod that leaves takes plaintext before it sends any, for so long: others that leave with it, on other nodes too, are as far by then.
/// The other way round, one that takes only mutual TLS would refuse those that left a moment earlier.
const ADMITTED_FIRST: Duration = Duration::from_millis(500);
/// The same where all agents end: they are told by their kubelets, one later than the other.
const ALL_ADMITTED_FIRST: Duration = Duration::from_millis(1500);
/// For how long a look at all processes counts.
const SCAN_FRESH: Duration = Duration::from_millis(200);

impl Worker {
    /// One that is ready; nothing has been done yet.
    pub fn new(
        redirections: Redirections,
        backend: Backend,
        served: Arc<Served>,
        proxies: zds::Handle,
        (node, host): (&NetNs, HostNetwork),
        kubernetes: Kubernetes,
        metrics: Arc<Metrics>,
    ) -> io::Result<Worker> {
        Ok(Worker {
            own_namespace: std::fs::metadata(node.path())?.ino(),
            redirections,
            backend,
            served,
            proxies,
            host: Mutex::new(host),
            kubernetes,
            metrics,
            found: tokio::sync::Mutex::default(),
            repairing: tokio::sync::Mutex::default(),
        })
    }

    /// Does a job.
    pub async fn work(&self, task: &Task) -> Outcome {
        let pod = &task.pod;
        let done = match &task.job {
            Job::Inspect { wanted } => self.inspect(pod, *wanted).await,
            Job::Join => self.join(pod, Place::Running).await.map(|()| Outcome::Done),
            Job::Leave => self.leave(pod).await.map(|()| Outcome::Done),
            Job::Drain { force } => self.drain(pod, *force).await,
            Job::Forget => self.forget(&pod.uid).await.map(|()| Outcome::Done),
            Job::Annotate(redirection) => {
                let written = self.kubernetes.annotate(pod, *redirection).await;
                written.map(|()| Outcome::Done).map_err(WorkError::from)
            }
        };
        done.unwrap_or_else(|error| Outcome::Failed(error.to_string()))
    }

    /// Tells the user that a pod is not in the mesh though it should be.
    pub async fn report(&self, pod: &Pod, job: &Job, problem: &str) {
        let (reason, what) = match job {
            Job::Join => ("MeshEnrollmentFailed", "cannot join the mesh yet"),
            Job::Leave | Job::Drain { .. } => ("MeshReleaseFailed", "cannot leave the mesh yet"),
            Job::Annotate(Redirection::Pending) => ("MeshEnrollmentPending", "is not in the mesh yet"),
            _ => return,
        };
        if *job == Job::Join {
            self.kubernetes.annotate(pod, Redirection::Pending).await.ok();
        }
        let message = format!("The pod {what}: {problem}");
        if let Err(error) = self.kubernetes.event(pod, reason, &message).await {
            tracing::warn!(%error, "an event was not written");
        }
    }

    /// Sees to a pod that was started without the redirection to its sidecar.
    pub async fn see_to(&self, pod: &Pod, action: &crate::repair::Action) {
        crate::repair::act(&self.kubernetes, &self.metrics, pod, action).await;
    }

    /// Enrolls a pod.
    pub async fn join(&self, pod: &Pod, place: Place) -> Result<(), WorkError> {
        let known = self.served.network(&pod.uid);
        let (network, addresses) = match (place, known) {
            (Place::Running, Some(network)) => (network, pod.addresses.clone()),
            (Place::Running, None) => (self.find(pod).await?, pod.addresses.clone()),
            (Place::Given { path, addresses }, _) => (self.open(self.under_host(&path)).await?, addresses),
        };
        let rules = self.rules(pod);
        // From here on a proxy that connects is told of it, too.
        self.know(pod, Some(network.clone()), rules.clone(), false);
        let netns = lock(&network).netns().clone();
        self.proxies
            .add(zds::Workload {
                uid: pod.uid.clone(),
                info: info(pod),
                netns: Some(netns),
            })
            .await?;
        self.in_namespace(&network, move |network| network.enroll(&rules))
            .await?;
        self.known(&pod.uid, |known| known.is_enrolled = true);
        self.host(|host| host.add(&pod.uid, addresses))?;
        self.metrics.joined.inc();
        tracing::info!(
            pod = pod.name,
            namespace = pod.namespace,
            uid = pod.uid,
            "pod joined the mesh"
        );
        Ok(())
    }

    /// Takes back what was begun for a pod that will not start.
    pub async fn abandon(&self, pod: &Pod) {
        if let Err(error) = self.forget(&pod.uid).await {
            tracing::warn!(pod = pod.name, namespace = pod.namespace, %error, "a pod that cannot start is still with the proxy");
        }
    }

    async fn inspect(&self, pod: &Pod, wanted: bool) -> Result<Outcome, WorkError> {
        let network = match self.find(pod).await {
            Ok(network) => network,
            Err(error) => {
                if !wanted || pod.redirection() != Redirection::Enabled {
                    return Ok(Outcome::Done);
                }
                // A proxy that serves it is to go on.
                self.know(pod, None, self.rules(pod), false);
                return Err(error);
            }
        };
        let rules = self.rules(pod);
        let (compare, apply) = (rules.clone(), wanted && self.redirections.reconcile_at_start);
        let state = self
            .in_namespace(&network, move |network| {
                let state = network.state(&compare)?;
                if apply && state != State::Absent {
                    network.enroll(&compare)?;
                }
                Ok(state)
            })
            .await?;
        if state == State::Absent {
            self.served.lock().remove(&pod.uid);
            return Ok(Outcome::Done);
        }
        self.know(pod, Some(network), rules, apply);
        if wanted {
            // The node still has the addresses from before; they are put there, all at once, when all pods are known.
            self.host(|host| {
                host.remember(&pod.uid, pod.addresses.clone());
                Ok(())
            })?;
        }
        tracing::info!(pod = pod.name, namespace = pod.namespace, ?state, "pod taken up again");
        Ok(Outcome::Found)
    }

    async fn leave(&self, pod: &Pod) -> Result<(), WorkError> {
        self.known(&pod.uid, |known| known.is_enrolled = false);
        if let Some((network, rules)) = self.served.leaving(&pod.uid) {
            self.admit(&network, rules).await?;
            tokio::time::sleep(ADMITTED_FIRST).await;
            self.in_namespace(&network, PodNetwork::leave).await?;
        }
        // Its probes need no detour any more: nothing of it is redirected.
        self.host(|host| host.remove(&pod.uid))?;
        tracing::info!(
            pod = pod.name,
            namespace = pod.namespace,
            "pod leaves the mesh; the proxy keeps its connections"
        );
        Ok(())
    }

    /// The first step of leaving: whoever calls the pod gets to it, in plaintext too. A pod that has begun already stays as it is.
    async fn admit(&self, network: &Arc<Mutex<PodNetwork>>, rules: PodRules) -> Result<(), WorkError> {
        self.in_namespace(network, move |network| {
            if network.state(&rules)? != State::Enrolled {
                return Ok(());
            }
            network.enroll(&PodRules {
                inbound_bypass: true,
                ..rules
            })
        })
        .await
    }

    async fn drain(&self, pod: &Pod, force: bool) -> Result<Outcome, WorkError> {
        let network = self.served.network(&pod.uid);
        if let Some(network) = &network {
            let remaining = self
                .in_namespace(network, |network| network.proxied_connections())
                .await?;
            if remaining > 0 && !force {
                return Ok(Outcome::Busy);
            }
        }
        self.proxies.delete(&pod.uid).await?;
        if let Some(network) = &network {
            self.in_namespace(network, PodNetwork::remove).await?;
        }
        self.served.lock().remove(&pod.uid);
        self.metrics.left.inc();
        tracing::info!(pod = pod.name, namespace = pod.namespace, "pod left the mesh");
        Ok(Outcome::Done)
    }

    async fn forget(&self, uid: &str) -> Result<(), WorkError> {
        // Whatever the proxy says, no proxy is to be told of it again.
        let was_served = self.served.lock().remove(uid).is_some();
        self.host(|host| host.remove(uid))?;
        if was_served {
            self.proxies.delete(uid).await?;
        }
        Ok(())
    }

    /// All pods that were there at the start have been inspected: the node's rules become theirs.
    pub fn adopted(&self) {
        if let Err(error) = self.host(HostNetwork::repair) {
            tracing::warn!(%error, "the node has no probe rules; probes of pods that take only mutual TLS fail");
        }
    }

    /// Looks whether anybody changed the rules of enrolled pods or of the node, and puts them right.
    ///
    /// Whether the rules changed is asked by their generation, one system call for each pod. What that does not tell (routes, and the rules that
    /// lead to them) is looked at when it is `thorough`.
    pub async fn repair(&self, thorough: bool) {
        let Ok(_only) = self.repairing.try_lock() else { return };
        let mut enrolled = Vec::new();
        for (uid, known) in self.served.lock().iter() {
            if let (true, Some(network)) = (known.is_enrolled, &known.network) {
                enrolled.push((uid.clone(), network.clone(), known.rules.clone(), known.info.clone()));
            }
        }
        for (uid, network, rules, info) in enrolled {
            let (served, again) = (self.served.clone(), uid.clone());
            let repaired = self
                .in_namespace(&network, move |network| {
                    if !thorough && network.is_undisturbed()? || network.state(&rules)? == State::Enrolled {
                        return Ok(false);
                    }
                    // It may have begun to leave meanwhile.
                    let still = served.lock().get(&again).is_some_and(|known| known.is_enrolled);
                    if still {
                        network.enroll(&rules)?;
                    }
                    Ok(still)
                })
                .await;
            let (pod, namespace) = (&info.name, &info.namespace);
            match repaired {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.repaired.inc();
                    tracing::warn!(
                        pod,
                        namespace,
                        "someone changed the pod's redirection; it is as it should be again"
                    );
                }
                Err(error) => tracing::warn!(pod, namespace, uid, %error, "cannot look after the pod's redirection"),
            }
        }
        match self.host(HostNetwork::repair) {
            Ok(false) => {}
            Ok(true) => tracing::warn!("someone changed the node's probe rules; they are as they should be again"),
            Err(error) => tracing::warn!(%error, "cannot look after the node's probe rules"),
        }
    }

    /// Gives all pods back, for an agent that goes without a successor.
    ///
    /// First all redirection ends, so that whatever is opened from then on goes its own way. What carries connections through the proxy stays
    /// until they have ended, but no longer than `until`: nothing is to be left behind, and nobody will come back for it.
    pub async fn release_all(&self, until: Instant) {
        let all: Vec<_> = std::mem::take(&mut *self.served.lock())
            .into_iter()
            .filter_map(|(uid, known)| Some((uid, known.network?, known.info, known.rules)))
            .collect();
        let mut admitted = false;
        for (_, network, info, rules) in &all {
            match self.admit(network, rules.clone()).await {
                Ok(()) => admitted = true,
                Err(error) => {
                    tracing::warn!(pod = info.name, namespace = info.namespace, %error, "the pod takes no plaintext yet");
                }
            }
        }
        if admitted {
            tokio::time::sleep(ALL_ADMITTED_FIRST).await;
        }
        for (_, network, info, _) in &all {
            if let Err(error) = self.in_namespace(network, PodNetwork::leave).await {
                tracing::warn!(pod = info.name, namespace = info.namespace, %error, "the pod stays redirected");
            }
        }
        if let Err(error) = self.host(HostNetwork::close) {
            tracing::warn!(%error, "the node's probe rules stay");
        }
        for (uid, _, info, _) in &all {
            let pod = Pod {
                uid: uid.clone(),
                name: info.name.clone(),
                namespace: info.namespace.clone(),
                ..Pod::default()
            };
            if let Err(error) = self.kubernetes.annotate(&pod, Redirection::None).await {
                tracing::warn!(%error, "the pod's annotation stays");
            }
        }
        for (_, network, info, _) in all {
            let carries = async || {
                let counted = self
                    .in_namespace(&network, |network| network.proxied_connections())
                    .await;
                counted.is_ok_and(|connections| connections > 0)
            };
            while Instant::now() < until && carries().await {
                tokio::time::sleep(RELEASE_INTERVAL).await;
            }
            if let Err(error) = self.in_namespace(&network, PodNetwork::remove).await {
                tracing::warn!(pod = info.name, namespace = info.namespace, %error, "rules without effect stay in the pod");
            }
        }
    }

    fn rules(&self, pod: &Pod) -> PodRules {
        let wishes = pod.wishes();
        let usual = &self.redirections.rules;
        PodRules {
            dns_capture: wishes.dns_capture.unwrap_or(usual.dns_capture),
            inbound_bypass: wishes.inbound_bypass,
            virtual_interfaces: wishes.virtual_interfaces,
            ..usual.clone()
        }
    }

    fn know(&self, pod: &Pod, network: Option<Arc<Mutex<PodNetwork>>>, rules: PodRules, is_enrolled: bool) {
        let known = Known {
            info: info(pod),
            network,
            rules,
            is_enrolled,
        };
        self.served.lock().insert(pod.uid.clone(), known);
    }

    fn known(&self, uid: &str, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.served.lock().get_mut(uid) {
            change(known);
        }
    }

    fn under_host(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").unwrap_or(path);
        self.redirections.host_prefix.join(relative)
    }

    /// The namespace of a running pod.
    async fn find(&self, pod: &Pod) -> Result<Arc<Mutex<PodNetwork>>, WorkError> {
        let proc = &self.redirections.proc;
        let mut found = self.found.lock().await;
        let fresh = found.as_ref().is_some_and(|(when, _)| when.elapsed() < SCAN_FRESH);
        if !fresh {
            let (from, own) = (proc.clone(), self.own_namespace);
            let scanned = blocking(move || discovery::scan(&from, own)).await;
            let scanned = scanned.map_err(|source| WorkError::Open {
                path: proc.clone(),
                source,
            })?;
            *found = Some((Instant::now(), scanned));
        }
        let path = found.as_ref().and_then(|(_, all)| all.get(&pod.uid).cloned());
        drop(found);
        let path = path.ok_or_else(|| WorkError::NotFound(proc.clone()))?;
        let network = self.open(path.clone()).await?;
        // A process may have moved, or its number may be another's by now.
        let has = self.in_namespace(&network, PodNetwork::addresses).await?;
        if !pod.addresses.is_empty() && !pod.addresses.iter().any(|address| has.contains(address)) {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(", ");
            return Err(WorkError::Foreign { path, addresses });
        }
        Ok(network)
    }

    async fn open(&self, path: PathBuf) -> Result<Arc<Mutex<PodNetwork>>, WorkError> {
        let backend = self.backend;
        let failed = |source| WorkError::Open {
            path: path.clone(),
            source,
        };
        let from = path.clone();
        let netns = blocking(move || NetNs::open(&from)).await.map_err(failed)?;
        let network = blocking(move || Ok(PodNetwork::open(Arc::new(netns), backend))).await;
        Ok(Arc::new(Mutex::new(network.map_err(failed)??)))
    }

    async fn in_namespace<T: Send + 'static>(
        &self,
        network: &Arc<Mutex<PodNetwork>>,
        work: impl FnOnce(&mut PodNetwork) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, WorkError> {
        let network = network.clone();
        let done = blocking(move || Ok(work(&mut lock(&network)))).await;
        Ok(done.map_err(NetworkError::from)??)
    }

    /// Work on the node's own rules: a few system calls without waiting.
    fn host<T>(&self, work: impl FnOnce(&mut HostNetwork) -> Result<T, NetworkError>) -> Result<T, NetworkError> {
        work(&mut self.host.lock().expect("no panic while the node's rules are locked"))
    }
}

fn info(pod: &Pod) -> WorkloadInfo {
    WorkloadInfo {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        service_account: pod.service_account.clone(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
