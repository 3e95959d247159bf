//! Services, routes and rules as an L7 proxy sees them.
//!
//! A [`World`] takes objects and keeps two views of them up to date: the model's snapshot (workloads, who belongs to which service,
//! policies of L4) and a [`Catalog`]: services with everything that routing needs, and Istio's configuration resolved, merged and
//! sorted as it takes effect. A [`Scope`] is what one proxy sees of the catalog. No clock, no I/O.

mod catalog;
mod config;
mod delegate;
mod destination_rule;
mod endpoint;
mod local_hosts;
mod notice;
pub mod offline;
mod proxy;
pub mod proxy_config;
mod scope;
mod service;
#[cfg(test)]
mod testing;
mod unusable;
mod virtual_service;
mod visibility;
mod world;

pub use self::{
    catalog::Catalog,
    config::{Config, ConfigKey, ConfigKind, Configs, Generated, GeneratedObjects, Table, by_age},
    delegate::{conflicts, merge_matches, merge_route},
    destination_rule::{DestinationRule, DestinationRules, for_port, merge_policies, policy_for, tls_mode},
    endpoint::{Address, Endpoint, Health, endpoints},
    local_hosts::LocalHosts,
    notice::{About, CONFLICT, MISSING, NO_EFFECT, UNUSABLE},
    proxy::{Interception, IpMode, OwnConfig, Proxy, ProxyError, ProxyKind},
    scope::{EgressListener, Scope, destinations_of},
    service::{Registry, Resolution, Service, ServicePort, Services},
    virtual_service::{GatewayName, MESH_GATEWAY, Semantics, VirtualService, VirtualServices, full_host},
    visibility::Visibility,
    world::{KeySets, Snapshot, World},
};
