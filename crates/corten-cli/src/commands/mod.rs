//! The command tree: one module a command, each with its arguments and a `run`.

mod crds;
mod doctor;
mod down;
mod reset;
mod run;
mod status;
mod up;

use std::process::ExitCode;

/// What the user can ask for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start a small Kubernetes on this machine
    Up(up::Up),
    /// Stop it; its objects are kept
    Down(down::Down),
    /// Show what runs and what is wrong
    Status(status::Status),
    /// Check whether this machine can run it
    Doctor(doctor::Doctor),
    /// Print the definitions of all custom resources
    Crds(crds::Crds),
    /// Forget all objects of an instance that is not running
    Reset(reset::Reset),
    /// Make a pod of a process of this machine, and follow it
    Run(run::Run),
}

impl Command {
    /// Runs it to its end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(),
            Self::Down(down) => down.run(),
            Self::Status(status) => status.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Crds(crds) => crds.run(),
            Self::Reset(reset) => reset.run(),
            Self::Run(run) => run.run(),
        }
    }
}
