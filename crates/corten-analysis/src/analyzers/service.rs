//! Services: ports whose names do not say their protocol.

use corten_api::kubernetes::IntOrString;
use corten_core::Protocol;

use crate::catalogue;
use crate::membership::is_control_plane;
use crate::objects::World;
use crate::report::Report;

const MANAGED: &str = "gateway.istio.io/managed";
/// What makes services for gateways.
const GATEWAY_CONTROLLERS: [&str; 3] = [
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
];

/// A target port as Kubernetes writes it.
pub(super) fn target(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

pub(super) fn port_names(world: &World, report: &mut Report) {
    for service in &world.services {
        let manager = service.object.labels.get(MANAGED).map_or("", String::as_str);
        if is_control_plane(&service.object) || GATEWAY_CONTROLLERS.contains(&manager) {
            continue;
        }
        let Some(spec) = &service.spec.spec else { continue };
        let external = spec.type_.as_deref() == Some("ExternalName");
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let name = port.name.as_deref().unwrap_or_default();
            let number = u16::try_from(port.port).unwrap_or_default();
            let transport = port.protocol.as_deref().unwrap_or("TCP");
            let protocol = Protocol::of_port(number, name, transport, port.app_protocol.as_deref());
            if protocol != Protocol::Unsupported && !(external && name == "tcp") {
                continue;
            }
            let path = format!("spec.ports[{index}].port");
            if external {
                let kind = &catalogue::EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME;
                report.add(kind, &service.object, &path, &[]);
            } else {
                let target = port.target_port.as_ref().map_or_else(|| "0".to_owned(), target);
                let parameters = [
                    ("portName", name),
                    ("port", &*port.port.to_string()),
                    ("targetPort", &*target),
                ];
                let kind = &catalogue::PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION;
                report.add(kind, &service.object, &path, &parameters);
            }
        }
    }
}
