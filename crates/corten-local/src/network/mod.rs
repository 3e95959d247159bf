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

mod config;
mod node;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

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
    nodes: Vec<NodeNetwork>,
}

impl Network {
    /// Makes the network in the calling thread's network namespace, which must be the runtime's own.
    pub async fn create(config: NetworkConfig) -> Result<Network, NetworkError> {
        let nodes = (1..=config.nodes)
            .map(|number| NodeNetwork::create(&config, number))
            .collect::<Result<_, _>>()?;
        Ok(Network { config, nodes })
    }

    /// The node called `name` (`node1`, `node2`, ...).
    pub fn node(&self, name: &str) -> Option<&NodeNetwork> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[NodeNetwork] {
        &self.nodes
    }

    /// Where the API server listens inside the network (bind it after [`create`](Self::create), in the runtime's namespace); the
    /// service address 10.96.0.1:443 leads there.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::new(self.config.runtime_v4().into(), self.config.api_port)
    }

    /// The service addresses of the API server (IPv4), which belong into its certificate.
    pub fn api_service_address(&self) -> IpAddr {
        self.config.api_service_v4().into()
    }

    /// The addresses of the cluster DNS, for `resolv.conf` of pods: the IPv4 one first.
    pub fn dns_addresses(&self) -> Vec<IpAddr> {
        vec![self.config.dns_v4().into(), self.config.dns_v6().into()]
    }

    /// Attaches a pod's namespace through the node's CNI chain (ADD) and returns the pod's addresses, IPv4 first.
    pub async fn attach(&self, node: &str, pod: &PodRef, netns: &Path) -> Result<Vec<IpAddr>, NetworkError> {
        let _ = (pod, netns);
        self.node(node).ok_or_else(|| NetworkError::NoSuchNode(node.into()))?;
        Err(NetworkError::Config("the CNI chain is not there yet".into()))
    }

    /// Detaches a pod (DEL); succeeds when it is not attached. `netns` is absent when the namespace is already gone.
    pub async fn detach(&self, node: &str, pod: &PodRef, netns: Option<&Path>) -> Result<(), NetworkError> {
        let _ = (pod, netns);
        self.node(node).ok_or_else(|| NetworkError::NoSuchNode(node.into()))?;
        Ok(())
    }
}
