//! The filters of a connection, one after the other, up to the one that ends it or sends it on.

use corten_envoy::envoy::config::listener::v3::{Filter, FilterChain, filter::ConfigType};
use corten_envoy::envoy::extensions::filters::network::{
    ext_authz::v3::ExtAuthz,
    http_connection_manager::v3::HttpConnectionManager,
    rbac::v3::Rbac,
    set_filter_state::v3::Config as SetFilterState,
    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
};
use corten_envoy::google::protobuf::Any;
use corten_envoy::prost::{Message, Name};

use crate::facts::Facts;
use crate::trace::{Destination, FilterVerdict, HttpTrace, Outcome, Refusal, Verdict};
use crate::{Call, Config, Protocol, cluster, filters, format, http, listener, rbac};

/// What the filters of a chain leave in a hop.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) filters: Vec<FilterVerdict>,
    pub(crate) http: Option<HttpTrace>,
    pub(crate) destinations: Vec<Destination>,
    /// Whether a filter offers servers the protocol of the request.
    pub(crate) alpn_override: bool,
    /// Whether the request came by HTTP/2.
    pub(crate) http2: bool,
    /// The authority of the CONNECT that the connection is sent on in.
    pub(crate) tunnel: Option<String>,
}

/// Runs a chain's filters.
pub(crate) fn run(config: &Config, chain: &FilterChain, call: &Call, facts: &mut Facts, hop: &mut Ended) -> Outcome {
    hop.http2 = call.protocol == Protocol::Http2;
    for filter in &chain.filters {
        match one(config, filter, call, facts, hop) {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            Err(why) => {
                return Outcome::Refused {
                    error: Refusal::Unsupported,
                    status: None,
                    why,
                };
            }
        }
    }
    let why = "no filter of the chain sends the connection anywhere: it is closed".to_owned();
    Outcome::Refused {
        error: Refusal::Unsupported,
        status: None,
        why,
    }
}

fn decode<M: Message + Name + Default>(filter: &Filter, any: &Any) -> Result<Option<M>, String> {
    corten_envoy::decode(any).map_err(|error| format!("the network filter {:?} is broken: {error}", filter.name))
}

fn one(
    config: &Config,
    filter: &Filter,
    call: &Call,
    facts: &mut Facts,
    hop: &mut Ended,
) -> Result<Option<Outcome>, String> {
    let said = |verdict: Verdict, why: String| FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why,
        policies: Vec::new(),
    };
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        hop.filters.push(said(Verdict::Passed, String::new()));
        return Ok(None);
    };
    if let Some(manager) = decode::<HttpConnectionManager>(filter, any)? {
        return http::manage(config, &manager, call, facts, hop).map(Some);
    }
    if let Some(proxy) = decode::<TcpProxy>(filter, any)? {
        return Ok(Some(forward(config, &proxy, facts, hop)));
    }
    if let Some(rules) = decode::<Rbac>(filter, any)? {
        if rules.matcher.is_some() {
            return Err(format!(
                "the network filter {:?} has a tree of matchers, which is not followed here",
                filter.name
            ));
        }
        let verdict = rbac::enforce(
            &rbac::Rules {
                name: &filter.name,
                enforced: rules.rules.as_ref(),
                shadow: rules.shadow_rules.as_ref(),
                shadow_prefix: &rules.shadow_rules_stat_prefix,
                metadata_name: "envoy.filters.network.rbac",
            },
            facts,
        );
        let denied = verdict.verdict == Verdict::Denied;
        let why = format!("{}: {}", filter.name, verdict.why);
        hop.filters.push(verdict);
        return Ok(denied.then_some(Outcome::Refused {
            error: Refusal::Denied,
            status: None,
            why,
        }));
    }
    if let Some(state) = decode::<SetFilterState>(filter, any)? {
        let values = state
            .on_new_connection
            .iter()
            .chain(&state.on_downstream_tls_handshake)
            .chain(&state.on_downstream_data);
        let noted: Vec<String> = values
            .filter_map(|value| listener::note(value, facts))
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        hop.filters.push(said(Verdict::Passed, noted.join(", ")));
        return Ok(None);
    }
    if let Some(asks) = decode::<ExtAuthz>(filter, any)? {
        hop.filters.push(external(filter, &asks, facts));
        return Ok(None);
    }
    hop.filters.push(said(Verdict::Passed, String::new()));
    Ok(None)
}

fn external(filter: &Filter, config: &ExtAuthz, facts: &Facts) -> FilterVerdict {
    let off = config
        .filter_enabled_metadata
        .as_ref()
        .is_some_and(|matcher| !crate::values::judge_metadata(matcher, &facts.metadata).yes);
    let (verdict, why) = if off {
        (Verdict::Passed, "no policy sends this connection to it".to_owned())
    } else {
        let asks = config
            .grpc_service
            .as_ref()
            .map_or_else(|| "nobody".to_owned(), filters::grpc_name);
        (Verdict::Depends, format!("asks {asks}"))
    };
    FilterVerdict {
        name: filter.name.clone(),
        verdict,
        why,
        policies: Vec::new(),
    }
}

fn forward(config: &Config, proxy: &TcpProxy, facts: &Facts, hop: &mut Ended) -> Outcome {
    let choices: Vec<(String, f64)> = match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name.clone(), 1.0)],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let total: f64 = weighted.clusters.iter().map(|cluster| f64::from(cluster.weight)).sum();
            let used = weighted.clusters.iter().filter(|cluster| cluster.weight > 0);
            used.map(|cluster| (cluster.name.clone(), f64::from(cluster.weight) / total))
                .collect()
        }
        None => Vec::new(),
    };
    if let Some(tunnel) = &proxy.tunneling_config {
        hop.tunnel = Some(format::filled(&tunnel.hostname, facts, true));
    }
    for (cluster, share) in choices {
        let upstream = cluster::upstream(config, &cluster, facts, None, hop);
        hop.destinations.push(Destination {
            cluster,
            share,
            request: None,
            upstream,
            response: Vec::new(),
        });
    }
    cluster::outcome(&hop.destinations, None)
}
