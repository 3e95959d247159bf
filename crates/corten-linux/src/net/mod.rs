//! Network namespaces, links, addresses, routes, policy rules and sysctls, synchronously over rtnetlink and procfs.
//!
//! Synchronous because a request takes microseconds and because the CNI plugin, which must be small and start at once, uses the same code.
//! Knows nothing of pods or nodes.

mod namespace;

pub use namespace::NetNs;
