//! Waypoints: proxies that look at requests on behalf of workloads which have only a node proxy.
//!
//! A tunnel ends at `connect_terminate`, which notes who opened it and where to, and hands its connection to `main_internal`. There
//! the address that was called chooses the service, whose policies and routes are followed; its endpoints are reached through
//! `connect_originate`, which opens a tunnel of the waypoint's own. All of it is Envoy's own: listeners inside the proxy are joined
//! by notes (filter state) that one leaves for the next.
//!
//! Whoever serves another proxy than Envoy, to which one extension says what these three say, chooses here by the node's
//! metadata: [`listeners`] and [`clusters`] are all that differs.

mod listener;
mod main_internal;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use corten_core::{Host, Protocol};
use corten_envoy::{
    any,
    envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport,
    },
};
use corten_model::{ObjectKind, Waypoint, Workload};
use corten_routing::{MESH_GATEWAY, ProxyKind, Resolution, Service, VirtualService};

pub(crate) use self::listener::{internal, listeners, originate, terminate};
use crate::{Context, security::tls};

/// The port on which tunnels are taken.
pub(crate) const HBONE_PORT: u16 = 15008;

/// The label by which a pod is one of a gateway's.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// What a waypoint is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind<'a>(&'a Waypoint);

impl<'a> Behind<'a> {
    /// What the proxy is for; `None`: it is no waypoint, or none that anything could use yet.
    pub(crate) fn of(cx: &Context<'a>) -> Option<Behind<'a>> {
        let (model, proxy) = (&cx.snapshot.model, cx.proxy);
        if proxy.kind != ProxyKind::Waypoint {
            return None;
        }
        // By its label alone: by that, policies are attached to it, too. One behind the gateway's service without the label would serve
        // what no policy guards.
        let name = proxy.labels.get(GATEWAY_NAME)?;
        let named = model.waypoint(&format!("{}/{name}", proxy.namespace))?;
        Some(Behind(named))
    }

    /// Whether a service's traffic comes here.
    pub(crate) fn has(&self, cx: &Context<'_>, service: &Service) -> bool {
        let Some(known) = cx.snapshot.model.service(&service.key) else {
            return false;
        };
        let address = self.0.address.as_ref();
        known.waypoint_name.as_ref() == Some(&self.0.key)
            || address.is_some()
                && (known.waypoint.as_ref() == address
                    || known
                        .weighted_waypoints
                        .iter()
                        .any(|share| share.address.as_ref() == address))
    }

    /// The service of a host whose traffic comes here.
    pub(crate) fn service<'c>(&self, cx: &Context<'c>, host: &Host) -> Option<&'c Arc<Service>> {
        let all = cx.snapshot.catalog.services.of_host(host);
        all.iter().find(|service| is_served(service) && self.has(cx, service))
    }

    /// The services whose traffic comes here, oldest first, each host once.
    pub(crate) fn services<'c>(&self, cx: &Context<'c>) -> Vec<&'c Arc<Service>> {
        let mut seen = HashSet::new();
        let all = cx.snapshot.catalog.services.iter();
        all.filter(|service| is_served(service) && self.has(cx, service) && seen.insert(&service.host))
            .collect()
    }

    /// The addresses of a workload whose traffic comes here, each with the names in its certificate; `None`: it does not.
    pub(crate) fn takes(&self, cx: &Context<'_>, workload: &Workload) -> Option<Vec<(IpAddr, Option<String>)>> {
        let address = self.0.address.as_ref();
        if address.is_none() || !self.0.traffic_type.takes_workloads() || workload.waypoint.as_ref() != address {
            return None;
        }
        let names = tls::names_of(cx.mesh(), workload);
        let all = workload.addresses.iter();
        Some(all.map(|address| (*address, names.clone())).collect())
    }

    /// The workloads whose traffic comes here, by address, with the names in their certificates. A pod goes before an entry that says
    /// something else of its address.
    fn workloads(&self, cx: &Context<'_>) -> BTreeMap<IpAddr, Option<String>> {
        if self.0.address.is_none() || !self.0.traffic_type.takes_workloads() {
            return BTreeMap::new();
        }
        let all = cx.snapshot.model.workloads();
        let mut all: Vec<_> = all.filter(|workload| workload.waypoint == self.0.address).collect();
        all.sort_by_key(|workload| (workload.source.kind != ObjectKind::Pod, &workload.uid));
        let mut found = BTreeMap::new();
        for (address, names) in all
            .into_iter()
            .filter_map(|workload| self.takes(cx, workload))
            .flatten()
        {
            found.entry(address).or_insert(names);
        }
        found
    }
}

/// Whether a service can be behind a waypoint: names that are looked up for each request only where they are outside the mesh.
fn is_served(service: &Service) -> bool {
    match service.resolution {
        Resolution::Alias => false,
        Resolution::DynamicDns => service.mesh_external,
        _ => true,
    }
}

/// The kinds of clusters that a port has at a waypoint: by requests, by bytes, or both where it is not known what is spoken.
pub(crate) fn clusters_of(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Udp => &[],
        Protocol::Unsupported => &["http", "tcp"],
        protocol if protocol.is_http() => &["http"],
        _ => &["tcp"],
    }
}

/// The VirtualServices that are followed for a service: of the waypoint's namespace or the service's, all of them together.
pub(crate) fn virtual_services<'a>(cx: &Context<'a>, service: &Service) -> Vec<&'a Arc<VirtualService>> {
    let all = cx.scope.egress.iter().flat_map(|egress| &egress.virtual_services);
    all.filter(|of| of.namespace == cx.proxy.namespace || of.namespace == service.namespace)
        .filter(|of| of.spec.hosts.iter().any(|host| host.matches(&service.host)))
        .collect()
}

/// The gateway that routes of the mesh are for.
pub(crate) const GATEWAY: &str = MESH_GATEWAY;

/// The socket towards the listener that makes tunnels, which learns from the endpoint where to. `inner` is what is spoken inside of
/// the tunnel; `None`: bytes.
pub(crate) fn to_tunnel(inner: Option<TransportSocket>) -> TransportSocket {
    tls::tunnelled(inner.unwrap_or_else(tls::plain_socket))
}

/// The socket towards a listener inside the proxy, with nothing but the notes of the connection.
pub(crate) fn inside() -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.internal_upstream".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&InternalUpstreamTransport {
            transport_socket: Some(tls::plain_socket()),
            ..InternalUpstreamTransport::default()
        }))),
    }
}
