//! A workload: something with a network address and an identity of its own.

use std::{net::IpAddr, sync::Arc};

use corten_core::{Identity, Locality};
use corten_proto::workload as proto;

use crate::{
    address::parse_ip,
    gateway::{self, GatewayAddress},
    name::{Interner, Name},
    resource::Invalid,
};

/// A workload as the tables keep it. Texts are shared between workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its key.
    pub uid: Name,
    /// Name, for a pod the pod's.
    pub name: Name,
    /// Namespace.
    pub namespace: Name,
    /// Who it is: trust domain, namespace and service account.
    pub identity: Arc<Identity>,
    /// Network; empty is the default one.
    pub network: Name,
    /// Node it runs on.
    pub node: Name,
    /// Cluster.
    pub cluster: Name,
    /// Place of the node.
    pub locality: Arc<Locality>,
    /// Name for telemetry.
    pub canonical_name: Name,
    /// Revision for telemetry.
    pub canonical_revision: Name,
    /// Kind of its owner.
    pub workload_type: WorkloadType,
    /// Name of its owner.
    pub workload_name: Name,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// Name to be resolved when it has no address; empty if there is none.
    pub hostname: Name,
    /// What it speaks inbound.
    pub protocol: InboundProtocol,
    /// It terminates tunnels itself.
    pub native_tunnel: bool,
    /// Its address is the node's.
    pub host_network: bool,
    /// It takes traffic.
    pub healthy: bool,
    /// How its application wants tunnelled traffic.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Waypoint for traffic addressed to it.
    pub waypoint: Option<Box<GatewayAddress>>,
    /// How it is reached from another network.
    pub network_gateway: Option<Box<GatewayAddress>>,
    /// Policies by selector that apply to it, by resource name.
    pub policies: Box<[Name]>,
    /// The services it belongs to, ordered by namespace and host name.
    pub services: Box<[Membership]>,
    /// Weight; 0 is never.
    pub capacity: u32,
}

/// That a workload belongs to a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The service's namespace.
    pub namespace: Name,
    /// The service's host name.
    pub hostname: Name,
    /// Service port and this workload's port for it, ordered.
    pub ports: Box<[(u16, u16)]>,
}

impl Membership {
    /// This workload's port for a port of the service.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        port_of(&self.ports, service_port)
    }
}

/// What a workload speaks inbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundProtocol {
    /// Plain TCP.
    Tcp,
    /// HBONE.
    Hbone,
}

/// Kind of a workload's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadType {
    /// Deployment.
    Deployment,
    /// Cron job.
    CronJob,
    /// The pod itself.
    Pod,
    /// Job.
    Job,
}

impl WorkloadType {
    /// As it is written in baggage.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadType::Deployment => "deployment",
            WorkloadType::CronJob => "cronjob",
            WorkloadType::Pod => "pod",
            WorkloadType::Job => "job",
        }
    }
}

/// How an application wants tunnelled traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// A PROXY header comes first.
    pub proxy: bool,
    /// The port to use instead of the one asked for.
    pub port: Option<u16>,
}

impl Workload {
    /// Whether it speaks HBONE.
    pub fn is_hbone(&self) -> bool {
        self.protocol == InboundProtocol::Hbone
    }

    /// Whether an address is one of its.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Its membership in a service.
    pub fn membership(&self, namespace: &str, hostname: &str) -> Option<&Membership> {
        let key = (namespace, hostname);
        let at = self
            .services
            .binary_search_by(|member| (&*member.namespace, &*member.hostname).cmp(&key));
        at.ok().and_then(|at| self.services.get(at))
    }

    /// How much it is to be preferred over others with the same address: pods first, then those that speak HBONE.
    pub(crate) fn address_rank(&self) -> u8 {
        u8::from(self.uid.contains("//Pod/")) * 2 + u8::from(self.is_hbone())
    }
}

/// A port in an ordered list.
pub(crate) fn port_of(ports: &[(u16, u16)], service_port: u16) -> Option<u16> {
    let at = ports.binary_search_by_key(&service_port, |(port, _)| *port);
    at.ok().and_then(|at| ports.get(at)).map(|(_, target)| *target)
}

/// A list of ports, ordered; numbers that are no port make the resource invalid.
pub(crate) fn parse_ports(field: &'static str, ports: &[proto::Port]) -> Result<Box<[(u16, u16)]>, Invalid> {
    let number = |number: u32| {
        u16::try_from(number).map_err(|_| Invalid::new(field, format!("has port {number}, which is none")))
    };
    let mut parsed = Vec::with_capacity(ports.len());
    for port in ports {
        parsed.push((number(port.service_port)?, number(port.target_port)?));
    }
    parsed.sort_unstable();
    parsed.dedup_by_key(|(port, _)| *port);
    Ok(parsed.into())
}

