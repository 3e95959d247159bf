//! Patches to tables of routes, their virtual hosts, and their routes.

use std::collections::BTreeSet;

use corten_api::istio::envoy_filter::{
    EnvoyFilterApplyTo as ApplyTo, EnvoyFilterPatchOperation as Operation, RouteConfigurationMatchRouteMatch,
    RouteConfigurationMatchRouteMatchAction as Action,
};
use corten_envoy::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route};
use corten_routing::ProxyKind;

use super::{Patch, Patches, Side, lists};

impl Patches {
    /// Patches a table that a proxy asks for by name.
    pub fn route_configuration(&self, table: &mut RouteConfiguration) {
        self.table(table, Side::Outbound);
    }

    /// Patches a table; whether any patch was about it.
    pub(super) fn table(&self, table: &mut RouteConfiguration, side: Side) -> bool {
        let mut touched = false;
        for patch in self.at(ApplyTo::RouteConfiguration, side) {
            if self.takes_table(patch, &table.name) && patch.merges() {
                touched = true;
                let name = table.name.clone();
                let sound = |changed: &RouteConfiguration| match changed.name == name {
                    true => sound(changed),
                    false => Err("the name of a table stays, because listeners ask for it".to_owned()),
                };
                self.apply(patch, table, sound, |table| patch.merge(table));
            }
        }
        let meant = |patch: &&Patch| self.takes_table(patch, &table.name);
        let hosts: Vec<&Patch> = self.at(ApplyTo::VirtualHost, side).filter(meant).collect();
        let routes: Vec<&Patch> = self.at(ApplyTo::HttpRoute, side).filter(meant).collect();
        if hosts.is_empty() && routes.is_empty() {
            return touched;
        }
        for patch in &hosts {
            self.virtual_hosts(patch, table);
        }
        for host in &mut table.virtual_hosts {
            self.routes(&routes, host);
        }
        for patch in hosts.iter().filter(|patch| patch.operation == Operation::Add) {
            let Some(made) = patch.made::<VirtualHost>() else {
                continue;
            };
            self.apply(patch, table, sound, |table| {
                table.virtual_hosts.push(made);
                Ok(())
            });
        }
        true
    }

    fn virtual_hosts(&self, patch: &Patch, table: &mut RouteConfiguration) {
        if patch.operation == Operation::Remove {
            table.virtual_hosts.retain(|host| !takes_host(patch, host));
            return;
        }
        for index in 0..table.virtual_hosts.len() {
            if !table
                .virtual_hosts
                .get(index)
                .is_some_and(|host| takes_host(patch, host))
            {
                continue;
            }
            self.apply(patch, table, sound, |table| {
                let Some(host) = table.virtual_hosts.get_mut(index) else {
                    return Ok(());
                };
                match (patch.operation, patch.made::<VirtualHost>()) {
                    (Operation::Replace, Some(made)) => *host = made,
                    _ if patch.merges() => patch.merge(host)?,
                    _ => {}
                }
                Ok(())
            });
        }
    }

    fn routes(&self, patches: &[&Patch], host: &mut VirtualHost) {
        let patches: Vec<&&Patch> = patches.iter().filter(|patch| takes_host(patch, host)).collect();
        let changes = |patch: &&&&Patch| patch.merges() || patch.operation == Operation::Remove;
        for patch in patches.iter().filter(changes) {
            if patch.operation == Operation::Remove {
                host.routes.retain(|route| !takes_route(patch, route));
                continue;
            }
            for route in host.routes.iter_mut().filter(|route| takes_route(patch, route)) {
                self.apply(patch, route, |_| Ok(()), |route| patch.merge(route));
            }
        }
        for patch in patches.iter().filter(|patch| !changes(patch)) {
            let chosen = |route: &Route| takes_route(patch, route);
            let chosen: Option<&dyn Fn(&Route) -> bool> = wanted_route(patch).map(|_| &chosen as _);
            // Where the route is not there that a patch wants to come before, it does not come first either.
            let absent = chosen.is_some_and(|chosen| !host.routes.iter().any(chosen));
            if patch.operation == Operation::InsertFirst && absent {
                continue;
            }
            lists::change(&mut host.routes, patch.operation, patch.made(), chosen);
        }
    }

