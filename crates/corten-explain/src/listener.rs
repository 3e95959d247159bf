//! Which listener takes a connection, and what it finds out by looking at the first bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use corten_envoy::envoy::config::core::v3::{Address, address, envoy_internal_address, socket_address::PortSpecifier};
use corten_envoy::envoy::config::listener::v3::{
    Listener, ListenerFilter, ListenerFilterChainMatchPredicate, listener::ListenerSpecifier,
    listener_filter::ConfigType, listener_filter_chain_match_predicate::Rule,
};
use corten_envoy::envoy::extensions::filters::listener::set_filter_state::v3::Config as SetFilterState;

use crate::facts::{Carried, Facts, Noted};
use crate::trace::ListenerMatched;
use crate::{Call, Config, Entry, Protocol, format};

/// Where Envoy's internal listeners find the address that a connection was meant for.
pub(crate) const INTERNAL_DESTINATION: &str = "envoy.filters.listener.original_dst.local_ip";
/// Where they find the address that it comes from.
const INTERNAL_SOURCE: &str = "envoy.filters.listener.original_dst.remote_ip";

/// The listener that takes the call, and why; `Err`: none does, in words.
pub(crate) fn find<'a>(config: &'a Config, call: &Call) -> Result<(&'a Listener, String), String> {
    match &call.entry {
        Entry::Internal(name) => config
            .listeners
            .iter()
            .find(|listener| listener.name == *name && is_internal(listener))
            .map(|listener| (listener, "a cluster sends to it".to_owned()))
            .ok_or_else(|| format!("there is no internal listener {name:?}")),
        Entry::Direct => at(config, call.destination.ip(), call.destination.port(), true)
            .ok_or_else(|| format!("nothing listens at {}", call.destination)),
        Entry::Redirected(port) => {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let Some((first, _)) = at(config, any, *port, true) else {
                return Err(format!(
                    "nothing listens at port {port}, where the call is redirected to"
                ));
            };
            let hands_over = first.use_original_dst.as_ref().is_some_and(|value| value.value);
            if !hands_over || call.destination.port() == *port {
                return Ok((
                    first,
                    format!("the call to {} is redirected to port {port}", call.destination),
                ));
            }
            match at(config, call.destination.ip(), call.destination.port(), false) {
                Some((listener, because)) if !std::ptr::eq(listener, first) => {
                    Ok((listener, format!("{} hands over by destination: {because}", first.name)))
                }
                _ => Ok((
                    first,
                    format!("no listener is for {}, so {} keeps it", call.destination, first.name),
                )),
            }
        }
    }
}

fn is_internal(listener: &Listener) -> bool {
    matches!(
        listener.listener_specifier,
        Some(ListenerSpecifier::InternalListener(_))
    ) || matches!(
        listener.address.as_ref().and_then(|address| address.address.as_ref()),
        Some(address::Address::EnvoyInternalAddress(_))
    )
}

/// The listener for an address: one for exactly it, else one for all addresses of the port.
fn at(config: &Config, address: IpAddr, port: u16, bound_only: bool) -> Option<(&Listener, String)> {
    let listeners = || {
        let bound =
            move |listener: &&Listener| !bound_only || listener.bind_to_port.as_ref().is_none_or(|bound| bound.value);
        config.listeners.iter().filter(bound)
    };
    let on = |wanted: IpAddr| listeners().find(|listener| addresses(listener).any(|found| found == (wanted, port)));
    if let Some(listener) = on(address) {
        return Some((
            listener,
            format!("it is for {}", std::net::SocketAddr::new(address, port)),
        ));
    }
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A listener for all addresses of IPv6 has those of IPv4 too, if it says so.
    let compatible = || {
        listeners().find(|listener| {
            let all = listener
                .additional_addresses
                .iter()
                .filter_map(|additional| additional.address.as_ref());
            listener
                .address
                .iter()
                .chain(all)
                .any(|address| match &address.address {
                    Some(address::Address::SocketAddress(socket)) => {
                        socket.ipv4_compat && socket.address == "::" && socket_port(address) == Some(port)
                    }
                    _ => false,
                })
        })
    };
    let listener = on(any).or_else(|| address.is_ipv4().then(compatible).flatten())?;
    Some((listener, format!("it is for all addresses at port {port}")))
}

