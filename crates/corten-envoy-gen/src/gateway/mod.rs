//! Routers: proxies at the edge of the mesh, configured by Gateways.
//!
//! [`Merged`] is what the Gateways of a router are together: which ports it listens on, with which servers, and which servers are
//! left out because others were there before. Listeners and tables of routes are made of it.

mod diagnostics;
mod http;
mod listener;
mod merge;
mod misdirected;
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

/// A reference across namespaces that somebody may have consented to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing<'a> {
    /// It is a ListenerSet that refers, and not a Gateway.
    pub of_listener_set: bool,
    /// The namespace that refers.
    pub from: &'a str,
    /// The namespace of the Secret.
    pub to: &'a str,
    /// The Secret.
    pub name: &'a str,
}

/// On a Gateway that was made of another kind: the account of the workload that it is for.
const SERVICE_ACCOUNT: &str = "internal.istio.io/service-account-name";
/// On such a Gateway: what it was made of.
const PARENTS: &str = "internal.istio.io/parents";

/// The Secrets that a router may be given because its Gateways name them: those of its own namespace, named by Gateways of it, and those
/// to whose use there was consented. `account` is who the router has proven to be. Names are those by which proxies ask.
pub fn verified(cx: &Context<'_>, account: (&str, &str), consents: impl Fn(Crossing<'_>) -> bool) -> BTreeSet<String> {
    let merged = Merged::of(cx);
    let mut all = BTreeSet::new();
    for served in merged.bound.iter().flat_map(|bound| &bound.servers) {
        let name = served.gateway.rsplit('/').next().unwrap_or_default();
        let key = (served.namespace.clone(), name.into());
        let Some(gateway) = cx.snapshot.catalog.configs.gateways.get(&key) else {
            continue;
        };
        let said = |key: &str| {
            gateway
                .annotations
                .get(key)
                .map(String::as_str)
                .filter(|said| !said.is_empty())
        };
        let is_for = (
            said(merge::PARENT_NAMESPACE).unwrap_or(&gateway.namespace),
            said(SERVICE_ACCOUNT).unwrap_or(account.1),
        );
        if is_for != account {
            continue;
        }
        let of_listener_set = said(PARENTS).is_some_and(|parents| parents.starts_with("ListenerSet/"));
        let own: &str = if of_listener_set { &gateway.namespace } else { account.0 };
        for name in served.server.tls.iter().flat_map(tls::credentials_of) {
            let name = secret::resource_name(&name);
            let Some((to, secret)) = name
                .strip_prefix("kubernetes-gateway://")
                .and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            let crossing = Crossing {
                of_listener_set,
                from: own,
                to,
                name: secret.strip_suffix(secret::AUTHORITIES).unwrap_or(secret),
            };
            let is_own = to == own && (of_listener_set || *gateway.namespace == *own);
            if is_own || consents(crossing) {
                all.insert(name);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
