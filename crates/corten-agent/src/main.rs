//! The agent's process: settings from the environment, signals, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use corten_agent::config::Config;
use corten_rt::TaskGroup;
use tokio::signal::unix::{SignalKind, signal};

/// The mesh's node agent: puts the pods of this node into the mesh. Settings come from the environment.
#[derive(Debug, Parser)]
#[command(name = "corten-agent")]
struct Arguments {
    /// What is logged, such as info,corten_agent=debug
    #[arg(long, value_name = "LEVELS")]
    log: Option<String>,
}

fn main() -> ExitCode {
    corten_linux::memory::keep_small(2);
    let arguments = Arguments::parse();
    let variable = |name: &str| std::env::var(name).ok();
    let levels = arguments.log.or_else(|| variable("RUST_LOG"));
    let levels = corten_store_kube::log_levels(levels.as_deref().unwrap_or("info"));
    if let Err(problem) = corten_rt::log::start(Some(&levels)) {
        tracing::warn!("{problem}");
    }
    let config = match Config::read(&variable) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let process = TaskGroup::new("process");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = corten_agent::run(config, process.drain());
    tokio::pin!(ended);
    tokio::select! {
        outcome = &mut ended => return Ok(outcome?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Tells the drain; there are no tasks in this group to wait for.
    process.shutdown(Duration::ZERO).await;
    Ok(ended.await?)
}
