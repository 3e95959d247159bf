//! Listeners in the making: services that share an address and a port share a listener.

use corten_envoy::{
    boolean,
    envoy::config::{
        core::v3::{CidrRange, Metadata, TrafficDirection},
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter},
    },
    google::protobuf::Duration,
    seconds, uint32,
};
use ipnet::IpNet;

use super::filters;

/// What a listener takes connections for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP alone.
    Http,
    /// Bytes alone, TLS among them.
    Tcp,
    /// What it takes is found out by looking at the first bytes.
    Either,
}

/// The application protocols that say that plain HTTP is spoken.
pub(super) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// A chain of filters with what leads to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    /// Its name; empty: none.
    pub(super) name: String,
    /// Only plain text (`raw_buffer`), or only TLS (`tls`); empty: either.
    pub(super) transport: &'static str,
    /// Application protocols; none: any.
    pub(super) protocols: Vec<String>,
    /// Server names; none: any.
    pub(super) names: Vec<String>,
    /// The addresses called; none: any.
    pub(super) subnets: Vec<IpNet>,
    /// Its filters.
    pub(super) filters: Vec<Filter>,
    /// The object that it is of, if it is one's.
    pub(super) metadata: Option<Metadata>,
}

impl Chain {
    /// A chain for everything.
    pub(super) fn new(filters: Vec<Filter>) -> Chain {
        Chain {
            name: String::new(),
            transport: "",
            protocols: Vec::new(),
            names: Vec::new(),
            subnets: Vec::new(),
            filters,
            metadata: None,
        }
    }

    /// A chain for plain HTTP.
    pub(super) fn plain_http(filter: Filter) -> Chain {
        Chain {
            transport: "raw_buffer",
            protocols: PLAIN_HTTP.map(str::to_owned).to_vec(),
            ..Chain::new(vec![filter])
        }
    }

    fn leads_as(&self, other: &Chain) -> bool {
        self.transport == other.transport
            && self.protocols == other.protocols
            && self.names == other.names
            && self.subnets == other.subnets
    }

    fn is_for_all(&self) -> bool {
        self.transport.is_empty() && self.protocols.is_empty() && self.names.is_empty() && self.subnets.is_empty()
    }

    fn built(self) -> FilterChain {
        let wanted = (!self.is_for_all()).then(|| FilterChainMatch {
            transport_protocol: self.transport.to_owned(),
            application_protocols: self.protocols.clone(),
            server_names: self.names.clone(),
            prefix_ranges: self.subnets.iter().map(cidr).collect(),
            ..FilterChainMatch::default()
        });
        FilterChain {
            name: self.name,
            filter_chain_match: wanted,
            filters: self.filters,
            metadata: self.metadata,
            ..FilterChain::default()
        }
    }
}

/// A range of addresses.
pub(super) fn cidr(net: &IpNet) -> CidrRange {
    CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: uint32(net.prefix_len().into()),
    }
}

/// A listener in the making.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// What it takes so far.
    pub(super) speaks: Speaks,
    /// Listeners that are written with their port are not changed by what comes from elsewhere.
    pub(super) locked: bool,
    /// The protocol never shares a port with another one.
    pub(super) alone: bool,
    /// The chains.
    pub(super) chains: Vec<Chain>,
    /// Where connections go that no chain takes.
    pub(super) otherwise: Option<FilterChain>,
    /// Connections are redirected to it: it does not listen by itself.
    pub(super) captured: bool,
}

impl Draft {
    /// Puts what another service wants of the same address and port to what is there; `false`: nothing came of it, because what
    /// is there takes these connections already.
    pub(super) fn merge(&mut self, other: Draft) -> bool {
        if self.locked && !other.locked {
            return false;
        }
        if (self.alone || other.alone) && self.speaks != other.speaks {
            return false;
        }
        match (self.speaks, other.speaks) {
            // The routes of the port have the hosts of all services.
            (Speaks::Http | Speaks::Either, Speaks::Http) => return false,
            (Speaks::Http, Speaks::Either) => {
                let otherwise = self.otherwise.take();
                *self = other;
                self.otherwise = self.otherwise.take().or(otherwise);
                return true;
            }
            (Speaks::Tcp, Speaks::Tcp) => {}
            _ => self.speaks = Speaks::Either,
        }
        let before = self.chains.len();
        for chain in other.chains {
            if !self.chains.iter().any(|held| held.leads_as(&chain)) {
                self.chains.push(chain);
            }
        }
        self.otherwise = self.otherwise.take().or(other.otherwise);
        self.chains.len() > before
    }

    /// The listener.
    pub(super) fn build(self, name: String, bind: &str, port: u16, detection: Option<Duration>) -> Listener {
        let (filters, timeout) = inspectors(&self.chains, detection);
        // A chain for everything is no choice beside others to Envoy, which never goes back from a better match; the default is.
        let (all, mut chosen): (Vec<Chain>, Vec<Chain>) = self.chains.into_iter().partition(Chain::is_for_all);
        let mut all = all.into_iter();
        let mut otherwise = self.otherwise;
        match all.next() {
            Some(chain) if chosen.is_empty() => {
                chosen.push(chain);
                otherwise = None;
            }
            Some(chain) => otherwise = Some(chain.built()),
            None => {}
        }
        let chains: Vec<FilterChain> = chosen.into_iter().map(Chain::built).collect();
        Listener {
            name,
            address: Some(filters::socket(bind, port)),
            filter_chains: chains,
            default_filter_chain: otherwise,
            listener_filters: filters,
            listener_filters_timeout: Some(timeout),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Outbound.into(),
            bind_to_port: if self.captured { boolean(false) } else { None },
            max_connections_to_accept_per_socket_event: if self.captured { None } else { uint32(1) },
            ..Listener::default()
        }
    }
}

/// The listener filters that chains need, and how long they may take.
fn inspectors(chains: &[Chain], detection: Option<Duration>) -> (Vec<ListenerFilter>, Duration) {
    let mut filters = Vec::new();
    let tls = chains
        .iter()
        .any(|chain| !chain.names.is_empty() || !chain.transport.is_empty());
    let http = chains.iter().any(|chain| !chain.protocols.is_empty());
    if tls {
        filters.push(filters::tls_inspector());
    }
    if http {
        filters.push(filters::http_inspector());
    }
    let timeout = if http { detection } else { None };
    (filters, timeout.unwrap_or_else(|| seconds(0)))
}
