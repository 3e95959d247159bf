//! The agent's ports: health for the kubelet, metrics for collectors.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// Binds a port on all addresses.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(all).await {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))
}
