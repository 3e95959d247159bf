//! What proxies and control planes show of themselves, as tables: dumps of Envoy and of node proxies, how far each proxy is, which webhook
//! injects a pod, what waypoints there are. Words, columns and order are istioctl's.
//!
//! Everything here is a function of what was read; who was asked, and how, is the caller's business.

pub mod authz;
pub mod compare;
pub mod envoy;
pub mod injection;
pub mod statuses;
pub mod table;
pub mod waypoints;
pub mod ztunnel;
