//! One call through a proxy, from listener to listener.

use std::collections::{BTreeSet, VecDeque};

use crate::facts::{Carried, Facts};
use crate::listener::INTERNAL_DESTINATION;
use crate::network::{self, Ended};
use crate::trace::{Destination, EndpointShare, Hop, ListenerMatched, Outcome, Refusal, Trace, Via};
use crate::{Call, Config, Entry, Note, chain, listener, tls};

/// How many listeners of one proxy a call passes at most.
const HOPS_MAX: usize = 16;
/// How the addresses of internal listeners begin.
pub(crate) const INTERNAL: &str = "internal:";

/// Follows a call through a proxy: what each listener that it passes does with it, and why.
///
/// Listeners within the proxy, which its clusters send to, are further hops. The trace ends where the proxy sends to somebody else.
pub fn follow(config: &Config, call: &Call) -> Trace {
    let mut trace = Trace::default();
    let mut waiting = VecDeque::from([(None, call.clone())]);
    while let Some((via, call)) = waiting.pop_front() {
        if trace.hops.len() == HOPS_MAX {
            break;
        }
        let (hop, facts) = pass(config, call, via);
        let at = trace.hops.len();
        // However many endpoints are behind an internal listener, one shows how it treats them.
        let mut followed = BTreeSet::new();
        for destination in &hop.destinations {
            for endpoint in destination.upstream.iter().flat_map(|upstream| &upstream.endpoints) {
                let Some(name) = endpoint.address.strip_prefix(INTERNAL).filter(|_| endpoint.share > 0.0) else {
                    continue;
                };
                if followed.insert(name.to_owned()) {
                    let via = Via {
                        hop: at,
                        cluster: destination.cluster.clone(),
                        endpoint: endpoint.address.clone(),
                    };
                    waiting.push_back((Some(via), within(&hop, &facts, destination, endpoint, name)));
                }
            }
        }
        trace.hops.push(hop);
    }
    trace
}

/// The call as an internal listener sees it.
fn within(hop: &Hop, facts: &Facts, destination: &Destination, endpoint: &EndpointShare, name: &str) -> Call {
    let is_connect = facts
        .request
        .as_ref()
        .is_some_and(|request| request.method == "CONNECT");
    let mut call = match hop.call.inside.as_ref().filter(|_| is_connect) {
        Some(inside) => (**inside).clone(),
        None => Call {
            tls: hop.call.tls.clone().filter(|_| facts.tls.is_none()),
            request: destination.request.clone().or_else(|| hop.call.request.clone()),
            ..hop.call.clone()
        },
    };
    call.entry = Entry::Internal(name.to_owned());
    call.source = facts.source;
    let carried = facts.state.iter().filter(|(_, noted)| noted.carried != Carried::Never);
    let carried = carried.map(|(key, noted)| {
        let note = Note {
            value: noted.value.clone(),
            lasting: noted.carried == Carried::Always,
        };
        (key.clone(), note)
    });
    call.filter_state = carried.collect();
    if let Some(target) = endpoint.target {
        // What an endpoint says of itself counts before what was noted earlier.
        call.destination = target;
        call.filter_state.remove(INTERNAL_DESTINATION);
    }
    call
}

/// One listener.
fn pass(config: &Config, call: Call, via: Option<Via>) -> (Hop, Facts) {
    let mut facts = Facts::new(&call);
    let mut hop = Hop {
        via,
        ..Hop::new(String::new(), call)
    };
    hop.outcome = match enter(config, &mut hop, &mut facts) {
        Err(outcome) => outcome,
        Ok(chain) => {
            let mut ended = Ended::default();
            let outcome = network::run(config, chain, &hop.call, &mut facts, &mut ended);
            hop.filters = ended.filters;
            hop.http = ended.http;
            hop.destinations = ended.destinations;
            hop.tunnel = ended.tunnel;
            outcome
        }
    };
    (hop, facts)
}

/// The listener, its filter chain and its TLS; `Err`: how the call ends before.
fn enter<'a>(
    config: &'a Config,
    hop: &mut Hop,
    facts: &mut Facts,
) -> Result<&'a corten_envoy::envoy::config::listener::v3::FilterChain, Outcome> {
    let refused = |error: Refusal, why: String| Outcome::Refused {
        error,
        status: None,
        why,
    };
    let (found, because) = listener::find(config, &hop.call).map_err(|why| refused(Refusal::NoListener, why))?;
    let seen: ListenerMatched =
        listener::inspect(found, because, &hop.call, facts).map_err(|why| refused(Refusal::Unsupported, why))?;
    hop.listener = Some(seen.clone());
    let (chain, matched) = match chain::find(found, &seen, facts) {
        Ok(found) => found,
        Err(none) => {
            let mut why = none.why;
            for passed in none.passed_over {
                why.push_str(&format!("\n{}: {}", passed.name, passed.because));
            }
            return Err(refused(none.error, why));
        }
    };
    hop.filter_chain = Some(matched);
    let opened = tls::open(chain.transport_socket.as_ref(), hop.call.tls.as_ref())
        .map_err(|(error, why)| refused(error, why))?;
    if let Some(opened) = opened {
        facts.tls.clone_from(&hop.call.tls);
        if let Some(tls) = facts.tls.as_mut().filter(|_| !opened.asks_for_certificate) {
            // A certificate that is not asked for is not shown.
            tls.certificate = None;
        }
        facts.scheme = "https".to_owned();
        if facts.server_name.is_empty() {
            facts.server_name = hop
                .call
                .tls
                .as_ref()
                .map_or(String::new(), |tls| tls.sni.to_ascii_lowercase());
        }
        hop.tls = Some(opened);
    }
    Ok(chain)
}

#[cfg(test)]
mod tests;
