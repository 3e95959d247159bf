//! The conversation with a running instance: one JSON value a line, in both directions.
//!
//! It is spoken on the control socket in the state directory (by `corten status` and `corten down`)
//! and between the two processes of `corten up`, where the first line carries the [`Assignment`](crate::up::Assignment).

mod client;
mod server;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::status::RuntimeStatus;

pub use client::Connection;
pub(crate) use server::{Server, converse};

/// What one may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Say once how things are.
    Status,
    /// Say how things are, now and after every change.
    Watch,
    /// End orderly.
    Stop,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// How things are.
    Status(Box<RuntimeStatus>),
    /// It cannot go on, and why.
    Failed(String),
}

/// Runs an operation on a socket's path by way of its directory, because socket paths are limited to 107 bytes.
fn by_short_path<T>(path: &Path, operation: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = fs::File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    operation(&short.join(file))
}

/// Opens the control socket for a starting instance that holds the lock, in place of one that a killed predecessor left.
pub(crate) fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    by_short_path(path, |path| std::os::unix::net::UnixListener::bind(path))
}
