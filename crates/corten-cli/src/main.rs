//! The user's command.
//!
//! Reads arguments and environment, runs one command and maps what came of it to an exit code. Each command is a module of
//! [`commands`]; what it does is in the libraries.

mod cluster;
mod commands;
mod installation;
mod mesh;
mod output;
mod place;
mod show;

use std::process::ExitCode;

use clap::Parser;

/// A service mesh that speaks Istio, and a small Kubernetes to run it on, in one command.
#[derive(Debug, Parser)]
#[command(name = "corten", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage; \
`corten COMMAND --help` names others."
)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    // The runtime starts this program again inside its namespaces.
    if let Some(code) = corten_local::role::play(std::env::args_os()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, on standard output and with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
