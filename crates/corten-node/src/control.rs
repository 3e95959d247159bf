//! The control side: one tokio runtime that keeps tables, certificates and pods current, and tells the shards.

pub mod certificates;
pub mod data_plane;
pub mod discovery;
pub mod dump;
pub mod keys;
pub mod local;
pub mod names;
pub mod servers;
pub mod state;
