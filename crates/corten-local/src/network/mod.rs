//! The cluster network of the local runtime: a namespace per node, joined by a backbone bridge in the runtime's own namespace.
//!
//! ```text
//!            runtime's namespace: backbone 192.168.77.1, API server :6443, cluster DNS 10.96.0.10
//!              │ veth                                    │ veth
//!   node1 uplink 192.168.77.11              node2 uplink 192.168.77.12        (all: fd00:192:168:77::…)
//!         pods0  10.244.1.1/24                    pods0  10.244.2.1/24        (fd00:10:244:N::1/64)
//!           │ veth      │ veth                      │ veth
//!         pod .2/32   pod .3/32                   pod .2/32
//! ```
//!
//! Knows how to make and describe the network and how to call a node's CNI chain; what the plugins do is theirs (`corten-bridge` is
//! ours), and what a Service means is told in the services module.

mod backbone;
mod cni;
mod config;
mod node;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use corten_linux::NetNs;
use serde_json::Value;

pub use cni::{Chain, CniError};
pub use config::NetworkConfig;
pub use node::NodeNetwork;

/// A pod as the network knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`: also the container id given to the plugins.
    pub uid: String,
}

/// Why the network could not be made, or a pod not attached.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration cannot be.
    #[error("{0}")]
    Config(String),
    /// A node that does not exist was named.
    #[error("no node {0:?} in this network")]
    NoSuchNode(String),
    /// The node's CNI chain failed.
    #[error("node {node}: {source}")]
    Cni {
        /// The node.
        node: String,
        /// Why.
        source: CniError,
    },
    /// The kernel or the file system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted, with its values.
        action: String,
        /// The refusal.
        source: std::io::Error,
    },
}

/// The network of one runtime. Dropping it releases the namespaces; the kernel then removes everything in them.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    /// The runtime's own namespace.
    netns: Arc<NetNs>,
    nodes: Vec<NodeNetwork>,
    ipv6: bool,
    /// What was attached and with which chain, as DEL must be called with that one whatever the directory says by then.
    attached: Mutex<HashMap<(String, PodRef), Attached>>,
}

#[derive(Clone, Debug)]
struct Attached {
    chain: Chain,
    result: Value,
}

impl Network {
    /// Makes the network in the calling thread's network namespace, which must be the runtime's own.
    ///
    /// Whatever an earlier runtime recorded in the private directory is forgotten: its pods ended with it.
    pub async fn create(config: NetworkConfig) -> Result<Network, NetworkError> {
        config.check()?;
        let ipv6 = corten_linux::net::has_ipv6();
        let mut runtime = backbone::runtime(&config, ipv6)?;
        let mut nodes = Vec::with_capacity(config.nodes);
        for number in 1..=config.nodes {
            let node = NodeNetwork::create(&config, number, ipv6)?;
            backbone::node(&config, &mut runtime, &node, ipv6)?;
            node.write_chain()?;
            nodes.push(node);
        }
        backbone::mesh(&nodes, ipv6)?;
        let netns = NetNs::current().map_err(|source| NetworkError::System {
            action: "open the runtime's network namespace".into(),
            source,
        })?;
        Ok(Network {
            config,
            netns: Arc::new(netns),
            nodes,
            ipv6,
            attached: Mutex::default(),
        })
    }

    /// The node called `name` (`node1`, `node2`, ...).
    pub fn node(&self, name: &str) -> Option<&NodeNetwork> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[NodeNetwork] {
        &self.nodes
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The runtime's own namespace, which has the backbone.
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// Whether the kernel has IPv6; without it, nothing here has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Where the API server listens inside the network (bind it after [`create`](Self::create), in the runtime's namespace); the
    /// service address 10.96.0.1:443 leads there.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::new(self.config.runtime_v4().into(), self.config.api_port)
    }

    /// The service address of the API server (IPv4), which belongs into its certificate.
    pub fn api_service_address(&self) -> IpAddr {
        self.config.api_service_v4().into()
    }

    /// The addresses of the cluster DNS, for `resolv.conf` of pods: the IPv4 one first.
    pub fn dns_addresses(&self) -> Vec<IpAddr> {
        let mut all = vec![self.config.dns_v4().into()];
        if self.ipv6 {
            all.push(self.config.dns_v6().into());
        }
        all
    }

