//! corten-node, the L4 node proxy: HBONE between pods, policy, load balancing, DNS.
//!
//! Configured by environment variables with Istio's names. Arguments are accepted and ignored, because manifests pass `proxy ztunnel`.

use std::process::ExitCode;

use corten_node::config::{Config, Vars};

/// The environment of the process.
struct Environment;

impl Vars for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn all(&self) -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

fn main() -> ExitCode {
    corten_linux::memory::keep_small(2);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let levels = std::env::var("RUST_LOG").ok();
    if let Err(problem) = corten_rt::log::start(levels.as_deref()) {
        tracing::warn!("RUST_LOG: {problem}");
    }
    let config = match Config::resolve(&Environment, cores) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                tracing::error!("{problem}");
            }
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
    match runtime.block_on(corten_node::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
