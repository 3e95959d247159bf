//! The outer process: lock, sockets, start, wait.
//!
//! Does as little as possible, so that it stays small and cannot well go wrong. Knows nothing of what runs inside.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use corten_linux::{Child, Exit, Namespaces, Spawn, SpawnError};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::{Assignment, ROLE, UpError, UpOptions, attempt, resolvers};
use crate::control::{self, Message, Request};
use crate::instance::{Holder, Instance, Lock, Locked};
use crate::refusal;
use crate::status::RuntimeStatus;

/// How long an orderly end may take before it becomes a quick one.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How long one that seems to run is looked at again: a process just killed runs on for a moment.
const SECOND_LOOK: Duration = Duration::from_millis(150);

/// How long a killed predecessor may take to vanish.
const PREDECESSOR_MAX: Duration = Duration::from_secs(5);

/// A log larger than this is put aside when an instance starts, in bytes.
const LOG_MAX: u64 = 10 << 20;

/// Runs an instance until it is asked to stop (by a signal or by `corten down`), telling `watch` how things are.
///
/// To be called on the main thread, inside a current-thread runtime: the inner process dies with the thread that started it.
pub async fn run(
    instance: &Instance,
    options: UpOptions,
    mut watch: impl FnMut(&RuntimeStatus),
) -> Result<(), UpError> {
    // Before anything else, so that a signal during the start ends orderly too.
    let mut signals = Signals::new().map_err(attempt("listen for signals"))?;
    instance.prepare()?;
    let mut lock = take_lock(instance).await?;
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    lock.write(Holder {
        pid: me,
        process_one: None,
    })
    .map_err(attempt("write the lock file"))?;
    let api = listen(instance, options.port)?;
    let socket = instance.control_socket();
    let control = control::listen(&socket).map_err(attempt(format!("listen on {}", socket.display())))?;
    let server = api.local_addr().map_err(attempt("read the API's address"))?;
    let assignment = Assignment {
        name: instance.name().to_owned(),
        outer_pid: me,
        state_home: instance.dir().parent().map(PathBuf::from).unwrap_or_default(),
        nodes: options.nodes,
        images: options.images,
        mesh: options.mesh,
        stock: options.stock,
        server,
        programs: programs_dir().map_err(attempt("find the directory of this program"))?,
        log_levels: options.log_levels,
    };
    let mut sockets = vec![OwnedFd::from(control), OwnedFd::from(api)];
    sockets.extend(resolvers::connect().into_iter().map(OwnedFd::from));
    let (mut channel, mut child) = start(instance, &lock, sockets)?;
    let holder = Holder {
        pid: me,
        process_one: Some(child.pid()),
    };
    lock.write(holder).map_err(attempt("write the lock file"))?;
    channel
        .assign(&assignment)
        .await
        .map_err(attempt("speak to the runtime's process 1"))?;
    let result = attend(instance, &mut channel, &mut child, &mut signals, &mut watch).await;
    // Whatever happened, nothing is left running; then nobody answers on the socket any more.
    let _ = child.signal(Signal::KILL);
    let _ = child.exited().await;
    let _ = std::fs::remove_file(&socket);
    result
}

