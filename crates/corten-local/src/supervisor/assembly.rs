//! The parts of a running runtime: made in the order of their needs, ended in the reverse.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corten_apiserver::pki::Pki;
use corten_apiserver::{Api, Client, ServerConfig, serve};
use corten_rt::TaskGroup;
use tokio::sync::watch;

use super::board::Board;
use super::component::keep_running;
use super::dialer::FromNode;
use super::{Outside, nodes, overview};
use crate::controllers::{self, ControllersConfig};
use crate::instance::Instance;
use crate::kubelet::{self, HostPaths, Images, Pods};
use crate::network::{Network, NetworkConfig};
use crate::up::Assignment;
use crate::{dns, mesh, services};

/// The domain of the cluster's names.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// How long kubelets may take to end their pods.
const PODS_GRACE: Duration = Duration::from_secs(8);

/// How long what serves may take to finish.
const SERVICES_GRACE: Duration = Duration::from_secs(2);

/// How long the mesh's control plane may keep the runtime from being ready. It takes about two seconds.
const MESH_MAX: Duration = Duration::from_secs(20);

/// Everything that runs.
pub(super) struct Assembly {
    api: Arc<Api>,
    /// In the order of their ending.
    stages: Vec<(TaskGroup, Duration)>,
    nodes: usize,
    nodes_ready: watch::Receiver<usize>,
    /// Whether the mesh's objects are as they should be.
    mesh_settled: watch::Receiver<bool>,
    _network: Arc<Network>,
}

/// What all parts are made from.
struct Foundation {
    api: Arc<Api>,
    pki: Pki,
    network: Arc<Network>,
    board: Arc<Board>,
}

impl Assembly {
    pub(super) async fn start(
        assignment: &Assignment,
        instance: &Instance,
        runtime_dir: PathBuf,
        outside: Outside,
        board: Arc<Board>,
    ) -> anyhow::Result<Self> {
        let base = lay(assignment, instance, &runtime_dir, board).await?;
        let names: Vec<String> = base.network.nodes().iter().map(|node| node.name().to_owned()).collect();
        nodes::settle(&base.client("system:corten"), &names)
            .await
            .context("old nodes")?;

        let (pods_stage, loops) = (TaskGroup::new("kubelets"), TaskGroup::new("control loops"));
        let serving = TaskGroup::new("services");
        let (ready_sender, nodes_ready) = watch::channel(0);
        let pods = Pods::new();
        base.serve_api(outside.api, pods.clone(), &serving)?;
        base.overview(ready_sender, &serving);
        base.kubelets(assignment, instance, &runtime_dir, &pods, &pods_stage)?;
        base.controllers(&loops);
        base.services(&serving);
        base.dns(Arc::new(outside.resolvers), &serving);
        let mesh_settled = base.mesh(assignment.mesh.then(|| assignment.stock.clone()), &serving);
        Ok(Self {
            api: base.api,
            stages: vec![
                (pods_stage, PODS_GRACE),
                (loops, SERVICES_GRACE),
                (serving, SERVICES_GRACE),
            ],
            nodes: assignment.nodes,
            nodes_ready,
            mesh_settled,
            _network: base.network,
        })
    }

    /// Resolves when the API answers, every node is ready, and the objects of the mesh are there and give pods their proxies (or are not, when it was not wanted).
    pub(super) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let (nodes, mut ready, mut mesh) = (self.nodes, self.nodes_ready.clone(), self.mesh_settled.clone());
        async move {
            // The senders live in components that are restarted for ever.
            let _ = ready.wait_for(|ready| *ready >= nodes).await;
            let _ = mesh.wait_for(|settled| *settled).await;
        }
    }

    /// Ends everything in order.
    pub(super) async fn stop(self) {
        for (stage, grace) in self.stages {
            for late in stage.shutdown(grace).await {
                tracing::warn!(task = late, "had to be cut off");
            }
        }
        self.api.close();
    }
}

/// Opens the objects and the keys while the network is being made.
async fn lay(
    assignment: &Assignment,
    instance: &Instance,
    runtime_dir: &Path,
    board: Arc<Board>,
) -> anyhow::Result<Foundation> {
    let data = instance.data_dir();
    let (objects, keys) = (data.clone(), data.clone());
    let api = tokio::task::spawn_blocking(move || Api::open(&objects));
    let pki = tokio::task::spawn_blocking(move || Pki::open(&keys));
    let config = NetworkConfig::new(
        assignment.nodes,
        runtime_dir.join("network"),
        assignment.programs.clone(),
    );
    let network = Arc::new(Network::create(config).await?);
    let pki = pki.await??;
    let path = instance.kubeconfig();
    let kubeconfig = pki.kubeconfig(
        &context_name(&assignment.name),
        &format!("https://{}", assignment.server),
    );
    write_private(&path, &kubeconfig).with_context(|| format!("cannot write {}", path.display()))?;
    let api = api
        .await?
        .with_context(|| format!("the objects in {}", data.display()))?;
    Ok(Foundation {
        api,
        pki,
        network,
        board,
    })
}

/// What the instance is called in its kubeconfig.
fn context_name(instance: &str) -> String {
    if instance == crate::instance::DEFAULT_NAME {
        "corten".into()
    } else {
        format!("corten-{instance}")
    }
}

/// Replaces a file at once, readable by its owner only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(new, path)
}

impl Foundation {
    fn client(&self, user: &str) -> Client {
        Client::new(self.api.clone(), user)
    }