/// From the message.
pub(crate) fn parse(message: proto::Workload, interner: &mut Interner) -> Result<Workload, Invalid> {
    if message.uid.is_empty() {
        return Err(Invalid::new("uid", "is empty"));
    }
    let default = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let unknown = |field, number| Invalid::unknown(field, number);

    let protocol = match proto::TunnelProtocol::try_from(message.tunnel_protocol) {
        Ok(proto::TunnelProtocol::None) => InboundProtocol::Tcp,
        Ok(proto::TunnelProtocol::Hbone) => InboundProtocol::Hbone,
        Ok(proto::TunnelProtocol::LegacyIstioMtls) => {
            return Err(Invalid::new(
                "tunnel_protocol",
                "is LEGACY_ISTIO_MTLS, which is not supported",
            ));
        }
        Err(_) => return Err(unknown("tunnel_protocol", message.tunnel_protocol)),
    };
    let workload_type = match proto::WorkloadType::try_from(message.workload_type) {
        Ok(proto::WorkloadType::Deployment) => WorkloadType::Deployment,
        Ok(proto::WorkloadType::Cronjob) => WorkloadType::CronJob,
        Ok(proto::WorkloadType::Pod) => WorkloadType::Pod,
        Ok(proto::WorkloadType::Job) => WorkloadType::Job,
        Err(_) => return Err(unknown("workload_type", message.workload_type)),
    };
    let status = proto::WorkloadStatus::try_from(message.status).map_err(|_| unknown("status", message.status))?;
    let network_mode = proto::NetworkMode::try_from(message.network_mode)
        .map_err(|_| unknown("network_mode", message.network_mode))?;
    let application_tunnel = message.application_tunnel.as_ref().map(parse_tunnel).transpose()?;

    let mut addresses = Vec::with_capacity(message.addresses.len());
    for bytes in &message.addresses {
        let address = parse_ip(bytes).ok_or_else(|| Invalid::address("addresses", bytes))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut services = Vec::with_capacity(message.services.len());
    for (key, ports) in &message.services {
        let Some((namespace, hostname)) = key.split_once('/') else {
            return Err(Invalid::new(
                "services",
                format!("has '{key}', which is not namespace/hostname"),
            ));
        };
        services.push(Membership {
            namespace: interner.name(namespace),
            hostname: interner.name(hostname),
            ports: parse_ports("services", &ports.ports)?,
        });
    }
    services.sort_unstable();
    let mut gateway_of = |field, message: Option<proto::GatewayAddress>| {
        message
            .map(|message| gateway::parse(field, message, interner).map(Box::new))
            .transpose()
    };
    let waypoint = gateway_of("waypoint", message.waypoint)?;
    let network_gateway = gateway_of("network_gateway", message.network_gateway)?;

    let locality = message.locality.unwrap_or_default();
    let cluster = default(message.cluster_id, "Kubernetes");
    Ok(Workload {
        uid: interner.name(&message.uid),
        name: interner.name(&message.name),
        namespace: interner.name(&message.namespace),
        identity: interner.identity(Identity {
            trust_domain: default(message.trust_domain, "cluster.local"),
            namespace: message.namespace,
            service_account: default(message.service_account, "default"),
        }),
        network: interner.name(&message.network),
        node: interner.name(&message.node),
        cluster: interner.name(&cluster),
        locality: interner.locality(Locality {
            region: locality.region,
            zone: locality.zone,
            subzone: locality.subzone,
        }),
        canonical_name: interner.name(&message.canonical_name),
        canonical_revision: interner.name(&message.canonical_revision),
        workload_type,
        workload_name: interner.name(&message.workload_name),
        addresses: addresses.into(),
        hostname: interner.name(&message.hostname),
        protocol,
        native_tunnel: message.native_tunnel,
        host_network: network_mode == proto::NetworkMode::HostNetwork,
        healthy: status == proto::WorkloadStatus::Healthy,
        application_tunnel,
        waypoint,
        network_gateway,
        policies: message
            .authorization_policies
            .iter()
            .map(|key| interner.name(key))
            .collect(),
        services: services.into(),
        capacity: message.capacity.unwrap_or(1),
    })
}

fn parse_tunnel(message: &proto::ApplicationTunnel) -> Result<ApplicationTunnel, Invalid> {
    const FIELD: &str = "application_tunnel";
    let protocol = proto::application_tunnel::Protocol::try_from(message.protocol)
        .map_err(|_| Invalid::unknown(FIELD, message.protocol))?;
    let port = u16::try_from(message.port)
        .map_err(|_| Invalid::new(FIELD, format!("has port {}, which is none", message.port)))?;
    Ok(ApplicationTunnel {
        proxy: protocol == proto::application_tunnel::Protocol::Proxy,
        port: (port != 0).then_some(port),
    })
}
