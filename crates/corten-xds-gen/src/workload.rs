//! Workloads and services as `istio.workload` has them.

use std::net::IpAddr;

use corten_model::{
    AppProtocol, GatewayAddress, HealthPolicy, IpFamilies, LoadBalancing, LoadMode, Scope, Service, Tunnel,
    TunnelHeader, Visibility, WaypointAddress, Workload,
};
use corten_proto::workload::{
    self as proto, address::Type, application_tunnel, gateway_address::Destination, load_balancing,
};

pub(crate) fn of_workload(workload: &Workload) -> proto::Address {
    proto::Address {
        r#type: Some(Type::Workload(workload_message(workload))),
    }
}

pub(crate) fn of_service(service: &Service) -> proto::Address {
    proto::Address {
        r#type: Some(Type::Service(service_message(service))),
    }
}

/// A workload's message.
pub fn workload_message(workload: &Workload) -> proto::Workload {
    let (tunnel_protocol, native_tunnel) = match workload.tunnel {
        Tunnel::None => (proto::TunnelProtocol::None, false),
        Tunnel::Hbone => (proto::TunnelProtocol::Hbone, false),
        Tunnel::NativeHbone => (proto::TunnelProtocol::Hbone, true),
    };
    // This version of the protocol calls every single process a pod.
    let workload_type = if workload.typed {
        proto::WorkloadType::Pod
    } else {
        proto::WorkloadType::Deployment
    };
    let services = workload.services.iter().map(|(service, ports)| {
        let ports = ports.iter().map(|port| proto::Port {
            service_port: port.service_port.into(),
            target_port: port.target_port.into(),
            app_protocol: proto::AppProtocol::Unknown.into(),
        });
        (service.to_string(), proto::PortList { ports: ports.collect() })
    });
    proto::Workload {
        name: workload.name.to_string(),
        namespace: workload.namespace.to_string(),
        addresses: workload.addresses.iter().map(|address| octets(*address)).collect(),
        network: workload.network.to_string(),
        tunnel_protocol: tunnel_protocol.into(),
        trust_domain: workload.trust_domain.to_string(),
        service_account: workload.service_account.to_string(),
        waypoint: workload.waypoint.as_deref().map(gateway_address),
        node: workload.node.to_string(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        workload_type: workload_type.into(),
        workload_name: workload.workload_name.to_string(),
        native_tunnel,
        authorization_policies: workload.policies.iter().map(ToString::to_string).collect(),
        status: if workload.healthy {
            proto::WorkloadStatus::Healthy
        } else {
            proto::WorkloadStatus::Unhealthy
        }
        .into(),
        cluster_id: workload.cluster.to_string(),
        network_gateway: workload.network_gateway.as_deref().map(gateway_address),
        uid: workload.uid.to_string(),
        hostname: workload.hostname.to_string(),
        services: services.collect(),
        application_tunnel: workload.application_tunnel.map(|tunnel| proto::ApplicationTunnel {
            protocol: match tunnel.header {
                TunnelHeader::None => application_tunnel::Protocol::None,
                TunnelHeader::Proxy => application_tunnel::Protocol::Proxy,
            }
            .into(),
            port: tunnel.port.into(),
        }),
        locality: workload.locality.as_ref().map(|locality| proto::Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            subzone: locality.subzone.clone(),
        }),
        network_mode: if workload.host_network {
            proto::NetworkMode::HostNetwork
        } else {
            proto::NetworkMode::Standard
        }
        .into(),
        capacity: workload.capacity,
    }
}

/// A service's message.
pub fn service_message(service: &Service) -> proto::Service {
    let addresses = service.addresses.iter().map(|range| proto::NetworkAddress {
        network: service.network.to_string(),
        address: octets(range.address),
        length: range.length.map(u32::from),
    });
    let ports = service.ports.iter().map(|port| proto::Port {
        service_port: port.port.into(),
        target_port: port.target.into(),
        app_protocol: match port.protocol {
            AppProtocol::Unknown => proto::AppProtocol::Unknown,
            AppProtocol::Http11 => proto::AppProtocol::Http11,
            AppProtocol::Http2 => proto::AppProtocol::Http2,
            AppProtocol::Grpc => proto::AppProtocol::Grpc,
            AppProtocol::Tcp => proto::AppProtocol::Tcp,
            AppProtocol::Tls => proto::AppProtocol::Tls,
        }
        .into(),
    });
    let weighted = service
        .weighted_waypoints
        .iter()
        .map(|waypoint| proto::WeightedWaypoint {
            destination: waypoint.address.as_deref().map(gateway_address),
            weight: waypoint.weight.into(),
        });
    proto::Service {
        name: service.name.to_string(),
        namespace: service.namespace.to_string(),
        hostname: service.hostname.to_string(),
        addresses: addresses.collect(),
        ports: ports.collect(),
        subject_alt_names: service.subject_alt_names.iter().map(ToString::to_string).collect(),
        waypoint: service.waypoint.as_deref().map(gateway_address),
        load_balancing: service.load_balancing.map(load_balancing_message),
        ip_families: match service.ip_families {
            IpFamilies::Automatic => proto::IpFamilies::Automatic,
            IpFamilies::Ipv4 => proto::IpFamilies::Ipv4Only,
            IpFamilies::Ipv6 => proto::IpFamilies::Ipv6Only,
            IpFamilies::Dual => proto::IpFamilies::Dual,
        }
        .into(),
        canonical: service.canonical,
        ingress_use_waypoint: service.ingress_use_waypoint,
        weighted_waypoints: weighted.collect(),
        // What nobody sees is not there; should it be asked for all the same, as few as possible see it.
        visibility: match service.visibility {
            Visibility::Public => proto::Visibility::Public,
            Visibility::Namespace | Visibility::None => proto::Visibility::Namespace,
        }
        .into(),
    }
}

fn load_balancing_message(load_balancing: LoadBalancing) -> proto::LoadBalancing {
    let preferences = load_balancing.preferences.iter().map(|scope| {
        match scope {
            Scope::Region => load_balancing::Scope::Region,
            Scope::Zone => load_balancing::Scope::Zone,
            Scope::Subzone => load_balancing::Scope::Subzone,
            Scope::Node => load_balancing::Scope::Node,
            Scope::Network => load_balancing::Scope::Network,
        }
        .into()
    });
    proto::LoadBalancing {
        routing_preference: preferences.collect(),
        mode: match load_balancing.mode {
            LoadMode::Standard => load_balancing::Mode::Unspecified,
            LoadMode::Strict => load_balancing::Mode::Strict,
            LoadMode::Failover => load_balancing::Mode::Failover,
            LoadMode::Passthrough => load_balancing::Mode::Passthrough,
        }
        .into(),
        health_policy: match load_balancing.health {
            HealthPolicy::OnlyHealthy => load_balancing::HealthPolicy::OnlyHealthy,
            HealthPolicy::AllowAll => load_balancing::HealthPolicy::AllowAll,
        }
        .into(),
    }
}

fn gateway_address(gateway: &GatewayAddress) -> proto::GatewayAddress {
    let destination = match &gateway.destination {
        WaypointAddress::Hostname { namespace, hostname } => Destination::Hostname(proto::NamespacedHostname {
            namespace: namespace.to_string(),
            hostname: hostname.to_string(),
        }),
        WaypointAddress::Address { network, address } => Destination::Address(proto::NetworkAddress {
            network: network.to_string(),
            address: octets(*address),
            length: None,
        }),
    };
    proto::GatewayAddress {
        destination: Some(destination),
        hbone_mtls_port: gateway.hbone_port.into(),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
