//! Discovery sessions, client and server: what a client asked for, has, accepted and rejected, over incremental (delta) xDS.
//!
//! The sessions are pure state machines over messages; thin drivers carry the messages over gRPC.
//! State of the world, for the clients that speak only that, is a rendering of the same server session.
//! Knows nothing of what resources mean.

pub mod client;
pub mod server;
mod wire;

/// What stands for every resource of a type in a subscription.
pub const WILDCARD: &str = "*";
