//! Patches to listeners, and to what is in them.

use corten_api::istio::envoy_filter::{
    EnvoyFilterApplyTo as ApplyTo, EnvoyFilterPatchOperation as Operation, ListenerMatchFilterMatch,
};
use corten_envoy::{
    JsonError, any, decode,
    envoy::{
        config::{
            core::v3::{
                TrafficDirection, TransportSocket, address::Address, socket_address::PortSpecifier, transport_socket,
            },
            listener::v3::{Filter, FilterChain, Listener, ListenerFilter, filter, listener_filter},
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
        },
    },
    google::protobuf::Any,
    merge_any, type_name,
};

use super::{Patch, Patches, Side, lists};
use crate::names;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// The types of filters after which none comes.
const LAST: [&str; 2] = [
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
];
/// The type of the HTTP filter after which none comes.
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

impl Patches {
    /// Patches all listeners.
    pub fn listeners(&self, listeners: &mut Vec<Listener>) {
        if self.is_empty() {
            return;
        }
        let mut kept = Vec::new();
        for mut listener in std::mem::take(listeners) {
            if self.one_listener(&mut listener) {
                kept.push(listener);
            }
        }
        for patch in self.adds(ApplyTo::Listener) {
            let Some(made) = patch.made::<Listener>() else { continue };
            if kept.iter().any(|held| held.name == made.name) {
                self.refuse(patch, &format!("there is a listener {:?} already", made.name));
            } else {
                kept.push(made);
            }
        }
        *listeners = kept;
    }

    /// Patches a listener; `false`: it is removed.
    fn one_listener(&self, listener: &mut Listener) -> bool {
        let side = side(listener);
        for patch in self.at(ApplyTo::Listener, side) {
            if !takes_listener(patch, listener, true) {
                continue;
            }
            if patch.operation == Operation::Remove {
                return false;
            }
            if patch.merges() {
                let name = listener.name.clone();
                let sound = |changed: &Listener| match changed.name == name {
                    true => Ok(()),
                    false => Err("the name of a listener stays".to_owned()),
                };
                self.apply(patch, listener, sound, |listener| patch.merge(listener));
            }
        }
        for patch in self.at(ApplyTo::ListenerFilter, side) {
            if takes_listener(patch, listener, false) {
                self.listener_filter(patch, listener);
            }
        }
        self.chains(listener, side);
        true
    }

    fn listener_filter(&self, patch: &Patch, listener: &mut Listener) {
        let wanted = patch.listener().map(|wanted| wanted.listener_filter.as_str());
        let wanted = wanted.filter(|name| !name.is_empty());
        let chosen = |filter: &ListenerFilter| wanted.is_none_or(|name| filter.name == name);
        if !patch.merges() {
            let chosen: Option<&dyn Fn(&ListenerFilter) -> bool> = wanted.map(|_| &chosen as _);
            lists::change(&mut listener.listener_filters, patch.operation, patch.made(), chosen);
            return;
        }
        let Some(made) = patch.made::<ListenerFilter>().filter(|_| wanted.is_some()) else {
            return;
        };
        for filter in listener.listener_filters.iter_mut().filter(|filter| chosen(filter)) {
            let (Some(listener_filter::ConfigType::TypedConfig(_)), Some(more)) = (&filter.config_type, typed(&made))
            else {
                continue;
            };
            self.apply(
                patch,
                filter,
                |_| Ok(()),
                |filter| match &mut filter.config_type {
                    Some(listener_filter::ConfigType::TypedConfig(config)) => merge_any(config, more),
                    _ => Ok(()),
                },
            );
        }
        fn typed(filter: &ListenerFilter) -> Option<&Any> {
            match &filter.config_type {
                Some(listener_filter::ConfigType::TypedConfig(config)) => Some(config),
                _ => None,
            }
        }
    }

