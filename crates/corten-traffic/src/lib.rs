//! Pure data-plane decisions: tables of workloads and services, authorization, endpoint picking, DNS answers.
//!
//! [`TablesWriter`] takes what the control plane sends and publishes immutable [`Tables`]; a connection asks one version of
//! them where it goes ([`Tables::outbound`], [`Tables::inbound`]) and whether it may ([`Tables::authorize`]). Nothing here knows a socket, a
//! clock or a task; chance comes in as an argument.

mod address;
mod authority;
mod authorize;
mod baggage;
mod balance;
pub mod dns;
mod forwarded;
mod gateway;
mod inbound;
mod index;
mod name;
mod outbound;
mod policy;
mod proxy_protocol;
mod random;
mod resource;
mod service;
mod settings;
mod sorted;
mod tables;
#[cfg(test)]
mod testing;
mod trie;
mod workload;
mod writer;

pub use self::{
    address::canonical,
    authority::{AuthorityError, Requested},
    authorize::{DryRun, Reason, Verdict},
    baggage::{BAGGAGE_HEADER, Baggage},
    balance::NoEndpoint,
    forwarded::{FORWARDED_HEADER, forwarded, forwarded_host},
    gateway::{Destination, GatewayAddress},
    inbound::{InboundError, InboundTarget},
    name::Name,
    outbound::{Authority, Connect, Expected, Hop, Outbound, OutboundError, Protocol, Upstream},
    policy::{Action, Clause, Lists, Match, Pattern, Peer, Policy, Rule, Scope as PolicyScope},
    proxy_protocol::proxy_header,
    resource::{Change, Rejected},
    service::{IpFamilies, LoadBalancing, Mode, Scope, Service},
    settings::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT, SOCKS5_PORT, Settings},
    tables::{Endpoint, Tables},
    workload::{ApplicationTunnel, InboundProtocol, Membership, Workload, WorkloadType},
    writer::TablesWriter,
};
