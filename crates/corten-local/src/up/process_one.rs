//! The inner process: process 1 of its own namespaces.
//!
//! Prepares the namespaces, then hands over to the supervisor. Everything here happens before there is a second thread.

use std::io::{self, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corten_linux::{fds, memory, mounts};

use super::Assignment;
use crate::supervisor::{self, Sockets};

/// The runtime's files that die with it: a file system in memory, seen only inside.
pub(crate) const RUNTIME_DIR: &str = "/run/corten";

/// Threads that run tasks. The runtime is idle nearly always, and each thread costs memory.
const WORKERS: usize = 2;

/// Lives as process 1, given `count` open files: the channel to the outer process, the lock, the control socket, the API's socket,
/// and a socket to each of the host's resolvers.
pub(crate) fn main(count: &str) -> ExitCode {
    memory::keep_small(2);
    match live(count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log is standard error, and the outer process says where it is.
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn live(count: &str) -> anyhow::Result<()> {
    let ([channel, lock, control, api], resolvers) = given(count)?;
    let channel = UnixStream::from(channel);
    let assignment = assignment(&channel)?;
    if let Err(problem) = corten_rt::log::start(assignment.log_levels.as_deref()) {
        tracing::warn!("{problem}; using \"info\"");
    }
    tracing::info!(name = assignment.name, nodes = assignment.nodes, "starting");
    if let Err(error) = prepare(&assignment) {
        supervisor::report_failure(&channel, &error);
        return Err(error.into());
    }
    let sockets = Sockets {
        channel,
        control: UnixListener::from(control),
        api: TcpListener::from(api),
        resolvers: resolvers.into_iter().map(UdpSocket::from).collect(),
    };
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(64)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .thread_name("corten")
        .enable_all()
        .build()?;
    let result = runtime.block_on(supervisor::run(assignment, PathBuf::from(RUNTIME_DIR), sockets));
    // What still runs on a blocking thread ends with this process.
    runtime.shutdown_background();
    // The lock is held to the very end.
    drop(lock);
    result
}

/// Every pod needs some open files, and the usual soft limit is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn given(count: &str) -> anyhow::Result<([OwnedFd; 4], Vec<OwnedFd>)> {
    let mut files = fds::given(count.parse()?)?;
    anyhow::ensure!(files.len() >= 4, "process 1 is started by `corten up`, not by hand");
    let resolvers = files.split_off(4);
    let first = files.try_into().map_err(|_| anyhow::anyhow!("four files were kept"))?;
    Ok((first, resolvers))
}

/// Reads the first line and no byte of what follows.
fn assignment(mut channel: &UnixStream) -> io::Result<Assignment> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line belongs to somebody else.
    while channel.read(&mut byte)? == 1 {
        match byte {
            [b'\n'] => return Ok(serde_json::from_slice(&line)?),
            [other] => line.push(other),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the outer process is gone",
    ))
}

/// Why the namespaces could not be furnished.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} in the runtime's own namespaces: {source}; `corten doctor` says what is missing")]
pub(crate) struct PrepareError {
    action: &'static str,
    source: io::Error,
}

/// Furnishes the namespaces.
pub(crate) fn prepare(assignment: &Assignment) -> Result<(), PrepareError> {
    let step = |action| move |source| PrepareError { action, source };
    mounts::make_private().map_err(step("cut off the mounts"))?;
    mounts::proc(Path::new("/proc")).map_err(step("mount a fresh /proc"))?;
    if let Err(error) = mounts::fresh_sys() {
        // Programs then see the host's interfaces in /sys/class/net; nothing of ours looks there.
        tracing::warn!(%error, "cannot mount a fresh /sys");
    }
    let refused = mounts::shadow(Path::new("/run")).map_err(step("make a private /run"))?;
    if !refused.is_empty() {
        tracing::debug!(?refused, "entries of /run that are not visible inside");
    }
    let netns = Path::new("/run/netns");
    std::fs::create_dir_all(netns).map_err(step("make a private /run/netns"))?;
    mounts::tmpfs(netns, 0o755).map_err(step("make a private /run/netns"))?;
    std::fs::create_dir(RUNTIME_DIR).map_err(step("make /run/corten"))?;
    mounts::tmpfs(Path::new(RUNTIME_DIR), 0o755).map_err(step("make /run/corten"))?;
    let name = format!("corten-{}", assignment.name);
    rustix::system::sethostname(name.as_bytes()).map_err(|error| step("set the host name")(error.into()))
}
