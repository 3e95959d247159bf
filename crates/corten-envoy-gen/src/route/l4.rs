//! Where connections lead that are not HTTP.

use corten_envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy;
use corten_routing::{EgressListener, Service, ServicePort};
use ipnet::IpNet;

use crate::{Context, listener::TcpOptions, names};

/// A way for connections to a service's port.
#[derive(Debug, Clone)]
pub(crate) struct L4Chain {
    /// The server names of TLS that take it; none: any, and what is no TLS.
    pub(crate) names: Vec<String>,
    /// The addresses called that take it; none: any.
    pub(crate) subnets: Vec<IpNet>,
    /// The prefix of its statistics.
    pub(crate) stat_prefix: String,
    /// Where it leads.
    pub(crate) to: tcp_proxy::ClusterSpecifier,
    /// How.
    pub(crate) options: TcpOptions,
}

/// The ways for connections to a service's port, on a listener for `subnets` of its addresses (none: the listener has the service's
/// address) or for all addresses (`everywhere`), where only the server's name tells services apart.
pub(crate) fn l4_chains(
    _cx: &Context<'_>,
    _egress: &EgressListener,
    service: &Service,
    port: &ServicePort,
    everywhere: bool,
    subnets: &[IpNet],
) -> Vec<L4Chain> {
    let cluster = names::outbound(port.number, "", &service.host);
    let named = port.protocol.is_tls() && everywhere;
    vec![L4Chain {
        names: if named {
            vec![service.host.to_string()]
        } else {
            Vec::new()
        },
        subnets: subnets.to_vec(),
        stat_prefix: cluster.clone(),
        to: tcp_proxy::ClusterSpecifier::Cluster(cluster),
        options: TcpOptions::default(),
    }]
}
