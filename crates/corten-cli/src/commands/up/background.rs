//! `corten up --detach`: the process that stays, and the one that waits until it is ready and goes.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use corten_local::control::Message;
use corten_local::instance::Instance;
use corten_local::status::{Phase, RuntimeStatus};
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
    let output = child.stdout.take().map(BufReader::new);
    let mut messages = output.context("no output of the process that stays")?;
    let kubeconfig = std::env::var_os("KUBECONFIG");
    let show = |status: &RuntimeStatus| {
        let lines = view::render(status, kubeconfig.as_ref());
        lines.into_iter().try_for_each(output::line)
    };
    let begin = Instant::now();
    let mut last = None;
    loop {
        let left = READY_MAX.saturating_sub(begin.elapsed());
        match next(&mut messages, left)? {
            Next::Message(Message::Status(status)) if status.phase == Phase::Ready => {
                show(&status)?;
                return Ok(ExitCode::SUCCESS);
            }
            Next::Message(Message::Status(status)) => last = Some(status),
            Next::Message(Message::Failed(reason)) => bail!(reason),
            Next::End => {
                let (name, status) = (instance.name(), child.wait()?);
                bail!(
                    "{name:?} ended before it was ready ({status}); its log is {}",
                    path.display()
                );
            }
            Next::Late => {
                if let Some(status) = &last {
                    show(status)?;
                }
                let name = instance.name();
                bail!(
                    "{name:?} is not ready after {READY_MAX:?} and goes on trying; its log is {}",
                    path.display()
                );
            }
        }
    }
}

/// What comes next from the process that stays.
enum Next {
    Message(Message),
    End,
    Late,
}

/// Waits for a message. The process writes whole lines, so the first byte is all that may be waited for.
fn next(messages: &mut BufReader<ChildStdout>, patience: Duration) -> anyhow::Result<Next> {
    if messages.buffer().is_empty() {
        let patience = Timespec::try_from(patience)?;
        if poll(&mut [PollFd::new(messages.get_ref(), PollFlags::IN)], Some(&patience))? == 0 {
            return Ok(Next::Late);
        }
    }
    let mut line = String::new();
    if messages.read_line(&mut line)? == 0 {
        return Ok(Next::End);
    }
    Ok(Next::Message(serde_json::from_str(&line)?))
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
