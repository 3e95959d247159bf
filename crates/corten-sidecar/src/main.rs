//! corten-sidecar: a stock Envoy beside a workload, or as a gateway.

use std::process::ExitCode;

use clap::Parser as _;
use corten_rt::log;
use corten_sidecar::{Arguments, Settings, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = log::start(std::env::var("RUST_LOG").ok().as_deref()) {
        tracing::warn!("RUST_LOG: {problem}");
    }
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = match Settings::resolve(&arguments, &variables) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(settings)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
