//! Services: what Service and EndpointSlice objects mean for packets, as nftables rules in every node.
//!
//! ```text
//! objects → catalog (plain structs) → plan (address → endpoints, per node) → rules (map elements) → transactions
//! ```
//!
//! All but the last step is pure. Every service address is an element of a verdict map that leads to a chain shared by all services
//! with as many endpoints; the chosen endpoint is an element of a second map. So a change of one service is a change of a few
//! elements, however many services there are.

mod catalog;
mod follow;
mod plan;
mod rules;
mod run;
mod state;

pub use catalog::{Catalog, Endpoint, Port, Service, ServiceId, ServiceKind, Slice};
pub(crate) use follow::Follower;
pub use plan::{NodeView, Reach, Target, Vip, plan};
pub use run::run;
pub use state::State;

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
