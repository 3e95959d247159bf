//! How processes live: named task groups with an orderly end, and the word for a test that cannot run here.
//!
//! Knows nothing of the mesh, of Kubernetes or of sockets.

pub mod log;
pub mod probe;
mod skip;
mod tasks;

pub use skip::skip_reason;
pub use tasks::{Drain, TaskGroup};
