//! By what an on-demand client can find a workload or a service: its addresses, the services it belongs to, its node.

use std::net::IpAddr;

use corten_proto::workload::{Address, NetworkMode, Workload, address::Type};
use corten_proto::{Message, WORKLOAD_TYPE};
use corten_xds::server::{Keys, Resource};

/// The keys of an `istio.workload.Address`.
pub(crate) fn of_address(resource: &Resource) -> Keys {
    let decoded = Address::decode(resource.body()).ok().and_then(|address| address.r#type);
    match decoded {
        Some(Type::Workload(workload)) => of_workload_message(workload),
        Some(Type::Service(service)) => Keys {
            aliases: service
                .addresses
                .iter()
                .filter_map(|at| {
                    let length = at.length.map_or(String::new(), |length| format!("/{length}"));
                    Some(format!("{}/{}{length}", at.network, ip(&at.address)?))
                })
                .collect(),
            ..Keys::default()
        },
        None => Keys::default(),
    }
}

/// The `istio.workload.Workload` of an `istio.workload.Address`; none: it is a service.
pub(crate) fn workload_of(resource: &Resource) -> Option<Resource> {
    match Address::decode(resource.body()).ok()?.r#type? {
        Type::Workload(workload) => Some(Resource::new(
            WORKLOAD_TYPE,
            resource.name().clone(),
            resource.version(),
            &workload.encode_to_vec(),
        )),
        Type::Service(_) => None,
    }
}

/// The keys of an `istio.workload.Workload`.
pub(crate) fn of_workload(resource: &Resource) -> Keys {
    Workload::decode(resource.body()).map_or_else(|_| Keys::default(), of_workload_message)
}

fn of_workload_message(workload: Workload) -> Keys {
    Keys {
        aliases: workload
            .addresses
            .iter()
            // An address that a node and its pods share leads to none of them.
            .filter(|_| workload.network_mode != NetworkMode::HostNetwork as i32)
            .filter_map(|bytes| Some(format!("{}/{}", workload.network, ip(bytes)?)))
            .collect(),
        groups: workload.services.into_keys().collect(),
        node: workload.node,
    }
}

/// Policies are found by their names only.
pub(crate) fn of_authorization(_: &Resource) -> Keys {
    Keys::default()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