    /// Whether a patch is about a table. Only those of gateways say of which Gateway and port they are.
    fn takes_table(&self, patch: &Patch, name: &str) -> bool {
        let Some(wanted) = patch.table() else { return true };
        if !wanted.name.is_empty() && wanted.name != name {
            return false;
        }
        if self.kind != ProxyKind::Router {
            return !wanted.port_number.is_given() || port_of(name) == wanted.port_number.0;
        }
        let (port, port_name, gateway) = of_gateway(name);
        (wanted.port_name.is_empty() || wanted.port_name == port_name)
            && (wanted.gateway.is_empty() || wanted.gateway == gateway)
            && (!wanted.port_number.is_given() || self.is_port(port, wanted.port_number.0))
    }

    /// Whether a port of a router is the one that is written: by the services in front of it, if there are any.
    fn is_port(&self, own: u16, written: u16) -> bool {
        let mut of_services = self.ports.iter().filter(|(target, _)| *target == own).peekable();
        if of_services.peek().is_none() {
            return own == written;
        }
        of_services.any(|(_, port)| *port == written)
    }
}

/// The port of a table of a sidecar: its name is the port, or that of a cluster.
fn port_of(name: &str) -> u16 {
    let text = match name.strip_prefix("inbound|") {
        Some(rest) => rest.split('|').next().unwrap_or_default(),
        None => name,
    };
    text.parse().unwrap_or_default()
}

/// Port, name of the port, and Gateway of a table of a router: `http.PORT`, or `https.PORT.PORTNAME.GATEWAY.NAMESPACE`.
fn of_gateway(name: &str) -> (u16, &str, String) {
    let port = |text: &str| text.parse().unwrap_or_default();
    if let Some(rest) = name.strip_prefix("http.") {
        return (port(rest.split('.').next().unwrap_or_default()), "", String::new());
    }
    let mut parts = name.strip_prefix("https.").unwrap_or_default().splitn(4, '.');
    let number = port(parts.next().unwrap_or_default());
    let port_name = parts.next().unwrap_or_default();
    let (gateway, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let namespace = rest.split('.').next().unwrap_or_default();
    (number, port_name, format!("{namespace}/{gateway}"))
}

fn takes_host(patch: &Patch, host: &VirtualHost) -> bool {
    let Some(wanted) = patch.table().and_then(|wanted| wanted.vhost.as_ref()) else {
        return true;
    };
    (wanted.name.is_empty() || wanted.name == host.name)
        && (wanted.domain_name.is_empty() || host.domains.contains(&wanted.domain_name))
}

fn wanted_route(patch: &Patch) -> Option<RouteConfigurationMatchRouteMatch> {
    if let Some(wanted) = patch.waypoint().and_then(|wanted| wanted.route.as_ref()) {
        return Some(RouteConfigurationMatchRouteMatch {
            name: wanted.name.clone(),
            ..RouteConfigurationMatchRouteMatch::default()
        });
    }
    patch.table()?.vhost.as_ref()?.route.clone()
}

fn takes_route(patch: &Patch, route: &Route) -> bool {
    let Some(wanted) = wanted_route(patch) else { return true };
    let action = match &route.action {
        Some(route::Action::Route(_)) => Some(Action::Route),
        Some(route::Action::Redirect(_)) => Some(Action::Redirect),
        Some(route::Action::DirectResponse(_)) => Some(Action::DirectResponse),
        _ => None,
    };
    (wanted.name.is_empty() || wanted.name == route.name)
        && (wanted.action == Action::Any || action.is_none_or(|action| action == wanted.action))
}

/// Virtual hosts of a name, or for a domain, are there once; Envoy refuses the table otherwise.
fn sound(table: &RouteConfiguration) -> Result<(), String> {
    let (mut names, mut domains) = (BTreeSet::new(), BTreeSet::new());
    for host in &table.virtual_hosts {
        if !names.insert(host.name.as_str()) {
            return Err(format!(
                "table {:?} has a virtual host {:?} already",
                table.name, host.name
            ));
        }
        for domain in &host.domains {
            if !domains.insert(domain.to_ascii_lowercase()) {
                return Err(format!(
                    "table {:?} has a virtual host for {domain:?} already",
                    table.name
                ));
            }
        }
    }
    Ok(())
}
