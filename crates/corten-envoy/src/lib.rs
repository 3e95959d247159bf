//! Envoy's messages: the typed ones that generators fill, the wrapping into `Any`, and JSON for people and for patches.
//!
//! Types are those of the package `envoy-types`. JSON follows protobuf's canonical mapping and goes through descriptors, which are
//! unpacked when first asked for: who only sends messages never pays for them.

mod canonical;
mod descriptors;
mod ip_matcher;
mod json;
mod patch;
mod shape;
mod values;

pub use envoy_types::pb::{envoy, google, opentelemetry, xds};
pub use prost;

pub use self::{
    canonical::encode,
    descriptors::pool,
    ip_matcher::{IpMatcher, IpRangeMatcher},
    json::{JsonError, from_json, message_from_json, message_to_json, to_json, type_name},
    patch::{Lists, Patch, merge_any, unknown_types},
    shape::{camel_case, in_order},
    values::{any, any_struct, boolean, decode, double, duration, number, seconds, string_value, structure, uint32},
};
