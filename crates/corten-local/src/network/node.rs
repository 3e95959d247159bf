//! One node's side of the network: its namespace, addresses, ranges and CNI directories.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_linux::NetNs;
use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::json;

use super::{NetworkConfig, NetworkError};

/// A node: a network namespace with an uplink to the backbone and a bridge for its pods.
#[derive(Debug)]
pub struct NodeNetwork {
    name: String,
    netns: Arc<NetNs>,
    addresses: (Ipv4Addr, Ipv6Addr),
    pods: (Ipv4Net, Ipv6Net),
    dir: PathBuf,
    ipv6: bool,
}

impl NodeNetwork {
    pub(super) fn create(config: &NetworkConfig, number: usize, ipv6: bool) -> Result<NodeNetwork, NetworkError> {
        let index = u8::try_from(number).map_err(|_| NetworkError::Config(format!("{number} nodes are too many")))?;
        let name = format!("node{number}");
        let netns = NetNs::create().map_err(|source| NetworkError::System {
            action: format!("make a network namespace for {name}"),
            source,
        })?;
        Ok(NodeNetwork {
            dir: config.dir.join(&name),
            name,
            netns: Arc::new(netns),
            addresses: config.node_addresses(index),
            pods: config.node_pods(index),
            ipv6,
        })
    }

    /// Writes the node's CNI configuration, in a private directory that starts empty.
    pub(super) fn write_chain(&self) -> Result<(), NetworkError> {
        let write = || {
            match std::fs::remove_dir_all(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::create_dir_all(self.cni_conf_dir())?;
            std::fs::create_dir_all(self.cni_bin_dir())?;
            let mut plugin = json!({
                "type": "corten-bridge",
                "bridge": super::backbone::PODS,
                "dir": self.dir.join("addresses"),
                "range4": self.pods.0,
            });
            if self.ipv6 {
                plugin["range6"] = json!(self.pods.1);
            }
            let list = json!({ "cniVersion": "1.0.0", "name": "corten", "plugins": [plugin] });
            std::fs::write(self.cni_conf_dir().join("10-corten.conflist"), format!("{list:#}\n"))
        };
        write().map_err(|source| NetworkError::System {
            action: format!("prepare {}", self.dir.display()),
            source,
        })
    }

    /// Both addresses, whether or not the kernel has IPv6.
    pub(super) fn address_pair(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.addresses
    }

    /// Both pod ranges, whether or not the kernel has IPv6.
    pub(super) fn pod_ranges(&self) -> (Ipv4Net, Ipv6Net) {
        self.pods
    }

    /// `node1`, `node2`, ...
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's network namespace (also that of its `hostNetwork` pods).
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// A path to the namespace that processes of the runtime can open.
    pub fn netns_path(&self) -> PathBuf {
        self.netns.path()
    }

    /// The node's addresses (`InternalIP`), IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all = vec![self.addresses.0.into()];
        if self.ipv6 {
            all.push(self.addresses.1.into());
        }
        all
    }

    /// The node's pod ranges (`spec.podCIDRs`), IPv4 first.
    pub fn pod_cidrs(&self) -> Vec<String> {
        let mut all = vec![self.pods.0.to_string()];
        if self.ipv6 {
            all.push(self.pods.1.to_string());
        }
        all
    }

    /// The directory of CNI network configuration (`/etc/cni/net.d` of a real node): the first valid file in order of names counts.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.dir.join("net.d")
    }

    /// The node's own directory of CNI plugins (`/opt/cni/bin` of a real node), searched before the runtime's.
    pub fn cni_bin_dir(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// The directory that holds all of the node's network state.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Connects by TCP from inside the node (probes, port forwarding): what the node's kubelet would see.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        let netns = Arc::clone(&self.netns);
        // Only the socket's creation happens inside; a socket stays in the namespace it was made in.
        let socket = tokio::task::spawn_blocking(move || {
            netns.run(|| match to {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
            })
        })
        .await
        .map_err(io::Error::other)???;
        socket.connect(to).await
    }
}
