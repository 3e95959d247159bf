//! The table of routes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::destination::path;
use super::{Dump, DumpError, items, made_of, subset_key, text};
use crate::table::{columns, row};

/// How many domains are shown.
const DOMAINS_MAX: usize = 2;

/// Which routes.
#[derive(Clone, Debug, Default)]
pub struct RouteFilter {
    /// The route configuration's name.
    pub name: Option<String>,
}

/// The route configurations that a filter lets pass.
///
/// # Errors
///
/// The dump has none at all.
pub fn select_routes<'a>(dump: &'a Dump, filter: &RouteFilter) -> Result<Vec<&'a Value>, DumpError> {
    let mut found = dump.routes()?;
    let wanted = filter.name.as_deref();
    found.retain(|route| wanted.is_none_or(|wanted| route["name"] == wanted));
    Ok(found)
}

/// The table of routes: a line for each, or only how many virtual hosts there are.
///
/// # Errors
///
/// The dump has none at all.
pub fn routes(dump: &Dump, filter: &RouteFilter, verbose: bool, named: bool) -> Result<String, DumpError> {
    let mut rows = vec![if verbose {
        row(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"])
    } else {
        row(["NAME", "VIRTUAL HOSTS"])
    }];
    for config in select_routes(dump, filter)? {
        let mut name = text(&config["name"]).to_owned();
        if named {
            name.insert_str(0, "route/");
        }
        let hosts = items(&config["virtualHosts"]);
        if !verbose {
            rows.push(row([&name, &hosts.len().to_string()]));
            continue;
        }
        for host in hosts {
            let (of, domains) = (text(&host["name"]), domains(&host["domains"]));
            let mut routes = items(&host["routes"]).peekable();
            if routes.peek().is_none() {
                rows.push(row([&name, of, &domains, "/*", "404"]));
            }
            for route in routes.filter(|route| route["route"]["cluster"] != "PassthroughCluster") {
                rows.push(row([&name, of, &domains, &path(&route["match"]), &made_of(route)]));
            }
        }
    }
    Ok(columns(&rows, 5))
}

/// The first domains: without those that only add a port, or a suffix of the cluster's, to another.
fn domains(list: &Value) -> String {
    let all: Vec<&str> = items(list).map(text).collect();
    if let [only] = all[..] {
        return only.to_owned();
    }
    let is_bare = |domain: &&str| match domain.matches(':').count() {
        0 => true,
        1 | 2 => false,
        // An address of version 6: with a port after the bracket, or without.
        _ => domain.ends_with(']'),
    };
    let bare: Vec<&str> = all.into_iter().filter(is_bare).collect();
    let known: BTreeSet<&str> = bare.iter().copied().collect();
    let longer = |domain: &str, suffix: &str| domain.strip_suffix(suffix).is_some_and(|it| known.contains(it));
    let shown: Vec<&str> = bare
        .iter()
        .copied()
        .filter(|domain| !longer(domain, ".svc.cluster.local") && !longer(domain, ".svc"))
        .collect();
    if shown.len() > DOMAINS_MAX {
        let rest = shown.len() - DOMAINS_MAX;
        return format!("{} + {rest} more...", shown[..DOMAINS_MAX].join(", "));
    }
    shown.join(", ")
}

/// The path of the VirtualService behind the route to a service's port, as Istio's metadata has it; empty for a route that no object made.
pub fn behind<'a>(dump: &'a Dump, service: &str, namespace: &str, port: u16) -> Option<&'a str> {
    let host = format!("{service}.{namespace}.");
    let leads = |cluster: &Value| {
        subset_key(text(cluster)).is_some_and(|(_, of, _, to)| of == port.to_string() && to.starts_with(&host))
    };
    let configs = dump.routes().ok()?;
    let hosts = configs.into_iter().flat_map(|config| items(&config["virtualHosts"]));
    let mut routes = hosts.flat_map(|host| items(&host["routes"]));
    let route = routes.find(|route| {
        let action = &route["route"];
        leads(&action["cluster"]) || items(&action["weightedClusters"]["clusters"]).any(|it| leads(&it["name"]))
    })?;
    Some(text(&route["metadata"]["filterMetadata"]["istio"]["config"]))
}
