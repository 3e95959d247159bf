//! The local runtime: nodes, pods and control loops on one machine.

pub mod control;
pub mod controllers;
pub mod dns;
pub mod doctor;
pub mod instance;
pub mod kubelet;
pub mod mesh;
pub mod network;
pub mod refusal;
pub mod role;
pub mod services;
pub mod status;
mod supervisor;
pub mod up;

pub use corten_pod::sandbox;
