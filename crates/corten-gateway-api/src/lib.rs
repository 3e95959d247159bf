//! Gateway API objects as Istio has them: Gateways, routes and policies become Istio's `Gateway`, `VirtualService` and
//! `DestinationRule`, and every object gets the status that says what became of it.
//!
//! Everything here is a function of its arguments: no clock, no API server. [`convert`] takes all objects at once; each
//! route, gateway and policy is converted by a function that sees only the index and the listeners, so that a driver
//! can convert again what a change concerns. What the objects mean on the wire is not known here.

pub mod annotation;
pub mod certificate;
pub mod class;
pub mod condition;
mod conflict;
mod convert;
pub mod deploy;
pub mod diagnose;
pub mod gateway;
pub mod index;
mod inference;
pub mod ingress;
pub mod input;
mod instances;
mod listener;
pub mod offline;
mod policy;
pub mod reference;
pub mod route;
mod selector;
pub mod service;
pub mod store;
mod tls;

pub use convert::{Conversion, ObjectStatus, StatusValue, convert};
pub use input::{Inputs, Settings};
pub use policy::rule::checked;
pub use route::{EndpointPicker, Routes};

#[cfg(test)]
mod tests;
