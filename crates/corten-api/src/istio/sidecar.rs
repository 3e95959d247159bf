//! Sidecar: what a workload's proxy listens on and can reach.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message};

use super::destination_rule::ConnectionPoolSettings;
use super::gateway::ServerTLSSettings;
use super::virtual_service::Destination;

/// What the proxies of some workloads listen on, and what they can reach.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SidecarSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub workload_selector: Option<WorkloadSelector>,
    /// Listeners for connections to the workload.
    pub ingress: Vec<IstioIngressListener>,
    /// Listeners for connections of the workload, and the hosts it can reach.
    pub egress: Vec<IstioEgressListener>,
    /// Limits on connections to the workload.
    pub inbound_connection_pool: Option<ConnectionPoolSettings>,
    /// What happens to connections to unknown hosts.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// A listener for connections to a workload.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioIngressListener {
    /// The port.
    #[api(required)]
    pub port: Option<SidecarPort>,
    /// The address or unix socket to listen on.
    pub bind: String,
    /// How connections get to the listener.
    pub capture_mode: CaptureMode,
    /// Where the application listens.
    pub default_endpoint: String,
    /// TLS settings.
    pub tls: Option<ServerTLSSettings>,
    /// How many and how long-lived connections may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
}

/// A listener for connections of a workload.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioEgressListener {
    /// The port.
    pub port: Option<SidecarPort>,
    /// The address or unix socket to listen on.
    pub bind: String,
    /// How connections get to the listener.
    pub capture_mode: CaptureMode,
    /// The services that can be reached, as `namespace/host`.
    #[api(required)]
    pub hosts: Vec<String>,
}

/// The workload selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WorkloadSelector {
    /// The labels.
    #[api(
        values(
            max_length = 63,
            rule(r#"!self.contains("*")"#, "wildcard is not supported in selector")
        ),
        max_properties = 256
    )]
    pub labels: BTreeMap<String, String>,
}

/// What happens to connections to hosts that the mesh does not know.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OutboundTrafficPolicy {
    /// The mode.
    pub mode: OutboundTrafficPolicyMode,
    /// The gateway they go through.
    pub egress_proxy: Option<Destination>,
}

/// The sidecar port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SidecarPort {
    /// The number.
    pub number: Port,
    /// What is spoken.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// The port of the workload.
    pub target_port: Port,
}

/// The outbound traffic policy mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum OutboundTrafficPolicyMode {
    /// Unknown hosts cannot be reached.
    #[default]
    RegistryOnly,
    /// Unknown hosts can be reached.
    AllowAny,
}

/// The capture mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum CaptureMode {
    /// As the mesh does it.
    #[default]
    Default,
    /// Connections are redirected to the listener.
    Iptables,
    /// The application connects to the listener itself.
    None,
}
