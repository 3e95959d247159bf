//! What the network of one runtime is made from: ranges, places, numbers. Addresses follow from them by arithmetic.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};

use super::NetworkError;

/// More nodes than this do not fit the backbone's address plan (`.11` to `.210`).
pub(super) const NODES_MAX: usize = 200;

/// The ranges and places of a cluster network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// How many nodes: `node1` to `nodeN`.
    pub nodes: usize,
    /// Pods' IPv4 range; node N takes its Nth /24.
    pub pods_v4: Ipv4Net,
    /// Pods' IPv6 range; node N takes its Nth /64.
    pub pods_v6: Ipv6Net,
    /// ClusterIP range, IPv4.
    pub services_v4: Ipv4Net,
    /// ClusterIP range, IPv6.
    pub services_v6: Ipv6Net,
    /// Where nodes and the runtime meet, IPv4.
    pub backbone_v4: Ipv4Net,
    /// Where nodes and the runtime meet, IPv6.
    pub backbone_v6: Ipv6Net,
    /// The API server's port on the runtime's backbone address.
    pub api_port: u16,
    /// A private directory that dies with the runtime (its tmpfs): CNI configuration and address files.
    pub dir: PathBuf,
    /// Directories that hold CNI plugins, `corten-bridge` among them.
    pub plugin_dirs: Vec<PathBuf>,
}

impl NetworkConfig {
    /// The ranges every Corten cluster has, with these nodes, this private directory and the directory of the helper binaries.
    pub fn new(nodes: usize, dir: PathBuf, plugins: PathBuf) -> NetworkConfig {
        let v4 = |a, b, c, d, prefix| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix);
        let v6 = |segments: [u16; 8], prefix| Ipv6Net::new_assert(Ipv6Addr::from(segments), prefix);
        NetworkConfig {
            nodes,
            pods_v4: v4(10, 244, 0, 0, 16),
            pods_v6: v6([0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0], 48),
            services_v4: v4(10, 96, 0, 0, 16),
            services_v6: v6([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0], 112),
            backbone_v4: v4(192, 168, 77, 0, 24),
            backbone_v6: v6([0xfd00, 0x192, 0x168, 0x77, 0, 0, 0, 0], 64),
            api_port: 6443,
            dir,
            plugin_dirs: vec![plugins],
        }
    }

    /// Refuses what the arithmetic below cannot serve.
    pub(super) fn check(&self) -> Result<(), NetworkError> {
        let problem = if self.nodes == 0 || self.nodes > NODES_MAX {
            format!("{} nodes: choose 1 to {NODES_MAX}", self.nodes)
        } else if self.pods_v4.prefix_len() > 16 || self.pods_v6.prefix_len() > 48 {
            format!(
                "pod ranges {} and {} are too small: give at least a /16 and a /48",
                self.pods_v4, self.pods_v6
            )
        } else if self.backbone_v4.prefix_len() > 24 || self.backbone_v6.prefix_len() > 64 {
            format!(
                "backbone ranges {} and {} are too small: give a /24 and a /64",
                self.backbone_v4, self.backbone_v6
            )
        } else {
            return Ok(());
        };
        Err(NetworkError::Config(problem))
    }

    /// The runtime's own address on the backbone.
    pub fn runtime_v4(&self) -> Ipv4Addr {
        nth_v4(self.backbone_v4, 1)
    }

    /// The runtime's own IPv6 address on the backbone.
    pub fn runtime_v6(&self) -> Ipv6Addr {
        nth_v6(self.backbone_v6, 1)
    }

    /// `kubernetes.default`.
    pub fn api_service_v4(&self) -> Ipv4Addr {
        nth_v4(self.services_v4, 1)
    }

    /// `kube-dns.kube-system`.
    pub fn dns_v4(&self) -> Ipv4Addr {
        nth_v4(self.services_v4, 10)
    }

    /// The cluster DNS over IPv6.
    pub fn dns_v6(&self) -> Ipv6Addr {
        nth_v6(self.services_v6, 10)
    }

    /// Node `number`'s addresses on the backbone: `.11` for the first.
    pub(super) fn node_addresses(&self, number: u8) -> (Ipv4Addr, Ipv6Addr) {
        let host = 10 + u32::from(number);
        (
            nth_v4(self.backbone_v4, host),
            nth_v6(self.backbone_v6, 0x10 + u128::from(number)),
        )
    }

    /// Node `number`'s pod ranges.
    pub(super) fn node_pods(&self, number: u8) -> (Ipv4Net, Ipv6Net) {
        let v4 = nth_v4(self.pods_v4, u32::from(number) << 8);
        // Hexadecimal digits read like the decimal number, so that fd00:10:244:12::/64 is node 12's as 10.244.12.0/24 is.
        let digits = u128::from_str_radix(&number.to_string(), 16).unwrap_or_default();
        (
            Ipv4Net::new_assert(v4, 24),
            Ipv6Net::new_assert(nth_v6(self.pods_v6, digits << 64), 64),
        )
    }
}

/// The range's address number `n`.
pub(super) fn nth_v4(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).wrapping_add(n))
}

/// The range's address number `n`.
pub(super) fn nth_v6(net: Ipv6Net, n: u128) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()).wrapping_add(n))
}
