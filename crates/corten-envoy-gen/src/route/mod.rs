//! Where requests and connections go: VirtualServices and services as Envoy's routes.
//!
//! [`route_configuration`] answers for tables that proxies ask for by name, `inbound_route` makes the table that a listener for
//! a workload's own port carries, and `l4_chains` says where connections go whose requests nobody looks at.

mod action;
mod diagnostics;
mod domains;
mod filter;
mod hash;
mod header;
mod http;
mod inbound;
mod l4;
mod matching;
mod missing;
mod outbound;
mod retry;
mod waypoint;

use std::collections::BTreeSet;

use corten_envoy::{
    boolean, decode,
    envoy::{
        config::{
            listener::v3::{Listener, filter::ConfigType},
            route::v3::{RouteConfiguration, VirtualHost},
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
    },
    uint32,
};

pub use self::{
    diagnostics::diagnostics,
    http::{At, Target, http_routes},
    l4::{tcp_matches, tls_matches},
    matching::routing_claim,
    missing::missing,
    outbound::Tables,
};
pub(crate) use self::{
    http::{counts_attempts, is_catch_all, proxy_headers, span},
    inbound::inbound_route,
    l4::{L4Chain, chain_to, l4_chains, target, tcp_options},
    outbound::unknown,
    waypoint::{waypoint_l4, waypoint_route},
};
use crate::Context;

/// The largest body that is answered directly, in bytes.
const DIRECT_BODY: u32 = 1024 * 1024;

/// The table of a name that the proxy asks for. `None`: no such table is its; it is answered with an [empty one](empty).
pub fn route_configuration(cx: &Context<'_>, name: &str) -> Option<RouteConfiguration> {
    Tables::new(cx).get(name)
}

/// The names of the tables that listeners ask for.
pub fn names(listeners: &[Listener]) -> BTreeSet<String> {
    let chains = listeners
        .iter()
        .flat_map(|listener| listener.filter_chains.iter().chain(&listener.default_filter_chain));
    let managers = chains.flat_map(|chain| &chain.filters).filter_map(|filter| {
        let Some(ConfigType::TypedConfig(config)) = &filter.config_type else {
            return None;
        };
        decode::<HttpConnectionManager>(config).ok().flatten()
    });
    managers
        .filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
            _ => None,
        })
        .collect()
}

/// A table of virtual hosts.
pub(crate) fn table(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: boolean(false),
        max_direct_response_body_size_bytes: uint32(DIRECT_BODY),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

/// A table without routes: what a proxy is sent that asks for one that is not there, lest it waits for it.
pub fn empty(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: boolean(false),
        ..RouteConfiguration::default()
    }
}

#[cfg(test)]
mod tests;
