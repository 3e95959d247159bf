//! corten-node, the L4 node proxy: HBONE between pods, policy, load balancing, DNS.

pub mod config;
pub mod dns;
pub mod inpod;
