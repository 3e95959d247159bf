//! The DNS proxy of each pod: names of the mesh are answered from the tables, all others are asked for at the node's own name servers.
//!
//! Runs on the control runtime. What is answered is decided in `corten_traffic::dns`; here are the sockets, and limits on what a pod may ask for at once.

mod lookup;
mod metrics;
mod resolv_conf;
mod serve;
mod sockets;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use corten_traffic::{Settings, Tables};

pub use lookup::{Lookup, LookupError};
pub use metrics::DnsMetrics;
pub use resolv_conf::{name_servers, search};
pub use serve::{Client, serve};
pub use sockets::{Listeners, SocketThread};

/// What the DNS proxies of all pods share.
#[derive(Debug)]
pub struct Dns {
    /// What the mesh knows.
    pub tables: Arc<ArcSwap<Tables>>,
    /// How it is seen from this node.
    pub settings: Settings,
    /// Who is asked for other names, in this order.
    pub name_servers: Vec<SocketAddr>,
    /// Makes sockets in pods.
    pub sockets: SocketThread,
    /// Counts.
    pub metrics: Arc<DnsMetrics>,
}
