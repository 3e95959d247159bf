//! `corten up --detach`: the process that stays, and the one that waits until it is ready and goes.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use corten_local::control::Message;
use corten_local::instance::Instance;
use corten_local::status::Phase;
use corten_local::up::UpOptions;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::view;
use crate::output;

/// How long an instance may take to become ready before the user is told what is wrong. It takes less than a second.
const READY_MAX: Duration = Duration::from_secs(60);

/// Starts the process that stays, with the same arguments, and waits until it is ready.
pub(super) fn start(instance: &Instance) -> anyhow::Result<ExitCode> {
    // Its errors come as messages; panics go where the log is.
    instance.prepare()?;
    let path = instance.log();
    let log = std::fs::File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open the log {}", path.display()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the process that stays")?;
    let messages = child
        .stdout
        .take()
        .map(BufReader::new)
        .context("no output of the process that stays")?;
    for line in messages.lines() {
        match serde_json::from_str(&line?)? {
            Message::Status(status) if status.phase == Phase::Ready => {
                for line in view::render(&status) {
                    output::line(line)?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            Message::Status(_) => {}
            Message::Failed(reason) => bail!(reason),
        }
    }
    let status = child.wait()?;
    bail!(
        "{:?} ended before it was ready ({status}); its log is {}",
        instance.name(),
        path.display()
    )
}

/// Is the process that stays.
pub(super) fn run(instance: &Instance, options: UpOptions) -> anyhow::Result<ExitCode> {
    // Out of the session of the terminal, whose signals are not for it.
    rustix::process::setsid()?;
    // After the one who started it is gone, nobody reads this.
    let tell = |message: &Message| -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        io::stdout().write_all(&line)?;
        io::stdout().flush()
    };
    let mut told = false;
    let result = super::run(instance, options, |status| {
        if !told {
            told = status.phase == Phase::Ready;
            let _ = tell(&Message::Status(Box::new(status.clone())));
        }
    });
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let _ = tell(&Message::Failed(format!("{error:#}")));
            Err(error)
        }
    }
}
