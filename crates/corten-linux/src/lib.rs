//! System calls, namespaces, mounts, netlink and nftables: the only unsafe code.
//!
//! A small safe interface over what the kernel offers; it decides nothing and knows nothing of Kubernetes or of the mesh.

pub mod capabilities;
pub mod fds;
pub mod memory;
pub mod mount_tree;
pub mod mounts;
pub mod namespaces;
pub mod net;
mod netlink;
pub mod nft;
pub mod single;
pub mod sockets;
pub mod spawn;
pub mod testing;

pub use namespaces::{Namespaces, NetNs};
pub use spawn::{Child, Exit, Spawn, SpawnError};
