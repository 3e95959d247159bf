//! Redirection for a pod with a proxy of its own (a sidecar), from the settings that Istio's annotations and environment have.
//!
//! [`Settings`] are decided once into a list of [`Rule`](rule::Rule)s, which [`iptables`] and [`nftables`] only spell.

pub mod iptables;
pub mod nftables;
mod pod;
mod program;
mod rule;
mod settings;

pub use pod::{ProxyContainer, from_pod};
pub use settings::{Dns, Groups, Mode, Ports, Ranges, Settings, SettingsError, names};

#[cfg(test)]
mod tests;