/// Passes on what the inner process says and what the signals ask, until it is over.
async fn attend(
    instance: &Instance,
    channel: &mut Channel,
    child: &mut Child,
    signals: &mut Signals,
    watch: &mut impl FnMut(&RuntimeStatus),
) -> Result<(), UpError> {
    let mut failed = None;
    let mut stopping = false;
    let late = tokio::time::sleep(STOP_MAX);
    tokio::pin!(late);
    loop {
        // Messages before the end, so that the reason comes before the fact.
        tokio::select! {
            biased;
            message = channel.next_message(), if channel.open => match message {
                Some(Message::Status(status)) => watch(&status),
                Some(Message::Failed(reason)) => failed = Some(reason),
                None => channel.open = false,
            },
            exit = child.exited() => {
                let exit = exit.map_err(attempt("wait for the runtime's process 1"))?;
                return match (failed, exit) {
                    (Some(reason), _) => Err(UpError::Failed(reason)),
                    (None, Exit::Code(0)) => Ok(()),
                    (None, exit) => Err(UpError::Died { how: describe(exit), log: instance.log() }),
                };
            }
            () = signals.next() => {
                // Asked twice: no more patience.
                if stopping {
                    return Ok(());
                }
                stopping = true;
                late.as_mut().reset(tokio::time::Instant::now() + STOP_MAX);
                channel.request(Request::Stop).await;
            }
            () = &mut late, if stopping => return Ok(()),
        }
    }
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

/// Takes the lock, giving a predecessor that was killed a moment to vanish.
async fn take_lock(instance: &Instance) -> Result<Lock, UpError> {
    let begin = tokio::time::Instant::now();
    loop {
        let holder = match instance.lock()? {
            Locked::Ours(lock) => return Ok(lock),
            Locked::Taken(holder) => holder,
        };
        let vanishing = holder.is_some_and(|holder| matches!(corten_linux::spawn::is_running(holder.pid), Ok(false)));
        if begin.elapsed() > if vanishing { PREDECESSOR_MAX } else { SECOND_LOOK } {
            return Err(UpError::Running {
                name: instance.name().to_owned(),
                holder,
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Opens the API's port in the host's network.
fn listen(instance: &Instance, port: Option<u16>) -> Result<TcpListener, UpError> {
    let open = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let failed = |port, source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => UpError::PortInUse { port },
        _ => UpError::Listen { port, source },
    };
    let listener = match (port, instance.last_port()) {
        (Some(port), _) => open(port).map_err(|error| failed(port, error))?,
        (None, Some(last)) => open(last).or_else(|_| open(0)).map_err(|error| failed(0, error))?,
        (None, None) => open(0).map_err(|error| failed(0, error))?,
    };
    let port = listener.local_addr().map_err(attempt("read the API's address"))?.port();
    instance
        .remember_port(port)
        .map_err(attempt(format!("write in {}", instance.dir().display())))?;
    Ok(listener)
}

/// The helper programs lie beside this one.
fn programs_dir() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    program
        .parent()
        .map(PathBuf::from)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Starts the inner process, with its log as output.
fn start(instance: &Instance, lock: &Lock, sockets: Vec<OwnedFd>) -> Result<(Channel, Child), UpError> {
    let path = instance.log();
    let log = open_log(&path).map_err(attempt(format!("open the log {}", path.display())))?;
    let errors = log.try_clone().map_err(attempt("open the log twice"))?;
    let nothing = File::open("/dev/null").map_err(attempt("open /dev/null"))?;
    let (ours, theirs) = StdUnixStream::pair().map_err(attempt("make a socket pair"))?;
    let lock = lock.share().map_err(attempt("share the lock"))?;
    let mut given = vec![OwnedFd::from(theirs), lock];
    given.extend(sockets);
    let mut spawn = Spawn::this_program()
        .name("corten")
        .arg(ROLE)
        .arg(given.len().to_string())
        .inherit_env()
        .namespaces(Namespaces::isolated())
        .stdio(0, nothing.into())
        .stdio(1, log.into())
        .stdio(2, errors.into())
        .own_session()
        .dies_with_thread();
    for file in given {
        spawn = spawn.give(file);
    }
    let child = spawn.start().map_err(|error| match error {
        SpawnError::Namespaces(_) | SpawnError::UserMap { .. } => UpError::Refused(refusal::explain(&error)),
        SpawnError::Exec { source, .. } | SpawnError::Prepare(source) => {
            attempt("start the runtime's process 1")(source)
        }
    })?;
    Ok((Channel::new(ours).map_err(attempt("use a socket pair"))?, child))
}

fn open_log(path: &std::path::Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_MAX) {
        std::fs::rename(path, path.with_extension("old"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// The conversation with the inner process.
struct Channel {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    open: bool,
}

impl Channel {
    fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            lines: BufReader::new(reader).lines(),
            writer,
            open: true,
        })
    }

    async fn assign(&mut self, assignment: &Assignment) -> io::Result<()> {
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        self.writer.write_all(&line).await?;
        self.request(Request::Watch).await;
        Ok(())
    }

    /// Asks for something. An inner process that no longer listens is about to end, which is noticed elsewhere.
    async fn request(&mut self, request: Request) {
        if let Ok(mut line) = serde_json::to_vec(&request) {
            line.push(b'\n');
            let _ = self.writer.write_all(&line).await;
        }
    }

    /// The next message; `None` when no more will come. Cancel safe.
    async fn next_message(&mut self) -> Option<Message> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }
}

/// The signals that ask for an end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
