//! The local runtime: nodes, pods and control loops on one machine.

pub mod network;
pub mod sandbox;
