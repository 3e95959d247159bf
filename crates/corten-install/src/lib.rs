//! Installation on Kubernetes: what the user asks for, the objects that makes, and how they get into a cluster.
//!
//! The charts in `deploy/` are the only place where objects are written. Helm renders them, and so does this crate, with its own reading
//! of their templates; a test holds both to the same objects. Everything up to the list of objects is a function of its arguments.

pub mod adopt;
pub mod beside;
pub mod charts;
pub mod cluster;
pub mod found;
pub mod install;
pub mod operator;
pub mod permissions;
pub mod precheck;
pub mod ready;
pub mod record;
pub mod remove;
pub mod render;
pub mod tags;
pub mod values;
pub mod verify;
