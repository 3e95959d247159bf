//! VirtualServices: hosts, subsets and gateways that are not there, and several for the same host.

mod conflicts;
mod destinations;
mod gateways;

pub(super) use self::{
    conflicts::conflicts,
    destinations::{destinations, subsets},
    gateways::{claims, gateways},
};
