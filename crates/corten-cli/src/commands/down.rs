//! `corten down`.

use std::process::ExitCode;
use std::time::Duration;

use corten_local::instance::Instance;
use corten_local::up::{Stopped, down};

use crate::output;
use crate::place::{Name, home};

/// Stop a running instance and everything in it. Its objects are kept: `corten up` finds them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Down {
    #[command(flatten)]
    name: Name,
    /// Stop all running instances
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// How long it may take to stop by itself before it is killed, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    timeout: u64,
}

impl Down {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let patience = Duration::from_secs(self.timeout);
        if !self.all {
            return stop(&self.name.instance()?, patience);
        }
        for instance in Instance::all(&home()?) {
            if instance.holder().is_some() {
                stop(&instance, patience)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn stop(instance: &Instance, patience: Duration) -> anyhow::Result<ExitCode> {
    let name = instance.name();
    output::line(match down(instance, patience)? {
        Stopped::Orderly => format!("{name:?} is stopped"),
        Stopped::Killed => format!("{name:?} did not stop by itself and was killed"),
        Stopped::WasNot => format!("{name:?} was not running"),
    })?;
    Ok(ExitCode::SUCCESS)
}