    /// Serves the API to clients outside and to pods.
    fn serve_api(&self, outside: TcpListener, pods: Arc<Pods>, tasks: &TaskGroup) -> anyhow::Result<()> {
        let address = self.network.api_address();
        let inside = TcpListener::bind(address).with_context(|| format!("cannot listen on {address} for pods"))?;
        self.api.set_pods(pods);
        self.api.set_dialer(Arc::new(FromNode {
            client: self.client("system:apiserver"),
            network: self.network.clone(),
        }));
        let config = ServerConfig {
            listeners: vec![outside, inside],
            pki: self.pki.clone(),
            api: self.api.clone(),
        };
        Ok(serve(config, tasks)?)
    }

    /// Keeps the status current.
    fn overview(&self, nodes_ready: watch::Sender<usize>, tasks: &TaskGroup) {
        let (client, board) = (self.client("system:corten"), self.board.clone());
        keep_running(tasks, &self.board, "overview", move |drain| {
            overview::run(client.clone(), board.clone(), nodes_ready.clone(), drain)
        });
    }

    /// The control loops.
    fn controllers(&self, tasks: &TaskGroup) {
        let config = ControllersConfig {
            ca: self.pki.ca.clone(),
            api_service: self.network.api_service_address(),
            api_endpoint: self.network.api_address(),
        };
        let client = self.client("system:kube-controller-manager");
        keep_running(tasks, &self.board, "control loops", move |drain| {
            let run = controllers::run(client.clone(), config.clone(), drain);
            async {
                run.await;
                Ok::<(), Infallible>(())
            }
        });
    }

    /// The rules that make services of addresses.
    fn services(&self, tasks: &TaskGroup) {
        let (client, network) = (self.client("system:kube-proxy"), self.network.clone());
        keep_running(tasks, &self.board, "service rules", move |drain| {
            services::run(client.clone(), network.clone(), drain)
        });
    }

    /// The mesh's parts as objects, or none of them; tells when that is so.
    fn mesh(&self, wanted: Option<mesh::Stock>, tasks: &TaskGroup) -> watch::Receiver<bool> {
        let client = self.client(mesh::MANAGER);
        let (sender, settled) = watch::channel(false);
        keep_running(tasks, &self.board, "mesh", move |mut drain| {
            let (client, sender, wanted) = (client.clone(), sender.clone(), wanted.clone());
            async move {
                if let Some(stock) = wanted {
                    mesh::install(&client, &stock).await?;
                    // Whoever applies pods once this is ready shall not be told to try again.
                    tokio::select! {
                        () = drain.wait() => return Ok(()),
                        late = tokio::time::timeout(MESH_MAX, mesh::injects(&client)) => if late.is_err() {
                            tracing::warn!("pods that are to get a proxy cannot be made after {MESH_MAX:?}: the control plane is not there");
                        }
                    }
                } else {
                    mesh::uninstall(&client).await?;
                }
                sender.send_replace(true);
                drain.wait().await;
                Ok::<(), corten_apiserver::Status>(())
            }
        });
        settled
    }

    /// The cluster's DNS, which asks the host's resolvers for other names.
    fn dns(&self, resolvers: Arc<Vec<UdpSocket>>, tasks: &TaskGroup) {
        let (client, network) = (self.client("system:coredns"), self.network.clone());
        keep_running(tasks, &self.board, "dns", move |drain| {
            let (client, network, resolvers) = (client.clone(), network.clone(), resolvers.clone());
            async move {
                let sockets = dns::Sockets::bind(&network)?;
                let upstream = resolvers.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?;
                dns::run(client, network, sockets, upstream, drain).await
            }
        });
    }

    /// A kubelet for each node.
    fn kubelets(
        &self,
        assignment: &Assignment,
        instance: &Instance,
        runtime_dir: &Path,
        pods: &Arc<Pods>,
        tasks: &TaskGroup,
    ) -> anyhow::Result<()> {
        let mut images = Images::built_in(&assignment.programs);
        for (name, command) in &assignment.images {
            images.add(&format!("{name}={command}"))?;
        }
        for (name, program) in assignment.stock.images() {
            images.insert(name, program);
        }
        images.proxy(assignment.stock.envoy.as_deref());
        let images = Arc::new(images);
        // A pod has a `/proc` of its own; this one is for those that have to see what runs on their node.
        let proc = runtime_dir.join("proc");
        fs::create_dir_all(&proc).with_context(|| format!("cannot make {}", proc.display()))?;
        corten_linux::mounts::proc(&proc).context("the processes of the nodes")?;
        for (index, node) in self.network.nodes().iter().enumerate() {
            let name = node.name().to_owned();
            let dir = runtime_dir.join("nodes").join(&name);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let config = kubelet::Config {
                node: name.clone(),
                zone: nodes::zone(index),
                dir: dir.clone(),
                log_dir: instance.pods_dir(),
                images: images.clone(),
                cluster_domain: CLUSTER_DOMAIN.into(),
                // Keys of this and other instances are not for pods.
                masks: vec![assignment.state_home.clone()],
                host_paths: HostPaths::of_node(&dir.join("run"), &proc, &node.cni_conf_dir(), &node.cni_bin_dir()),
            };
            let (client, network, pods) = (
                self.client(&format!("system:node:{name}")),
                self.network.clone(),
                pods.clone(),
            );
            keep_running(tasks, &self.board, &format!("kubelet {name}"), move |drain| {
                kubelet::run(config.clone(), client.clone(), network.clone(), pods.clone(), drain)
            });
        }
        Ok(())
    }
}
