//! Which filter chain of a listener takes a connection.
//!
//! Envoy asks one question after the other (port, address, server name, ...), and each leaves only the chains with the best answer. It never
//! goes back: a chain that asks nothing can lose to one that answers an early question well and a later one not at all.

use std::net::IpAddr;

use corten_envoy::envoy::config::core::v3::CidrRange;
use corten_envoy::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, filter_chain_match::ConnectionSourceType,
};
use ipnet::IpNet;

use crate::facts::Facts;
use crate::strings::network;
use crate::trace::{ChainMatched, ListenerMatched, PassedOver, Refusal};
use crate::tree;

/// Why no chain takes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoChain {
    pub(crate) error: Refusal,
    pub(crate) why: String,
    pub(crate) passed_over: Vec<PassedOver>,
}

/// How well a demand fits.
type Fit<'a> = Box<dyn Fn(&FilterChainMatch) -> Option<usize> + 'a>;

/// One question: what a chain answers to it.
struct Question<'a> {
    /// What it is called in explanations.
    name: &'static str,
    /// What the connection has, for explanations.
    has: String,
    /// How well the chain's demand fits; `Some(0)`: it demands nothing; `None`: it demands something else.
    fit: Fit<'a>,
    /// What the chain demands, for explanations.
    demand: fn(&FilterChainMatch) -> String,
}

/// The chain that takes the connection.
pub(crate) fn find<'a>(
    listener: &'a Listener,
    seen: &ListenerMatched,
    facts: &Facts,
) -> Result<(&'a FilterChain, ChainMatched), NoChain> {
    if let Some(matcher) = &listener.filter_chain_matcher {
        return by_tree(listener, matcher, seen, facts);
    }
    let nothing = FilterChainMatch::default();
    let demands = |chain: &'a FilterChain| chain.filter_chain_match.clone().unwrap_or_else(|| nothing.clone());
    let mut left: Vec<(usize, &FilterChain, FilterChainMatch)> = listener
        .filter_chains
        .iter()
        .enumerate()
        .map(|(at, chain)| (at, chain, demands(chain)))
        .collect();
    let mut passed_over = Vec::new();
    for question in questions(seen, facts) {
        let best = left.iter().filter_map(|(_, _, demand)| (question.fit)(demand)).max();
        left.retain(|(at, chain, demand)| {
            let fit = (question.fit)(demand);
            let stays = fit.is_some() && fit == best;
            if !stays {
                let because = match fit {
                    None => format!(
                        "wants {} {}, not {}",
                        question.name,
                        (question.demand)(demand),
                        question.has
                    ),
                    Some(_) => format!("another fits {} {} better", question.name, question.has),
                };
                passed_over.push((
                    *at,
                    PassedOver {
                        name: name_of(chain, *at),
                        because,
                    },
                ));
            }
            stays
        });
    }
    passed_over.sort_by_key(|(at, _)| *at);
    let passed_over: Vec<PassedOver> = passed_over.into_iter().map(|(_, passed)| passed).collect();
    match &left[..] {
        [(at, chain, demand)] => Ok((
            chain,
            ChainMatched {
                name: name_of(chain, *at),
                because: because(demand),
                passed_over,
            },
        )),
        [] => match &listener.default_filter_chain {
            Some(chain) => {
                let because = "no other fits, and it is the listener's default".to_owned();
                let name = if chain.name.is_empty() {
                    "default".to_owned()
                } else {
                    chain.name.clone()
                };
                Ok((
                    chain,
                    ChainMatched {
                        name,
                        because,
                        passed_over,
                    },
                ))
            }
            None => Err(NoChain {
                error: Refusal::NoFilterChain,
                why: format!(
                    "no filter chain of {} fits, and it has no default: the connection is closed",
                    seen.name
                ),
                passed_over,
            }),
        },
        several => Err(NoChain {
            error: Refusal::MultipleFilterChains,
            why: format!(
                "the filter chains {} ask for the same: Envoy does not accept the listener",
                several
                    .iter()
                    .map(|(at, chain, _)| name_of(chain, *at))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            passed_over,
        }),
    }
}

/// The chain that a listener's tree of matchers names.
fn by_tree<'a>(
    listener: &'a Listener,
    matcher: &corten_envoy::xds::r#type::matcher::v3::Matcher,
    seen: &ListenerMatched,
    facts: &Facts,
) -> Result<(&'a FilterChain, ChainMatched), NoChain> {
    let refuse = |error, why| NoChain {
        error,
        why,
        passed_over: Vec::new(),
    };
    let found = tree::evaluate(matcher, seen, facts).map_err(|why| refuse(Refusal::Unsupported, why))?;
    let Some(found) = found else {
        return match &listener.default_filter_chain {
            Some(chain) => {
                let because = "the matcher names none, and it is the listener's default".to_owned();
                Ok((
                    chain,
                    ChainMatched {
                        name: chain.name.clone(),
                        because,
                        passed_over: Vec::new(),
                    },
                ))
            }
            None => Err(refuse(
                Refusal::NoFilterChain,
                format!(
                    "the matcher of {} names no filter chain, and it has no default: the connection is closed",
                    seen.name
                ),
            )),
        };
    };
    let chain = listener.filter_chains.iter().find(|chain| chain.name == found.name);
    let Some(chain) = chain else {
        let why = format!(
            "the matcher of {} names the filter chain {:?}, which it does not have: the connection is closed",
            seen.name, found.name
        );
        return Err(refuse(Refusal::NoFilterChain, why));
    };
    Ok((
        chain,
        ChainMatched {
            name: found.name,
            because: found.because,
            passed_over: Vec::new(),
        },
    ))
}

