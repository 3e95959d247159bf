//! Runs a stock Envoy beside a workload, or as a gateway: gets its certificates and keeps them fresh, writes its bootstrap, tells
//! whether it is ready, and lets what is open end before it goes.
//!
//! What Envoy does with connections comes from the control plane, which it asks itself, as the identity that it is given here.

mod bootstrap;
mod command;
mod files;
mod health;
mod probes;
mod process;
pub mod redirect;
mod request;
mod run;
mod secrets;
mod settings;

pub use bootstrap::bootstrap;
pub use command::Command;
pub use process::arguments as envoy_arguments;
pub use run::{RunError, run};
pub use settings::{Arguments, Files, Kind, Settings, SettingsError};
