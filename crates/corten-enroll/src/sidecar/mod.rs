//! Redirection for a pod with a proxy of its own (a sidecar), from the settings that Istio's annotations and environment have.
//!
//! [`Settings`] are decided once into a list of [`Rule`](rule::Rule)s, which [`iptables`] and [`nftables`] only spell, and [`tables`] makes
//! tables of the kernel of. [`apply`] puts those into a pod's namespace.

pub mod iptables;
mod network;
pub mod nftables;
mod pod;
mod program;
mod rule;
mod settings;
mod tables;

pub use network::{ApplyError, TPROXY_TABLE, apply, has_one_user};
pub use pod::{ProxyContainer, from_pod};
pub use settings::{Dns, Groups, Mode, Ports, Ranges, Settings, SettingsError, names};
pub use tables::{PROXY_PRIORITY, ProxyMark, tables};

#[cfg(test)]
mod tests;
