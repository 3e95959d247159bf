//! By what an on-demand client can find a workload or a service: its addresses, the services it belongs to, its node.

use std::net::IpAddr;

use corten_proto::Message;
use corten_proto::workload::{Address, NetworkMode, address::Type};
use corten_xds::server::{Keys, Resource};

/// The keys of an `istio.workload.Address`.
pub(crate) fn of_address(resource: &Resource) -> Keys {
    let decoded = Address::decode(resource.body()).ok().and_then(|address| address.r#type);
    match decoded {
        Some(Type::Workload(workload)) => Keys {
            aliases: workload
                .addresses
                .iter()
                // An address that a node and its pods share leads to none of them.
                .filter(|_| workload.network_mode != NetworkMode::HostNetwork as i32)
                .filter_map(|bytes| Some(format!("{}/{}", workload.network, ip(bytes)?)))
                .collect(),
            groups: workload.services.into_keys().collect(),
            node: workload.node,
        },
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

/// Policies are found by their names only.
pub(crate) fn of_authorization(_: &Resource) -> Keys {
    Keys::default()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
