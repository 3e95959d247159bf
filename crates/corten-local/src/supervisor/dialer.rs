//! The way from the API to services of the cluster, for webhooks: through a node's network, where the service rules are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use corten_apiserver::{Client, Dialer, Duplex, resources};
use futures_util::future::{BoxFuture, FutureExt};

use crate::network::Network;

/// Dials from the first node.
pub(super) struct FromNode {
    pub(super) client: Client,
    pub(super) network: Arc<Network>,
}

impl Dialer for FromNode {
    fn service(&self, namespace: &str, name: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        async move {
            let found = self.client.get(&resources::SERVICES, &namespace, &name).await;
            let service = found.map_err(|status| io::Error::other(status.message))?;
            let address: IpAddr = service["spec"]["clusterIP"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| io::Error::other(format!("service {namespace}/{name} has no cluster address")))?;
            let node = self
                .network
                .nodes()
                .first()
                .ok_or_else(|| io::Error::other("no nodes"))?;
            let stream = node.connect(SocketAddr::new(address, port)).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}
