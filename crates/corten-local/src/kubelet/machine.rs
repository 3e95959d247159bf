//! What a kubelet needs of the machine below it: sandboxes and their network.
//!
//! A trait, so that a pod's whole life can be tested in a process without namespaces or privileges; [`Local`] is the one there is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use corten_linux::NetNs;
use corten_linux::net::set_sysctl;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::sysctls::Sysctl;
use crate::network::{Network, PodRef};
use crate::sandbox::{ContainerSpec, Exec, Exit, HostsEntry, NetworkNamespace, Sandbox, SandboxSpec, StartError};

/// Opens connections from a node's network namespace.
pub(crate) type Connect = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// One node's share of the machine.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Makes a pod's namespaces with their kernel settings, and attaches its network.
    fn create(
        &self,
        spec: SandboxSpec,
        host_network: bool,
        sysctls: Vec<Sysctl>,
    ) -> BoxFuture<'_, Result<Made, String>>;
    /// Connections from the node, as probes make them.
    fn connect(&self) -> Connect;
}

/// A pod that was just made.
pub(crate) struct Made {
    pub(crate) pod: Arc<dyn PodSandbox>,
    pub(crate) exits: mpsc::Receiver<Exit>,
    pub(crate) ips: Vec<IpAddr>,
}

/// A pod's sandbox; see [`Sandbox`] for what each does.
pub(crate) trait PodSandbox: Send + Sync {
    fn set_hosts(&self, hosts: Vec<HostsEntry>);
    fn start(&self, container: ContainerSpec) -> BoxFuture<'_, Result<u32, StartError>>;
    fn signal<'a>(&'a self, container: &'a str, signal: i32) -> BoxFuture<'a, Result<(), StartError>>;
    fn exec<'a>(
        &'a self,
        container: &'a str,
        argv: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Exec, StartError>>;
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;
    /// Detaches the network and ends everything.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// The real machine: processes in namespaces on one of the network's nodes.
pub(crate) struct Local {
    node: String,
    network: Arc<Network>,
}

impl Local {
    /// The share of the node of this name.
    pub(crate) fn new(node: String, network: Arc<Network>) -> Self {
        Self { node, network }
    }

    async fn make(&self, mut spec: SandboxSpec, host_network: bool, sysctls: &[Sysctl]) -> Result<Made, String> {
        let node = self
            .network
            .node(&self.node)
            .ok_or_else(|| format!("node {} has no network", self.node))?;
        let pod = PodRef {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid: spec.uid.clone(),
        };
        if host_network {
            spec.netns = NetworkNamespace::Path(node.netns_path());
        }
        let mut sandbox = Sandbox::create(spec).await.map_err(|error| error.to_string())?;
        let exits = sandbox.exits();
        if let Err(error) = set(sandbox.netns_path(), sysctls) {
            sandbox.stop().await;
            return Err(format!("the pod's securityContext.sysctls: {error}"));
        }
        let ips = if host_network {
            node.addresses()
        } else {
            match self.network.attach(&self.node, &pod, sandbox.netns_path()).await {
                Ok(ips) => ips,
                Err(error) => {
                    sandbox.stop().await;
                    return Err(format!("plugin failed to set up the pod's network: {error}"));
                }
            }
        };
        let attached = (!host_network).then(|| (self.node.clone(), self.network.clone(), pod));
        Ok(Made {
            pod: Arc::new(LocalPod { sandbox, attached }),
            exits,
            ips,
        })
    }
}

impl Machine for Local {
    fn create(
        &self,
        spec: SandboxSpec,
        host_network: bool,
        sysctls: Vec<Sysctl>,
    ) -> BoxFuture<'_, Result<Made, String>> {
        Box::pin(async move { self.make(spec, host_network, &sysctls).await })
    }

    fn connect(&self) -> Connect {
        let (network, node) = (self.network.clone(), self.node.clone());
        Arc::new(move |to| {
            let (network, node) = (network.clone(), node.clone());
            Box::pin(async move {
                let missing = || io::Error::new(io::ErrorKind::NotFound, format!("node {node} has no network"));
                network.node(&node).ok_or_else(missing)?.connect(to).await
            })
        })
    }
}

/// Sets a network namespace's kernel settings.
fn set(netns: &Path, sysctls: &[Sysctl]) -> io::Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    NetNs::open(netns)?.run(|| sysctls.iter().try_for_each(|(name, value)| set_sysctl(name, value)))?
}

struct LocalPod {
    sandbox: Sandbox,
    /// The node and network the pod was attached to.
    attached: Option<(String, Arc<Network>, PodRef)>,
}

impl PodSandbox for LocalPod {
    fn set_hosts(&self, hosts: Vec<HostsEntry>) {
        self.sandbox.set_hosts(hosts);
    }

    fn start(&self, container: ContainerSpec) -> BoxFuture<'_, Result<u32, StartError>> {
        Box::pin(async move { self.sandbox.start(container).await.map(|started| started.pid) })
    }

    fn signal<'a>(&'a self, container: &'a str, signal: i32) -> BoxFuture<'a, Result<(), StartError>> {
        Box::pin(self.sandbox.signal(container, signal))
    }

    fn exec<'a>(
        &'a self,
        container: &'a str,
        argv: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Exec, StartError>> {
        Box::pin(self.sandbox.exec(container, argv, tty, stdin))
    }

    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(self.sandbox.dial(port))
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some((node, network, pod)) = &self.attached
                && let Err(error) = network.detach(node, pod, Some(self.sandbox.netns_path())).await
            {
                tracing::warn!(pod = pod.name, namespace = pod.namespace, %error, "the pod's network was not detached");
            }
            self.sandbox.stop().await;
        })
    }
}

/// Connections from this very process, for tests of what speaks over them.
#[cfg(test)]
pub(crate) fn host_connect() -> Connect {
    Arc::new(|to| Box::pin(TcpStream::connect(to)))
}
