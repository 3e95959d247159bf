//! corten-node, the L4 node proxy: HBONE between pods, policy, load balancing, DNS.
//!
//! Configured by environment variables with Istio's names. Arguments are accepted and ignored, because manifests pass `proxy ztunnel`.

use std::process::ExitCode;

use corten_node::config::{Config, Vars, catalog};
use corten_rt::log::{self, Format};

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

    fn file(&self, path: &str) -> std::io::Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn main() -> ExitCode {
    if std::env::args()
        .skip(1)
        .any(|argument| argument == "--help" || argument == "-h")
    {
        // Whoever closes the pipe has read enough.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), catalog::page().as_bytes());
        return ExitCode::SUCCESS;
    }
    corten_linux::memory::keep_small(2);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let levels = std::env::var("RUST_LOG").ok();
    // What is wrong with the settings is told in the form that they ask for.
    let format = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => Format::Json,
        _ => Format::Tabs,
    };
    if let Err(problem) = log::start_as(levels.as_deref(), format) {
        tracing::warn!("RUST_LOG: {problem}");
    }
    for setting in catalog::without_effect() {
        if let Ok(value) = std::env::var(setting.name) {
            tracing::info!("{}: '{value}' has no effect: {}", setting.name, setting.meaning);
        }
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
