//! What of a node's configuration the decisions depend on.

use crate::name::Name;

/// Port of the outbound listener.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of the inbound listener for what is not tunnelled.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Port of the inbound tunnel listener.
pub const HBONE_PORT: u16 = 15008;
/// Port of the SOCKS5 listener, when there is one.
pub const SOCKS5_PORT: u16 = 15080;

/// Settings of one node proxy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The network this node is on; empty is the default one (`NETWORK`).
    pub network: Name,
    /// The cluster's DNS domain (`CLUSTER_DOMAIN`).
    pub cluster_domain: Name,
    /// The namespace whose services are preferred when a host name is known in several, none of them the client's or canonical
    /// (`PREFERED_SERVICE_NAMESPACE`).
    pub preferred_service_namespace: Option<Name>,
    /// Traffic with the PROXY protocol goes to the loopback address (`LOCALHOST_APP_TUNNEL`).
    pub localhost_app_tunnel: bool,
    /// IPv6 is answered and used (`IPV6_ENABLED`).
    pub ipv6: bool,
    /// Domains that clients append to names; absent: those that Kubernetes gives its pods.
    pub search: Option<Vec<Name>>,
    /// A SOCKS5 listener runs, so that its port is one of ours.
    pub socks5: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            network: Name::default(),
            cluster_domain: Name::from("cluster.local"),
            preferred_service_namespace: None,
            localhost_app_tunnel: true,
            ipv6: true,
            search: None,
            socks5: false,
        }
    }
}

impl Settings {
    /// Whether a port is one that this proxy itself listens on in each pod.
    pub fn is_own_port(&self, port: u16) -> bool {
        matches!(port, OUTBOUND_PORT | INBOUND_PLAINTEXT_PORT | HBONE_PORT) || (self.socks5 && port == SOCKS5_PORT)
    }
}
