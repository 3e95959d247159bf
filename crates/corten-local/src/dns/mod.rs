//! The cluster's DNS: names of services, their endpoints and pods; other names are asked of the host's resolvers, if it may.
//!
//! One server for all nodes, on 10.96.0.10 itself in the runtime's namespace: the address is routed, not translated, so that two
//! questions sent at once from one socket (as C libraries do) cannot lose each other in connection tracking.
//! What to answer is a pure function of the catalog and the question ([`answer`]); the server around it only moves bytes.

mod names;
mod reply;
mod server;
mod upstream;

pub use names::Zone;
pub use reply::{Outcome, Transport, answer};
pub use server::{Sockets, run};
pub use upstream::Upstream;

#[cfg(test)]
mod tests;