    fn chains(&self, listener: &mut Listener, side: Side) {
        let mut chains = std::mem::take(&mut listener.filter_chains);
        chains.retain_mut(|chain| self.chain(listener, chain, side));
        let otherwise = listener.default_filter_chain.take();
        listener.default_filter_chain =
            otherwise.and_then(|mut chain| self.chain(listener, &mut chain, side).then_some(chain));
        for patch in self.at(ApplyTo::FilterChain, side) {
            if patch.operation != Operation::Add || !takes_listener(patch, listener, false) {
                continue;
            }
            let Some(made) = patch.made::<FilterChain>() else {
                continue;
            };
            if chains
                .iter()
                .any(|held| held.filter_chain_match == made.filter_chain_match)
            {
                self.refuse(
                    patch,
                    &format!(
                        "listener {:?} has a filter chain for the same connections",
                        listener.name
                    ),
                );
            } else {
                chains.push(made);
            }
        }
        listener.filter_chains = chains;
    }

    /// Patches a chain; `false`: it is removed.
    fn chain(&self, listener: &Listener, chain: &mut FilterChain, side: Side) -> bool {
        for patch in self.at(ApplyTo::FilterChain, side) {
            if !takes_listener(patch, listener, false) || !takes_chain(patch, listener, chain) {
                continue;
            }
            if patch.operation == Operation::Remove {
                return false;
            }
            if patch.merges() {
                let sound = |chain: &FilterChain| sound_filters(&chain.filters);
                self.apply(patch, chain, sound, |chain| merge_chain(patch, chain));
            }
        }
        self.network_filters(listener, chain, side);
        for index in 0..chain.filters.len() {
            self.manager(listener, chain, index, side);
        }
        true
    }

    fn network_filters(&self, listener: &Listener, chain: &mut FilterChain, side: Side) {
        let meant = |patch: &&Patch| takes_listener(patch, listener, false) && takes_chain(patch, listener, chain);
        let patches: Vec<&Patch> = self.at(ApplyTo::NetworkFilter, side).filter(meant).collect();
        for patch in patches.iter().filter(|patch| !patch.merges()) {
            let removes = patch.operation == Operation::Remove;
            let sound = |filters: &Vec<Filter>| match filters.last() {
                None => Err("a filter chain without filters takes no connections".to_owned()),
                Some(last) if removes && !is_last(last) => Err("nothing would end the filter chain".to_owned()),
                Some(_) => sound_filters(filters),
            };
            self.apply(patch, &mut chain.filters, sound, |filters| {
                let chosen = |filter: &Filter| takes_filter(patch, &filter.name);
                let chosen: Option<&dyn Fn(&Filter) -> bool> = wanted_filter(patch).map(|_| &chosen as _);
                lists::change(filters, patch.operation, patch.made(), chosen);
                Ok(())
            });
        }
        for patch in patches.iter().filter(|patch| patch.merges()) {
            let Some(made) = patch.made::<Filter>() else { continue };
            for filter in &mut chain.filters {
                if takes_filter(patch, &filter.name) && may_merge(patch, network_config(filter), network_config(&made))
                {
                    self.apply(patch, filter, |_| Ok(()), |filter| merge_network(filter, &made));
                }
            }
        }
    }

    /// Patches what is in an HTTP connection manager: its filters, and the routes that it carries itself.
    fn manager(&self, listener: &Listener, chain: &mut FilterChain, index: usize, side: Side) {
        let Some(filter) = chain.filters.get(index) else { return };
        let Some(mut manager) =
            network_config(filter).and_then(|config| decode::<HttpConnectionManager>(config).ok().flatten())
        else {
            return;
        };
        let name = filter.name.clone();
        let meant = |patch: &&Patch| {
            takes_listener(patch, listener, false) && takes_chain(patch, listener, chain) && takes_filter(patch, &name)
        };
        let patches: Vec<&Patch> = self.at(ApplyTo::HttpFilter, side).filter(meant).collect();
        for patch in patches.iter().filter(|patch| !patch.merges()) {
            let removes = patch.operation == Operation::Remove;
            let sound = |filters: &Vec<HttpFilter>| sound_http(filters, removes);
            self.apply(patch, &mut manager.http_filters, sound, |filters| {
                let chosen = |filter: &HttpFilter| takes_http_filter(patch, &filter.name);
                let chosen: Option<&dyn Fn(&HttpFilter) -> bool> = wanted_http_filter(patch).map(|_| &chosen as _);
                lists::change(filters, patch.operation, patch.made(), chosen);
                Ok(())
            });
        }
        for patch in patches.iter().filter(|patch| patch.merges()) {
            let Some(made) = patch.made::<HttpFilter>() else {
                continue;
            };
            for filter in &mut manager.http_filters {
                if takes_http_filter(patch, &filter.name)
                    && (wanted_http_filter(patch).is_some() || same_type(http_config(filter), http_config(&made)))
                {
                    self.apply(patch, filter, |_| Ok(()), |filter| merge_http(filter, &made));
                }
            }
        }
        let mut changed = !patches.is_empty();
        if let Some(RouteSpecifier::RouteConfig(table)) = &mut manager.route_specifier {
            changed |= self.table(table, side);
        }
        if changed && let Some(filter) = chain.filters.get_mut(index) {
            filter.config_type = Some(filter::ConfigType::TypedConfig(any(&manager)));
        }
    }
}

