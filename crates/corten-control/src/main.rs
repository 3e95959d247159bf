//! `corten-control`: reads the command line and the environment, and runs the control plane until it is told to stop.

use std::process::ExitCode;

use clap::Parser as _;
use corten_control::{Arguments, Settings};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = corten_rt::log::start(Some(&corten_control::log_levels(&arguments))) {
        eprintln!("corten-control: {problem}");
        return ExitCode::from(2);
    }
    let variable = |name: &str| std::env::var(name).ok();
    let settings = match Settings::resolve(&arguments, variable) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                eprintln!("corten-control: {problem}");
            }
            return ExitCode::from(2);
        }
    };
    // Two threads: one may be busy with a push while the other answers clients.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime
            .block_on(corten_control::run(settings, corten_control::stop_signal()))
            .map_err(Into::into)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the control plane cannot run");
            ExitCode::FAILURE
        }
    }
}
