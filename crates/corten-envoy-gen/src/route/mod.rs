//! Where requests and connections lead.

mod inbound;
mod l4;

pub(crate) use self::{
    inbound::inbound_route,
    l4::{L4Chain, l4_chains},
};
