//! How each thing is derived: plain functions from objects, and from what was derived before them.
//!
//! Order of derivation: network, waypoints, services, policies, workloads, statuses. Nothing looks ahead.

pub(crate) mod authorization;
pub(crate) mod binding;
pub(crate) mod peer;
pub(crate) mod services;
pub(crate) mod statuses;
pub(crate) mod unhonoured;
pub(crate) mod waypoints;
pub(crate) mod workloads;