/// The side that a listener is on: towards the workload where it says so.
fn side(listener: &Listener) -> Side {
    if listener.traffic_direction == i32::from(TrafficDirection::Inbound) {
        Side::Inbound
    } else {
        Side::Outbound
    }
}

fn is_virtual(listener: &Listener) -> bool {
    listener.name == names::VIRTUAL_INBOUND || listener.name == names::VIRTUAL_OUTBOUND
}

fn port(listener: &Listener) -> Option<u32> {
    match listener.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => Some(port),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a patch is about a listener, or about things in it. The listeners for all ports have chains for each.
fn takes_listener(patch: &Patch, listener: &Listener, whole: bool) -> bool {
    let Some(wanted) = patch.listener() else { return true };
    if !wanted.name.is_empty() && wanted.name != listener.name {
        return false;
    }
    if !whole && is_virtual(listener) {
        return true;
    }
    !wanted.port_number.is_given() || port(listener) == Some(wanted.port_number.0.into())
}

fn takes_chain(patch: &Patch, listener: &Listener, chain: &FilterChain) -> bool {
    if let Some(waypoint) = patch.waypoint()
        && waypoint.port_number.is_given()
        && port_of_vip(&chain.name) != Some(waypoint.port_number.0)
    {
        return false;
    }
    let Some(wanted) = patch.listener() else { return true };
    let own = chain.filter_chain_match.as_ref();
    let called = own.and_then(|own| own.destination_port).map(|port| port.value);
    if is_virtual(listener) && wanted.port_number.is_given() && called != Some(wanted.port_number.0.into()) {
        return false;
    }
    let Some(wanted) = &wanted.filter_chain else {
        return true;
    };
    let has = |list: Option<&Vec<String>>, name: &str| list.is_some_and(|list| list.iter().any(|held| held == name));
    (wanted.name.is_empty() || wanted.name == chain.name)
        && (wanted.sni.is_empty() || has(own.map(|own| &own.server_names), &wanted.sni))
        && (wanted.transport_protocol.is_empty()
            || own.is_some_and(|own| own.transport_protocol == wanted.transport_protocol))
        && (wanted.application_protocols.is_empty()
            || wanted
                .application_protocols
                .split(',')
                .all(|name| has(own.map(|own| &own.application_protocols), name)))
        && (wanted.destination_port == 0 || called == Some(wanted.destination_port))
}

/// The port of a service behind a waypoint, by the name of its chain: `inbound-vip|PORT|...`.
fn port_of_vip(name: &str) -> Option<u16> {
    name.strip_prefix("inbound-vip|")?.split('|').next()?.parse().ok()
}

fn wanted_filter(patch: &Patch) -> Option<&ListenerMatchFilterMatch> {
    patch.listener()?.filter_chain.as_ref()?.filter.as_ref()
}

fn takes_filter(patch: &Patch, name: &str) -> bool {
    if let Some(wanted) = patch.waypoint().and_then(|wanted| wanted.filter.as_ref()) {
        return wanted.name == name;
    }
    wanted_filter(patch).is_none_or(|wanted| wanted.name == name)
}

fn wanted_http_filter(patch: &Patch) -> Option<&str> {
    if let Some(wanted) = patch.waypoint().and_then(|wanted| wanted.filter.as_ref()) {
        return wanted.sub_filter.as_ref().map(|inner| inner.name.as_str());
    }
    wanted_filter(patch)?
        .sub_filter
        .as_ref()
        .map(|inner| inner.name.as_str())
}

fn takes_http_filter(patch: &Patch, name: &str) -> bool {
    wanted_http_filter(patch).is_none_or(|wanted| wanted == name)
}

fn network_config(filter: &Filter) -> Option<&Any> {
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

fn http_config(filter: &HttpFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

fn same_type(held: Option<&Any>, more: Option<&Any>) -> bool {
    match (held, more) {
        (Some(held), Some(more)) => type_name(&held.type_url) == type_name(&more.type_url),
        _ => false,
    }
}

/// Where a patch names no filter, it is merged over those that it can be merged over.
fn may_merge(patch: &Patch, held: Option<&Any>, more: Option<&Any>) -> bool {
    held.is_some() && (wanted_filter(patch).is_some() || same_type(held, more))
}

fn merge_network(filter: &mut Filter, made: &Filter) -> Result<(), JsonError> {
    if let (Some(filter::ConfigType::TypedConfig(held)), Some(more)) = (&mut filter.config_type, network_config(made)) {
        merge_any(held, more)?;
        if !made.name.is_empty() {
            filter.name.clone_from(&made.name);
        }
    }
    Ok(())
}

fn merge_http(filter: &mut HttpFilter, made: &HttpFilter) -> Result<(), JsonError> {
    if let Some(http_filter::ConfigType::TypedConfig(held)) = &mut filter.config_type {
        if let Some(more) = http_config(made) {
            merge_any(held, more)?;
        }
        if !made.name.is_empty() {
            filter.name.clone_from(&made.name);
        }
    }
    Ok(())
}

/// Merges a patch over a chain. What it says about the transport goes into that, where it is of the same kind.
fn merge_chain(patch: &Patch, chain: &mut FilterChain) -> Result<(), JsonError> {
    let made = patch.made::<FilterChain>();
    let before = chain.transport_socket.take();
    patch.merge(chain)?;
    let socket = made.and_then(|made| made.transport_socket);
    chain.transport_socket = match (before, socket) {
        (Some(mut held), Some(socket)) if held.name == socket.name => {
            merge_socket(&mut held, &socket)?;
            Some(held)
        }
        (before, socket) => socket.or(before),
    };
    Ok(())
}

/// Merges what a patch says about a transport over what is there.
pub(super) fn merge_socket(held: &mut TransportSocket, more: &TransportSocket) -> Result<(), JsonError> {
    use transport_socket::ConfigType::TypedConfig;
    match (&mut held.config_type, &more.config_type) {
        (Some(TypedConfig(held)), Some(TypedConfig(more))) => merge_any(held, more),
        _ => Ok(()),
    }
}

fn is_last(filter: &Filter) -> bool {
    network_config(filter).is_some_and(|config| LAST.contains(&type_name(&config.type_url)))
}

/// What ends a chain comes last, or Envoy refuses the listener.
fn sound_filters(filters: &[Filter]) -> Result<(), String> {
    let before = filters.split_last().map_or(&[][..], |(_, before)| before);
    match before.iter().find(|filter| is_last(filter)) {
        Some(filter) => Err(format!(
            "nothing comes after the filter {}, which ends the chain; INSERT_BEFORE or INSERT_FIRST puts it before",
            filter.name
        )),
        None => Ok(()),
    }
}

/// The same for the filters of requests.
fn sound_http(filters: &[HttpFilter], removes: bool) -> Result<(), String> {
    let is_router =
        |filter: &HttpFilter| http_config(filter).is_some_and(|config| type_name(&config.type_url) == ROUTER);
    let (last, before) = match filters.split_last() {
        Some((last, before)) => (Some(last), before),
        None => (None, &[][..]),
    };
    if before.iter().any(is_router) {
        return Err(format!(
            "nothing comes after the router in {MANAGER}; INSERT_BEFORE or INSERT_FIRST puts it before"
        ));
    }
    if removes && !last.is_some_and(is_router) {
        return Err(format!("{MANAGER} ends with the router"));
    }
    Ok(())
}
