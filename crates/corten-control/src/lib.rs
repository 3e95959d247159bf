//! The control plane: Kubernetes' objects come in, node proxies get what they need to know, and certificates are signed.
//!
//! This crate is wiring. What objects mean is decided in `corten-model` and `corten-routing`, what clients are sent in `corten-xds-gen`,
//! `corten-envoy-gen` and `corten-xds`,
//! who gets which certificate in `corten-ca`.

mod access;
mod admission;
mod assignment;
mod authority;
mod clients;
mod compile;
mod credentials;
mod debug;
mod deployer;
mod envoy_dump;
mod faults;
mod feed;
mod gateway_status;
mod gateways;
mod http;
mod ingress_nodes;
mod injection;
mod issuers;
mod keys;
mod metrics;
mod pipeline;
mod readable;
mod resources;
mod revision;
mod run;
mod secret;
mod settings;
mod statuses;
mod throttle;
mod trust_bundle;
mod trust_domains;
mod views;
mod watched;

pub use authority::AuthorityError;
pub use issuers::IssuerSettings;
pub use run::{Addresses, RunError, run, start};
pub use settings::{Arguments, Settings, SettingsError, ValidationPolicy, log_levels};
pub use stop::stop_signal;
pub use trust_bundle::trusted;

mod stop {
    //! How the process is told to stop.

    use tokio::signal::unix::{SignalKind, signal};

    /// Resolves at the first SIGTERM or SIGINT.
    pub async fn stop_signal() {
        let wait = async |kind| match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::error!(%error, "a signal cannot be waited for");
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = wait(SignalKind::terminate()) => {}
            () = wait(SignalKind::interrupt()) => {}
        }
    }
}
