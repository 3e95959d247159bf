//! `corten down`: asks a running instance to end, and ends it if it does not.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corten_linux::spawn::open_process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use thiserror::Error;

use crate::control::{Connection, Request};
use crate::instance::{Holder, Instance};

/// How an instance came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It ended by itself when asked.
    Orderly,
    /// It had to be killed.
    Killed,
    /// Nobody was running it.
    WasNot,
}

/// Why an instance could not be ended.
#[derive(Debug, Error)]
pub enum DownError {
    /// There is none of this name.
    #[error("there is no instance {name:?}{}", known(.others))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        others: Vec<String>,
    },
    /// The kernel refuses, for instance because it belongs to another user.
    #[error("cannot end process {pid}: {source}")]
    Refused {
        /// Which process.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Killed, and still there.
    #[error("process {pid} does not end, though it was killed: it may be waiting for a disk")]
    Stuck {
        /// Which process.
        pid: i32,
    },
}

/// Names what there is, for an error about what there is not.
fn known(others: &[String]) -> String {
    if others.is_empty() {
        "; `corten up` starts one".into()
    } else {
        format!("; there is {}", others.join(", "))
    }
}

/// Ends an instance, orderly within `patience`, else by force. Returns when its processes are gone.
pub fn down(instance: &Instance, patience: Duration) -> Result<Stopped, DownError> {
    if !instance.exists() {
        let others = instance.dir().parent().map(Instance::all).unwrap_or_default();
        return Err(DownError::Unknown {
            name: instance.name().to_owned(),
            others: others.iter().map(|other| other.name().to_owned()).collect(),
        });
    }
    let Some(holder) = instance.holder() else {
        return Ok(Stopped::WasNot);
    };
    let processes = Processes::open(holder)?;
    let asked = Connection::open(&instance.control_socket(), patience).and_then(|mut it| it.send(Request::Stop));
    if asked.is_ok() && processes.gone_within(patience) {
        return Ok(Stopped::Orderly);
    }
    processes.kill()?;
    let _ = std::fs::remove_file(instance.control_socket());
    Ok(Stopped::Killed)
}

/// Descriptors of an instance's processes, so that a number used again later does no harm.
struct Processes(Vec<(i32, OwnedFd)>);

impl Processes {
    fn open(holder: Holder) -> Result<Self, DownError> {
        let mut open = Vec::new();
        for pid in [Some(holder.pid), holder.process_one].into_iter().flatten() {
            if let Some(process) = open_process(pid).map_err(|source| DownError::Refused { pid, source })? {
                open.push((pid, process));
            }
        }
        Ok(Self(open))
    }

    /// Waits for the end of all of them.
    fn gone_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        self.0.iter().all(|(_, process)| {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
            ended.is_ok_and(|count| count == 1)
        })
    }

    fn kill(&self) -> Result<(), DownError> {
        for (pid, process) in &self.0 {
            match pidfd_send_signal(process, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(DownError::Refused {
                        pid: *pid,
                        source: error.into(),
                    });
                }
            }
        }
        let first = self.0.first().map_or(0, |(pid, _)| *pid);
        if self.gone_within(Duration::from_secs(5)) {
            Ok(())
        } else {
            Err(DownError::Stuck { pid: first })
        }
    }
}