    /// Attaches a pod's namespace through the node's CNI chain (ADD) and returns the pod's addresses, IPv4 first.
    ///
    /// A failure is followed by DEL, so that nothing of it stays.
    pub async fn attach(&self, node: &str, pod: &PodRef, netns: &Path) -> Result<Vec<IpAddr>, NetworkError> {
        let node = self.find(node)?;
        let failed = |source| NetworkError::Cni {
            node: node.name().to_owned(),
            source,
        };
        let inside = NetNs::open(netns).map_err(|source| NetworkError::System {
            action: format!("open the network namespace {}", netns.display()),
            source,
        })?;
        backbone::loopback(&inside)?;
        let chain = Chain::load(&node.cni_conf_dir()).map_err(failed)?;
        let attachment = attachment(pod, Some(netns));
        match self.host(node).add(&chain, &attachment).await {
            Ok(result) => {
                let addresses = cni::addresses(&result);
                self.record()
                    .insert((node.name().to_owned(), pod.clone()), Attached { chain, result });
                Ok(addresses)
            }
            Err(error) => {
                self.host(node).delete(&chain, &attachment, None).await.ok();
                Err(failed(error))
            }
        }
    }

    /// Detaches a pod (DEL); succeeds when it is not attached. `netns` is absent when the namespace is already gone.
    pub async fn detach(&self, node: &str, pod: &PodRef, netns: Option<&Path>) -> Result<(), NetworkError> {
        let node = self.find(node)?;
        let failed = |source| NetworkError::Cni {
            node: node.name().to_owned(),
            source,
        };
        let key = (node.name().to_owned(), pod.clone());
        let known = self.record().get(&key).cloned();
        let (chain, result) = match known {
            Some(attached) => (attached.chain, Some(attached.result)),
            None => (Chain::load(&node.cni_conf_dir()).map_err(failed)?, None),
        };
        let attachment = attachment(pod, netns);
        self.host(node)
            .delete(&chain, &attachment, result.as_ref())
            .await
            .map_err(failed)?;
        self.record().remove(&key);
        Ok(())
    }

    /// Whether a pod is still attached as it was (CHECK).
    pub async fn check(&self, node: &str, pod: &PodRef, netns: &Path) -> Result<(), NetworkError> {
        let node = self.find(node)?;
        let failed = |source| NetworkError::Cni {
            node: node.name().to_owned(),
            source,
        };
        let known = self.record().get(&(node.name().to_owned(), pod.clone())).cloned();
        let known =
            known.ok_or_else(|| NetworkError::Config(format!("pod {}/{} is not attached", pod.namespace, pod.name)))?;
        let attachment = attachment(pod, Some(netns));
        self.host(node)
            .check(&known.chain, &attachment, &known.result)
            .await
            .map_err(failed)
    }

    fn find(&self, name: &str) -> Result<&NodeNetwork, NetworkError> {
        self.node(name).ok_or_else(|| NetworkError::NoSuchNode(name.to_owned()))
    }

    fn host<'a>(&self, node: &'a NodeNetwork) -> cni::Host<'a> {
        let mut path = vec![node.cni_bin_dir()];
        path.extend(self.config.plugin_dirs.iter().cloned());
        cni::Host {
            netns: node.netns(),
            path,
        }
    }

    fn record(&self) -> std::sync::MutexGuard<'_, HashMap<(String, PodRef), Attached>> {
        self.attached.lock().expect("no panic while attachments are locked")
    }
}

/// What containerd tells the plugins about a pod. The pod's uid stands for the sandbox's id: a pod has one sandbox at a time.
fn attachment(pod: &PodRef, netns: Option<&Path>) -> cni::Attachment {
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", pod.namespace.as_str()),
        ("K8S_POD_NAME", pod.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.uid.as_str()),
        ("K8S_POD_UID", pod.uid.as_str()),
    ];
    cni::Attachment {
        container: pod.uid.clone(),
        netns: netns.map(|path| path.display().to_string()).unwrap_or_default(),
        interface: "eth0".into(),
        args: args
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
