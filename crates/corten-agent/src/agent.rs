//! The agent put together: what starts in which order, and what stays behind at the end.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_admin::http::{Handler, Response, serve};
use corten_enroll::zds::{Limits, Pods, Server, Workload};
use corten_enroll::{Backend, HostNetwork, NetworkError, NoBackend};
use corten_linux::NetNs;
use corten_rt::{Drain, TaskGroup};
use corten_store_kube::{ClientError, Source, kinds};
use http::StatusCode;
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::config::Config;
use crate::driver::{Driver, Signals, Sources};
use crate::install::{self, Installation, host_path, keeper};
use crate::kubernetes::Kubernetes;
use crate::leavings::Leavings;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::plugin;
use crate::pod::Pod;
use crate::worker::{Redirections, Served, Worker};

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel.
    #[error(transparent)]
    Backend(#[from] NoBackend),
    /// The node's own namespace.
    #[error("cannot work in the node's network namespace: {0}")]
    Host(#[from] NetworkError),
    /// The API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A socket or a port.
    #[error("{0}")]
    Io(#[from] io::Error),
}

const QUESTIONS_MAX: usize = 64;
const SHUTDOWN_MAX: Duration = Duration::from_secs(4);
/// What Kubernetes gives a pod to end, unless somebody says otherwise.
const GIVEN: Duration = Duration::from_secs(30);
/// Of that time, what is kept for cleaning up after the last connection.
const TIDYING: Duration = Duration::from_secs(8);

/// What a proxy is told, and what is told of proxies.
struct Node {
    served: Arc<Served>,
    proxies: watch::Sender<usize>,
}

impl Pods for Node {
    fn snapshot(&self) -> Vec<Workload> {
        self.served.snapshot()
    }

    fn connected(&self, proxies: usize) {
        self.proxies.send_replace(proxies);
    }
}

/// Runs until the drain.
pub async fn run(config: Config, mut drain: Drain) -> Result<(), RunError> {
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let metrics = Arc::new(Metrics::default());
    let backend = tokio::task::spawn_blocking(Backend::probe)
        .await
        .map_err(io::Error::other)??;
    if backend == Backend::Iptables {
        tracing::warn!(
            "this kernel has no nf_tables: redirection by iptables, whose rules are looked after less closely"
        );
    }
    let node_netns = if config.host_network_of_init {
        NetNs::open(&config.host_prefix.join("proc/1/ns/net"))?
    } else {
        NetNs::current()?
    };
    let host = HostNetwork::open(&node_netns, config.host_rules.clone(), backend)?;
    let client = corten_store_kube::client(&config.kubeconfig).await?;
    let kubernetes = Kubernetes::new(client.clone(), config.node.clone(), config.pod.clone());

    let served = Arc::new(Served::default());
    let (proxies, proxies_seen) = watch::channel(0);
    let node = Arc::new(Node {
        served: served.clone(),
        proxies,
    });
    let zds = Server::bind(&config.zds_socket, node, Limits::default())?;
    let redirections = Redirections {
        rules: config.pod_rules.clone(),
        reconcile_at_start: config.reconcile_at_start,
        proc: config.host_prefix.join("proc"),
        host_prefix: config.host_prefix.clone(),
    };
    let worker = Worker::new(
        redirections,
        backend,
        served,
        zds.handle(),
        (&node_netns, host),
        kubernetes.clone(),
        metrics.clone(),
    )?;
    let worker = Arc::new(worker);

    let tasks = TaskGroup::new("agent");
    let (standing, standing_seen) = watch::channel(keeper::Standing::default());
    let (adopted, adopted_seen) = watch::channel(false);
    let (problems, problems_seen) = watch::channel(Vec::new());
    let shown = Shown {
        standing: standing_seen.clone(),
        adopted: adopted_seen.clone(),
        problems: problems_seen,
    };
    serve_admin(&config, &tasks, &metrics, shown).await?;

    let objects = Source::new()
        .pods_of_node(&config.node)
        .watch(kinds::NAMESPACES)
        .start(&client, &tasks);
    let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
    let machine = Machine::new(config.eligibility(), config.timing);
    let (outside, outside_seen) = watch::channel(BTreeSet::new());
    let signals = Signals {
        adopted,
        problems,
        outside,
    };
    let driver = Driver::new(machine, worker.clone(), metrics.clone(), signals, config.patience)
        .with_repair(config.repair.clone());
    let sources = Sources {
        objects,
        questions,
        proxies: proxies_seen,
    };
    tasks.serve("driver", |drain| driver.run(sources, drain));

    // Proxies are told of all pods at once, so all have to be known first; and a plugin that is answered needs a proxy.
    let mut ready = adopted_seen.clone();
    let socket = config.plugin_socket.clone();
    let (group, counted) = (tasks.clone(), metrics.clone());
    tasks.spawn("start", async move {
        if ready.wait_for(|adopted| *adopted).await.is_err() {
            return;
        }
        group.serve("zds", |drain| zds.run(drain));
        group.serve("plugin", |drain| async move {
            if let Err(error) = plugin::serve(socket.clone(), ask, counted, drain).await {
                tracing::error!(socket = %socket.display(), %error, "cannot answer the CNI plugin: new pods will not start");
            }
        });
    });
    let installation = located(&config);
    let list = config.plugin_socket.with_file_name(OUTSIDE);
    if config.enabled {
        let path = list.clone();
        tasks.serve("outside", |drain| leave_list(path, outside_seen, drain));
        let (what, counted, ready) = (installation.clone(), metrics.clone(), adopted_seen);
        tasks.serve("install", |drain| keeper::keep(what, counted, standing, ready, drain));
        let own = Pod {
            name: config.pod.clone(),
            namespace: config.namespace.clone(),
            ..Pod::default()
        };
        let teller = kubernetes.clone();
        tasks.serve("troubles", |drain| tell(teller, own, standing_seen, drain));
    } else {
        tracing::info!("AMBIENT_ENABLED is false: no pod is taken into the mesh, and those that are in it leave");
        if let Err(error) = installation.remove() {
            tracing::warn!(%error, "the CNI plugin of an earlier agent was not removed");
        }
    }

    drain.wait().await;
    let asked = Instant::now();
    let stays = config.safe_upgrade
        && kubernetes
            .has_successor(&config.namespace, &daemon_set(&config.pod))
            .await;
    for late in tasks.shutdown(SHUTDOWN_MAX).await {
        tracing::warn!(task = late, "did not end in time");
    }
    if stays {
        tracing::info!("an agent will follow: plugin and redirections stay, and pods start when it is there");
        return Ok(());
    }
    // The plugin first: nobody is to be put into a mesh that is being left, and a plugin without an agent would keep pods from starting.
    if let Err(error) = installation.remove() {
        tracing::warn!(%error, "the CNI plugin was not removed");
    }
    let given = kubernetes.time_to_end(&config.namespace).await.unwrap_or(GIVEN);
    let patience = config.release_max.unwrap_or_else(|| given.saturating_sub(TIDYING));
    tracing::info!(?patience, "no agent will follow: all pods of this node leave the mesh");
    worker.release_all(asked + patience).await;
    let leavings = Leavings {
        files: vec![list, config.plugin_socket.clone(), config.zds_socket.clone()],
        proxy_state: config.proxy_state.clone(),
        host_prefix: config.host_prefix.clone(),
    };
    let until = asked + given.saturating_sub(TIDYING / 2).max(patience);
    leavings.remove(until).await;
    tracing::info!("nothing of the mesh is left on this node but its proxies' last connections, if any");
    Ok(())
}

/// Where the plugin finds the names of namespaces outside of the mesh, beside the agent's socket; the plugin knows it by the same name.
pub(crate) const OUTSIDE: &str = "outside-namespaces";

/// Keeps the list of namespaces outside of the mesh current. It stays for the time until the next agent.
async fn leave_list(path: PathBuf, mut outside: watch::Receiver<BTreeSet<String>>, mut drain: Drain) {
    loop {
        tokio::select! {
            () = drain.wait() => return,
            changed = outside.changed() => if changed.is_err() { return },
        }
        let names: Vec<String> = outside.borrow_and_update().iter().cloned().collect();
        let (path, text) = (path.clone(), names.join("\n"));
        let written = tokio::task::spawn_blocking(move || install::replace(&path, text.as_bytes(), 0o644)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "while no agent runs, no pods will start: the list of namespaces outside of the mesh was not written");
        }
    }
}

/// Says on the agent's own pod what is wrong with the installation, so that whoever waits for the pod need not look into its log.
async fn tell(kubernetes: Kubernetes, own: Pod, mut standing: watch::Receiver<keeper::Standing>, mut drain: Drain) {
    loop {
        tokio::select! {
            () = drain.wait() => return,
            changed = standing.changed() => if changed.is_err() { return },
        }
        let trouble = standing.borrow_and_update().trouble.clone();
        if let Some(trouble) = trouble
            && let Err(error) = kubernetes.event(&own, "CniPluginTrouble", &trouble).await
        {
            tracing::warn!(%error, "an event was not written");
        }
    }
}

/// The DaemonSet that a pod `name-xxxxx` belongs to.
fn daemon_set(pod: &str) -> String {
    pod.rsplit_once('-').map_or(pod, |(set, _)| set).to_owned()
}

/// The installation, with the sockets' place as the plugin will see it.
fn located(config: &Config) -> Installation {
    let mut installation = config.installation.clone();
    if installation.run_dir_on_host.is_none() {
        let dir = installation.run_dir.canonicalize();
        let own = std::fs::read_to_string("/proc/self/mountinfo");
        let host = std::fs::read_to_string(config.host_prefix.join("proc/1/mountinfo"));
        if let (Ok(dir), Ok(own), Ok(host)) = (dir, own, host) {
            installation.run_dir_on_host = host_path(&dir, &own, &host);
        }
        let seen = installation
            .run_dir_on_host
            .as_deref()
            .unwrap_or_else(|| Path::new("?"));
        tracing::info!(dir = %installation.run_dir.display(), on_node = %seen.display(), "where the plugin finds the agent");
    }
    installation
}

/// What the agent's ports show.
struct Shown {
    standing: watch::Receiver<keeper::Standing>,
    adopted: watch::Receiver<bool>,
    problems: watch::Receiver<Vec<String>>,
}

async fn serve_admin(config: &Config, tasks: &TaskGroup, metrics: &Arc<Metrics>, shown: Shown) -> io::Result<()> {
    let health = admin::bind(config.health_port).await?;
    let Shown {
        standing,
        adopted,
        problems,
    } = shown;
    let enabled = config.enabled;
    let state = Handler::new(move |request| {
        let (mut standing, mut adopted) = (standing.clone(), adopted.clone());
        let problems = problems.clone();
        async move {
            match request.path.as_str() {
                "/healthz" => Response::text(StatusCode::OK, "ok\n"),
                "/readyz" => {
                    corten_rt::probe::ready_or_late(async {
                        // What is ending makes nothing of it: it is looked at below.
                        let _ = standing.wait_for(|standing| !enabled || standing.done).await;
                        let _ = adopted.wait_for(|adopted| *adopted).await;
                    })
                    .await;
                    let (standing, pods_known) = (standing.borrow(), *adopted.borrow());
                    readiness(!enabled || standing.done, pods_known, standing.trouble.as_deref())
                }
                "/problems" => {
                    let (standing, problems) = (standing.borrow(), problems.borrow());
                    let all = standing.trouble.iter().chain(problems.iter());
                    let text: String = all.map(|problem| format!("{problem}\n")).collect();
                    Response::text(StatusCode::OK, text)
                }
                _ => Response::not_found(),
            }
        }
    });
    tasks.serve("health", |drain| serve(health, state, drain));
    let collectors = admin::bind(config.metrics_port).await?;
    let metrics = metrics.clone();
    let text = Handler::new(move |request| {
        let found = (request.path == "/metrics").then(|| Response::text(StatusCode::OK, metrics.text()));
        std::future::ready(found.unwrap_or_else(Response::not_found))
    });
    tasks.serve("metrics", |drain| serve(collectors, text, drain));
    Ok(())
}

/// What a readiness probe is told.
fn readiness(is_installed: bool, pods_known: bool, trouble: Option<&str>) -> Response {
    let status = if is_installed && pods_known {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut text = format!("installed: {is_installed}\npods known: {pods_known}\n");
    if let Some(trouble) = trouble {
        text += &format!("trouble: {trouble}\n");
    }
    Response::text(status, text)
}
