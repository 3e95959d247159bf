//! Sidecar: what a workload's proxy listens on and can reach.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message};

use super::destination_rule::ConnectionPoolSettings;
use super::gateway::ServerTLSSettings;
use super::virtual_service::Destination;

/// The specification of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SidecarSpec {
    /// The workload selector.
    pub workload_selector: Option<WorkloadSelector>,
    /// The ingress.
    pub ingress: Vec<IstioIngressListener>,
    /// The egress.
    pub egress: Vec<IstioEgressListener>,
    /// The inbound connection pool.
    pub inbound_connection_pool: Option<ConnectionPoolSettings>,
    /// The outbound traffic policy.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// The istio ingress listener.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioIngressListener {
    /// The port.
    #[api(required)]
    pub port: Option<SidecarPort>,
    /// The bind.
    pub bind: String,
    /// The capture mode.
    pub capture_mode: CaptureMode,
    /// The default endpoint.
    pub default_endpoint: String,
    /// The tls.
    pub tls: Option<ServerTLSSettings>,
    /// The connection pool.
    pub connection_pool: Option<ConnectionPoolSettings>,
}

/// The istio egress listener.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioEgressListener {
    /// The port.
    pub port: Option<SidecarPort>,
    /// The bind.
    pub bind: String,
    /// The capture mode.
    pub capture_mode: CaptureMode,
    /// The hosts.
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

/// The outbound traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OutboundTrafficPolicy {
    /// The mode.
    pub mode: OutboundTrafficPolicyMode,
    /// The egress proxy.
    pub egress_proxy: Option<Destination>,
}

/// The sidecar port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SidecarPort {
    /// The number.
    pub number: Port,
    /// The protocol.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// The target port.
    pub target_port: Port,
}

/// The outbound traffic policy mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum OutboundTrafficPolicyMode {
    /// The value `REGISTRY_ONLY`.
    #[default]
    RegistryOnly,
    /// The value `ALLOW_ANY`.
    AllowAny,
}

/// The capture mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum CaptureMode {
    /// The value `DEFAULT`.
    #[default]
    Default,
    /// The value `IPTABLES`.
    Iptables,
    /// The value `NONE`.
    None,
}
