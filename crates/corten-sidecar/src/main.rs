//! corten-sidecar: a stock Envoy beside a workload, or as a gateway.

use std::process::ExitCode;

use corten_rt::log;
use corten_sidecar::{Arguments, Command, Files, Settings, redirect, run};

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help is printed too, and is none.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let levels = std::env::var("RUST_LOG").ok().or_else(|| command.log_levels());
    if let Err(problem) = log::start(levels.as_deref()) {
        tracing::warn!("RUST_LOG: {problem}");
    }
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let done = match command {
        Command::Run(arguments) => return proxy(&arguments, &variables),
        Command::Redirect(flags) => {
            return match redirect::redirect(&flags, &variables) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error}");
                    match error {
                        redirect::RedirectError::NotRedirected(_) => ExitCode::from(redirect::NOT_REDIRECTED),
                        _ => ExitCode::FAILURE,
                    }
                }
            };
        }
        Command::Wait(wait) => within(async move { wait.run().await.map(|()| String::new()) }),
        Command::Request(request) => within(async move { request.run().await }),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn within(task: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(task)
}

fn proxy(arguments: &Arguments, variables: &[(String, String)]) -> ExitCode {
    let settings = match Settings::resolve(arguments, variables, &Files::read(arguments)) {
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
