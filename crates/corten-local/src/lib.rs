//! The local runtime: nodes, pods and control loops on one machine.

pub mod sandbox;
