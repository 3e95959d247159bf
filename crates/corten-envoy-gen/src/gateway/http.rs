//! The tables of requests that come to routers: VirtualServices of all Gateways at a port, merged by host.

use std::collections::{BTreeMap, HashMap};

use corten_core::{Host, hosts_for_namespace, intersection};
use corten_envoy::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType,
};
use corten_routing::VirtualService;

use super::{
    merge::{Merged, Served},
    misdirected,
};
use crate::{
    Context, names,
    route::{self, At, Target},
};

/// A virtual host in the making.
#[derive(Default)]
struct Hosted {
    port: u16,
    routes: Vec<Route>,
    /// Where the routes come from: hosts with the same ones become one.
    from: Vec<(String, String)>,
    /// Plain HTTP is answered with a redirection to HTTPS.
    redirected: bool,
    more: Vec<String>,
}

/// A table of a router.
pub(super) fn table_of(cx: &Context<'_>, merged: &Merged, name: &str) -> Option<RouteConfiguration> {
    let servers = merged.tables.get(name)?;
    let mut hosts: BTreeMap<Ordered, Hosted> = BTreeMap::new();
    let mut made: HashMap<(String, String), Vec<Route>> = HashMap::new();
    for served in servers {
        put_routes(cx, served, &mut hosts, &mut made);
        if redirects(served) {
            for name in &served.names {
                let hosted = hosts
                    .entry(Ordered(Host::from(name.as_str())))
                    .or_insert_with(|| Hosted {
                        port: served.written_port(),
                        ..Hosted::default()
                    });
                hosted.redirected = true;
            }
        }
    }
    let port = servers.first().map_or(0, Served::written_port);
    let elsewhere = misdirected::domains(cx, merged, name);
    hosts.retain(|host, _| !elsewhere.has(&host.0));
    let own = if hosts.is_empty() {
        vec!["*".to_owned()]
    } else {
        Vec::new()
    };
    let own = elsewhere.own(own, hosts.keys().map(|host| &host.0));
    let mut virtual_hosts: Vec<VirtualHost> = collapsed(hosts)
        .map(|(host, hosted)| virtual_host(cx, &host, hosted))
        .collect();
    if !own.is_empty() {
        virtual_hosts.push(VirtualHost {
            name: names::virtual_host("blackhole", port),
            domains: own,
            ..VirtualHost::default()
        });
    }
    virtual_hosts.extend(elsewhere.virtual_host(port));
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    Some(route::table(name, virtual_hosts))
}

/// A host, the most specific first.
#[derive(PartialEq, Eq)]
struct Ordered(Host);

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> std::cmp::Ordering {
        self.0.specificity(&other.0)
    }
}

fn redirects(served: &Served) -> bool {
    served.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
}

/// Adds the routes of all VirtualServices that a server has hosts for.
fn put_routes(
    cx: &Context<'_>,
    served: &Served,
    hosts: &mut BTreeMap<Ordered, Hosted>,
    made: &mut HashMap<(String, String), Vec<Route>>,
) {
    let all = &cx.snapshot.catalog.virtual_services;
    for service in all.for_gateway(&served.gateway, &cx.proxy.namespace) {
        let own = hosts_for_namespace(served.server.hosts.iter().map(String::as_str), &service.namespace);
        let common = intersection(&own, &service.spec.hosts);
        if common.is_empty() {
            continue;
        }
        let key = (
            served.gateway.to_string(),
            format!("{}/{}", service.namespace, service.name),
        );
        let routes = made.entry(key.clone()).or_insert_with(|| {
            let target = |host: &Host| target(cx, &service, host);
            let at = At {
                gateway: &served.gateway,
                port: served.written_port(),
                tls: served.server.tls.is_some(),
                target: &target,
            };
            route::http_routes(cx, &service, &at)
        });
        if routes.is_empty() {
            continue;
        }
        for host in common {
            let host = Ordered(Host::from(host.as_str().to_ascii_lowercase().as_str()));
            let hosted = hosts.entry(host).or_insert_with(|| Hosted {
                port: served.written_port(),
                ..Hosted::default()
            });
            hosted.redirected |= redirects(served);
            hosted.routes.extend(routes.iter().cloned());
            hosted.from.push(key.clone());
        }
    }
}

/// What a destination's host stands for: a service of the VirtualService's namespace if the router sees it.
fn target(cx: &Context<'_>, service: &VirtualService, host: &Host) -> Option<Target> {
    let own = cx.snapshot.catalog.services.get(host, &service.namespace);
    let own = own.filter(|own| own.visibility.includes(&cx.proxy.namespace) && own.alias_of.is_none());
    match own {
        Some(own) => Some(Target {
            host: own.host.clone(),
            port: match &*own.ports {
                [only] => Some(only.number),
                _ => None,
            },
            behind: None,
        }),
        None => route::target(cx, host),
    }
}

/// Hosts with the very same routes become one virtual host, under the most specific of them.
fn collapsed(hosts: BTreeMap<Ordered, Hosted>) -> impl Iterator<Item = (Host, Hosted)> {
    let mut kept: Vec<(Host, Hosted)> = Vec::new();
    let mut place: HashMap<(Vec<(String, String)>, bool), usize> = HashMap::new();
    for (host, hosted) in hosts {
        let key = (hosted.from.clone(), hosted.redirected);
        match place.get(&key).and_then(|at| kept.get_mut(*at)) {
            Some((_, first)) => first.more.push(host.0.to_string()),
            None => {
                place.insert(key, kept.len());
                kept.push((host.0, hosted));
            }
        }
    }
    kept.into_iter()
}

fn virtual_host(cx: &Context<'_>, host: &Host, hosted: Hosted) -> VirtualHost {
    // What takes everything comes after all that takes less, of whichever VirtualService it is.
    let (all, some): (Vec<Route>, Vec<Route>) = hosted.routes.into_iter().partition(route::is_catch_all);
    let required = if hosted.redirected {
        TlsRequirementType::All
    } else {
        TlsRequirementType::None
    };
    VirtualHost {
        name: names::virtual_host(host.as_str(), hosted.port),
        domains: std::iter::once(host.to_string()).chain(hosted.more).collect(),
        routes: some.into_iter().chain(all).collect(),
        require_tls: required.into(),
        include_request_attempt_count: route::counts_attempts(cx),
        ..VirtualHost::default()
    }
}
