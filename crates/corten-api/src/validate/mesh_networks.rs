//! MeshNetworks.

use super::{Report, text};
use crate::istio::mesh_networks::{IstioNetworkGatewayGw, MeshNetworks, NetworkEndpointsNe};

/// The networks of the mesh.
pub fn mesh_networks(networks: &MeshNetworks, report: &mut Report) {
    for (name, network) in &networks.networks {
        for (i, endpoint) in network.endpoints.iter().enumerate() {
            let at = format!("networks[{name}].endpoints[{i}]");
            match &endpoint.ne {
                Some(NetworkEndpointsNe::FromCidr(range)) => {
                    report.check(format!("{at}.fromCidr"), text::ip_subnet(range))
                }
                Some(NetworkEndpointsNe::FromRegistry(registry)) => {
                    report.check(
                        format!("{at}.fromRegistry"),
                        text::label(registry, "the name of a registry,"),
                    );
                }
                None => {}
            }
        }
        for (i, gateway) in network.gateways.iter().enumerate() {
            let at = format!("networks[{name}].gateways[{i}]");
            match &gateway.gw {
                Some(IstioNetworkGatewayGw::RegistryServiceName(service)) => {
                    report.check(format!("{at}.registryServiceName"), text::fqdn(service));
                }
                Some(IstioNetworkGatewayGw::Address(address)) if !text::is_ip_address(address) => {
                    report.check(format!("{at}.address"), text::fqdn(address));
                }
                Some(IstioNetworkGatewayGw::Address(_)) | None => {}
            }
            report.check(format!("{at}.port"), text::port(gateway.port.0));
        }
    }
}

/// What takes no effect: of where workloads are, and how other networks are reached, labels tell.
pub(super) fn unhonoured(networks: &MeshNetworks, report: &mut Report) {
    const ENDPOINTS: &str =
        "takes no effect: label the namespace istio-system of the cluster, or the workloads, topology.istio.io/network";
    const GATEWAYS: &str = "takes no effect: a Gateway of the Gateway API with the label topology.istio.io/network says how its network is reached";
    for (name, network) in &networks.networks {
        for (i, endpoint) in network.endpoints.iter().enumerate() {
            let field = match &endpoint.ne {
                Some(NetworkEndpointsNe::FromCidr(_)) => "fromCidr",
                Some(NetworkEndpointsNe::FromRegistry(_)) => "fromRegistry",
                None => continue,
            };
            report.warning(format!("networks[{name}].endpoints[{i}].{field}"), ENDPOINTS);
        }
        for (i, gateway) in network.gateways.iter().enumerate() {
            let by = match &gateway.gw {
                Some(IstioNetworkGatewayGw::RegistryServiceName(_)) => Some("registryServiceName"),
                Some(IstioNetworkGatewayGw::Address(_)) => Some("address"),
                None => None,
            };
            let locality = (!gateway.locality.is_empty()).then_some("locality");
            for field in by.into_iter().chain(["port"]).chain(locality) {
                report.warning(format!("networks[{name}].gateways[{i}].{field}"), GATEWAYS);
            }
        }
    }
}
