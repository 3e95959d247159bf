//! The plugin on the node: its binary, and its entry in the node's CNI configuration.

pub mod config;