fn socket_port(address: &Address) -> Option<u16> {
    match &address.address {
        Some(address::Address::SocketAddress(socket)) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn addresses(listener: &Listener) -> impl Iterator<Item = (IpAddr, u16)> {
    let all = listener
        .additional_addresses
        .iter()
        .filter_map(|additional| additional.address.as_ref());
    listener
        .address
        .iter()
        .chain(all)
        .filter_map(|address| match &address.address {
            Some(address::Address::SocketAddress(socket)) => {
                Some((socket.address.parse().ok()?, socket_port(address)?))
            }
            _ => None,
        })
}

/// An address for people: `ip:port`, a path, or `internal:name`.
pub(crate) fn address_text(address: Option<&Address>) -> String {
    match address.and_then(|address| address.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => {
            let port = match &socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => port.to_string(),
                Some(PortSpecifier::NamedPort(name)) => name.clone(),
                None => "?".to_owned(),
            };
            if socket.address.contains(':') {
                format!("[{}]:{port}", socket.address)
            } else {
                format!("{}:{port}", socket.address)
            }
        }
        Some(address::Address::Pipe(pipe)) => pipe.path.clone(),
        Some(address::Address::EnvoyInternalAddress(internal)) => {
            let Some(envoy_internal_address::AddressNameSpecifier::ServerListenerName(name)) =
                &internal.address_name_specifier
            else {
                return "internal".to_owned();
            };
            format!("internal:{name}")
        }
        None => "none".to_owned(),
    }
}

/// Runs the listener's filters: what they find out, and what they write down in the facts.
pub(crate) fn inspect(
    listener: &Listener,
    because: String,
    call: &Call,
    facts: &mut Facts,
) -> Result<ListenerMatched, String> {
    let mut seen = ListenerMatched {
        name: listener.name.clone(),
        address: if is_internal(listener) {
            format!("internal:{}", listener.name)
        } else {
            address_text(listener.address.as_ref())
        },
        because,
        transport: "raw_buffer".to_owned(),
        protocols: Vec::new(),
        server_name: String::new(),
    };
    for filter in &listener.listener_filters {
        if filter
            .filter_disabled
            .as_ref()
            .is_some_and(|predicate| is_true(predicate, facts.destination.port()))
        {
            continue;
        }
        match kind(filter) {
            "OriginalDst" if is_internal(listener) => {
                let noted = |key: &str| facts.state.get(key).and_then(|noted| noted.value.parse().ok());
                let (destination, source) = (noted(INTERNAL_DESTINATION), noted(INTERNAL_SOURCE));
                facts.destination = destination.unwrap_or(facts.destination);
                facts.source = source.unwrap_or(facts.source);
            }
            "TlsInspector" => {
                if let Some(tls) = &call.tls {
                    seen.transport = "tls".to_owned();
                    seen.protocols.clone_from(&tls.alpn);
                    // The inspector reads names in lower case.
                    seen.server_name = tls.sni.to_ascii_lowercase();
                }
            }
            "HttpInspector" if call.tls.is_none() => {
                let found = match call.protocol {
                    Protocol::Http10 => Some("http/1.0"),
                    Protocol::Http1 => Some("http/1.1"),
                    Protocol::Http2 => Some("h2c"),
                    Protocol::Tcp => None,
                };
                seen.protocols = found.into_iter().map(str::to_owned).collect();
            }
            "Config" => set_state(filter, facts)?,
            _ => {}
        }
    }
    facts.server_name.clone_from(&seen.server_name);
    Ok(seen)
}

/// The last part of the name of the filter's type; for one without a configuration, by its well-known name.
fn kind(filter: &ListenerFilter) -> &str {
    if let Some(ConfigType::TypedConfig(any)) = &filter.config_type {
        return corten_envoy::type_name(&any.type_url)
            .rsplit('.')
            .next()
            .unwrap_or_default();
    }
    match &*filter.name {
        "envoy.filters.listener.original_dst" => "OriginalDst",
        "envoy.filters.listener.tls_inspector" => "TlsInspector",
        "envoy.filters.listener.http_inspector" => "HttpInspector",
        other => other,
    }
}

fn set_state(filter: &ListenerFilter, facts: &mut Facts) -> Result<(), String> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Ok(());
    };
    let config: Option<SetFilterState> = corten_envoy::decode(any)
        .map_err(|error| format!("the listener filter {:?} is broken: {error}", filter.name))?;
    for value in config.iter().flat_map(|config| &config.on_accept) {
        note(value, facts);
    }
    Ok(())
}

/// Writes down a value of a connection.
pub(crate) fn note(
    value: &corten_envoy::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue,
    facts: &mut Facts,
) -> Option<(String, String)> {
    use corten_envoy::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
        Key, SharedWithUpstream, Value,
    };
    let (Some(Key::ObjectKey(key)), Some(Value::FormatString(format))) = (&value.key, &value.value) else {
        return None;
    };
    let text = format::substitution(format, facts);
    if text.is_empty() && value.skip_if_empty {
        return None;
    }
    let noted = Noted {
        value: text.clone(),
        carried: match value.shared_with_upstream() {
            SharedWithUpstream::None => Carried::Never,
            SharedWithUpstream::Once => Carried::Once,
            SharedWithUpstream::Transitive => Carried::Always,
        },
    };
    facts.state.insert(key.clone(), noted);
    Some((key.clone(), text))
}

/// Whether a predicate of listener filters holds for a port.
fn is_true(predicate: &ListenerFilterChainMatchPredicate, port: u16) -> bool {
    match &predicate.rule {
        None => false,
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|rule| is_true(rule, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|rule| is_true(rule, port)),
        Some(Rule::NotMatch(inner)) => !is_true(inner, port),
        Some(Rule::AnyMatch(any)) => *any,
        Some(Rule::DestinationPortRange(range)) => (range.start..range.end).contains(&i32::from(port)),
    }
}