fn name_of(chain: &FilterChain, at: usize) -> String {
    if chain.name.is_empty() {
        format!("#{at}")
    } else {
        chain.name.clone()
    }
}

fn questions<'a>(seen: &'a ListenerMatched, facts: &'a Facts) -> Vec<Question<'a>> {
    let (destination, source) = (facts.destination, facts.source);
    // A question of which side a connection comes from is asked only where somebody asks it.
    let same = source.ip() == destination.ip() || source.ip().is_loopback();
    vec![
        Question {
            name: "port",
            has: destination.port().to_string(),
            fit: Box::new(move |demand| {
                one(
                    demand.destination_port.as_ref().map(|port| port.value),
                    u32::from(destination.port()),
                )
            }),
            demand: |demand| {
                demand
                    .destination_port
                    .as_ref()
                    .map_or(String::new(), |port| port.value.to_string())
            },
        },
        Question {
            name: "address",
            has: destination.ip().to_string(),
            fit: Box::new(move |demand| range(&demand.prefix_ranges, destination.ip())),
            demand: |demand| ranges(&demand.prefix_ranges),
        },
        Question {
            name: "server name",
            has: or_none(&seen.server_name),
            fit: Box::new(|demand| server_name(&demand.server_names, &seen.server_name)),
            demand: |demand| demand.server_names.join(", "),
        },
        Question {
            name: "transport",
            has: seen.transport.clone(),
            fit: Box::new(|demand| {
                one(
                    (!demand.transport_protocol.is_empty()).then_some(&demand.transport_protocol),
                    &seen.transport,
                )
            }),
            demand: |demand| demand.transport_protocol.clone(),
        },
        Question {
            name: "application protocol",
            has: or_none(&seen.protocols.join(", ")),
            fit: Box::new(|demand| application(&demand.application_protocols, &seen.protocols)),
            demand: |demand| demand.application_protocols.join(", "),
        },
        Question {
            name: "direct source",
            has: source.ip().to_string(),
            fit: Box::new(move |demand| range(&demand.direct_source_prefix_ranges, source.ip())),
            demand: |demand| ranges(&demand.direct_source_prefix_ranges),
        },
        Question {
            name: "kind of source",
            has: if same { "this machine" } else { "elsewhere" }.to_owned(),
            fit: Box::new(move |demand| match demand.source_type() {
                ConnectionSourceType::Any => Some(0),
                ConnectionSourceType::SameIpOrLoopback => same.then_some(1),
                ConnectionSourceType::External => (!same).then_some(1),
            }),
            demand: |demand| demand.source_type().as_str_name().to_owned(),
        },
        Question {
            name: "source",
            has: source.ip().to_string(),
            fit: Box::new(move |demand| range(&demand.source_prefix_ranges, source.ip())),
            demand: |demand| ranges(&demand.source_prefix_ranges),
        },
        Question {
            name: "source port",
            has: source.port().to_string(),
            fit: Box::new(move |demand| {
                if demand.source_ports.is_empty() {
                    return Some(0);
                }
                demand.source_ports.contains(&u32::from(source.port())).then_some(1)
            }),
            demand: |demand| {
                demand
                    .source_ports
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        },
    ]
}

fn or_none(text: &str) -> String {
    if text.is_empty() {
        "none".to_owned()
    } else {
        text.to_owned()
    }
}

fn one<T: PartialEq>(demand: Option<T>, has: T) -> Option<usize> {
    match demand {
        None => Some(0),
        Some(demand) => (demand == has).then_some(1),
    }
}

/// The length of the longest range with the address.
fn range(demands: &[CidrRange], address: IpAddr) -> Option<usize> {
    if demands.is_empty() {
        return Some(0);
    }
    let lengths = demands
        .iter()
        .filter_map(network)
        .filter(|network| network.contains(&address));
    // A range of all addresses and no range at all are the same to Envoy.
    lengths.map(|network| usize::from(IpNet::prefix_len(&network))).max()
}

fn ranges(demands: &[CidrRange]) -> String {
    let texts = demands
        .iter()
        .map(|range| network(range).map_or_else(|| range.address_prefix.clone(), |network| network.to_string()));
    texts.collect::<Vec<_>>().join(", ")
}

/// The exact name is best, then the longest wildcard.
fn server_name(demands: &[String], name: &str) -> Option<usize> {
    if demands.is_empty() {
        return Some(0);
    }
    let fits = demands.iter().filter_map(|demand| {
        if name.is_empty() {
            return None;
        }
        if demand == name {
            return Some(usize::MAX);
        }
        let suffix = demand.strip_prefix('*').filter(|suffix| suffix.starts_with('.'))?;
        (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len())
    });
    fits.max()
}

/// The client's first protocol that somebody asks for decides, so an earlier one fits better.
fn application(demands: &[String], protocols: &[String]) -> Option<usize> {
    if demands.is_empty() {
        return Some(0);
    }
    let first = protocols.iter().position(|protocol| demands.contains(protocol))?;
    Some(protocols.len() - first)
}

/// What a chain asked for and got, in words.
fn because(demand: &FilterChainMatch) -> String {
    let mut parts = Vec::new();
    if let Some(port) = &demand.destination_port {
        parts.push(format!("port {}", port.value));
    }
    for (name, list) in [
        ("address", ranges(&demand.prefix_ranges)),
        ("server name", demand.server_names.join(", ")),
        ("transport", demand.transport_protocol.clone()),
        ("application protocol", demand.application_protocols.join(", ")),
        ("direct source", ranges(&demand.direct_source_prefix_ranges)),
        ("source", ranges(&demand.source_prefix_ranges)),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name} {list}"));
        }
    }
    if parts.is_empty() {
        "it asks for nothing".to_owned()
    } else {
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests;
