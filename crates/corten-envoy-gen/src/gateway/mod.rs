//! Routers: proxies at the edge of the mesh, configured by Gateways.
//!
//! [`Merged`] is what the Gateways of a router are together: which ports it listens on, with which servers, and which servers are
//! left out because others were there before. Listeners and tables of routes are made of it.

mod diagnostics;
mod http;
mod listener;
mod merge;
mod tcp;
mod tls;

use std::collections::BTreeSet;

use corten_envoy::envoy::config::{listener::v3::Listener, route::v3::RouteConfiguration};

pub use self::{
    diagnostics::{conflicts, diagnostics},
    merge::{Bound, Conflict, Merged, Served},
};
use crate::{Context, security::secret};

/// The listeners of a router.
pub fn listeners(cx: &Context<'_>) -> Vec<Listener> {
    listener::listeners(cx, &Merged::of(cx))
}

/// A table of routes of a router. `None`: it has none of that name.
pub fn route_configuration(cx: &Context<'_>, merged: &Merged, name: &str) -> Option<RouteConfiguration> {
    http::table_of(cx, merged, name)
}

/// The names of the secrets that a router's servers ask the control plane for, and the namespaces of the Gateways that name them.
pub fn credentials(merged: &Merged) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for served in merged.bound.iter().flat_map(|bound| &bound.servers) {
        let namespace = served.namespace.to_string();
        let mut put = |name: String| all.insert((secret::resource_name(&name), namespace.clone()));
        for name in served.server.tls.iter().flat_map(tls::credentials_of) {
            put(name);
        }
    }
    all
}

#[cfg(test)]
mod tests;
