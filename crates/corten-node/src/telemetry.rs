//! What is told about connections: counters, access log, headers between proxies.

pub mod access;
pub mod baggage;
pub mod failure;
pub mod metrics;
pub mod series;
