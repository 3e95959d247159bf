//! Pure vocabulary of the mesh: names, hosts, ports, durations, identities.
//!
//! What two parts of the mesh must agree on to speak of the same thing. No clock, no I/O, and no knowledge of any
//! resource that uses these words.

mod duration;
mod host;
mod labels;
mod locality;
mod name;
mod percentage;
mod port;
mod protocol;
mod spiffe;

pub use self::{
    duration::{Duration, ParseDurationError},
    host::{Host, HostError, NamespacedHost, hosts_for_namespace, intersection, is_dns_label, is_wildcard_dns_label},
    labels::{LabelError, LabelMap, Labels},
    locality::Locality,
    name::NamespacedName,
    percentage::Percentage,
    port::{Port, ServicePort},
    protocol::Protocol,
    spiffe::{Identity, ParseIdentityError, expand_trust_domains},
};
