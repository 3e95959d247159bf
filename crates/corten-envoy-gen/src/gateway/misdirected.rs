//! Requests that came by a connection for another server: clients use a connection again for whatever else its certificate names, and
//! the servers of one port may differ in whom they let in.
//!
//! Of Gateways that were made of the Gateway API each server answers 421 to what another one is for, so that the client opens a connection
//! of its own there. Gateways of Istio's own kind do as Istio does: such requests find no route.

use std::collections::BTreeSet;

use corten_core::Host;
use corten_envoy::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteMatch, VirtualHost, route::Action, route_match::PathSpecifier,
};

use super::merge::{Merged, SERVICES, Served};
use crate::{Context, names};

/// The status of a request that should have come by another connection.
const MISDIRECTED: u32 = 421;

/// What the requests of a table of routes may be for.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// What other servers are for, where this one would take it.
    others: BTreeSet<String>,
    /// What this one is for; empty: everything, or nobody asks.
    own: Vec<String>,
}

/// What the requests of a table may be for; nothing, if it is none of a server with TLS that ends here.
pub(super) fn domains(cx: &Context<'_>, merged: &Merged, table: &str) -> Domains {
    let is_it = |served: &&Served| served.table == table && served.is_https() && is_converted(cx, served);
    let found = merged
        .bound
        .iter()
        .find_map(|bound| Some((bound.port, bound.servers.iter().find(is_it)?)));
    let Some((port, server)) = found else {
        return Domains::default();
    };
    let at_port = merged.bound.iter().filter(|bound| bound.port == port);
    let others = at_port
        .flat_map(|bound| &bound.servers)
        .filter(|other| other.table != table && other.server.tls.is_some());
    let names = others.flat_map(|other| &other.names);
    let takes = |name: &&String| {
        let other = Host::from(name.as_str());
        let own = server.names.iter().map(|own| Host::from(own.as_str()));
        own.into_iter().any(|own| own != other && other.is_subset_of(&own))
    };
    let is_all = server.names.iter().any(|name| name == "*");
    Domains {
        others: names.filter(takes).cloned().collect(),
        own: if is_all { Vec::new() } else { server.names.clone() },
    }
}

/// Whether a server's Gateway was made of the Gateway API.
fn is_converted(cx: &Context<'_>, served: &Served) -> bool {
    let name = served.gateway.rsplit('/').next().unwrap_or_default();
    let key = (served.namespace.clone(), name.into());
    let gateways = &cx.snapshot.catalog.configs.gateways;
    gateways
        .get(&key)
        .is_some_and(|gateway| gateway.annotations.contains_key(SERVICES))
}

impl Domains {
    /// Whether a host is another server's.
    pub(super) fn has(&self, host: &Host) -> bool {
        let mut others = self.others.iter().map(|other| Host::from(other.as_str()));
        others.any(|other| host.is_subset_of(&other))
    }

    /// What of the server's own has no routes and finds none: `usual`, or what of its names is not among the hosts.
    pub(super) fn own<'a>(&self, usual: Vec<String>, hosts: impl Iterator<Item = &'a Host>) -> Vec<String> {
        if self.own.is_empty() {
            return usual;
        }
        let taken: BTreeSet<String> = hosts.map(ToString::to_string).collect();
        self.own.iter().filter(|own| !taken.contains(*own)).cloned().collect()
    }

    /// What answers requests that are for others; `None`: there are none.
    pub(super) fn virtual_host(self, port: u16) -> Option<VirtualHost> {
        let rest = (!self.own.is_empty()).then(|| "*".to_owned());
        let domains: Vec<String> = self.others.into_iter().chain(rest).collect();
        let answer = Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(Action::DirectResponse(DirectResponseAction {
                status: MISDIRECTED,
                ..DirectResponseAction::default()
            })),
            ..Route::default()
        };
        (!domains.is_empty()).then(|| VirtualHost {
            name: names::virtual_host("misdirected", port),
            domains,
            routes: vec![answer],
            ..VirtualHost::default()
        })
    }
}
